//! Which of the installed programs suits a server.

use std::fs;
use std::path::{Path, PathBuf};

use super::version::Version;
use crate::database::said;
use crate::ground::process::SEARCH_PATH;
use crate::ground::{Failure, Result};

/// Names of the program that asks; the other vendor's last.
pub const CLIENT: [&str; 2] = ["mariadb", "mysql"];
/// Of the one that dumps.
pub const DUMP: [&str; 2] = ["mariadb-dump", "mysqldump"];
/// Of the server.
pub const SERVER: [&str; 2] = ["mariadbd", "mysqld"];
/// Of the one that makes a data directory; MySQL's server does so itself.
pub const INSTALL: [&str; 2] = ["mariadb-install-db", "mysql_install_db"];

/// Where distributions and the vendors put programs outside of the search path.
const FURTHER: [&str; 3] = ["/usr/libexec", "/usr/local/mysql/bin", "/usr/local/mariadb/bin"];
/// Where the others are beside a directory of programs: of distributions, and of the vendors' own archives.
const BESIDE: [&str; 3] = ["sbin", "libexec", "scripts"];

/// An installed program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Program {
    pub path: PathBuf,
    pub version: Version,
}

impl Program {
    /// Its name, as the kernel and people know it.
    pub fn name(&self) -> String {
        self.path.file_name().unwrap_or_default().to_string_lossy().into_owned()
    }
}

/// The installed programs of these names, in the order of the names; those in `own` or beside it, when it is given, and no
/// others.
pub fn installed(names: &[&str], own: Option<&Path>) -> Vec<Program> {
    let mut programs: Vec<Program> = Vec::new();
    let mut seen = Vec::new();
    for path in paths(names, own) {
        // One name is often a link to the other.
        let Ok(real) = fs::canonicalize(&path) else { continue };
        if !seen.contains(&real) {
            seen.push(real);
            programs.extend(
                said::version(&path)
                    .and_then(|said| Version::of_program(&said))
                    .map(|version| Program { path, version }),
            );
        }
    }
    programs
}

/// The first file of one of these names, whatever it says of itself.
pub fn file(names: &[&str], own: Option<&Path>) -> Option<PathBuf> {
    paths(names, own).into_iter().next()
}

/// The first installed program of these names whose version is accepted.
///
/// # Errors
/// Names what is needed, for what, and which versions are there.
pub fn suitable(
    names: &[&str],
    own: Option<&Path>,
    needed: &str,
    accepts: impl Fn(&Version) -> bool,
) -> Result<Program> {
    let installed = installed(names, own);
    if let Some(program) = installed.iter().find(|program| accepts(&program.version)) {
        return Ok(program.clone());
    }
    let place = own.map(|own| format!(" in {}", own.display())).unwrap_or_default();
    let there = match &installed[..] {
        [] => format!("there is none{place}"),
        some => {
            let said: Vec<String> =
                some.iter().map(|program| format!("{} of {}", program.name(), program.version)).collect();
            format!("what is installed{place} is {}", said.join(", "))
        }
    };
    let names = names.join(" or ");
    Err(Failure::failed(format!("{needed} needs the program {names} of a suitable version, and {there}"))
        .hint("install the packages of that version, or name their directory with `programs`"))
}

fn paths(names: &[&str], own: Option<&Path>) -> Vec<PathBuf> {
    let directories: Vec<PathBuf> = match own {
        Some(own) => {
            let beside = own.parent().map(|parent| BESIDE.map(|name| parent.join(name)));
            std::iter::once(own.to_owned()).chain(beside.into_iter().flatten()).collect()
        }
        None => SEARCH_PATH.split(':').chain(FURTHER).map(PathBuf::from).collect(),
    };
    let of = |name: &&str| directories.iter().map(|directory| directory.join(name)).collect::<Vec<_>>();
    names.iter().flat_map(of).filter(|path| path.is_file()).collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_program_that_does_not_suit_is_named_with_its_version() {
        let directory = tempfile::tempdir().unwrap();
        let own = directory.path().join("bin");
        fs::create_dir(&own).unwrap();
        fs::write(own.join("mysqldump"), "#!/bin/sh\necho 'mysqldump  Ver 8.0.36 for Linux'\n").unwrap();
        fs::set_permissions(own.join("mysqldump"), PermissionsExt::from_mode(0o755)).unwrap();
        std::os::unix::fs::symlink("mysqldump", own.join("mariadb-dump")).unwrap();
        // Another test's child may for a moment still hold the script open for writing.
        while installed(&DUMP, Some(&own)).is_empty() {
            std::thread::yield_now();
        }
        let choose = |least| suitable(&DUMP, Some(&own), "a server", |version| version.numbers >= least);
        assert_eq!(choose((8, 0)).unwrap().version.to_string(), "MySQL 8.0.36");
        let refused = choose((8, 4)).unwrap_err().message;
        assert!(refused.contains("mariadb-dump or mysqldump") && refused.contains("of MySQL 8.0.36"), "{refused}");
        let none = suitable(&SERVER, Some(&own), "a server", |_| true).unwrap_err();
        assert!(none.message.contains("there is none in"), "{none}");
    }
}
