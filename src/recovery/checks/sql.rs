//! One value from a restored database.

use std::sync::Arc;
use std::time::Duration;

use super::Attempt;
use crate::ground::failure::OrFail;
use crate::ground::{Failure, Result};
use crate::policy::Expectation;
use crate::recovery::databases;
use crate::recovery::surroundings::Surroundings;

/// No row and NULL never pass: nothing is not a value.
pub(super) async fn attempt(
    query: &str,
    on: &str,
    expect: &Expectation,
    step: &str,
    surroundings: &Arc<Surroundings>,
    limit: Duration,
) -> Result<Attempt> {
    let restored = surroundings.restored(on).ok_or_else(|| {
        Failure::failed(format!("the source `{on}` was not restored by this plan, so it cannot be asked"))
    })?;
    if !databases::can_be_asked(&restored.kind) {
        return Err(Failure::failed(format!(
            "queries on `{on}`, a source of kind {}, are not served yet",
            restored.kind
        )));
    }
    let (query, step, surroundings) = (query.to_owned(), step.to_owned(), Arc::clone(surroundings));
    let ask = move || databases::value(&restored, &surroundings, &step, &query, limit);
    let value = tokio::task::spawn_blocking(ask).await.or_fail(|| "the query broke off".into())?;
    Ok(match value {
        Ok(Some(value)) => Attempt { passed: expect.holds(&value), actual: value },
        Ok(None) => Attempt::failed("no value"),
        Err(failure) => Attempt::failed(failure.message),
    })
}
