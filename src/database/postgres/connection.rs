//! Connection strings of PostgreSQL (its documentation, section "Connection Strings") as variables of the environment of its
//! programs: an argument list is seen by every user of the machine, an environment by its owner and root alone.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::process::Command;

use percent_encoding::percent_decode_str;

use crate::ground::{Failure, Result, Secret};

/// Parameters and their variables (PostgreSQL's documentation, section "Environment Variables").
const VARIABLES: [(&str, &str); 27] = [
    ("host", "PGHOST"),
    ("hostaddr", "PGHOSTADDR"),
    ("port", "PGPORT"),
    ("dbname", "PGDATABASE"),
    ("user", "PGUSER"),
    ("password", "PGPASSWORD"),
    ("passfile", "PGPASSFILE"),
    ("channel_binding", "PGCHANNELBINDING"),
    ("service", "PGSERVICE"),
    ("servicefile", "PGSERVICEFILE"),
    ("options", "PGOPTIONS"),
    ("application_name", "PGAPPNAME"),
    ("sslmode", "PGSSLMODE"),
    ("sslcert", "PGSSLCERT"),
    ("sslkey", "PGSSLKEY"),
    ("sslrootcert", "PGSSLROOTCERT"),
    ("sslcrl", "PGSSLCRL"),
    ("sslcrldir", "PGSSLCRLDIR"),
    ("sslsni", "PGSSLSNI"),
    ("requirepeer", "PGREQUIREPEER"),
    ("ssl_min_protocol_version", "PGSSLMINPROTOCOLVERSION"),
    ("ssl_max_protocol_version", "PGSSLMAXPROTOCOLVERSION"),
    ("gssencmode", "PGGSSENCMODE"),
    ("krbsrvname", "PGKRBSRVNAME"),
    ("connect_timeout", "PGCONNECT_TIMEOUT"),
    ("client_encoding", "PGCLIENTENCODING"),
    ("target_session_attrs", "PGTARGETSESSIONATTRS"),
];

/// How a PostgreSQL server is reached.
#[derive(Debug, Clone)]
pub struct Connection {
    /// Variables and their values; any of them may be confidential.
    variables: Vec<(&'static str, Secret)>,
    whole: Secret,
}

impl Connection {
    /// Reads a connection string: `postgresql://user:password@host:port/database?parameter=value`, or
    /// `host=... user=... password='...'`.
    ///
    /// # Errors
    /// Wrong input, with the name of the parameter that is at fault and never with a value.
    pub fn parse(text: &Secret) -> Result<Self> {
        let whole = text.clone();
        let text = std::str::from_utf8(text.expose()).map_err(|_| refused("it is not UTF-8"))?;
        let uri = ["postgresql://", "postgres://"].iter().find_map(|scheme| text.strip_prefix(scheme));
        let pairs = match uri {
            Some(rest) => of_uri(rest)?,
            None if text.contains("://") => return Err(refused("a URL begins with `postgresql://`")),
            None => of_words(text)?,
        };
        let mut connection = Self { variables: Vec::new(), whole };
        for (parameter, value) in pairs {
            connection.set(&parameter, &value)?;
        }
        connection.set_default("PGCONNECT_TIMEOUT", "15");
        connection.set_default("PGAPPNAME", "lifeboat");
        Ok(connection)
    }

    fn set(&mut self, parameter: &str, value: &str) -> Result<()> {
        let Some((_, variable)) = VARIABLES.iter().find(|(name, _)| *name == parameter) else {
            return Err(refused(&format!("its parameter `{parameter}` is not known here")));
        };
        if value.contains('\0') {
            return Err(refused(&format!("its parameter `{parameter}` holds a zero byte")));
        }
        self.variables.retain(|(known, _)| known != variable);
        if !value.is_empty() {
            self.variables.push((variable, Secret::new(value)));
        }
        Ok(())
    }

    fn set_default(&mut self, variable: &'static str, value: &str) {
        if self.variables.iter().all(|(known, _)| *known != variable) {
            self.variables.push((variable, Secret::new(value)));
        }
    }

    /// The same server, another database of it.
    #[must_use]
    pub fn with_database(mut self, database: &str) -> Self {
        self.variables.retain(|(known, _)| *known != "PGDATABASE");
        self.variables.push(("PGDATABASE", Secret::new(database)));
        self
    }

