//! Connection strings of MariaDB and MySQL servers as an option file that lies nowhere: it is handed to the programs as
//! their standard input. An argument list is seen by every user of the machine.

use std::io::Write;
use std::process::{Command, Stdio};

use percent_encoding::percent_decode_str;

use super::version::Vendor;
use crate::ground::failure::OrFail;
use crate::ground::{Failure, Result, Secret};

/// Parameters that the programs of both vendors know by this name.
const PARAMETERS: [&str; 8] =
    ["socket", "ssl-ca", "ssl-capath", "ssl-cert", "ssl-key", "ssl-cipher", "ssl-crl", "tls-version"];

/// Seconds until a server that does not answer is taken for one that is not there.
const CONNECT_LIMIT: u32 = 15;

/// Most bytes of a connection string: all of it must find room in a pipe.
const LENGTH_MAX: usize = 16 << 10;

/// How much the connection must be protected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Protection {
    Disabled,
    Required,
    /// And the server's certificate is for its name.
    VerifyIdentity,
}

/// How a server is reached.
#[derive(Debug, Clone)]
pub struct Connection {
    /// Options and their values; any of them may be confidential.
    options: Vec<(&'static str, Secret)>,
    protection: Option<Protection>,
    database: Option<Secret>,
    whole: Secret,
}

impl Connection {
    /// Reads a connection string: `mysql://user:password@host:port/database?parameter=value`, `mariadb://...` alike.
    ///
    /// # Errors
    /// Wrong input, with the name of the parameter that is at fault and never with a value.
    pub fn parse(text: &Secret) -> Result<Self> {
        let whole = text.clone();
        let text = std::str::from_utf8(text.expose()).map_err(|_| refused("it is not UTF-8"))?;
        if text.len() > LENGTH_MAX {
            return Err(refused("it is too long"));
        }
        let rest = ["mysql://", "mariadb://"].iter().find_map(|scheme| text.strip_prefix(scheme));
        let rest = rest.ok_or_else(|| refused("it does not begin with `mysql://` or `mariadb://`"))?;
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, database) = rest.split_once('/').unwrap_or((rest, ""));
        let (user, host) = authority.rsplit_once('@').unwrap_or(("", authority));
        let (user, password) = user.split_once(':').unwrap_or((user, ""));
        let (host, port) = host_and_port(host)?;
        let mut connection = Self { options: Vec::new(), protection: None, database: None, whole };
        for (option, value) in [("user", user), ("password", password), ("host", host), ("port", port)] {
            connection.set(option, &decoded(option, value)?);
        }
        let database = decoded("database", database)?;
        if !database.is_empty() {
            connection.database = Some(Secret::new(database));
        }
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').ok_or_else(|| refused("a parameter of it has no value"))?;
            let name = decoded("a parameter's name", name)?.replace('_', "-");
            let value = decoded(&name, value)?;
            connection.set_parameter(&name, &value)?;
        }
        Ok(connection)
    }

    fn set_parameter(&mut self, name: &str, value: &str) -> Result<()> {
        if name == "ssl-mode" {
            self.protection = Some(match value.to_ascii_lowercase().replace('_', "-").as_str() {
                "disabled" => Protection::Disabled,
                "required" => Protection::Required,
                "verify-identity" => Protection::VerifyIdentity,
                _ => return Err(refused("`ssl-mode` is none of disabled, required, verify-identity")),
            });
            return Ok(());
        }
        let known = PARAMETERS.iter().find(|known| **known == name);
        let option = known.ok_or_else(|| refused(&format!("its parameter `{name}` is not known here")))?;
        self.set(option, value);
        Ok(())
    }

    fn set(&mut self, option: &'static str, value: &str) {
        self.options.retain(|(known, _)| *known != option);
        if !value.is_empty() {
            self.options.push((option, Secret::new(value)));
        }
    }

    /// The same server, another database of it.
    #[must_use]
    pub fn with_database(self, database: &str) -> Self {
        Self { database: Some(Secret::new(database)), ..self }
    }

    /// Gives a command of this vendor's, which has no argument yet, what it needs to connect, and no other options: not
    /// those of this machine, not those of its user.
    ///
    /// # Errors
    /// When there is no pipe.
    pub fn give(&self, command: &mut Command, vendor: Vendor) -> Result<()> {
        let file = self.option_file(vendor);
        let make = || -> std::io::Result<Stdio> {
            let (reader, mut writer) = std::io::pipe()?;
            // Shorter than what a pipe holds.
            writer.write_all(file.expose())?;
            Ok(reader.into())
        };
        command.stdin(make().or_fail(|| "cannot make a pipe".into())?);
        command.arg("--defaults-file=/dev/stdin");
        // MySQL's programs look into another file of their user's even so.
        command.env("MYSQL_TEST_LOGIN_FILE", "/dev/null");
        Ok(())
    }

    fn option_file(&self, vendor: Vendor) -> Secret {
        let mut lines = b"[client]\n".to_vec();
        for (option, value) in &self.options {
            push(&mut lines, option, value);
        }
        for line in self.protection.map(|protection| protection_lines(protection, vendor)).unwrap_or_default() {
            lines.extend_from_slice(format!("{line}\n").as_bytes());
        }
        // Read by the program that asks alone; the one that dumps does not know these.
        lines.extend_from_slice(format!("[mysql]\nconnect-timeout={CONNECT_LIMIT}\n").as_bytes());
        if let Some(database) = &self.database {
            push(&mut lines, "database", database);
        }
        Secret::new(lines)
    }

    /// What must be masked in anything that the programs say.
    pub fn secrets(&self) -> Vec<Secret> {
        let passwords = self.options.iter().filter(|(option, _)| *option == "password");
        passwords.map(|(_, value)| value.clone()).chain([self.whole.clone()]).collect()
    }
}

