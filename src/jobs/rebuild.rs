//! A new machine, nothing but the DR site and the password: the policy comes back from there. The catalog follows when
//! the system is opened.

use std::path::{Path, PathBuf};

use crate::ground::failure::OrFail;
use crate::ground::{Failure, Result, SecretReference, durable_file};
use crate::site::records::PolicyInForce;
use crate::site::{DrSite, SitePlace};

/// Writes the policy in force and its scripts into `policies`, with the DR site's place as it is now and, if given, the
/// new reference to the password.
///
/// # Errors
/// Wrong input when the directory has another policy of that system already.
pub fn bring_back_policy(
    dr: &DrSite,
    place: &SitePlace,
    password: Option<&SecretReference>,
    policies: &Path,
) -> Result<(PathBuf, PolicyInForce)> {
    let in_force = dr.policy_in_force()?.ok_or_else(|| {
        Failure::wrong_input(format!("the DR site {} holds no policy: no backup was ever made", dr.describe()))
    })?;
    let text = dr.policy_text(&in_force.policy).map_err(|failure| {
        failure.hint(format!(
            "lay a copy of the policy of {:?} into the policies directory, or write one with `lifeboat init` that names \
             this DR site and its password: everything else is found there, and the next backup puts the policy back",
            in_force.system
        ))
    })?;
    let text = relocate(&text, place, password)?;
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

/// Changes the values that depend on where the DR site is now; everything else, comments too, stays as written.
fn relocate(text: &str, place: &SitePlace, password: Option<&SecretReference>) -> Result<String> {
    let mut document: toml_edit::DocumentMut = text.parse().or_fail(|| "the stored policy is not TOML".to_owned())?;
    match place {
        SitePlace::Directory(path) => {
            let path = path.to_str().ok_or_else(|| {
                Failure::wrong_input(format!("the path {} is not UTF-8 and cannot stand in a policy", path.display()))
            })?;
            set(&mut document["dr"], "provider", Some("local"));
            set(&mut document["dr"], "path", Some(path));
            BUCKET_KEYS.iter().for_each(|key| set(&mut document["dr"], key, None));
        }
        SitePlace::Bucket(place) => {
            set(&mut document["dr"], "provider", Some("aws"));
            set(&mut document["dr"], "path", None);
            set(&mut document["dr"], "region", Some(&place.region));
            set(&mut document["dr"], "bucket", Some(&place.bucket));
            set(&mut document["dr"], "prefix", place.options.prefix.as_deref());
            set(&mut document["dr"], "endpoint", place.options.endpoint.as_deref());
        }
    }
    if let Some(reference) = password {
        set(&mut document["dr"], "repository_password", Some(&reference.to_string()));
    }
    Ok(document.to_string())
}

/// What a `[dr]` on AWS has and one in a directory has not.
const BUCKET_KEYS: [&str; 11] = [
    "region",
    "bucket",
    "prefix",
    "endpoint",
    "path_style",
    "storage_class",
    "object_lock",
    "access_key",
    "secret_key",
    "session_token",
    "kms_key",
];

fn set(table: &mut toml_edit::Item, key: &str, value: Option<&str>) {
    match value {
        Some(value) if table.get(key).and_then(toml_edit::Item::as_str) == Some(value) => {}
        Some(value) => table[key] = toml_edit::value(value),
        None => {
            if let Some(table) = table.as_table_like_mut() {
                table.remove(key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_place_and_the_password_change() {
        let text = "system = \"shop\" # ours\n[dr]\nprovider = \"local\"\npath = \"/old\" # far away\nrepository_password = \"file:/old/p\"\n";
        let at = |path: &str| SitePlace::Directory(PathBuf::from(path));
        let moved = relocate(text, &at("/new place"), Some(&SecretReference::Env("PW".into()))).unwrap();
        assert_eq!(
            moved,
            "system = \"shop\" # ours\n[dr]\nprovider = \"local\"\npath = \"/new place\"\nrepository_password = \"env:PW\"\n"
        );
        assert_eq!(relocate(text, &at("/old"), None).unwrap(), text);
    }

    #[test]
    fn a_site_that_moved_into_a_bucket_and_back_is_written_so() {
        let text =
            "system = \"shop\"\n[dr]\nprovider = \"local\"\npath = \"/old\"\nrepository_password = \"file:/p\"\n";
        let bucket = SitePlace::parse(Path::new("s3://acme/shop"), Some("http://127.0.0.1:8333"), Some("eu-west-1"));
        let moved = relocate(text, &bucket.unwrap(), None).unwrap();
        assert!(moved.contains("provider = \"aws\"") && moved.contains("bucket = \"acme\""), "{moved}");
        assert!(
            moved.contains("prefix = \"shop\"") && moved.contains("endpoint = \"http://127.0.0.1:8333\""),
            "{moved}"
        );
        assert!(!moved.contains("/old"), "{moved}");
        let back = relocate(&moved, &SitePlace::Directory("/new".into()), None).unwrap();
        assert!(back.contains("path = \"/new\"") && !back.contains("bucket") && !back.contains("region"), "{back}");
    }
}
