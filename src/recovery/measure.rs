//! How new the restored data is: the moment that the data itself testifies to, or else the point's data time.
//!
//! A beacon is used as it is, even when it says a time after the incident: the detail then tells so. A beacon that
//! yields nothing fails, for then the data does not prove its time, and the point's word alone would hide that.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use lifeboat_verify::events::RecoveredTo;

use super::beneath;
use crate::ground::failure::OrFail;
use crate::ground::{Failure, Result};
use crate::policy::Beacon;

/// Longest time that a beacon's query may take.
const QUERY_LIMIT: Duration = Duration::from_secs(60);
/// A beacon file holds one time; more than this is something else.
const FILE_LIMIT: u64 = 4096;
/// Numbers from here on cannot be seconds (year 5138); they are most likely milliseconds.
const NO_SECONDS: f64 = 1e11;

/// A restored source to be measured.
#[derive(Debug, Clone)]
pub struct Measured {
    pub source: String,
    pub beacon: Option<Beacon>,
    /// Where it was restored.
    pub directory: PathBuf,
    pub data_time: Timestamp,
    pub available_time: Timestamp,
    pub t0: Timestamp,
}

/// Asks a restored database for one value, within a time.
pub type Ask<'a> = dyn Fn(&str, Duration) -> Result<Option<String>> + 'a;

/// Measures one restored source; `ask` reaches its database. Blocks.
///
/// # Errors
/// When the source has a beacon and it yields no time.
pub fn recovered_to(measured: &Measured, ask: &Ask<'_>) -> Result<RecoveredTo> {
    let (time, method, mut detail) = match &measured.beacon {
        None => {
            (measured.data_time, "snapshot time", "the recovery point's data time; the source has no beacon".into())
        }
        Some(beacon) => read_beacon(measured, beacon, ask)
            .map_err(|failure| failure.context(format!("the beacon of `{}` gives no time", measured.source)))?,
    };
    if time > measured.t0 {
        detail.push_str("; this is later than the incident itself: a clock is wrong");
    }
    Ok(RecoveredTo { source: measured.source.clone(), time, method: method.into(), detail })
}

fn read_beacon(measured: &Measured, beacon: &Beacon, ask: &Ask<'_>) -> Result<(Timestamp, &'static str, String)> {
    match beacon {
        Beacon::Sql(query) => {
            let value = ask(query, QUERY_LIMIT)?;
            let text = value.ok_or_else(|| Failure::failed(format!("the query `{query}` gave no value")))?;
            Ok((parse_time(&text)?, "beacon", format!("{query} = {text}")))
        }
        Beacon::File(path) => {
            let text = file_text(&measured.directory, path)?;
            Ok((parse_time(&text)?, "beacon", format!("{path} holds {text}")))
        }
        Beacon::NewestEntry => newest_entry(measured),
    }
}

fn file_text(directory: &Path, path: &str) -> Result<String> {
    let relative = Path::new(path.trim_start_matches('/'));
    let file = beneath::open(directory, relative).or_fail(|| format!("cannot open the restored file {path}"))?;
    let mut bytes = Vec::new();
    file.take(FILE_LIMIT).read_to_end(&mut bytes).or_fail(|| format!("cannot read the restored file {path}"))?;
    Ok(String::from_utf8_lossy(&bytes).trim().to_owned())
}

/// Reads a beacon's value: RFC 3339 text, SQLite's `YYYY-MM-DD HH:MM:SS` (which is UTC), or Unix seconds.
///
/// # Errors
/// For any other text, milliseconds and times without a zone among them: a guess would falsify the measurement.
pub fn parse_time(text: &str) -> Result<Timestamp> {
    let text = text.trim();
    let refused = |why: &str| {
        Failure::failed(format!("`{text}` is no time{why}"))
            .hint("a beacon gives RFC 3339 text such as 2026-11-22T00:30:12Z, or Unix seconds")
    };
    if let Ok(time) = text.parse::<Timestamp>() {
        return Ok(time);
    }
    let plain =
        !text.is_empty() && text.chars().all(|character| character.is_ascii_digit() || "+-.eE".contains(character));
    if plain && let Ok(seconds) = text.parse::<f64>() {
        if seconds.abs() >= NO_SECONDS {
            return Err(refused(" in seconds; it looks like milliseconds"));
        }
        return seconds_to_time(text, seconds).ok_or_else(|| refused(""));
    }
    if text.contains(' ')
        && let Ok(civil) = text.parse::<DateTime>()
        && let Ok(zoned) = civil.to_zoned(TimeZone::UTC)
    {
        return Ok(zoned.timestamp());
    }
    Err(refused(if text.parse::<DateTime>().is_ok() { " with a zone; add `Z` if it is UTC" } else { "" }))
}

