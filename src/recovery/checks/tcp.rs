//! `host:port` accepts a connection.

use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::timeout;

use super::Attempt;

/// Connects and closes.
pub(super) async fn attempt(address: &str, limit: Duration) -> Attempt {
    match timeout(limit, TcpStream::connect(address)).await {
        Ok(Ok(_)) => Attempt { actual: "accepted a connection".into(), passed: true },
        Ok(Err(error)) => Attempt::failed(error.to_string()),
        Err(_) => Attempt::failed(format!("no answer within {:.1} s", limit.as_secs_f64())),
    }
}
