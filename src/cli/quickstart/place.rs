//! The quickstart's directory: what lies where in it, and how far it has come.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::ground::durable_file;
use crate::ground::failure::{Failure, OrFail, Result};

/// Name of the sample system.
pub const SYSTEM: &str = "quickstart-shop";

const MARKER: &str = ".lifeboat-quickstart";

/// How far an earlier quickstart came in a directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// The sample system is not complete yet.
    Making,
    /// The sample system is complete.
    Made,
    /// The first round of backups is done.
    BackedUp,
}

impl Stage {
    const ALL: [Self; 3] = [Self::Making, Self::Made, Self::BackedUp];

    fn word(self) -> &'static str {
        match self {
            Self::Making => "making",
            Self::Made => "made",
            Self::BackedUp => "backed up",
        }
    }
}

/// A directory that belongs to quickstart. Its path is absolute and plain text, since the policy holds it.
#[derive(Debug, Clone)]
pub struct Place {
    root: PathBuf,
}

impl Place {
    /// Takes a directory: an absent or empty one, or one that an earlier quickstart marked as its own.
    ///
    /// # Errors
    /// Wrong input when the directory holds something else or its path is not UTF-8.
    pub fn claim(directory: &Path) -> Result<(Self, Stage)> {
        refuse_strangers(directory)?;
        durable_file::create_directories(directory).or_fail(|| format!("cannot create {}", directory.display()))?;
        let root = directory.canonicalize().or_fail(|| format!("cannot find {}", directory.display()))?;
        if root.to_str().is_none_or(|text| text.chars().any(char::is_control)) {
            return Err(Failure::wrong_input("the quickstart's directory must have a path of printable UTF-8 text"));
        }
        let place = Self { root };
        let stage = place.stage()?;
        if stage == Stage::Making {
            place.mark(stage)?;
        }
        Ok((place, stage))
    }

    fn stage(&self) -> Result<Stage> {
        let marker = self.root.join(MARKER);
        let text = match fs::read_to_string(&marker) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Stage::Making),
            Err(error) => return Err(Failure::failed(format!("cannot read {}: {error}", marker.display()))),
        };
        Stage::ALL.into_iter().find(|stage| stage.word() == text.trim()).ok_or_else(|| {
            Failure::wrong_input(format!("{} does not say how far the quickstart came", marker.display()))
                .hint("run quickstart in another directory")
        })
    }

    /// Records how far the quickstart has come; written after the work it speaks of.
    pub fn mark(&self, stage: Stage) -> Result<()> {
        let marker = self.root.join(MARKER);
        durable_file::replace(&marker, format!("{}\n", stage.word()).as_bytes(), 0o644)
            .or_fail(|| format!("cannot write {}", marker.display()))
    }

    /// The directory itself, absolute.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// What the shop consists of.
    pub fn primary(&self) -> PathBuf {
        self.root.join("primary")
    }

    /// Web applications and configuration.
    pub fn webapp(&self) -> PathBuf {
        self.primary().join("webapp")
    }

    /// Rotating logs.
    pub fn logs(&self) -> PathBuf {
        self.primary().join("logs")
    }

    /// The disk image.
    pub fn disk_image(&self) -> PathBuf {
        self.primary().join("disk.img")
    }

    /// The SQLite database.
    pub fn database(&self) -> PathBuf {
        self.primary().join("orders.db")
    }

    /// The data directory of the PostgreSQL cluster, when there is one.
    pub fn customers(&self) -> PathBuf {
        self.primary().join("customers")
    }

    /// How the cluster is reached; it is there when the policy has the cluster.
    pub fn customers_dsn(&self) -> PathBuf {
        self.policies().join(format!("{SYSTEM}.customers"))
    }

    /// `--policies` of every command on the sample system.
    pub fn policies(&self) -> PathBuf {
        self.root.join("policies")
    }

    /// The sample system's policy.
    pub fn policy(&self) -> PathBuf {
        self.policies().join(format!("{SYSTEM}.toml"))
    }

    /// The repository's password, mode 0600.
    pub fn password_file(&self) -> PathBuf {
        self.policies().join(format!("{SYSTEM}.password"))
    }

    /// The DR site.
    pub fn dr(&self) -> PathBuf {
        self.root.join("dr")
    }

    /// The restic repository in the DR site.
    pub fn repository(&self) -> PathBuf {
        self.dr().join("repository")
    }

    /// Where archives go.
    pub fn cold(&self) -> PathBuf {
        self.root.join("cold")
    }

    /// `--state` of every command on the sample system.
    pub fn state(&self) -> PathBuf {
        self.root.join("state")
    }
}

/// A directory that holds something and no marker is somebody else's. What a killed marking left does not count.
fn refuse_strangers(directory: &Path) -> Result<()> {
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => {
            return Err(Failure::wrong_input(format!("{} is no directory to use: {error}", directory.display())));
        }
    };
    let mut strangers = false;
    for entry in entries {
        let name = entry.or_fail(|| format!("cannot list {}", directory.display()))?.file_name();
        if name == MARKER {
            return Ok(());
        }
        strangers |= !name.to_string_lossy().starts_with(".writing-");
    }
    if !strangers {
        return Ok(());
    }
    Err(Failure::wrong_input(format!("{} is not empty and was not made by quickstart", directory.display()))
        .hint("name a directory that does not exist yet, for instance: lifeboat quickstart ./quickstart-demo"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ground::FailureKind;

    #[test]
    fn only_an_empty_or_an_own_directory_is_taken() {
        let outer = tempfile::tempdir().unwrap();
        let directory = outer.path().join("deep/demo");
        let (place, stage) = Place::claim(&directory).unwrap();
        assert_eq!(stage, Stage::Making);
        fs::write(place.root().join("half-made"), "x").unwrap();
        assert_eq!(Place::claim(&directory).unwrap().1, Stage::Making, "a half-made one is taken up again");
        place.mark(Stage::BackedUp).unwrap();
        assert_eq!(Place::claim(&directory).unwrap().1, Stage::BackedUp);

        fs::remove_file(directory.join(MARKER)).unwrap();
        assert_eq!(Place::claim(&directory).unwrap_err().kind, FailureKind::WrongInput);
        assert_eq!(Place::claim(&directory.join("half-made")).unwrap_err().kind, FailureKind::WrongInput);
    }
}
