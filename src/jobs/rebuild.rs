//! A new machine, nothing but the DR site and the password: the policy comes back from there. The catalog follows when
//! the system is opened.

use std::path::{Path, PathBuf};

use crate::ground::failure::OrFail;
use crate::ground::{Failure, Result, SecretReference, durable_file};
use crate::site::DrSite;
use crate::site::records::PolicyInForce;

/// Writes the policy in force and its scripts into `policies`, with the DR site's path as it is now and, if given, the
/// new reference to the password.
///
/// # Errors
/// Wrong input when the directory has another policy of that system already.
pub fn bring_back_policy(
    dr: &DrSite,
    dr_path: &Path,
    password: Option<&SecretReference>,
    policies: &Path,
) -> Result<(PathBuf, PolicyInForce)> {
    let in_force = dr.policy_in_force()?.ok_or_else(|| {
        Failure::wrong_input(format!("the DR site {} holds no policy: no backup was ever made", dr.describe()))
    })?;
    let text = dr.policy_text(&in_force.policy)?;
    let text = relocate(&text, dr_path, password)?;
    let scripts = policies.join("scripts");
    durable_file::create_directories(&scripts).or_fail(|| format!("cannot make {}", scripts.display()))?;
    for (name, content) in dr.scripts(&in_force)? {
        write_new(&scripts.join(name), &content, 0o755)?;
    }
    let path = policies.join(format!("{}.toml", in_force.system));
    write_new(&path, text.as_bytes(), 0o644)?;
    Ok((path, in_force))
}

/// An equal file may be there already: a rebuild that was killed is run again.
fn write_new(path: &Path, content: &[u8], mode: u32) -> Result<()> {
    match durable_file::create_new(path, content, mode) {
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
            if std::fs::read(path).is_ok_and(|there| there == content) {
                return Ok(());
            }
            Err(Failure::wrong_input(format!("{} is there already and differs", path.display()))
                .hint("give an empty --policies directory, or move that file away"))
        }
        written => written.or_fail(|| format!("cannot write {}", path.display())),
    }
}

/// Changes the two values that depend on where the DR site is now; everything else, comments too, stays as written.
fn relocate(text: &str, dr_path: &Path, password: Option<&SecretReference>) -> Result<String> {
    let mut document: toml_edit::DocumentMut = text.parse().or_fail(|| "the stored policy is not TOML".to_owned())?;
    let path = dr_path.to_str().ok_or_else(|| {
        Failure::wrong_input(format!("the path {} is not UTF-8 and cannot stand in a policy", dr_path.display()))
    })?;
    let set = |item: &mut toml_edit::Item, value: &str| {
        if item.as_str() != Some(value) {
            *item = toml_edit::value(value);
        }
    };
    set(&mut document["dr"]["path"], path);
    if let Some(reference) = password {
        set(&mut document["dr"]["repository_password"], &reference.to_string());
    }
    Ok(document.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_place_and_the_password_change() {
        let text = "system = \"shop\" # ours\n[dr]\nprovider = \"local\"\npath = \"/old\" # far away\nrepository_password = \"file:/old/p\"\n";
        let moved = relocate(text, Path::new("/new place"), Some(&SecretReference::Env("PW".into()))).unwrap();
        assert_eq!(
            moved,
            "system = \"shop\" # ours\n[dr]\nprovider = \"local\"\npath = \"/new place\"\nrepository_password = \"env:PW\"\n"
        );
        assert_eq!(relocate(text, Path::new("/old"), None).unwrap(), text);
    }
}
