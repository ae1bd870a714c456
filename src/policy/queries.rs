//! What others ask of a policy, and the plan that is drilled when none is written.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::ground::sha256_hex;

use super::build::{RESTORE_TIMEOUT, SINGLE_ATTEMPT};
use super::{
    Check, CheckKind, Comparison, ExistingRepository, Expectation, Plan, Policy, Source, SourceKind, Step, StepAction,
};

impl Policy {
    /// The source of this name.
    pub fn source(&self, name: &str) -> Option<&Source> {
        self.sources.iter().find(|source| source.name == name)
    }

    /// The plan written under this name.
    pub fn plan(&self, name: &str) -> Option<&Plan> {
        self.plans.get(name)
    }

    /// What to carry out under a name: the plan written so, or for `drill` the one made from the sources.
    pub fn plan_to_run(&self, name: &str) -> Option<Plan> {
        match self.plan(name) {
            None if name == "drill" => Some(self.default_drill_plan()),
            plan => plan.cloned(),
        }
    }

    /// SHA-256 of the text, lower-case hex: the name under which this version of the policy is kept at the DR site.
    pub fn hash(&self) -> String {
        sha256_hex(self.text.as_bytes())
    }

    /// Script files that any plan uses.
    pub fn scripts(&self) -> BTreeSet<&str> {
        let steps = self.plans.values().flat_map(|plan| &plan.steps);
        steps
            .filter_map(|step| match &step.action {
                StepAction::Script { file, .. } => Some(file.as_str()),
                _ => None,
            })
            .collect()
    }

    /// The plan of `lifeboat drill`: the one written as `drill`, or one made from the sources.
    ///
    /// The made one restores every source below its own name and then looks at what came back: SQLite's own
    /// integrity check answers `ok`, another database answers a query, and what files, logs, images and snapshots of an
    /// existing repository were restored into exists. EBS volumes are restored and not looked into.
    pub fn default_drill_plan(&self) -> Plan {
        self.plan("drill").cloned().unwrap_or_else(|| Plan {
            steps: self.sources.iter().map(restore_step).collect(),
            checks: self.sources.iter().filter_map(simple_check).collect(),
        })
    }
}

impl Source {
    /// The existing repository that its points lie in, where it is of that kind.
    pub fn existing(&self) -> Option<&ExistingRepository> {
        match &self.kind {
            SourceKind::Repository(existing) => Some(existing),
            _ => None,
        }
    }
}

impl SourceKind {
    /// Whether `sql` checks and beacons can be asked of it.
    pub fn is_database(&self) -> bool {
        matches!(self, Self::Sqlite { .. } | Self::Postgres(_) | Self::Mysql(_) | Self::Rds { .. })
    }
}

impl Plan {
    /// Indices of the steps in an order in which each comes after all that its `after` names.
    ///
    /// `None` when the steps wait for each other, which a parsed policy never holds.
    pub fn order(&self) -> Option<Vec<usize>> {
        let index = |name: &String| self.steps.iter().position(|step| step.name == *name);
        let after: Vec<Vec<usize>> =
            self.steps.iter().map(|step| step.after.iter().filter_map(index).collect()).collect();
        super::graph::order(&after).ok()
    }
}

fn restore_step(source: &Source) -> Step {
    Step {
        name: format!("restore {}", source.name),
        action: StepAction::Restore { source: source.name.clone(), to: source.name.clone() },
        after: Vec::new(),
        timeout: RESTORE_TIMEOUT,
    }
}

fn simple_check(source: &Source) -> Option<Check> {
    let on = source.name.clone();
    let sql = |query: &str, value: &str| CheckKind::Sql {
        query: query.to_owned(),
        on: on.clone(),
        expect: Expectation { comparison: Comparison::Equal, value: value.to_owned() },
    };
    let (kind, within) = match &source.kind {
        // Reads every page of the database, which may take long.
        SourceKind::Sqlite { .. } => (sql(SQLITE_INTEGRITY, "ok"), Duration::from_secs(3600)),
        SourceKind::Postgres(_) | SourceKind::Mysql(_) | SourceKind::Rds { .. } => {
            (sql("select 1", "1"), SINGLE_ATTEMPT)
        }
        SourceKind::Files { .. } | SourceKind::Logs { .. } | SourceKind::Image { .. } | SourceKind::Repository(_) => {
            (CheckKind::File { path: on.clone(), sha256: None }, SINGLE_ATTEMPT)
        }
        SourceKind::Command(command) => {
            (CheckKind::File { path: format!("{on}/{}", command.file), sha256: None }, SINGLE_ATTEMPT)
        }
        SourceKind::Ebs { .. } => return None,
    };
    let name = match kind {
        CheckKind::Sql { .. } => format!("sql on {on}"),
        _ => format!("file {on}"),
    };
    Some(Check { name, kind, within, retry: false })
}

/// One value: `ok`, or the damages that SQLite found.
const SQLITE_INTEGRITY: &str = "select group_concat(integrity_check, '; ') from pragma_integrity_check";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_integrity_query_is_one_that_sqlite_answers_with_ok() {
        let database = rusqlite::Connection::open_in_memory().expect("a database");
        let answer: String = database.query_row(SQLITE_INTEGRITY, [], |row| row.get(0)).expect("an answer");
        assert_eq!(answer, "ok");
    }
}