    /// Gives a command what it needs to connect.
    pub fn give(&self, command: &mut Command) {
        command.envs(self.variables.iter().map(|(variable, value)| (variable, OsStr::from_bytes(value.expose()))));
    }

    /// What must be masked in anything that the programs say.
    pub fn secrets(&self) -> Vec<Secret> {
        let passwords = self.variables.iter().filter(|(variable, _)| *variable == "PGPASSWORD");
        passwords.map(|(_, value)| value.clone()).chain([self.whole.clone()]).collect()
    }
}

fn refused(why: &str) -> Failure {
    Failure::wrong_input(format!("the connection string cannot be used: {why}"))
        .hint("write postgresql://USER:PASSWORD@HOST:PORT/DATABASE, or host=... user=... password=... dbname=...")
}

type Pairs = Vec<(String, String)>;

/// What follows the scheme of a URL. Several hosts are separated by commas.
fn of_uri(rest: &str) -> Result<Pairs> {
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (authority, database) = rest.split_once('/').unwrap_or((rest, ""));
    let (user, hosts) = authority.rsplit_once('@').unwrap_or(("", authority));
    let (user, password) = user.split_once(':').unwrap_or((user, ""));
    let (names, ports) = hosts_and_ports(hosts)?;
    let mut pairs = Pairs::new();
    for (name, text) in
        [("user", user), ("password", password), ("host", &names), ("port", &ports), ("dbname", database)]
    {
        if !text.is_empty() {
            pairs.push((name.to_owned(), decoded(name, text)?));
        }
    }
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').ok_or_else(|| refused("a parameter of it has no value"))?;
        let name = decoded("a parameter's name", name)?;
        // As libpq reads it, for JDBC's sake.
        let (name, value) =
            if name == "ssl" && value == "true" { ("sslmode".to_owned(), "require") } else { (name, value) };
        let value = decoded(&name, value)?;
        pairs.push((name, value));
    }
    Ok(pairs)
}

fn hosts_and_ports(hosts: &str) -> Result<(String, String)> {
    let (mut names, mut ports) = (Vec::new(), Vec::new());
    for host in hosts.split(',') {
        let (name, port) = match host.strip_prefix('[') {
            Some(rest) => {
                let (name, rest) = rest.split_once(']').ok_or_else(|| refused("an address lacks its `]`"))?;
                (name, rest.strip_prefix(':').unwrap_or(""))
            }
            None => host.split_once(':').unwrap_or((host, "")),
        };
        if !port.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(refused("a port is no number; a `/`, `@` or `:` of a password is written `%2F`, `%40`, `%3A`"));
        }
        names.push(name);
        ports.push(port);
    }
    // Without any port the default holds, and an empty list of them would say so for each host.
    let ports = if ports.iter().all(|port| port.is_empty()) { String::new() } else { ports.join(",") };
    Ok((names.join(","), ports))
}

fn decoded(name: &str, text: &str) -> Result<String> {
    let decoded = percent_decode_str(text).decode_utf8();
    decoded.map(Into::into).map_err(|_| refused(&format!("`{name}` is not UTF-8")))
}

