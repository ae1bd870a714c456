//! One value from a restored database.

use std::time::Duration;

use super::Attempt;
use crate::ground::failure::OrFail;
use crate::ground::{Failure, Result};
use crate::policy::Expectation;
use crate::recovery::sqlite;
use crate::recovery::surroundings::Surroundings;

/// No row and NULL never pass: nothing is not a value.
pub(super) async fn attempt(
    query: &str,
    on: &str,
    expect: &Expectation,
    surroundings: &Surroundings,
    limit: Duration,
) -> Result<Attempt> {
    let restored = surroundings.restored(on).ok_or_else(|| {
        Failure::failed(format!("the source `{on}` was not restored by this plan, so it cannot be asked"))
    })?;
    if restored.kind != "sqlite" {
        return Err(Failure::failed(format!(
            "queries on `{on}`, a source of kind {}, are not served yet",
            restored.kind
        )));
    }
    let query = query.to_owned();
    let ask = move || {
        let database = sqlite::restored_file(&restored.directory, &restored.roots)?;
        sqlite::value(&database, &query, limit)
    };
    let value = tokio::task::spawn_blocking(ask).await.or_fail(|| "the query broke off".into())?;
    Ok(match value {
        Ok(Some(value)) => Attempt { passed: expect.holds(&value), actual: value },
        Ok(None) => Attempt::failed("no value"),
        Err(failure) => Attempt::failed(failure.message),
    })
}
