//! A system opened for work: its policy, its DR site, and this machine's state directory.

use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::Timestamp;

use super::existing::PointReaders;
use super::lock::SystemLock;
use crate::catalog::{Catalog, DrillRow};
use crate::ground::failure::OrFail;
use crate::ground::{Clock, Failure, Progress, Result, Secret, SecretReference, durable_file, os_reason};
use crate::ledger::Ledger;
use crate::policy::{DrLocation, Policy, Primary};
use crate::repository::{KeyStrength, Repository, RepositoryError};
use crate::site::{CachedStore, DrSite, ObjectStore, SitePlace};

/// This machine's working directory: catalog, locks, scratch, drill targets. Nothing in it is needed to recover.
#[derive(Debug, Clone)]
pub struct StateDirectory {
    root: PathBuf,
}

impl StateDirectory {
    /// Makes the directory, readable by its owner alone.
    pub fn open(root: &Path) -> Result<Self> {
        use rustix::fs::{Access, access};
        use std::os::unix::fs::PermissionsExt;
        let doing = || format!("cannot use the state directory {}", root.display());
        let fresh = !root.exists();
        durable_file::create_directories(root).or_fail(doing)?;
        if fresh {
            std::fs::set_permissions(root, std::fs::Permissions::from_mode(0o700)).or_fail(doing)?;
        }
        access(root, Access::READ_OK | Access::WRITE_OK | Access::EXEC_OK).map_err(|error| {
            Failure::wrong_input(format!("{}: {}", doing(), os_reason(&error.into())))
                .hint("it belongs to another user or is read-only: give --state DIR on a place of your own")
        })?;
        Ok(Self { root: root.canonicalize().or_fail(doing)? })
    }

    /// The directory itself.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The catalog's file.
    pub fn catalog(&self) -> PathBuf {
        self.root.join("catalog.db")
    }

    /// Where locks lie.
    pub fn locks(&self) -> PathBuf {
        self.root.join("locks")
    }

    /// A private, empty directory for a run's temporary files.
    pub fn fresh_scratch(&self, run: &str) -> Result<PathBuf> {
        let scratch = self.root.join("scratch").join(run);
        let doing = || format!("cannot make the scratch directory {}", scratch.display());
        if scratch.exists() {
            std::fs::remove_dir_all(&scratch).or_fail(doing)?;
        }
        durable_file::create_directories(&scratch).or_fail(doing)?;
        Ok(scratch)
    }

    /// Where a drill restores to.
    pub fn drill_target(&self, run: &str) -> PathBuf {
        self.root.join("drills").join(run)
    }
}

/// A system opened for work.
#[derive(Clone)]
pub struct System {
    pub policy: Policy,
    /// Recovery scripts that lie beside the policy, by file name; empty where nothing is put in force.
    pub scripts: BTreeMap<String, Vec<u8>>,
    pub dr: DrSite,
    pub state: StateDirectory,
    pub catalog: Arc<Catalog>,
    pub clock: Arc<dyn Clock>,
    pub progress: Arc<dyn Progress>,
    pub host: String,
}

impl System {
    /// The ledger at its DR site.
    pub fn ledger(&self) -> Ledger {
        Ledger::new(Arc::clone(self.dr.store()), &self.policy.system)
    }

    /// Takes the lock of changing commands.
    pub fn lock(&self, command: &str) -> Result<SystemLock> {
        SystemLock::take(&self.state.locks(), &self.policy.system, command, self.clock.now())
    }

    /// Opens the repository with the policy's password, straight at the DR site: what restores, verifies or drills
    /// must not be answered by anything that this machine remembers.
    pub fn open_repository(&self) -> Result<Repository> {
        let password = repository_password(&self.policy.dr).resolve()?;
        Repository::open(self.dr.repository_store(), &password).map_err(|error| self.explain(error))
    }

    /// Readers of recovery points, wherever they lie.
    ///
    /// # Errors
    /// As [`System::open_repository`].
    pub fn point_readers(&self) -> Result<PointReaders> {
        Ok(PointReaders::new(self.open_repository()?, &self.policy))
    }

    /// The repository's place for backups: before a bucket lies a cache of what each backup reads again.
    fn writing_store(&self) -> Arc<dyn ObjectStore> {
        let store = self.dr.repository_store();
        match self.dr.place() {
            SitePlace::Directory(_) => store,
            SitePlace::Bucket(_) => {
                let directory = self.state.root().join("cache").join(self.dr.id());
                Arc::new(CachedStore::new(store, &directory))
            }
        }
    }

    /// Opens the repository for backups, making it when the DR site has none yet.
    pub fn open_or_create_repository(&self) -> Result<Repository> {
        let password = repository_password(&self.policy.dr).resolve()?;
        let store = self.writing_store();
        match Repository::open(Arc::clone(&store), &password) {
            Err(RepositoryError::NotARepository(_)) => {}
            opened => return opened.map_err(|error| self.explain(error)),
        }
        if !self.dr.point_ids()?.is_empty() {
            return Err(Failure::failed(format!(
                "{} lists recovery points, yet its repository is gone",
                self.dr.describe()
            ))
            .hint("find out what removed it; lifeboat does not start a new one over it"));
        }
        let created = match Repository::create(Arc::clone(&store), &password, strength_of(password.expose())) {
            // Another host has made it in this moment.
            Err(RepositoryError::AlreadyExists(place)) => {
                Repository::open(store, &password).map_err(|_| RepositoryError::AlreadyExists(place))
            }
            created => created,
        };
        created.map_err(|error| self.explain(error))
    }

