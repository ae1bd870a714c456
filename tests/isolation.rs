//! A user namespace can only be entered by a process with a single thread, so this test has no harness: the program
//! starts itself as another user, hides a primary, and tries to reach it.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use lifeboat::recovery::isolate;

const GROUND: &str = "LIFEBOAT_ISOLATION_GROUND";
/// `nobody` and `nogroup`.
const SOMEBODY: u32 = 65534;

fn main() {
    match std::env::var_os(GROUND) {
        Some(ground) => in_the_dark(Path::new(&ground)),
        None => start(),
    }
}

fn start() {
    let directory = tempfile::tempdir().unwrap();
    let ground = fs::canonicalize(directory.path()).unwrap();
    prepare(&ground);
    // A copy, for the build directory may not be open to others.
    let program = ground.join("program");
    fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    let mut child = Command::new(&program);
    child.env(GROUND, &ground).current_dir("/");
    if rustix::process::geteuid().is_root() {
        child.uid(SOMEBODY).gid(SOMEBODY);
    }
    let output = child.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    println!("isolation as another user: {said}");
    assert_eq!(fs::read(ground.join("primary/a")).unwrap(), b"data", "outside all is as it was");
    assert_eq!(fs::read(ground.join("primary/state/new")).unwrap(), b"written");
}

fn prepare(ground: &Path) {
    for name in ["primary/state", "dr"] {
        fs::create_dir_all(ground.join(name)).unwrap();
    }
    for name in ["primary/a", "dr/point", "orders.db", "orders.db-wal"] {
        fs::write(ground.join(name), "data").unwrap();
    }
    for name in ["", "primary", "primary/state", "dr"] {
        fs::set_permissions(ground.join(name), fs::Permissions::from_mode(0o777)).unwrap();
    }
}

fn in_the_dark(ground: &Path) {
    let path = |name: &str| -> PathBuf { ground.join(name) };
    let namespaces = user_namespaces();
    let outcome = isolate(&[path("primary"), path("orders.db")], &[path("dr"), path("primary/state")]);
    println!("{}, {:?}", outcome.method, outcome.not_proven);
    assert!(!namespaces || outcome.method == "mount namespace", "the system would allow a user namespace");
    if outcome.method == "none" {
        return assert!(!outcome.proven);
    }
    assert!(outcome.proven);
    for hidden in ["primary/a", "orders.db", "orders.db-wal"] {
        assert!(fs::read(path(hidden)).unwrap_or_default().is_empty(), "{hidden}");
    }
    let child = Command::new("/bin/cat").arg(path("primary/a")).stderr(Stdio::null()).status().unwrap();
    assert!(!child.success(), "children are in the dark too");
    assert!(!rustix::process::geteuid().is_root(), "the user stays who they are");
    fs::write(path("primary/state/new"), "written").unwrap();
    fs::write(path("dr/new"), "written").unwrap();
    assert_eq!(fs::read(path("dr/point")).unwrap(), b"data");
}

fn user_namespaces() -> bool {
    let mut probe = Command::new("unshare");
    probe.args(["--user", "--map-current-user", "--mount", "true"]).stderr(Stdio::null());
    probe.status().is_ok_and(|status| status.success())
}
