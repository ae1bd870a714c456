//! Of whom and how new a server or a program is.

use std::fmt;

/// Whose software it is. The two have grown apart: neither's programs are good for the other's servers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Vendor {
    MariaDb,
    MySql,
}

impl Vendor {
    fn of(text: &str) -> Self {
        if text.contains("MariaDB") { Self::MariaDb } else { Self::MySql }
    }

    /// As people write it.
    pub fn name(self) -> &'static str {
        match self {
            Self::MariaDb => "MariaDB",
            Self::MySql => "MySQL",
        }
    }
}

/// A version, for instance `MariaDB 10.11.19`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version {
    pub vendor: Vendor,
    /// The first two numbers; what a dump needs to be loaded follows them.
    pub numbers: (u32, u32),
    /// All numbers.
    text: String,
}

impl Version {
    /// As a server says it: `10.11.19-MariaDB-0+deb12u1`, `8.0.36-0ubuntu0.22.04.1`.
    pub fn of_server(said: &str) -> Option<Self> {
        Self::new(Vendor::of(said), said)
    }

    /// As programs say it: `mariadb-dump  Ver 10.19 Distrib 10.11.19-MariaDB, for debian-linux-gnu (x86_64)`,
    /// `mariadb-dump from 11.4.2-MariaDB, client 10.19 for Linux`, `mysqld  Ver 8.0.36 for Linux on x86_64`.
    pub fn of_program(said: &str) -> Option<Self> {
        let after = ["Distrib ", " from ", "Ver "].iter().find_map(|word| said.split_once(word))?.1;
        Self::new(Vendor::of(said), after)
    }

    /// As it is written here.
    pub fn of_product(text: &str) -> Option<Self> {
        Self::new(Vendor::of(text), text.split_once(' ')?.1)
    }

    fn new(vendor: Vendor, text: &str) -> Option<Self> {
        let text: String =
            text.chars().take_while(|character| character.is_ascii_digit() || *character == '.').collect();
        let mut numbers = text.split('.').map(str::parse);
        let numbers = (numbers.next()?.ok()?, numbers.next()?.ok()?);
        Some(Self { vendor, numbers, text: text.trim_end_matches('.').to_owned() })
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.vendor.name(), self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_as_programs_and_servers_say_them() {
        for (said, version) in [
            ("mariadb-dump  Ver 10.19 Distrib 10.11.19-MariaDB, for debian-linux-gnu (x86_64)", "MariaDB 10.11.19"),
            ("mariadb-dump from 11.4.2-MariaDB, client 10.19 for Linux (x86_64)", "MariaDB 11.4.2"),
            ("mariadbd  Ver 10.11.19-MariaDB-0+deb12u1 for debian-linux-gnu on x86_64 (Debian 12)", "MariaDB 10.11.19"),
            ("mysqldump  Ver 8.0.36 for Linux on x86_64 (MySQL Community Server - GPL)", "MySQL 8.0.36"),
            ("mysql  Ver 14.14 Distrib 5.7.44, for Linux (x86_64) using  EditLine wrapper", "MySQL 5.7.44"),
            ("/usr/sbin/mysqld  Ver 8.0.36-0ubuntu0.22.04.1 for Linux on x86_64 ((Ubuntu))", "MySQL 8.0.36"),
        ] {
            let found = Version::of_program(said).unwrap();
            assert_eq!(found.to_string(), version, "{said}");
            assert_eq!(Version::of_product(version), Some(found));
        }
        assert_eq!(Version::of_server("10.11.19-MariaDB-0+deb12u1").unwrap().numbers, (10, 11));
        assert_eq!(Version::of_server("8.4.0").unwrap().to_string(), "MySQL 8.4.0");
        assert_eq!(Version::of_program("something else"), None);
        assert_eq!(Version::of_program("mysqldump Ver unknown"), None);
    }
}
