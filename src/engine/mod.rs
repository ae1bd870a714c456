//! How work survives: a run is an async function whose steps are journalled before and after their effect.
//!
//! After a crash the same function is called again with the same [`Run`]: a finished step returns what it returned,
//! the first unfinished one is tried again and looks for what an earlier attempt left before it makes anything.

use std::future::Future;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::ground::Result;

/// One run under way; shared by the parallel steps of a plan.
#[derive(Clone)]
pub struct Run {
    _private: (),
}

impl Run {
    /// The run's id, for instance `20261122T003012Z-7f3a`.
    pub fn id(&self) -> &str {
        unimplemented!()
    }

    /// Performs a step once. When an earlier attempt succeeded its output is returned and `effect` is not called;
    /// when `effect` fails the failure is journalled and returned. The name is unique within the run.
    pub async fn step<T, F>(&self, _name: &str, _effect: impl FnOnce() -> F) -> Result<T>
    where
        T: Serialize + DeserializeOwned,
        F: Future<Output = Result<T>>,
    {
        unimplemented!()
    }

    /// The journal so far, in order.
    pub fn events(&self) -> Result<Vec<lifeboat_verify::events::Event>> {
        unimplemented!()
    }
}
