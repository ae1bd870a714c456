//! What all commands share: where policies and state lie, and how a system is found by its name.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;

use super::terminal::Terminal;
use crate::catalog::Catalog;
use crate::engine::system::{StateDirectory, System, dr_place};
use crate::ground::clock::SystemClock;
use crate::ground::failure::OrFail;
use crate::ground::{Failure, Progress, Result};
use crate::policy::{self, Policy};
use crate::site::{DrSite, SitePlace};

/// A recovery script larger than this is a mistake.
const SCRIPT_BYTES_MAX: u64 = 16 << 20;

/// Options of every command.
#[derive(Debug, Clone, Args)]
pub struct Global {
    /// Directory of the policies, one TOML file per system
    #[arg(long, global = true, value_name = "DIR", env = "LIFEBOAT_POLICIES", hide_env_values = true)]
    pub policies: Option<PathBuf>,
    /// Directory of this machine's state: catalog, locks, scratch
    #[arg(long, global = true, value_name = "DIR", env = "LIFEBOAT_STATE", hide_env_values = true)]
    pub state: Option<PathBuf>,
    /// Print one JSON document to standard output
    #[arg(long, global = true)]
    pub json: bool,
    /// No progress and no warnings on standard error
    #[arg(long, global = true)]
    pub quiet: bool,
    /// No progress bars
    #[arg(long, global = true)]
    pub no_progress: bool,
}

/// A policy and the file it came from.
pub struct PolicyFile {
    pub path: PathBuf,
    pub policy: Policy,
}

impl Global {
    /// `--policies`, else `/etc/lifeboat/policies` if it exists, else `./policies`.
    pub fn policies(&self) -> PathBuf {
        let system_wide = Path::new("/etc/lifeboat/policies");
        match &self.policies {
            Some(directory) => directory.clone(),
            None if system_wide.is_dir() => system_wide.to_owned(),
            None => PathBuf::from("policies"),
        }
    }

    /// `--state`, else `/var/lib/lifeboat` for root, else the XDG state directory.
    pub fn state(&self) -> Result<PathBuf> {
        if let Some(directory) = &self.state {
            return Ok(directory.clone());
        }
        if rustix::process::geteuid().is_root() {
            return Ok(PathBuf::from("/var/lib/lifeboat"));
        }
        let absolute = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
        absolute("XDG_STATE_HOME")
            .or_else(|| absolute("HOME").map(|home| home.join(".local/state")))
            .map(|directory| directory.join("lifeboat"))
            .ok_or_else(|| Failure::wrong_input("there is no home directory").hint("give --state DIR"))
    }

    /// Progress on the terminal as the options say.
    pub fn terminal(&self) -> Arc<Terminal> {
        Terminal::new(self.quiet, self.no_progress)
    }

    /// All policy files of the directory, sorted by name.
    pub fn policy_paths(&self) -> Result<Vec<PathBuf>> {
        let directory = self.policies();
        let entries = std::fs::read_dir(&directory).map_err(|error| {
            Failure::wrong_input(format!("cannot read the policies in {}: {error}", directory.display()))
                .hint("give --policies DIR, or make a first policy with `lifeboat init`")
        })?;
        let mut paths = Vec::new();
        for entry in entries {
            let path = entry.or_fail(|| format!("cannot read {}", directory.display()))?.path();
            if path.extension().is_some_and(|extension| extension == "toml") {
                paths.push(path);
            }
        }
        paths.sort();
        Ok(paths)
    }

    /// The policy of `system`; without a name the only one there is.
    ///
    /// # Errors
    /// Wrong input when there is none, or several and no name; the policy's own errors when it is not valid.
    pub fn policy_of(&self, system: Option<&str>) -> Result<PolicyFile> {
        let mut files = Vec::new();
        let mut broken = Vec::new();
        for path in self.policy_paths()? {
            match read_policy(&path) {
                Ok(policy) => files.push(PolicyFile { path, policy }),
                Err(failure) => broken.push((path, failure)),
            }
        }
        let Some(system) = system else {
            return self.only_policy(files, broken);
        };
        if let Some(index) = files.iter().position(|file| file.policy.system == system) {
            return Ok(files.swap_remove(index));
        }
        let own_file = broken.iter().position(|(path, _)| path.file_stem().is_some_and(|stem| stem == system));
        if let Some(index) = own_file {
            return Err(broken.swap_remove(index).1);
        }
        let names: Vec<&str> = files.iter().map(|file| file.policy.system.as_str()).collect();
        let failure =
            Failure::wrong_input(format!("no policy in {} is for the system {system:?}", self.policies().display()));
        Err(match names.is_empty() {
            true => failure,
            false => failure.hint(format!("there are: {}", names.join(", "))),
        })
    }

