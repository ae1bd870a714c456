//! Isolation for real, where this machine allows it. Namespaces and Landlock hold for a thread and its children, so
//! each test has a thread of its own; user namespaces need a process of their own and have a test in `tests/isolation.rs`.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::process::{Command, Stdio};

use super::*;
use crate::policy::{Objectives, Retention, Schedule, Source};

/// A primary with a directory, a database and a link to it, and a place to keep beside it.
struct Ground {
    directory: tempfile::TempDir,
}

impl Ground {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let ground = Self { directory };
        for name in ["primary/files/deep", "primary/db", "primary/files/state/inner", "dr"] {
            fs::create_dir_all(ground.path(name)).unwrap();
        }
        for name in
            ["primary/files/deep/a", "primary/db/orders", "primary/db/orders-wal", "primary/files/state/run", "dr/x"]
        {
            fs::write(ground.path(name), "data").unwrap();
        }
        symlink(ground.path("primary/files"), ground.path("link")).unwrap();
        ground
    }

    fn path(&self, name: &str) -> PathBuf {
        fs::canonicalize(self.directory.path()).unwrap().join(name)
    }

    fn primary(&self) -> Vec<PathBuf> {
        ["link", "primary/db/orders", "primary/none"].iter().map(|name| self.path(name)).collect()
    }

    fn keep(&self) -> Vec<PathBuf> {
        ["dr", "primary/files/state"].iter().map(|name| self.path(name)).collect()
    }
}

/// What must hold after a successful isolation, seen from here and from a child process.
fn assert_dark(ground: &Ground, outcome: &Isolated) {
    assert!(outcome.proven, "{outcome:?}");
    assert!(fs::read(ground.path("primary/files/deep/a")).is_err());
    assert!(fs::read(ground.path("link/deep/a")).is_err());
    assert!(fs::read(ground.path("primary/db/orders")).unwrap_or_default().is_empty());
    assert!(fs::read(ground.path("primary/db/orders-wal")).unwrap_or_default().is_empty());
    assert!(fs::write(ground.path("primary/files/new"), "x").is_err());
    assert_eq!(fs::read(ground.path("dr/x")).unwrap(), b"data");
    fs::write(ground.path("dr/y"), "written").unwrap();
    assert_eq!(fs::read(ground.path("primary/files/state/run")).unwrap(), b"data");
    fs::write(ground.path("primary/files/state/inner/new"), "written").unwrap();
    let deep = ground.path("primary/files/deep").display().to_string();
    assert!(can(&["/bin/cat", &ground.path("dr/x").display().to_string()]));
    assert!(!can(&["/bin/cat", &format!("{deep}/a")]), "children are in the dark too");
    let all = [ground.path("primary/db/orders"), ground.path("primary/db/orders-wal"), ground.path("primary/files")];
    let hidden = all.iter().map(|path| path.display().to_string());
    let gone = std::iter::once(format!("{} (not on this machine)", ground.path("primary/none").display()));
    assert_eq!(outcome.hidden, gone.chain(hidden).collect::<Vec<_>>());
}

fn in_thread<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    std::thread::spawn(work).join().unwrap()
}

#[test]
fn root_covers_the_primary_in_a_mount_namespace() {
    if !rustix::process::geteuid().is_root() || !can(&["unshare", "--mount", "true"]) {
        return;
    }
    let ground = Ground::new();
    let (primary, keep) = (ground.primary(), ground.keep());
    let ground = in_thread(move || {
        let outcome = isolate(&primary, &keep);
        assert_eq!(outcome.method, "mount namespace");
        assert_dark(&ground, &outcome);
        ground
    });
    assert_eq!(fs::read(ground.path("primary/files/deep/a")).unwrap(), b"data", "outside all is as it was");
    assert_eq!(fs::read(ground.path("primary/files/state/inner/new")).unwrap(), b"written");
}

fn can(line: &[&str]) -> bool {
    Command::new(line[0])
        .args(&line[1..])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

#[test]
fn landlock_hides_where_the_kernel_has_it() {
    let ground = Ground::new();
    let wanted = wanted(&ground.primary(), &ground.keep());
    let keep = resolved(&ground.keep());
    in_thread(move || {
        let Ok(()) = landlock::restrict(&wanted.hide, &keep) else { return };
        let hidden = wanted.gone.iter().map(|path| format!("{} (not on this machine)", path.display())).collect();
        let mut outcome = Isolated { method: "landlock".into(), proven: true, hidden, not_proven: Vec::new() };
        prove::prove(&wanted.hide, &mut outcome);
        assert!(outcome.not_proven.is_empty(), "{outcome:?}");
        assert_dark(&ground, &outcome);
    });
}

#[test]
fn what_is_not_hidden_is_seen_to_be_reachable() {
    let ground = Ground::new();
    let wanted = wanted(&ground.primary(), &[]);
    let mut outcome = Isolated { method: "none".into(), proven: false, hidden: Vec::new(), not_proven: Vec::new() };
    prove::prove(&wanted.hide, &mut outcome);
    assert!(outcome.hidden.is_empty(), "{outcome:?}");
    assert_eq!(outcome.not_proven.len(), 3);
}

#[test]
fn what_cannot_be_hidden_is_said() {
    let wanted = wanted(&["/".into(), "/etc".into(), "/usr/".into(), "/tmp".into()], &["/tmp".into()]);
    assert!(wanted.hide.is_empty(), "{wanted:?}");
    assert_eq!(wanted.impossible.len(), 4);
    assert!(wanted.impossible[3].contains("lifeboat itself works there"), "{wanted:?}");
}

#[test]
fn a_primary_that_is_gone_needs_no_hiding() {
    let outcome = isolate(&["/nowhere/at/all".into()], &[]);
    assert!(outcome.proven);
    assert_eq!(outcome.hidden, ["/nowhere/at/all (not on this machine)"]);
    assert!(!isolate(&[], &[]).proven, "nothing to hide proves nothing");
}

#[test]
fn paths_of_the_primary() {
    let source = |kind| Source { name: "s".into(), kind, beacon: None, hooks: None };
    let files = |paths: &[&str]| paths.iter().map(|path| (*path).to_owned()).collect::<Vec<_>>();
    let sources = vec![
        source(SourceKind::Files { paths: files(&["/srv/shop", "/opt/x"]), exclude: Vec::new() }),
        source(SourceKind::Logs {
            paths: files(&["/var/log/shop/*.log*", "/opt/x/one.log", "/a/{b,c}/d"]),
            exclude: Vec::new(),
            full_read: std::time::Duration::MAX,
        }),
        source(SourceKind::Sqlite { path: "/var/lib/orders.db".into() }),
        source(SourceKind::Image { path: "/dev/vg0/data".into() }),
    ];
    let policy = Policy {
        system: "shop".into(),
        timezone: "UTC".into(),
        objectives: Objectives::default(),
        primary: crate::policy::Primary::Local,
        dr: crate::policy::DrLocation::Local {
            path: "/mnt/dr".into(),
            repository_password: crate::ground::SecretReference::File("/p".into()),
        },
        sources,
        hooks: None,
        schedule: Schedule::default(),
        retention: Retention::default(),
        plans: Default::default(),
        notify: None,
        text: String::new(),
    };
    let expected =
        ["/a", "/dev/vg0/data", "/opt/x", "/opt/x/one.log", "/srv/shop", "/var/lib/orders.db", "/var/log/shop"];
    assert_eq!(primary_paths(&policy), expected.map(PathBuf::from));
}
