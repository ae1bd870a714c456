//! What must be known of a server before its dump: its version, its databases, and what a dump would silently lack.

use super::client::{Client, Rows};
use super::version::{Vendor, Version};
use crate::ground::{Failure, Result};

/// Oldest versions served.
const OLDEST: [(Vendor, (u32, u32)); 2] = [(Vendor::MariaDb, (10, 3)), (Vendor::MySql, (5, 7))];

/// Databases that are the server's own, in any case of letters.
const OWN: &str = "('mysql', 'information_schema', 'performance_schema', 'sys')";

/// What a user must be allowed everywhere, or the dump lacks what it does not see, mostly without an error: tables, views,
/// triggers, events.
const NEEDED: [&str; 4] = ["SELECT", "SHOW VIEW", "TRIGGER", "EVENT"];

/// Most tables that a warning names.
const NAMED: usize = 3;

/// What a server says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    pub version: Version,
    /// The database that was connected to, if any.
    pub database: String,
    /// The number of the session that asked; later ones have greater numbers.
    pub session: u64,
    /// All databases that the user may see, without the server's own.
    pub databases: Vec<String>,
    /// How many tables are of an engine without transactions, and the first of them with their engines.
    pub without_transactions: (u64, Vec<String>),
    /// Whether there are tables that keep their rows' history.
    pub has_history: bool,
    /// What the user may not do everywhere, of what it should.
    pub lacking: Vec<&'static str>,
    /// Whether the user may read users and their grants.
    pub reads_users: bool,
}

impl Server {
    /// Asks it.
    ///
    /// # Errors
    /// When it cannot be reached, refuses the user, shows no database, or is older than what is served.
    pub fn ask(client: &Client<'_>) -> Result<Self> {
        let first = client.first("select version(), ifnull(database(), ''), connection_id()")?;
        let text = |column: usize| first.first().and_then(|row| row.get(column)?.clone()).unwrap_or_default();
        let strange = || Failure::failed("the server's answer about itself cannot be understood");
        let version = Version::of_server(&text(0)).ok_or_else(strange)?;
        let session = text(2).parse().map_err(|_| strange())?;
        refuse_old(&version)?;
        let databases = column(client.rows(&format!(
            "select schema_name from information_schema.schemata where lower(schema_name) not in {OWN} \
             and schema_name not like '#mysql50#%' order by 1"
        ))?);
        if databases.is_empty() {
            return Err(Failure::failed("the user of the connection sees no database")
                .hint("grant select, show view, trigger, event on *.* to it"));
        }
        let history = "select 1 from information_schema.tables where table_type = 'SYSTEM VERSIONED' limit 1";
        Ok(Self {
            database: text(1),
            session,
            databases,
            without_transactions: without_transactions(client)?,
            has_history: version.vendor == Vendor::MariaDb && !client.rows(history)?.is_empty(),
            lacking: lacking(&column(client.rows("show grants")?)),
            reads_users: client.rows("select count(*) from mysql.user").is_ok(),
            version,
        })
    }
}

fn refuse_old(version: &Version) -> Result<()> {
    let oldest = OLDEST.iter().find(|(vendor, _)| *vendor == version.vendor).map_or((0, 0), |(_, numbers)| *numbers);
    if version.numbers >= oldest {
        return Ok(());
    }
    let (first, second) = oldest;
    Err(Failure::failed(format!("the server is {version}; versions from {first}.{second} on are backed up"))
        .hint("for an older one use a source of kind `command` with mysqldump"))
}

fn without_transactions(client: &Client<'_>) -> Result<(u64, Vec<String>)> {
    // BLACKHOLE holds nothing; views and sequences are no base tables.
    let of = format!(
        "from information_schema.tables where table_type in ('BASE TABLE', 'SYSTEM VERSIONED') \
         and lower(table_schema) not in {OWN} and engine <> 'BLACKHOLE' \
         and engine not in (select engine from information_schema.engines where transactions = 'YES')"
    );
    let count = column(client.rows(&format!("select count(*) {of}"))?).pop();
    let count = count.and_then(|count| count.parse().ok()).unwrap_or(0);
    if count == 0 {
        return Ok((0, Vec::new()));
    }
    let named =
        format!("select concat(table_schema, '.', table_name, ' (', engine, ')') {of} order by 1 limit {NAMED}");
    Ok((count, column(client.rows(&named)?)))
}

fn column(rows: Rows) -> Vec<String> {
    rows.into_iter().filter_map(|row| row.into_iter().next().flatten()).collect()
}

/// Which of [`NEEDED`] no line of `show grants` gives everywhere.
fn lacking(grants: &[String]) -> Vec<&'static str> {
    let everywhere = grants.iter().filter_map(|grant| grant.strip_prefix("GRANT ")?.split_once(" ON *.* TO "));
    let held: Vec<&str> = everywhere.flat_map(|(rights, _)| rights.split(", ")).collect();
    let all = held.iter().any(|right| right.starts_with("ALL PRIVILEGES"));
    NEEDED.into_iter().filter(|needed| !all && !held.contains(needed)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rights_are_read_as_servers_show_them() {
        let lacking = |grants: &[&str]| lacking(&grants.iter().map(|grant| (*grant).to_owned()).collect::<Vec<_>>());
        let none: [&str; 0] = [];
        assert_eq!(lacking(&["GRANT ALL PRIVILEGES ON *.* TO `root`@`localhost` WITH GRANT OPTION"]), none);
        assert_eq!(
            lacking(&[
                "GRANT `r` TO `backup`@`%`",
                "GRANT SELECT, RELOAD, SHOW VIEW, TRIGGER ON *.* TO `backup`@`%` IDENTIFIED BY PASSWORD '*98'",
                "GRANT EVENT ON *.* TO `r`",
            ]),
            none
        );
        assert_eq!(
            lacking(&["GRANT USAGE ON *.* TO `weak`@`%`", "GRANT SELECT, SHOW VIEW ON `shop`.* TO `weak`@`%`"]),
            NEEDED
        );
        assert_eq!(lacking(&["GRANT SELECT, EVENT ON *.* TO `weak`@`%`"]), ["SHOW VIEW", "TRIGGER"]);
    }

    #[test]
    fn old_servers_are_refused() {
        let refused = |said: &str| refuse_old(&Version::of_server(said).unwrap()).err().map(|failure| failure.message);
        assert_eq!(refused("10.11.19-MariaDB"), None);
        assert_eq!(refused("8.0.36"), None);
        assert!(refused("10.1.48-MariaDB").unwrap().contains("MariaDB 10.1.48; versions from 10.3 on"));
        assert!(refused("5.6.51").unwrap().contains("from 5.7 on"));
    }
}