    fn explain(&self, error: RepositoryError) -> Failure {
        let wrong_password = matches!(error, RepositoryError::WrongPassword(_));
        let failure = Failure::from(error);
        if !wrong_password {
            return failure;
        }
        let reference = repository_password(&self.policy.dr);
        failure.hint(format!("the policy takes the password from {reference}"))
    }

    /// Enters what the DR site holds and the catalog does not know: points, archives, drills. Gives a sentence for each
    /// record that cannot be read: one damaged object must not stop a backup or a restore.
    pub fn refresh_catalog(&self) -> Result<Vec<String>> {
        let name = &self.policy.system;
        let mut damage = Vec::new();
        let known: HashSet<String> = self.catalog.points(name)?.into_iter().map(|point| point.id).collect();
        for id in self.dr.point_ids()?.into_iter().filter(|id| !known.contains(id)) {
            match self.dr.point(&id) {
                Ok(point) => point.iter().try_for_each(|point| self.catalog.put_point(point))?,
                Err(failure) => damage.push(failure.message),
            }
        }
        let known: HashSet<String> = self.catalog.archives(name)?.into_iter().map(|archive| archive.id).collect();
        for id in self.dr.archive_ids()?.into_iter().filter(|id| !known.contains(id)) {
            match self.dr.archive(&id) {
                Ok(archive) => archive.iter().try_for_each(|archive| self.catalog.put_archive(archive))?,
                Err(failure) => damage.push(failure.message),
            }
        }
        let known: HashSet<u64> = self.catalog.drills(name)?.into_iter().map(|drill| drill.drill).collect();
        for number in self.dr.report_numbers()?.into_iter().filter(|number| !known.contains(number)) {
            match self.dr.report(number) {
                Ok(report) => self.catalog.put_drill(&DrillRow::of(&report))?,
                Err(failure) => damage.push(failure.message),
            }
        }
        Ok(damage)
    }

    /// Refuses a DR site that is not the one this machine backed up to: an unmounted or mistaken place.
    ///
    /// # Errors
    /// Wrong input, saying what to do.
    pub fn recognise_dr_site(&self) -> Result<()> {
        let name = &self.policy.system;
        let known = self.catalog.dr_site(name)?;
        if known.as_deref().is_none_or(|known| known == self.dr.id()) {
            return self.catalog.put_dr_site(name, self.dr.id());
        }
        Err(Failure::wrong_input(format!(
            "{} is not the DR site that this machine backs {name:?} up to",
            self.dr.describe()
        ))
        .hint("check what is mounted there; to work with the other site, give another --state DIR"))
    }

    /// Why this machine's clock cannot be right: the ledger has a later time than now. A ledger that cannot be read
    /// tells nothing about the clock; `ledger verify` and the end of the run speak of that.
    pub fn clock_suspect(&self, now: Timestamp) -> Option<String> {
        let latest = self.ledger().latest_time().ok().flatten().filter(|latest| *latest > now)?;
        Some(format!("the clock reads {now}, yet the ledger was written to at {latest}: the clock was set back"))
    }
}

/// Where the policy's DR site is. Refuses what cannot be worked on, in a sentence.
///
/// # Errors
/// Wrong input for a policy whose primary site is on AWS.
pub fn dr_place(policy: &Policy) -> Result<SitePlace> {
    match &policy.primary {
        Primary::Local => Ok(SitePlace::of(&policy.dr)),
        Primary::Aws { .. } => Err(aws_not_served(&policy.system)),
    }
}

fn aws_not_served(system: &str) -> Failure {
    let failure = Failure::wrong_input(format!("the policy of {system:?} has a primary site on AWS"));
    if cfg!(feature = "aws") {
        failure.hint(
            "this version checks such policies but does not yet run them; [primary] with provider = \"local\" works, \
             with the DR site in a directory or in a bucket",
        )
    } else {
        failure
            .context("this lifeboat was built without AWS")
            .hint("build it with `cargo build --release` (feature `aws`)")
    }
}

/// The reference to the repository's password.
pub fn repository_password(dr: &DrLocation) -> &SecretReference {
    match dr {
        DrLocation::Local { repository_password, .. } | DrLocation::Aws { repository_password, .. } => {
            repository_password
        }
    }
}

/// Passwords of all repositories that a policy names, as far as they can be had: nothing that is kept may hold one.
pub fn secrets_of(policy: &Policy) -> Vec<Secret> {
    let existing = policy.sources.iter().filter_map(|source| Some(&source.existing()?.password));
    existing.chain([repository_password(&policy.dr)]).filter_map(|reference| reference.resolve().ok()).collect()
}

/// 64 hex digits are what `init` makes from 32 random bytes: a costly derivation would gain nothing.
fn strength_of(password: &[u8]) -> KeyStrength {
    let random = password.len() == 64 && password.iter().all(u8::is_ascii_hexdigit);
    if random { KeyStrength::Random } else { KeyStrength::Chosen }
}