/// `name=value` pairs, white space between them; values may stand in `'`, with `\` before what would end them.
fn of_words(text: &str) -> Result<Pairs> {
    let mut pairs = Pairs::new();
    let mut rest = text.chars().peekable();
    let is_space = |character: &char| character.is_whitespace();
    loop {
        while rest.next_if(is_space).is_some() {}
        if rest.peek().is_none() {
            return Ok(pairs);
        }
        let mut name = String::new();
        while let Some(character) = rest.next_if(|character| *character != '=' && !character.is_whitespace()) {
            name.push(character);
        }
        while rest.next_if(is_space).is_some() {}
        if rest.next() != Some('=') {
            // What stands there may be a password: it is not shown.
            return Err(refused("it is neither a URL nor made of `name=value`"));
        }
        while rest.next_if(is_space).is_some() {}
        let quoted = rest.next_if_eq(&'\'').is_some();
        let mut value = String::new();
        loop {
            match rest.next() {
                Some('\\') => value.extend(rest.next()),
                Some('\'') if quoted => break,
                Some(character) if quoted || !character.is_whitespace() => value.push(character),
                None if quoted => return Err(refused(&format!("the value of `{name}` lacks its closing `'`"))),
                _ => break,
            }
        }
        pairs.push((name, value));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn variables(text: &str) -> Vec<(&'static str, String)> {
        let connection = Connection::parse(&Secret::new(text)).unwrap();
        let mut variables: Vec<_> = connection.variables;
        variables.retain(|(name, _)| !["PGAPPNAME", "PGCONNECT_TIMEOUT"].contains(name));
        variables.into_iter().map(|(name, value)| (name, String::from_utf8(value.expose().to_vec()).unwrap())).collect()
    }

    #[test]
    fn both_forms_are_read() {
        type Case = (&'static str, &'static [(&'static str, &'static str)]);
        let cases: [Case; 8] = [
            (
                "postgresql://app:p%40ss%3Aword@db.example:5433/shop?sslmode=verify-full&connect_timeout=3",
                &[
                    ("PGUSER", "app"),
                    ("PGPASSWORD", "p@ss:word"),
                    ("PGHOST", "db.example"),
                    ("PGPORT", "5433"),
                    ("PGDATABASE", "shop"),
                    ("PGSSLMODE", "verify-full"),
                ],
            ),
            ("postgres://%2Fvar%2Frun%2Fpostgresql/shop", &[("PGHOST", "/var/run/postgresql"), ("PGDATABASE", "shop")]),
            (
                "postgresql:///shop?host=/run/pg&user=a",
                &[("PGDATABASE", "shop"), ("PGHOST", "/run/pg"), ("PGUSER", "a")],
            ),
            ("postgresql://a,b:5433/x", &[("PGHOST", "a,b"), ("PGPORT", ",5433"), ("PGDATABASE", "x")]),
            ("postgresql://u@[2001:db8::1]:5433", &[("PGUSER", "u"), ("PGHOST", "2001:db8::1"), ("PGPORT", "5433")]),
            ("postgresql://h/?ssl=true", &[("PGHOST", "h"), ("PGSSLMODE", "require")]),
            (
                r"host = db  password = 'a b\'c\\' port=5433",
                &[("PGHOST", "db"), ("PGPASSWORD", r"a b'c\"), ("PGPORT", "5433")],
            ),
            (r"user=a\ b", &[("PGUSER", "a b")]),
        ];
        for (text, expected) in cases {
            let expected: Vec<_> = expected.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
            assert_eq!(variables(text), expected, "{text}");
        }
    }

    #[test]
    fn what_cannot_be_used_is_refused_without_a_value() {
        for (text, words) in [
            ("hunter2", "neither a URL"),
            ("mysql://app:hunter2@db/shop", "begins with"),
            ("postgresql://app:hunter2/x@db/shop", "no number"),
            ("host=db password='hunter2", "closing"),
            ("host=db secret=hunter2", "`secret` is not known"),
            ("postgresql://db/shop?hunter2", "has no value"),
            ("postgresql://db/shop?password=hunter2%00", "zero byte"),
        ] {
            let failure = Connection::parse(&Secret::new(text)).unwrap_err();
            assert!(failure.message.contains(words), "{text}: {failure}");
            assert!(!format!("{failure:?}").contains("hunter2"), "{failure:?}");
        }
    }

    #[test]
    fn a_command_gets_variables_and_no_argument() {
        let connection = Connection::parse(&Secret::new("host=db password=hunter2")).unwrap().with_database("shop");
        let mut command = Command::new("psql");
        connection.give(&mut command);
        assert_eq!(command.get_args().count(), 0);
        let given = |name: &str| {
            command.get_envs().find(|(key, _)| *key == name).and_then(|(_, value)| Some(value?.to_str()?.to_owned()))
        };
        assert_eq!(given("PGPASSWORD").as_deref(), Some("hunter2"));
        assert_eq!(given("PGDATABASE").as_deref(), Some("shop"));
        assert_eq!(given("PGAPPNAME").as_deref(), Some("lifeboat"));
        assert!(!format!("{connection:?}").contains("hunter2"));
        assert_eq!(connection.secrets()[0].expose(), b"hunter2");
    }
}
