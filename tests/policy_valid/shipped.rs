//! The policies that come with the project: each is valid, for the reader and for the schema, and complete.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use lifeboat::policy;

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("policies")
}

/// Every shipped policy: its name and text.
pub fn shipped() -> Vec<(String, String)> {
    let entries = std::fs::read_dir(directory()).expect("policies/ is readable");
    let paths = entries.map(|entry| entry.expect("an entry").path());
    let mut found: Vec<_> = paths
        .filter(|path| path.extension().is_some_and(|extension| extension == "toml"))
        .map(|path| (path.display().to_string(), std::fs::read_to_string(&path).expect("a policy is readable")))
        .collect();
    found.sort();
    found
}

#[test]
fn each_is_valid_and_has_what_the_readme_promises() {
    let shipped = shipped();
    let names: Vec<&str> = shipped.iter().filter_map(|(path, _)| path.rsplit('/').next()).collect();
    assert_eq!(names, ["local.toml", "nuxeo.toml", "wso2-api-manager.toml", "wso2-identity-server.toml"]);
    for (path, text) in &shipped {
        let policy = policy::parse(path, text).unwrap_or_else(|errors| panic!("{errors}"));
        assert!(policy.objectives.rpo.is_some() && policy.objectives.rto.is_some(), "{path} sets objectives");
        let drill = policy.plan("drill").unwrap_or_else(|| panic!("{path} has a drill plan"));
        assert!(drill.order().is_some());
    }
}

#[test]
fn their_scripts_stand_in_scripts_beside_them_and_can_run() {
    let mut used = std::collections::BTreeSet::new();
    for (path, text) in shipped() {
        let policy = policy::parse(&path, &text).unwrap_or_else(|errors| panic!("{errors}"));
        used.extend(policy.scripts().into_iter().map(str::to_owned));
    }
    for script in &used {
        let file = directory().join("scripts").join(script);
        let mode = file.metadata().unwrap_or_else(|error| panic!("{}: {error}", file.display())).permissions().mode();
        assert_eq!(mode & 0o111, 0o111, "{} can be executed", file.display());
        let syntax = std::process::Command::new("/bin/sh").arg("-n").arg(&file).status().expect("sh runs");
        assert!(syntax.success(), "{} is a shell script", file.display());
    }
    let kept = std::fs::read_dir(directory().join("scripts")).expect("scripts/ is readable").count();
    assert_eq!(used.len(), kept, "no script is left over");
}

#[test]
fn the_schema_accepts_each_and_refuses_a_key_that_is_unknown() {
    let schema = jsonschema::validator_for(&policy::schema()).expect("the schema is a schema");
    for (path, text) in shipped() {
        let document: serde_json::Value = toml::from_str(&text).expect("TOML");
        let errors: Vec<String> = schema.iter_errors(&document).map(|error| error.to_string()).collect();
        assert!(errors.is_empty(), "{path}: {errors:?}");

        for table in ["/source/0", "/dr", "/retention/archive", "/plan/drill/step/0", "/plan/drill/check/0", ""] {
            let mut wrong = document.clone();
            wrong.pointer_mut(table).unwrap_or_else(|| panic!("{path} has {table}"))["colour"] = "blue".into();
            assert!(!schema.is_valid(&wrong), "{path}: an unknown key in \"{table}\" is refused");
        }
    }
}

#[test]
fn the_schema_knows_which_keys_belong_together() {
    let schema = jsonschema::validator_for(&policy::schema()).expect("the schema is a schema");
    let (_, text) = shipped().remove(0);
    let with = |from: &str, to: &str| {
        assert!(text.contains(from), "the policy holds {from:?}");
        toml::from_str::<serde_json::Value>(&text.replacen(from, to, 1)).expect("TOML")
    };
    assert!(schema.is_valid(&with("rpo = \"1h\"", "rpo = \"90m\"")));
    for (from, to) in [
        ("kind = \"sqlite\"", "kind = \"sqlit\""),
        ("kind = \"sqlite\"", "kind = \"postgres\""),
        ("rpo = \"1h\"", "rpo = \"one hour\""),
        ("rpo = \"1h\"", "rpo = 1"),
        ("daily = 7", "daily = 0"),
        ("restore = \"logs\"", "restore = \"logs\"\nwait = \"1m\""),
        ("repository_password = \"file:/etc/lifeboat/shop.password\"", "repository_password = \"hunter2\""),
        ("repository_password", "bucket"),
    ] {
        assert!(!schema.is_valid(&with(from, to)), "{to:?} is refused");
    }
}
