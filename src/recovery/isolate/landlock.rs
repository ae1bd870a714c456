//! Landlock: everything stays allowed except what is hidden and new names beside it.
//!
//! Landlock only knows what is allowed, so every neighbour of a hidden path is allowed one by one. Names that are made
//! later in a directory above a hidden path are therefore refused too, which never touches the state directory.

use std::fs;
use std::path::{Path, PathBuf};

use landlock::{
    ABI, Access, AccessFs, Ruleset, RulesetAttr, RulesetCreatedAttr, RulesetError, RulesetStatus, path_beneath_rules,
};

use super::Hide;

/// The newest version whose rights are all given back to what is allowed; older kernels take a part of them.
const VERSION: ABI = ABI::V5;

/// Restricts this process and its children; the reason when that is not possible.
pub(super) fn restrict(hide: &[Hide], keep: &[PathBuf]) -> Result<(), String> {
    let mut allowed = Vec::new();
    collect(Path::new("/"), hide, &mut allowed).map_err(|error| format!("the neighbours cannot be listed: {error}"))?;
    allowed.extend(keep.iter().filter(|kept| !hide.iter().any(|one| one.path.starts_with(kept))).cloned());
    match enforce(&allowed) {
        Ok(RulesetStatus::NotEnforced) => Err("this kernel has no Landlock".into()),
        Ok(_) => Ok(()),
        Err(error) => Err(format!("Landlock refused: {error}")),
    }
}

/// Allows everything below `directory` but the way to what is hidden. Links are left out: what they lead to is
/// allowed in its own place, or hidden.
fn collect(directory: &Path, hide: &[Hide], allowed: &mut Vec<PathBuf>) -> std::io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let path = entry.path();
        if hide.iter().any(|one| one.path == path) || entry.file_type()?.is_symlink() {
            continue;
        }
        if hide.iter().any(|one| one.path.starts_with(&path)) {
            collect(&path, hide, allowed)?;
        } else {
            allowed.push(path);
        }
    }
    Ok(())
}

fn enforce(allowed: &[PathBuf]) -> Result<RulesetStatus, RulesetError> {
    let all = AccessFs::from_all(VERSION);
    let ruleset = Ruleset::default().handle_access(all)?.create()?;
    let status = ruleset.add_rules(path_beneath_rules(allowed, all))?.restrict_self()?;
    Ok(status.ruleset)
}
