//! What scripts and checks of a drill are given: directories, environment, secrets to mask.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Mutex, PoisonError};

use jiff::Timestamp;

use super::plan::OWN_DIRECTORY;
use crate::ground::reaper::Groups;
use crate::ground::{Secret, output, process};
use crate::site::records::Database;

/// A source restored by a step of this drill.
#[derive(Debug, Clone)]
pub struct RestoredSource {
    /// Source kind's word.
    pub kind: String,
    pub directory: PathBuf,
    pub roots: Vec<PathBuf>,
    /// Of a database server: what it takes to ask it.
    pub database: Option<Database>,
    /// Directory of the server's programs, when the policy names it.
    pub programs: Option<PathBuf>,
}

impl RestoredSource {
    /// The directory; for a database or image, its file.
    pub fn place(&self) -> PathBuf {
        match self.kind.as_str() {
            "sqlite" | "image" | "command" => {
                super::sqlite::restored_file(&self.directory, &self.roots).unwrap_or_else(|_| self.directory.clone())
            }
            _ => self.directory.clone(),
        }
    }
}

/// What is around the steps of one drill; shared by those that run side by side.
#[derive(Debug)]
pub struct Surroundings {
    pub run: String,
    pub system: String,
    pub plan: String,
    pub drill: u64,
    pub target: PathBuf,
    pub t0: Timestamp,
    pub secrets: Vec<Secret>,
    pub groups: Groups,
    restored: Mutex<BTreeMap<String, RestoredSource>>,
}

/// The environment entry by which all processes of a run are known.
pub fn run_mark(run: &str) -> String {
    format!("LIFEBOAT_RUN={run}")
}

/// The environment entry by which the processes of one step are known.
pub fn step_mark(step: &str) -> String {
    format!("LIFEBOAT_STEP={step}")
}

impl Surroundings {
    /// Surroundings in which nothing was restored yet.
    pub fn new(run: String, context: &super::DrillContext, t0: Timestamp) -> Self {
        Self {
            run,
            system: context.policy.system.clone(),
            plan: context.plan_name.clone(),
            drill: context.drill_number,
            target: context.target.clone(),
            t0,
            secrets: context.secrets.clone(),
            groups: Groups::default(),
            restored: Mutex::default(),
        }
    }

    /// Tells scripts and checks of a restored source.
    pub fn add_restored(&self, source: &str, restored: RestoredSource) {
        self.restored.lock().unwrap_or_else(PoisonError::into_inner).insert(source.to_owned(), restored);
    }

    /// A restored source by its name.
    pub fn restored(&self, source: &str) -> Option<RestoredSource> {
        self.restored.lock().unwrap_or_else(PoisonError::into_inner).get(source).cloned()
    }

    /// All sources restored so far.
    pub fn all_restored(&self) -> Vec<RestoredSource> {
        self.restored.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    /// Hides the secrets in a text.
    pub fn mask(&self, text: &str) -> String {
        output::mask_text(text, &self.secrets)
    }

    /// Gives a command the drill's working directory and its clean environment. `step` is the name in the journal.
    pub fn prepare(&self, command: &mut Command, step: &str) {
        command.current_dir(&self.target).env_clear().envs(self.environment(step));
    }

    fn environment(&self, step: &str) -> Vec<(String, OsString)> {
        let mut environment: Vec<(String, OsString)> = vec![
            ("PATH".into(), process::SEARCH_PATH.into()),
            ("HOME".into(), self.target.clone().into()),
            ("TMPDIR".into(), self.target.join(OWN_DIRECTORY).join("tmp").into()),
            ("LANG".into(), "C.UTF-8".into()),
            ("LIFEBOAT_RUN".into(), self.run.clone().into()),
            ("LIFEBOAT_STEP".into(), step.into()),
            ("LIFEBOAT_SYSTEM".into(), self.system.clone().into()),
            ("LIFEBOAT_PLAN".into(), self.plan.clone().into()),
            ("LIFEBOAT_DRILL".into(), self.drill.to_string().into()),
            ("LIFEBOAT_TARGET".into(), self.target.clone().into()),
            ("LIFEBOAT_T0".into(), self.t0.to_string().into()),
        ];
        let restored = self.restored.lock().unwrap_or_else(PoisonError::into_inner);
        environment.extend(restored.iter().map(|(source, restored)| (variable(source), restored.place().into())));
        environment
    }
}

/// `LIFEBOAT_SOURCE_` and the source's name in capitals, everything else than letters and digits as `_`.
fn variable(source: &str) -> String {
    let plain = |character: char| if character.is_ascii_alphanumeric() { character.to_ascii_uppercase() } else { '_' };
    format!("LIFEBOAT_SOURCE_{}", source.chars().map(plain).collect::<String>())
}

#[cfg(test)]
pub(crate) mod tests {
    use std::path::Path;

    use super::*;

    /// Surroundings for tests of scripts and checks.
    pub(crate) fn surroundings(target: &Path, secrets: &[&str]) -> Surroundings {
        Surroundings {
            run: format!("run-{}", target.display()),
            system: "shop".into(),
            plan: "drill".into(),
            drill: 7,
            target: target.into(),
            t0: Timestamp::from_second(1_000).unwrap(),
            secrets: secrets.iter().map(|secret| Secret::new(*secret)).collect(),
            groups: Groups::default(),
            restored: Mutex::default(),
        }
    }

    #[test]
    fn variables_of_sources() {
        assert_eq!(variable("orders-db.v2"), "LIFEBOAT_SOURCE_ORDERS_DB_V2");
    }
}