fn protection_lines(protection: Protection, vendor: Vendor) -> &'static [&'static str] {
    match (vendor, protection) {
        (Vendor::MariaDb, Protection::Disabled) => &["skip-ssl"],
        (Vendor::MariaDb, Protection::Required) => &["ssl"],
        (Vendor::MariaDb, Protection::VerifyIdentity) => &["ssl", "ssl-verify-server-cert"],
        (Vendor::MySql, Protection::Disabled) => &["ssl-mode=DISABLED"],
        (Vendor::MySql, Protection::Required) => &["ssl-mode=REQUIRED"],
        (Vendor::MySql, Protection::VerifyIdentity) => &["ssl-mode=VERIFY_IDENTITY"],
    }
}

/// A line of an option file. In its quotes a `#` begins no comment, and white space counts.
fn push(lines: &mut Vec<u8>, option: &str, value: &Secret) {
    lines.extend_from_slice(option.as_bytes());
    lines.extend_from_slice(b"=\"");
    for byte in value.expose() {
        match byte {
            b'\n' => lines.extend_from_slice(b"\\n"),
            b'\r' => lines.extend_from_slice(b"\\r"),
            b'"' | b'\\' => lines.extend_from_slice(&[b'\\', *byte]),
            byte => lines.push(*byte),
        }
    }
    lines.extend_from_slice(b"\"\n");
}

fn refused(why: &str) -> Failure {
    Failure::wrong_input(format!("the connection string cannot be used: {why}"))
        .hint("write mysql://USER:PASSWORD@HOST:PORT/DATABASE, or mysql://USER:PASSWORD@/DATABASE?socket=PATH")
}

fn host_and_port(host: &str) -> Result<(&str, &str)> {
    let (name, port) = match host.strip_prefix('[') {
        Some(rest) => {
            let (name, rest) = rest.split_once(']').ok_or_else(|| refused("an address lacks its `]`"))?;
            (name, rest.strip_prefix(':').unwrap_or(""))
        }
        None => host.split_once(':').unwrap_or((host, "")),
    };
    if !port.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(refused("the port is no number; a `/`, `@` or `:` of a password is written `%2F`, `%40`, `%3A`"));
    }
    Ok((name, port))
}

