//! One GET: status, and a text in the body. No proxy from the environment; cookies and credentials are not kept.

use std::io::Read;
use std::time::Duration;

use ureq::Agent;
use ureq::tls::TlsConfig;

use super::Attempt;

/// Most of a body that is looked through.
const BODY_LIMIT: u64 = 4 * 1024 * 1024;
const REDIRECTS: u32 = 5;

/// What is asked for.
#[derive(Debug, Clone)]
pub(super) struct Request {
    pub url: String,
    pub status: u16,
    pub body: Option<String>,
    pub tls_verify: bool,
}

/// Follows up to five redirects, unless a redirect is what is expected.
pub(super) async fn attempt(request: Request, limit: Duration) -> Attempt {
    let asked = tokio::task::spawn_blocking(move || ask(&request, limit)).await;
    match asked {
        Ok(Ok(attempt)) => attempt,
        Ok(Err(error)) => Attempt::failed(error.to_string()),
        Err(_) => Attempt::failed("the request broke off"),
    }
}

fn agent(request: &Request, limit: Duration) -> Agent {
    let redirects = if (300..400).contains(&request.status) { 0 } else { REDIRECTS };
    Agent::config_builder()
        .http_status_as_error(false)
        .proxy(None)
        .max_redirects(redirects)
        .max_redirects_will_error(false)
        .timeout_global(Some(limit))
        .user_agent("lifeboat")
        .tls_config(TlsConfig::builder().disable_verification(!request.tls_verify).build())
        .build()
        .new_agent()
}

fn ask(request: &Request, limit: Duration) -> Result<Attempt, ureq::Error> {
    let mut response = agent(request, limit).get(&request.url).call()?;
    let status = response.status().as_u16();
    if status != request.status {
        return Ok(Attempt::failed(format!("status {status}")));
    }
    let Some(wanted) = &request.body else {
        return Ok(Attempt { actual: format!("status {status}"), passed: true });
    };
    let mut body = Vec::new();
    response.body_mut().as_reader().take(BODY_LIMIT).read_to_end(&mut body)?;
    let found = wanted.is_empty() || body.windows(wanted.len()).any(|window| window == wanted.as_bytes());
    let actual = if found {
        format!("status {status}, `{wanted}` in the body")
    } else {
        format!("status {status}, not in the body, which begins: {}", beginning(&body))
    };
    Ok(Attempt { actual, passed: found })
}

fn beginning(body: &[u8]) -> String {
    String::from_utf8_lossy(&body[..body.len().min(200)]).into_owned()
}
