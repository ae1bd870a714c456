//! The client of a bucket: endpoint, region, credentials. The SDK's own trying again is off; `persist` does that, since
//! only we know what a second try of a conditional put means.

use aws_config::{BehaviorVersion, Region};
use aws_sdk_s3::Client;
use aws_sdk_s3::config::retry::RetryConfig;
use aws_sdk_s3::config::timeout::TimeoutConfig;
use aws_sdk_s3::config::{
    Credentials, RequestChecksumCalculation, ResponseChecksumValidation, StalledStreamProtectionConfig,
};

use super::super::object_store::{StoreError, StoreErrorKind};
use super::Shared;
use crate::ground::{Secret, SecretReference, blocking};

impl Shared {
    /// The client, made at the first call.
    pub(super) async fn client(&self) -> Result<Client, StoreError> {
        let mut client = self.client.lock().await;
        if let Some(client) = &*client {
            return Ok(client.clone());
        }
        Ok(client.insert(self.make_client().await?).clone())
    }

    /// Forgets credentials that have expired, with the client that holds them.
    pub(super) async fn forget_client(&self) {
        *self.client.lock().await = None;
    }

    async fn make_client(&self) -> Result<Client, StoreError> {
        let options = &self.place.options;
        let mut loader = aws_config::defaults(BehaviorVersion::v2026_01_12())
            .region(Region::new(self.place.region.clone()))
            .retry_config(RetryConfig::disabled())
            .timeout_config(TimeoutConfig::builder().connect_timeout(self.limits.connect).build())
            .stalled_stream_protection(StalledStreamProtectionConfig::disabled())
            .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
            .response_checksum_validation(ResponseChecksumValidation::WhenRequired);
        if let Some(endpoint) = &options.endpoint {
            loader = loader.endpoint_url(endpoint);
        }
        if let (Some(access), Some(secret)) = (&options.access_key, &options.secret_key) {
            loader = loader.credentials_provider(given(access, secret, options.session_token.as_ref()).await?);
        }
        let config = loader.load().await;
        let path_style = options.path_style.unwrap_or_else(|| config.endpoint_url().is_some());
        let config = aws_sdk_s3::config::Builder::from(&config).force_path_style(path_style).build();
        Ok(Client::from_conf(config))
    }
}

/// Credentials that the policy refers to. Fetched again when the server says that they have expired.
async fn given(
    access: &SecretReference,
    secret: &SecretReference,
    session: Option<&SecretReference>,
) -> Result<Credentials, StoreError> {
    let (access, secret) = (resolve(access).await?, resolve(secret).await?);
    let session = match session {
        Some(session) => Some(resolve(session).await?),
        None => None,
    };
    Ok(Credentials::new(text(&access)?, text(&secret)?, session.as_ref().map(text).transpose()?, None, "policy"))
}

async fn resolve(reference: &SecretReference) -> Result<Secret, StoreError> {
    let wanted = reference.clone();
    blocking(move || wanted.resolve()).await.map_err(|failure| denied(failure.message))
}

fn text(secret: &Secret) -> Result<String, StoreError> {
    let text = std::str::from_utf8(secret.expose()).map_err(|_| denied("a key for S3 is not text".to_owned()))?;
    Ok(text.trim().to_owned())
}

fn denied(message: String) -> StoreError {
    StoreError { kind: StoreErrorKind::Denied, message }
}
