//! The recovery scripts that come with the policies, run for real on what a restore would have left; the products
//! themselves are stood in for by launchers that note how they were called.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Output};

struct Target(tempfile::TempDir);

impl Target {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("a temporary directory"))
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn write(&self, path: &str, content: &str) {
        let file = self.path().join(path);
        fs::create_dir_all(file.parent().expect("a parent")).expect("directories");
        fs::write(&file, content).expect("a file");
        fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).expect("a mode");
    }

    fn read(&self, path: &str) -> String {
        fs::read_to_string(self.path().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
    }

    /// Runs a shipped script in the target directory, as a plan does.
    fn run(&self, script: &str, args: &[&str], variable: (&str, &str)) -> Output {
        let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("policies/scripts");
        let (name, value) = variable;
        let mut command = Command::new(scripts.join(script));
        command.args(args).current_dir(self.path()).env(name, self.path().join(value));
        command.output().expect("the script runs")
    }
}

#[track_caller]
fn succeeds(output: &Output) {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[track_caller]
fn fails_saying(output: &Output, words: &str) {
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(1) && said.contains(words), "{words:?} is not in {said:?}");
}

#[test]
fn the_shop_starts_on_what_was_restored_and_only_then() {
    let target = Target::new();
    let run = || target.run("start-shop.sh", &["app"], ("UNUSED", ""));
    fails_saying(&run(), "app was not restored");
    fs::create_dir(target.path().join("app")).expect("a directory");
    fails_saying(&run(), "app holds no files");
    target.write("app/shop.war", "war");
    succeeds(&run());
    assert!(target.read("app/started.txt").ends_with("Z\n"));
}

/// A launcher that notes its home and leaves the process id of something that lives: the test's own.
fn launcher() -> String {
    format!(
        "#!/bin/sh\necho \"$1 $CARBON_HOME\" >\"$CARBON_HOME/called\"\necho {} >\"$CARBON_HOME/wso2carbon.pid\"\n",
        std::process::id()
    )
}

#[test]
fn the_wso2_servers_start_in_a_copy_of_the_product_with_the_restored_configuration() {
    for (script, launch, variable, home) in [
        ("start-identity-server.sh", "wso2server.sh", "WSO2IS_PRODUCT", "run/wso2is"),
        ("start-api-manager.sh", "api-manager.sh", "WSO2AM_PRODUCT", "run/wso2am"),
    ] {
        let target = Target::new();
        let run = || target.run(script, &["home"], (variable, "product"));
        fails_saying(&run(), "was not restored");
        target.write("home/repository/conf/deployment.toml", "restored");
        fails_saying(&run(), variable);
        target.write(&format!("product/bin/{launch}"), &launcher());
        target.write("product/repository/conf/deployment.toml", "as shipped");
        succeeds(&run());
        assert_eq!(target.read(&format!("{home}/repository/conf/deployment.toml")), "restored");
        assert!(target.read(&format!("{home}/called")).starts_with("start /"));
        assert_eq!(target.read("product/repository/conf/deployment.toml"), "as shipped", "the product is not changed");
    }
}

#[test]
fn nuxeo_starts_with_its_data_below_the_target() {
    let target = Target::new();
    let run = || target.run("start-nuxeo.sh", &["server/nuxeo.conf", "binaries"], ("NUXEO_HOME", "product"));
    fails_saying(&run(), "server/nuxeo.conf was not restored");
    target.write("server/nuxeo.conf", "nuxeo.data.dir=/var/lib/nuxeo");
    fails_saying(&run(), "binaries was not restored");
    target.write("binaries/data/ab/abcd", "content");
    fails_saying(&run(), "NUXEO_HOME");
    target.write("product/bin/nuxeoctl", "#!/bin/sh\necho \"$1\" >called\n");
    succeeds(&run());
    assert_eq!(target.read("called"), "start\n");
    assert_eq!(target.read("run/nuxeo/data/binaries/data/ab/abcd"), "content");
    let conf = target.read("run/nuxeo/nuxeo.conf");
    let last = conf.lines().rfind(|line| line.starts_with("nuxeo.data.dir=")).expect("the setting");
    assert!(last.ends_with("/run/nuxeo/data"), "the last setting counts: {last}");
    assert_eq!(target.read("server/nuxeo.conf"), "nuxeo.data.dir=/var/lib/nuxeo", "what was restored is not changed");
}
