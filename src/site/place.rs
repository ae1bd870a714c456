//! Where a DR site is, as a policy or a person writes it: a directory, or a bucket with a prefix.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::local::LocalStore;
use super::object_store::ObjectStore;
use crate::ground::failure::OrFail;
use crate::ground::{Failure, Result};
use crate::policy::{BucketOptions, DrLocation};

/// Region of a bucket when nothing says another; servers other than AWS mostly call theirs so.
const USUAL_REGION: &str = "us-east-1";
const SCHEME: &str = "s3://";

/// A bucket, or a directory in one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BucketPlace {
    pub region: String,
    pub bucket: String,
    pub options: BucketOptions,
}

/// Where a DR site is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SitePlace {
    Directory(PathBuf),
    Bucket(Box<BucketPlace>),
}

impl BucketPlace {
    /// `s3://bucket/prefix`, whatever server it is on.
    pub fn address(&self) -> String {
        match &self.options.prefix {
            Some(prefix) => format!("{SCHEME}{}/{prefix}", self.bucket),
            None => format!("{SCHEME}{}", self.bucket),
        }
    }
}

impl SitePlace {
    /// The place that a policy names.
    pub fn of(dr: &DrLocation) -> Self {
        match dr {
            DrLocation::Local { path, .. } => Self::Directory(PathBuf::from(path)),
            DrLocation::Aws { region, bucket, options, .. } => Self::Bucket(Box::new(BucketPlace {
                region: region.clone(),
                bucket: bucket.clone(),
                options: options.as_ref().clone(),
            })),
        }
    }

    /// What a person writes: `s3://bucket/prefix`, or the path of a directory, which is made absolute.
    ///
    /// # Errors
    /// Wrong input when an address names no bucket, or options of a bucket are given with a directory.
    pub fn parse(text: &Path, endpoint: Option<&str>, region: Option<&str>) -> Result<Self> {
        let written = text.to_str().and_then(|text| text.strip_prefix(SCHEME));
        let Some(written) = written else {
            if endpoint.is_some() || region.is_some() {
                return Err(Failure::wrong_input("--endpoint and --region belong to a bucket")
                    .hint("write the DR site as s3://bucket/prefix, or leave them out"));
            }
            let path = std::path::absolute(text).or_fail(|| format!("{} is no path", text.display()))?;
            return Ok(Self::Directory(path));
        };
        let (bucket, prefix) = written.split_once('/').unwrap_or((written, ""));
        let prefix = prefix.trim_matches('/');
        let plain = |part: &str| !part.is_empty() && part != "." && part != "..";
        if bucket.is_empty() || !(prefix.is_empty() || prefix.split('/').all(plain)) {
            return Err(Failure::wrong_input(format!("{} is no place in a bucket", text.display()))
                .hint("write s3://bucket or s3://bucket/prefix"));
        }
        let region = region.map(str::to_owned).or_else(|| {
            ["AWS_REGION", "AWS_DEFAULT_REGION"]
                .iter()
                .find_map(|name| std::env::var(name).ok())
                .filter(|r| !r.is_empty())
        });
        Ok(Self::Bucket(Box::new(BucketPlace {
            region: region.unwrap_or_else(|| USUAL_REGION.to_owned()),
            bucket: bucket.to_owned(),
            options: BucketOptions {
                prefix: (!prefix.is_empty()).then(|| prefix.to_owned()),
                endpoint: endpoint.map(str::to_owned),
                ..BucketOptions::default()
            },
        })))
    }

    /// The directory, where it is one.
    pub fn directory(&self) -> Option<&Path> {
        match self {
            Self::Directory(path) => Some(path),
            Self::Bucket(_) => None,
        }
    }

    /// For people: the directory or the address.
    pub fn describe(&self) -> String {
        match self {
            Self::Directory(path) => path.display().to_string(),
            Self::Bucket(place) => place.address(),
        }
    }

    /// The store of this place. Nothing is asked of it yet.
    ///
    /// # Errors
    /// Wrong input when this lifeboat was built without AWS.
    pub fn store(&self) -> Result<Arc<dyn ObjectStore>> {
        match self {
            Self::Directory(path) => Ok(Arc::new(LocalStore::new(path))),
            Self::Bucket(place) => bucket_store(place),
        }
    }
}

#[cfg(feature = "aws")]
fn bucket_store(place: &BucketPlace) -> Result<Arc<dyn ObjectStore>> {
    Ok(Arc::new(super::s3::S3Store::new(place.clone(), super::s3::Limits::from_environment()?)))
}

#[cfg(not(feature = "aws"))]
fn bucket_store(place: &BucketPlace) -> Result<Arc<dyn ObjectStore>> {
    Err(Failure::wrong_input(format!("{} needs AWS, and this lifeboat was built without it", place.address()))
        .hint("build it with `cargo build --release` (feature `aws`)"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_names_bucket_and_prefix_and_anything_else_is_a_path() {
        let parse = |text: &str| SitePlace::parse(Path::new(text), None, Some("eu-west-1"));
        let SitePlace::Bucket(place) = parse("s3://acme-dr/shop/prod/").unwrap() else { panic!() };
        assert_eq!((place.bucket.as_str(), place.region.as_str()), ("acme-dr", "eu-west-1"));
        assert_eq!(place.options.prefix.as_deref(), Some("shop/prod"));
        assert_eq!(place.address(), "s3://acme-dr/shop/prod");
        let SitePlace::Bucket(bare) = parse("s3://acme-dr").unwrap() else { panic!() };
        assert_eq!((bare.options.prefix.as_deref(), bare.address().as_str()), (None, "s3://acme-dr"));
        for wrong in ["s3://", "s3:///x", "s3://b/../x", "s3://b/a//c"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
        assert!(parse("/mnt/dr").is_err());
        let path = SitePlace::parse(Path::new("/mnt/dr"), None, None).unwrap();
        assert_eq!(path.directory(), Some(Path::new("/mnt/dr")));
    }
}