/// Digits after the point are taken as written: a float of this size keeps microseconds only.
fn seconds_to_time(text: &str, seconds: f64) -> Option<Timestamp> {
    let exact = text.split_once('.').and_then(|(whole, fraction)| {
        let digits = fraction.get(..fraction.len().min(9))?;
        let nanoseconds = format!("{digits:0<9}").parse::<i64>().ok()?;
        let sign = if whole.starts_with('-') { -1 } else { 1 };
        Timestamp::new(whole.parse().ok()?, i32::try_from(sign * nanoseconds).ok()?).ok()
    });
    let whole = || text.parse::<i64>().ok().and_then(|whole| Timestamp::from_second(whole).ok());
    exact
        .or_else(whole)
        .or_else(|| Timestamp::from_duration(jiff::SignedDuration::try_from_secs_f64(seconds).ok()?).ok())
}

/// The newest modification time of the restored entries. Directories do not count (a restore touches them), nor do
/// entries dated after the point was available: no backup can hold data from its own future.
fn newest_entry(measured: &Measured) -> Result<(Timestamp, &'static str, String)> {
    let mut search = Newest { not_after: measured.available_time, newest: None, ignored: 0 };
    search.walk(&measured.directory).or_fail(|| format!("cannot list {}", measured.directory.display()))?;
    let (time, path) =
        search.newest.ok_or_else(|| Failure::failed("no restored entry has a usable modification time"))?;
    let relative = path.strip_prefix(&measured.directory).unwrap_or(&path);
    let mut detail = format!("{} was modified last", crate::ground::byte_path::escape_path(relative));
    if search.ignored > 0 {
        detail.push_str(&format!("; {} entries dated after the point itself were left out", search.ignored));
    }
    Ok((time, "newest entry", detail))
}

struct Newest {
    not_after: Timestamp,
    newest: Option<(Timestamp, PathBuf)>,
    ignored: u64,
}

impl Newest {
    fn walk(&mut self, root: &Path) -> std::io::Result<()> {
        let mut directories = vec![root.to_path_buf()];
        while let Some(directory) = directories.pop() {
            for entry in fs::read_dir(&directory)? {
                let entry = entry?;
                let metadata = entry.metadata()?;
                if metadata.is_dir() {
                    directories.push(entry.path());
                } else if let Ok(time) = metadata.modified()
                    && let Ok(time) = Timestamp::try_from(time)
                {
                    self.see(time, &entry.path());
                }
            }
        }
        Ok(())
    }