fn decoded(name: &str, text: &str) -> Result<String> {
    let decoded = percent_decode_str(text).decode_utf8().map_err(|_| refused(&format!("`{name}` is not UTF-8")))?;
    if decoded.contains('\0') {
        return Err(refused(&format!("`{name}` holds a zero byte")));
    }
    Ok(decoded.into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(text: &str, vendor: Vendor) -> String {
        let connection = Connection::parse(&Secret::new(text)).unwrap();
        let file = String::from_utf8(connection.option_file(vendor).expose().to_vec()).unwrap();
        file.replace("[mysql]\nconnect-timeout=15\n", "[mysql]\n")
    }

    #[test]
    fn a_connection_string_is_an_option_file() {
        for (text, lines) in [
            (
                "mysql://app:p%40ss%3Aword@db.example:3307/shop",
                "[client]\nuser=\"app\"\npassword=\"p@ss:word\"\nhost=\"db.example\"\nport=\"3307\"\n[mysql]\ndatabase=\"shop\"\n",
            ),
            (
                "mariadb://app@/shop?socket=/run/mysqld/mysqld.sock",
                "[client]\nuser=\"app\"\nsocket=\"/run/mysqld/mysqld.sock\"\n[mysql]\ndatabase=\"shop\"\n",
            ),
            (
                "mysql://u:%22%5C%23%20%0A@[2001:db8::1]:3306",
                "[client]\nuser=\"u\"\npassword=\"\\\"\\\\# \\n\"\nhost=\"2001:db8::1\"\nport=\"3306\"\n[mysql]\n",
            ),
            ("mysql://db?ssl_ca=/etc/ca.pem", "[client]\nhost=\"db\"\nssl-ca=\"/etc/ca.pem\"\n[mysql]\n"),
        ] {
            assert_eq!(file(text, Vendor::MariaDb), lines, "{text}");
        }
        for (mode, mariadb, mysql) in [
            ("disabled", "skip-ssl\n", "ssl-mode=DISABLED\n"),
            ("REQUIRED", "ssl\n", "ssl-mode=REQUIRED\n"),
            ("VERIFY_IDENTITY", "ssl\nssl-verify-server-cert\n", "ssl-mode=VERIFY_IDENTITY\n"),
        ] {
            let text = format!("mysql:///?ssl-mode={mode}");
            assert_eq!(file(&text, Vendor::MariaDb), format!("[client]\n{mariadb}[mysql]\n"));
            assert_eq!(file(&text, Vendor::MySql), format!("[client]\n{mysql}[mysql]\n"));
        }
    }

    #[test]
    fn what_cannot_be_used_is_refused_without_a_value() {
        for (text, words) in [
            ("hunter2", "does not begin"),
            ("postgresql://app:hunter2@db/shop", "does not begin"),
            ("mysql://app:hunter2/x@db/shop", "no number"),
            ("mysql://db/shop?secret=hunter2", "`secret` is not known"),
            ("mysql://db/shop?hunter2", "has no value"),
            ("mysql://app:hunter2%00@db/shop", "zero byte"),
            ("mysql://db/shop?ssl-mode=hunter2", "`ssl-mode`"),
            ("mysql://app:hunter2%ff@db/shop", "`password` is not UTF-8"),
        ] {
            let failure = Connection::parse(&Secret::new(text)).unwrap_err();
            assert!(failure.message.contains(words), "{text}: {failure}");
            assert!(!format!("{failure:?}").contains("hunter2"), "{failure:?}");
        }
    }

    #[test]
    fn a_command_gets_no_value_as_argument() {
        let connection = Connection::parse(&Secret::new("mysql://app:hunter2@db")).unwrap().with_database("shop");
        let mut command = Command::new("mariadb");
        connection.give(&mut command, Vendor::MariaDb).unwrap();
        assert_eq!(command.get_args().collect::<Vec<_>>(), ["--defaults-file=/dev/stdin"]);
        assert!(!format!("{command:?} {connection:?}").contains("hunter2"));
        assert_eq!(connection.secrets()[0].expose(), b"hunter2");
    }
}
