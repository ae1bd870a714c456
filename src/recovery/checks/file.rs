//! A path below the target directory exists and has the expected content.

use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use sha2::{Digest, Sha256};

use super::Attempt;
use crate::recovery::beneath;
use crate::recovery::surroundings::Surroundings;

/// Links that lead out of the target do not count as existing.
pub(super) async fn attempt(path: &str, sha256: Option<&str>, surroundings: &Surroundings, limit: Duration) -> Attempt {
    let target = surroundings.target.clone();
    let path = PathBuf::from(path.trim_start_matches('/'));
    let wanted = sha256.map(str::to_owned);
    let look = move || look(&target, &path, wanted.as_deref(), limit);
    match tokio::task::spawn_blocking(look).await {
        Ok(Ok(attempt)) => attempt,
        Ok(Err(error)) if error.kind() == io::ErrorKind::NotFound => Attempt::failed("does not exist"),
        Ok(Err(error)) => Attempt::failed(error.to_string()),
        Err(_) => Attempt::failed("the check broke off"),
    }
}

fn look(target: &Path, path: &Path, wanted: Option<&str>, limit: Duration) -> io::Result<Attempt> {
    let metadata = beneath::look(target, path)?.metadata()?;
    let Some(wanted) = wanted else { return Ok(Attempt { actual: "exists".into(), passed: true }) };
    if !metadata.is_file() {
        return Ok(Attempt::failed("is no regular file"));
    }
    let Some(actual) = hash(beneath::open(target, path)?, Instant::now() + limit)? else {
        return Ok(Attempt::failed(format!("could not be read within {:.1} s", limit.as_secs_f64())));
    };
    Ok(Attempt { passed: actual.eq_ignore_ascii_case(wanted), actual: format!("SHA-256 {actual}") })
}

fn hash(mut file: std::fs::File, deadline: Instant) -> io::Result<Option<String>> {
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 128 * 1024];
    loop {
        let length = file.read(&mut buffer)?;
        if length == 0 {
            return Ok(Some(hex::encode(hash.finalize())));
        }
        hash.update(&buffer[..length]);
        if Instant::now() >= deadline {
            return Ok(None);
        }
    }
}
