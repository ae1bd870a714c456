//! The DR site: everything needed to bring a system back, in one store.
//!
//! ```text
//! lifeboat.json              what this place is: format, system
//! repository/                restic repository, format version 2
//! policies/<sha256>.toml     every policy that was ever in force
//! policy-in-force.json       which one is, and its recovery scripts
//! scripts/<sha256>           recovery scripts by content
//! points/<point>.json        one record per recovery point, written last
//! archives/<archive>.json    one record per archive
//! ledger/<number>.json       the chained record of every run
//! runs/<run>.jsonl           the step journal of every finished run
//! reports/<drill>.json|html  drill reports
//! ```

use std::sync::Arc;

use super::object_store::ObjectStore;

/// Handle to a system's DR site. Executing a recovery plan needs this and nothing else.
#[derive(Clone)]
pub struct DrSite {
    store: Arc<dyn ObjectStore>,
}

impl DrSite {
    /// The whole site's store.
    pub fn store(&self) -> &Arc<dyn ObjectStore> {
        &self.store
    }
}