    fn see(&mut self, time: Timestamp, path: &Path) {
        if time > self.not_after {
            self.ignored += 1;
        } else if self.newest.as_ref().is_none_or(|(newest, _)| time > *newest) {
            self.newest = Some((time, path.to_path_buf()));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;

    fn measured(directory: &Path, beacon: Option<Beacon>) -> Measured {
        Measured {
            source: "orders".into(),
            beacon,
            directory: directory.into(),
            data_time: Timestamp::from_second(1_000).unwrap(),
            available_time: Timestamp::from_second(1_010).unwrap(),
            t0: Timestamp::from_second(5_000).unwrap(),
        }
    }

    fn nothing(_: &str, _: Duration) -> Result<Option<String>> {
        Ok(None)
    }

    #[test]
    fn beacon_values() {
        let cases = [
            ("2026-11-22T00:30:12Z", Some("2026-11-22T00:30:12Z")),
            ("2026-11-22T01:30:12.25+01:00", Some("2026-11-22T00:30:12.25Z")),
            ("2026-11-22 00:30:12+00:00", Some("2026-11-22T00:30:12Z")),
            ("2026-11-22 00:30:12", Some("2026-11-22T00:30:12Z")),
            ("2026-11-22 00:30:12.5", Some("2026-11-22T00:30:12.5Z")),
            (" 0\n", Some("1970-01-01T00:00:00Z")),
            ("1795307412", Some("2026-11-22T00:30:12Z")),
            ("1795307412.123456789", Some("2026-11-22T00:30:12.123456789Z")),
            ("-1.5", Some("1969-12-31T23:59:58.5Z")),
            ("-0.5", Some("1969-12-31T23:59:59.5Z")),
            ("1.5e3", Some("1970-01-01T00:25:00Z")),
            ("1795307412000", None),
            ("2026-11-22T00:30:12", None),
            ("2026-11-22", None),
            ("", None),
            ("yesterday", None),
            ("nan", None),
            ("inf", None),
        ];
        for (text, expected) in cases {
            let expected = expected.map(|time| time.parse::<Timestamp>().unwrap());
            assert_eq!(parse_time(text).ok(), expected, "{text:?}");
        }
        assert!(parse_time("1795307412000").unwrap_err().message.contains("milliseconds"));
        assert!(parse_time("2026-11-22T00:30:12").unwrap_err().message.contains("zone"));
    }

    #[test]
    fn without_a_beacon_it_is_the_snapshot_time() {
        let result = recovered_to(&measured(Path::new("/none"), None), &nothing).unwrap();
        assert_eq!((result.time.as_second(), result.method.as_str()), (1_000, "snapshot time"));
    }

    #[test]
    fn a_query_on_the_restored_database() {
        let directory = tempfile::tempdir().unwrap();
        let database = rusqlite::Connection::open(directory.path().join("orders.db")).unwrap();
        database.execute_batch("create table orders(at); insert into orders values (900), (950)").unwrap();
        let path = directory.path().join("orders.db");
        let asked = |query: &str, limit: Duration| super::super::sqlite::value(&path, query, limit);
        let ask = |query: &str| recovered_to(&measured(directory.path(), Some(Beacon::Sql(query.into()))), &asked);
        let result = ask("select max(at) from orders").unwrap();
        assert_eq!((result.time.as_second(), result.method.as_str()), (950, "beacon"));
        assert_eq!(result.detail, "select max(at) from orders = 950");
        assert!(ask("select 9000").unwrap().detail.contains("later than the incident"));
        assert!(ask("select max(at) from orders where 0").unwrap_err().message.contains("gave no value"));
        assert!(ask("select at from nothing").is_err());
    }

    #[test]
    fn a_beacon_file() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("beacon"), "940.5\n").unwrap();
        let ask = |path: &str| recovered_to(&measured(directory.path(), Some(Beacon::File(path.into()))), &nothing);
        assert_eq!(ask("beacon").unwrap().time.as_millisecond(), 940_500);
        assert!(ask("none").is_err());
        assert!(ask("../../../../../../etc/hostname").is_err());
    }

    #[test]
    fn the_newest_entry_ignores_links_targets_directories_and_the_future() {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir(directory.path().join("logs")).unwrap();
        let dated = |name: &str, second: u64| {
            let file = fs::File::create(directory.path().join(name)).unwrap();
            file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(second)).unwrap();
        };
        dated("logs/a", 800);
        dated("b", 990);
        dated("c", 4_000);
        std::os::unix::fs::symlink("/etc/hostname", directory.path().join("link")).unwrap();
        let result = recovered_to(&measured(directory.path(), Some(Beacon::NewestEntry)), &nothing).unwrap();
        assert_eq!((result.time.as_second(), result.method.as_str()), (990, "newest entry"));
        assert!(result.detail.starts_with("b was modified last; 2 entries"), "{}", result.detail);
        let empty = tempfile::tempdir().unwrap();
        assert!(recovered_to(&measured(empty.path(), Some(Beacon::NewestEntry)), &nothing).is_err());
    }
}
