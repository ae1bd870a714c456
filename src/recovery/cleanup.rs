//! A drill's clean-up: ends its processes, deletes its target, names what is left. Can be repeated.

use std::path::{Path, PathBuf};

use lifeboat_verify::events::CleanedUp;

use super::databases;
use super::remove::remove_tree;
use super::surroundings::{Surroundings, run_mark};
use crate::ground::byte_path::escape_path;
use crate::ground::reaper::{self, Belonging};

/// Cleans up after a drill. `restored` are the directories below the target that restore steps were given. Blocks.
pub fn clean_up(surroundings: &Surroundings, restored: &[PathBuf]) -> CleanedUp {
    for restored in surroundings.all_restored() {
        databases::stop(&restored, surroundings);
    }
    let belonging = Belonging { marks: vec![run_mark(&surroundings.run)], groups: Some(&surroundings.groups) };
    let ended = reaper::end(&belonging);
    let target = &surroundings.target;
    let created: Vec<&Path> = std::iter::once(target.as_path()).chain(restored.iter().map(PathBuf::as_path)).collect();
    let mut left = remove_tree(target);
    left.extend(ended.left);
    let gone = |path: &&&Path| std::fs::symlink_metadata(path).is_err();
    CleanedUp {
        created: created.iter().map(|path| escape_path(path)).collect(),
        deleted: created.iter().filter(gone).map(|path| escape_path(path)).collect(),
        left,
        ended_processes: ended.processes,
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::time::Duration;

    use super::super::scripts::{self, ScriptCall};
    use super::super::surroundings::tests::surroundings;
    use super::*;

    #[tokio::test]
    async fn a_daemon_of_a_script_is_ended_and_the_target_deleted() {
        let outer = tempfile::tempdir().unwrap();
        let target = outer.path().join("drill");
        fs::create_dir_all(target.join("files")).unwrap();
        let surroundings = surroundings(&target, &[]);
        // Forked twice, in a session of its own, writing into the target.
        let script = "setsid sh -c '(while :; do date > busy; sleep 0.05; done) & echo $!' < /dev/null";
        let call = ScriptCall {
            step: "step: start".into(),
            file: "start".into(),
            content: script.into(),
            args: Vec::new(),
            timeout: Duration::from_secs(20),
        };
        let run = scripts::run(call, &surroundings).await.unwrap();
        let daemon = format!("/proc/{}/cmdline", run.output.trim());
        assert!(!fs::read(&daemon).unwrap().is_empty(), "it runs");
        let cleaned = clean_up(&surroundings, &[target.join("files")]);
        assert!(cleaned.ended_processes >= 1 && cleaned.left.is_empty(), "{cleaned:?}");
        assert_eq!(cleaned.created, cleaned.deleted);
        assert_eq!(cleaned.created.len(), 2);
        assert!(!target.exists());
        assert!(fs::read(&daemon).unwrap_or_default().is_empty(), "it is gone");
        let again = clean_up(&surroundings, &[]);
        assert!(again.left.is_empty() && again.ended_processes == 0, "{again:?}");
    }
}
