//! Which of the installed programs of PostgreSQL suits a server: distributions keep several versions side by side, outside
//! of the search path.

use std::fs;
use std::path::{Path, PathBuf};

use crate::database::said;
use crate::ground::process::SEARCH_PATH;
use crate::ground::{Failure, Result};

/// Where distributions keep the programs of one version each, and what stands before the version: Debian, and PostgreSQL's own
/// packages for others (`/usr/pgsql-15`).
const VERSIONED: [(&str, &str); 2] = [("/usr/lib/postgresql", ""), ("/usr", "pgsql-")];

/// An installed program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Program {
    pub path: PathBuf,
    /// The first number of its version.
    pub major: u32,
}

/// The installed programs of this name with their versions, the oldest version first: those in `own`, when it is given,
/// and no others; else those that lie by version; else, when there are none, those on the search path.
pub fn installed(name: &str, own: Option<&Path>) -> Vec<Program> {
    let asked = |directory: PathBuf| {
        let path = directory.join(name);
        Some(Program { major: path.is_file().then(|| version_of(&path)).flatten()?, path })
    };
    let mut programs: Vec<Program> = match own {
        Some(own) => asked(own.to_owned()).into_iter().collect(),
        None => by_version(name),
    };
    if programs.is_empty() && own.is_none() {
        programs = SEARCH_PATH.split(':').filter_map(|directory| asked(directory.into())).collect();
    }
    // Stable: of the same version the one found first.
    programs.sort_by_key(|program| program.major);
    programs
}

/// The newest installed program of this name, which `needed` names in the error.
///
/// # Errors
/// When there is none.
pub fn newest(name: &str, own: Option<&Path>, needed: &str) -> Result<Program> {
    let newest = installed(name, own).pop();
    newest.map_or_else(|| suitable(name, own, needed, |_| true), Ok)
}

/// The oldest installed program of this name whose version is accepted.
///
/// # Errors
/// Names what is needed, for what, and which versions are there.
pub fn suitable(name: &str, own: Option<&Path>, needed: &str, accepts: impl Fn(u32) -> bool) -> Result<Program> {
    let installed = installed(name, own);
    if let Some(program) = installed.iter().find(|program| accepts(program.major)) {
        return Ok(program.clone());
    }
    let place = own.map(|own| format!(" in {}", own.display())).unwrap_or_default();
    let there = match &installed[..] {
        [] => format!("there is none{place}"),
        some => {
            let versions: Vec<String> = some.iter().map(|program| program.major.to_string()).collect();
            format!("what is installed{place} is of version {}", versions.join(", "))
        }
    };
    Err(Failure::failed(format!("{needed} needs the program {name} of a suitable version, and {there}"))
        .hint("install the packages of that version of PostgreSQL, or name their directory with `programs`"))
}

/// Directories are named by versions, so that no program has to be asked for its own.
fn by_version(name: &str) -> Vec<Program> {
    let mut programs = Vec::new();
    for (parent, prefix) in VERSIONED {
        for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
            let directory = entry.file_name();
            let version = directory.to_str().and_then(|directory| directory.strip_prefix(prefix)?.parse().ok());
            let path = entry.path().join("bin").join(name);
            programs.extend(version.filter(|_| path.is_file()).map(|major| Program { path, major }));
        }
    }
    programs
}

fn version_of(path: &Path) -> Option<u32> {
    major_of(&said::version(path)?)
}

/// `psql (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)`, `pg_basebackup (PostgreSQL) 18beta1`
fn major_of(said: &str) -> Option<u32> {
    let version = said.split_once("(PostgreSQL) ")?.1;
    let digits: String = version.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn versions_are_read_as_programs_say_them() {
        for (said, major) in [
            ("psql (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)\n", Some(15)),
            ("pg_basebackup (PostgreSQL) 18beta1", Some(18)),
            ("postgres (PostgreSQL) 9.6.24", Some(9)),
            ("something else 15.1", None),
            ("psql (PostgreSQL) unknown", None),
        ] {
            assert_eq!(major_of(said), major, "{said}");
        }
    }

    #[test]
    fn a_program_that_does_not_suit_is_named_with_its_version() {
        let directory = tempfile::tempdir().unwrap();
        let program = directory.path().join("pg_basebackup");
        fs::write(&program, "#!/bin/sh\necho 'pg_basebackup (PostgreSQL) 14.2'\n").unwrap();
        fs::set_permissions(&program, PermissionsExt::from_mode(0o755)).unwrap();
        // Another test's child may for a moment still hold the script open for writing.
        while installed("pg_basebackup", Some(directory.path())).is_empty() {
            std::thread::yield_now();
        }
        let choose = |least: u32| suitable("pg_basebackup", Some(directory.path()), "a server", |major| major >= least);
        assert_eq!(choose(13).unwrap().major, 14);
        assert!(choose(15).unwrap_err().message.contains("is of version 14"));
        let none = suitable("postgres", Some(directory.path()), "a server", |_| true).unwrap_err();
        assert!(none.message.contains("there is none in"), "{none}");
    }
}