    fn only_policy(&self, mut files: Vec<PolicyFile>, mut broken: Vec<(PathBuf, Failure)>) -> Result<PolicyFile> {
        match (files.len(), broken.len()) {
            (1, _) => Ok(files.remove(0)),
            (0, 0) => Err(Failure::wrong_input(format!("there is no policy in {}", self.policies().display()))
                .hint("make a first one with `lifeboat init`")),
            (0, _) => Err(broken.remove(0).1),
            _ => {
                let names: Vec<&str> = files.iter().map(|file| file.policy.system.as_str()).collect();
                Err(Failure::wrong_input(format!("several systems are here, name one: {}", names.join(", "))))
            }
        }
    }

    /// Opens the catalog.
    pub fn catalog(&self) -> Result<(StateDirectory, Arc<Catalog>)> {
        let state = StateDirectory::open(&self.state()?)?;
        let catalog = Catalog::open(&state.catalog())?;
        Ok((state, Arc::new(catalog)))
    }

    /// Opens a system whose DR site exists.
    pub fn open_system(&self, file: PolicyFile) -> Result<System> {
        self.open(file, DrSite::open)
    }

    /// Opens a system whose DR site exists, with the scripts that lie beside its policy: to put them in force.
    pub fn open_system_with_scripts(&self, file: PolicyFile) -> Result<System> {
        let scripts = read_scripts(&file)?;
        Ok(System { scripts, ..self.open(file, DrSite::open)? })
    }

    /// As [`Global::open_system_with_scripts`], making its DR site at the first backup; never in place of one that this
    /// machine has backed up to before.
    pub fn open_or_create_system(&self, file: PolicyFile) -> Result<System> {
        let scripts = read_scripts(&file)?;
        let (_, catalog) = self.catalog()?;
        let first = catalog.dr_site(&file.policy.system)?.is_none();
        let open = if first { DrSite::open_or_create } else { DrSite::open };
        let system = System { scripts, ..self.open(file, open)? };
        match system.dr.store().sweep() {
            Ok(removed) => removed.iter().for_each(|sentence| system.progress.warn(sentence)),
            Err(error) => system.progress.warn(&format!("{error}; the backup goes on")),
        }
        Ok(system)
    }

    /// Writes the marker of a DR site again that lost it, so that it can be opened; says so.
    pub fn mend_marker(&self, place: &SitePlace, system: Option<&str>) -> Result<()> {
        let known = |system: &str| self.catalog().ok()?.1.dr_site(system).ok().flatten();
        if DrSite::mend_marker(place, system, known)? {
            self.terminal()
                .warn(&format!("what {} says of itself was lost or damaged; it is written again", place.describe()));
        }
        Ok(())
    }

    fn open(&self, file: PolicyFile, open: impl Fn(&SitePlace, &str) -> Result<DrSite>) -> Result<System> {
        let dr = open(&dr_place(&file.policy)?, &file.policy.system)?;
        let (state, catalog) = self.catalog()?;
        let system = System {
            scripts: BTreeMap::new(),
            policy: file.policy,
            dr,
            state,
            catalog,
            clock: Arc::new(SystemClock),
            progress: self.terminal(),
            host: host_name(),
        };
        system.recognise_dr_site()?;
        system.refresh_catalog()?.iter().for_each(|damage| system.progress.warn(damage));
        Ok(system)
    }
}

/// Reads and validates one policy file.
pub fn read_policy(path: &Path) -> Result<Policy> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| Failure::wrong_input(format!("cannot read the policy {}: {error}", path.display())))?;
    policy::parse(&path.display().to_string(), &text).map_err(Failure::from)
}

/// The scripts that a policy's plans name, found beside it in `scripts/`.
fn read_scripts(file: &PolicyFile) -> Result<BTreeMap<String, Vec<u8>>> {
    let directory = file.path.parent().unwrap_or(Path::new(".")).join("scripts");
    let read = |name: &str| {
        let path = directory.join(name);
        let missing = |error: std::io::Error| {
            Failure::wrong_input(format!("the plan's script {} cannot be read: {error}", path.display()))
                .hint("recovery scripts lie beside the policy, in scripts/")
        };
        let size = std::fs::metadata(&path).map_err(missing)?.len();
        if size > SCRIPT_BYTES_MAX {
            return Err(Failure::wrong_input(format!("the script {} is larger than 16 MiB", path.display())));
        }
        Ok((name.to_owned(), std::fs::read(&path).map_err(missing)?))
    };
    file.policy.scripts().into_iter().map(read).collect()
}

/// This machine's name.
pub fn host_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}
