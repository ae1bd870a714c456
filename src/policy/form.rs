//! What the texts in a policy may look like: one [`Form`] per kind of text, with its check, its words and its pattern.

use super::nearest::{nearest, nearest_time_zone};
use super::time::{Misfit, check_weekly, parse_cadence, parse_duration, parse_window, quoted};
use super::{Expectation, glob};
use crate::ground::SecretReference;

/// A kind of text.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// Anything, even nothing.
    Any,
    /// Something.
    Plain,
    /// A name that is safe in paths, object keys and tags.
    Name,
    Duration,
    Cadence,
    Window,
    TimeZone,
    Secret,
    /// A variable of an environment and where its value is found.
    Variable,
    AbsolutePath,
    AbsoluteGlob,
    Glob,
    RelativePath,
    FileName,
    Url,
    Address,
    Sha256,
    Expectation,
    Words(&'static [&'static str]),
    Weekly,
    Region,
    Bucket,
    Tag,
    Volume,
    Instance,
    MailAddress,
}

impl Form {
    /// Whether `text` fits; if not, why, and what was probably meant.
    pub fn check(self, text: &str) -> Result<(), Misfit> {
        if self != Self::Any && text.contains('\0') {
            return Err(Misfit::new(format!("{} holds a zero byte", quoted(text))));
        }
        match self {
            Self::Any => Ok(()),
            Self::Duration => parse_duration(text).map(drop),
            Self::Cadence => parse_cadence(text).map(drop),
            Self::Window => parse_window(text).map(drop),
            Self::Expectation => Expectation::parse(text).map(drop),
            Self::Weekly => check_weekly(text),
            Self::TimeZone => check_time_zone(text),
            Self::Secret => check_secret(text),
            Self::Variable => check_variable(text),
            Self::AbsolutePath => check_absolute(text),
            Self::AbsoluteGlob => check_absolute(text).and_then(|()| check_glob(text)),
            Self::Glob => check_glob(text),
            Self::RelativePath => check_relative(text),
            Self::Url => check_url(text),
            Self::Words(words) => check_word(text, words),
            _ => self.check_plain(text),
        }
    }

    /// Forms that a predicate decides, with nothing more to say than what was found.
    fn check_plain(self, text: &str) -> Result<(), Misfit> {
        let (fits, what) = match self {
            Self::Name => (is_name(text), "is no plain name"),
            Self::FileName => (is_file_name(text), "is no plain file name"),
            Self::Address => (is_address(text), "is no address of the form host:port"),
            Self::Sha256 => (is_sha256(text), "is no SHA-256"),
            Self::Region => (is_region(text), "is no AWS region"),
            Self::Bucket => (is_bucket(text), "is no bucket name"),
            Self::Tag => {
                (text.split_once('=').is_some_and(|(key, _)| !key.is_empty()), "is no tag of the form key=value")
            }
            Self::Volume => (is_aws_id(text, "vol-"), "is no volume id"),
            Self::Instance => (is_aws_id(text, "i-"), "is no instance id"),
            Self::MailAddress => (is_mail_address(text), "is no mail address"),
            _ => (!text.trim().is_empty(), "is empty"),
        };
        if fits { Ok(()) } else { Err(Misfit::new(format!("{} {what}", quoted(text))).suggest(self.repair(text))) }
    }

    fn repair(self, text: &str) -> Option<String> {
        let lower = text.to_lowercase();
        let meant = match self {
            Self::Name => lower.replace(|c: char| !is_name_char(c), "-").trim_matches(['-', '.', '_']).to_owned(),
            Self::FileName => text.rsplit('/').next()?.to_owned(),
            Self::Sha256 | Self::Region | Self::Bucket => lower,
            _ => return None,
        };
        (meant != text && self.check(&meant).is_ok()).then_some(meant)
    }

    /// What to write, as in "expected ...".
    pub fn expected(self) -> String {
        let words = match self {
            Self::Any => "a text",
            Self::Plain => "a text that is not empty",
            Self::Name => {
                "lower-case letters, digits, \"-\", \"_\" and \".\", starting with a letter or digit, at most 64"
            }
            Self::Duration => "a duration such as \"90d\", \"4h\" or \"1h30m\" (units y, w, d, h, m, s)",
            Self::Cadence => "\"daily HH:MM\", \"every 30m\", \"auto\" or a cron line with 5 or 6 fields",
            Self::Window => "\"HH:MM-HH:MM\"",
            Self::TimeZone => "an IANA time zone such as \"Europe/Paris\"",
            Self::Secret => "a reference: \"env:NAME\", \"file:PATH\" or \"command:...\"",
            Self::Variable => "\"NAME=env:...\", \"NAME=file:...\" or \"NAME=command:...\"",
            Self::AbsolutePath => "an absolute path without \"..\"",
            Self::AbsoluteGlob => "an absolute glob pattern such as \"/var/log/app/*.log*\"",
            Self::Glob => "a glob pattern such as \"**/tmp/**\"",
            Self::RelativePath => "a relative path without \"..\"",
            Self::FileName => "a file name without \"/\"",
            Self::Url => "an http:// or https:// URL without user and password",
            Self::Address => "\"host:port\"",
            Self::Sha256 => "64 hexadecimal digits in lower case",
            Self::Expectation => "\"> 0\", \">= 5\", \"< 7\", \"<= 7\", \"!= x\", \"= x\" or a text to be equal to",
            Self::Words(words) => return one_of(words),
            Self::Weekly => "a day and a time such as \"mon 08:00\"",
            Self::Region => "an AWS region such as \"us-west-2\"",
            Self::Bucket => "a bucket name: 3 to 63 lower-case letters, digits, \"-\" and \".\"",
            Self::Tag => "\"key=value\"",
            Self::Volume => "a volume id such as \"vol-0123456789abcdef0\"",
            Self::Instance => "an instance id such as \"i-0123456789abcdef0\"",
            Self::MailAddress => "a mail address",
        };
        words.to_owned()
    }

    /// A regular expression (ECMA 262) for the JSON Schema; it may accept more than [`Form::check`], never less.
    pub fn pattern(self) -> Option<&'static str> {
        match self {
            Self::Name => Some("^[a-z0-9][a-z0-9._-]{0,63}$"),
            Self::Duration => Some("^([0-9]+y)?([0-9]+w)?([0-9]+d)?([0-9]+h)?([0-9]+m)?([0-9]+s)?$"),
            Self::Cadence => Some("^(auto|daily [0-2][0-9]:[0-5][0-9]|every [0-9ywdhms]+|\\S+(\\s+\\S+){4,5})$"),
            Self::Window => Some("^[0-2][0-9]:[0-5][0-9]-[0-2][0-9]:[0-5][0-9]$"),
            Self::Secret => Some("^(env|file|command):"),
            Self::Variable => Some("^[A-Za-z_][A-Za-z0-9_]*=(env|file|command):"),
            Self::AbsolutePath | Self::AbsoluteGlob => Some("^/"),
            Self::RelativePath => Some("^[^/]"),
            Self::FileName => Some("^[^/]+$"),
            Self::Url => Some("^https?://"),
            Self::Address => Some(":[0-9]+$"),
            Self::Sha256 => Some("^[0-9a-f]{64}$"),
            Self::Region => Some("^[a-z]+(-[a-z]+)+-[0-9]+$"),
            Self::Bucket => Some("^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$"),
            Self::Weekly => Some("^(mon|tue|wed|thu|fri|sat|sun) [0-2][0-9]:[0-5][0-9]$"),
            Self::Tag => Some("^[^=]+="),
            Self::Volume => Some("^vol-[0-9a-f]+$"),
            Self::Instance => Some("^i-[0-9a-f]+$"),
            Self::MailAddress => Some("@"),
            _ => None,
        }
    }
}

/// `one of a, b, c`, or the single word.
pub(crate) fn one_of(words: &[&str]) -> String {
    match words {
        [word] => format!("\"{word}\""),
        words => format!("one of {}", words.join(", ")),
    }
}

fn is_name_char(c: char) -> bool {
    c.is_ascii_lowercase() || c.is_ascii_digit() || "-_.".contains(c)
}

pub(crate) fn is_name(text: &str) -> bool {
    let starts_well = text.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit());
    starts_well && text.len() <= 64 && text.chars().all(is_name_char)
}

fn is_file_name(text: &str) -> bool {
    !text.is_empty() && text != "." && text != ".." && !text.contains('/') && !text.chars().any(char::is_control)
}

fn is_address(text: &str) -> bool {
    let Some((host, port)) = text.rsplit_once(':') else { return false };
    let bracketed = host.strip_prefix('[').and_then(|inner| inner.strip_suffix(']'));
    let host_ok = match bracketed {
        Some(inner) => inner.parse::<std::net::Ipv6Addr>().is_ok(),
        None => !host.is_empty() && !host.contains([':', '/', '@', '[', ']']) && !host.contains(char::is_whitespace),
    };
    host_ok && port.bytes().all(|b| b.is_ascii_digit()) && port.parse::<u16>().is_ok_and(|port| port > 0)
}

fn is_sha256(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

/// `us-east-1`, `us-gov-west-1`: words and a final number.
fn is_region(text: &str) -> bool {
    let parts: Vec<&str> = text.split('-').collect();
    let Some((number, words)) = parts.split_last() else { return false };
    let word_ok = |word: &&str| !word.is_empty() && word.bytes().all(|b| b.is_ascii_lowercase());
    let number_ok = !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit());
    words.len() >= 2 && words.iter().all(word_ok) && number_ok
}

fn is_bucket(text: &str) -> bool {
    let edge = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let inner = |c: char| edge(c) || c == '-' || c == '.';
    (3..=63).contains(&text.len()) && text.chars().all(inner) && text.starts_with(edge) && text.ends_with(edge)
}

fn is_aws_id(text: &str, prefix: &str) -> bool {
    let hex =
        |digits: &str| digits.len() >= 8 && digits.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
    text.strip_prefix(prefix).is_some_and(hex)
}

fn is_mail_address(text: &str) -> bool {
    let parts = text.split_once('@');
    parts.is_some_and(|(user, host)| !user.is_empty() && !host.is_empty() && !host.contains('@'))
        && !text.contains(|c: char| c.is_whitespace() || c.is_control())
}

fn check_time_zone(text: &str) -> Result<(), Misfit> {
    match jiff::tz::db().get(text) {
        Ok(_) => Ok(()),
        Err(_) => Err(Misfit::new(format!("{} is no known time zone", quoted(text))).suggest(nearest_time_zone(text))),
    }
}

fn is_variable(name: &str) -> bool {
    !name.starts_with(|c: char| c.is_ascii_digit()) && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

/// `NAME=REFERENCE`.
pub(crate) fn parse_variable(text: &str) -> Option<(String, SecretReference)> {
    let (name, reference) = text.split_once('=')?;
    Some((name.to_owned(), SecretReference::parse(reference)?))
}

fn check_variable(text: &str) -> Result<(), Misfit> {
    match text.split_once('=') {
        Some((name, reference)) if !name.is_empty() && is_variable(name) => check_secret(reference),
        _ => Err(Misfit::new("a variable is not written as a name, \"=\" and a reference (not shown)")),
    }
}

/// The message never shows the text: what is no reference may be the secret itself.
fn check_secret(text: &str) -> Result<(), Misfit> {
    match SecretReference::parse(text) {
        Some(SecretReference::Env(name)) if !is_variable(&name) => {
            Err(Misfit::new("\"env:\" is not followed by the name of an environment variable (not shown)"))
        }
        Some(_) => Ok(()),
        None => Err(Misfit::new("a secret is written here as a value (not shown)")),
    }
}

fn has_parent_component(text: &str) -> bool {
    text.split('/').any(|part| part == "..")
}

fn check_absolute(text: &str) -> Result<(), Misfit> {
    if !text.starts_with('/') {
        return Err(Misfit::new(format!("{} is not an absolute path", quoted(text))));
    }
    refuse_parent(text)
}

fn check_relative(text: &str) -> Result<(), Misfit> {
    if text.is_empty() {
        return Err(Misfit::new("the path is empty"));
    }
    if let Some(rest) = text.strip_prefix('/') {
        let meant = rest.trim_start_matches('/');
        let meant = (!meant.is_empty() && !has_parent_component(meant)).then(|| meant.to_owned());
        return Err(Misfit::new(format!("{} is an absolute path", quoted(text))).suggest(meant));
    }
    if text.split('/').any(|part| part.is_empty() || part == ".") {
        return Err(Misfit::new(format!("{} holds an empty or \".\" component", quoted(text))));
    }
    refuse_parent(text)
}

fn refuse_parent(text: &str) -> Result<(), Misfit> {
    match has_parent_component(text) {
        true => Err(Misfit::new(format!("{} holds a \"..\" component", quoted(text)))),
        false => Ok(()),
    }
}

fn check_glob(text: &str) -> Result<(), Misfit> {
    if text.is_empty() {
        return Err(Misfit::new("the pattern is empty"));
    }
    match glob(text) {
        Ok(_) => Ok(()),
        Err(error) => Err(Misfit::new(format!("{} is no glob pattern: {}", quoted(text), error.kind()))),
    }
}

fn check_url(text: &str) -> Result<(), Misfit> {
    let misfit = |why: &str| Misfit::new(format!("{} {why}", quoted(text)));
    let Some(rest) = text.strip_prefix("http://").or_else(|| text.strip_prefix("https://")) else {
        let meant = (!text.contains("://") && !text.is_empty()).then(|| format!("http://{text}"));
        return Err(misfit("is no http or https URL").suggest(meant.filter(|meant| check_url(meant).is_ok())));
    };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    if authority.contains('@') {
        return Err(Misfit::new("a user name or password is written in this URL (not shown)"));
    }
    if authority.is_empty() || authority.starts_with(':') {
        return Err(misfit("names no host"));
    }
    match text.contains(|c: char| c.is_whitespace() || c.is_control()) {
        true => Err(misfit("holds white space")),
        false => Ok(()),
    }
}

fn check_word(text: &str, words: &'static [&'static str]) -> Result<(), Misfit> {
    if words.contains(&text) {
        return Ok(());
    }
    let meant = nearest(text, words.iter().copied()).map(str::to_owned);
    Err(Misfit::new(format!("{} is not known here", quoted(text))).suggest(meant))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fits(form: Form, good: &[&str], bad: &[&str]) {
        for text in good {
            assert!(form.check(text).is_ok(), "{text:?} must be accepted");
            if let Some(pattern) = form.pattern() {
                let schema = serde_json::json!({ "type": "string", "pattern": pattern });
                assert!(jsonschema::is_valid(&schema, &serde_json::json!(text)), "{text:?} must match {pattern}");
            }
        }
        for text in bad {
            assert!(form.check(text).is_err(), "{text:?} must be refused");
        }
    }

    #[test]
    fn names_and_file_names() {
        fits(
            Form::Name,
            &["shop", "acme-prod", "7.x_y"],
            &["", "Shop", "-a", ".", "..", "a/b", "a b", "caf\u{e9}", "a\n"],
        );
        fits(Form::Name, &[&"a".repeat(64)], &[&"a".repeat(65)]);
        fits(Form::FileName, &["start.sh", "my start.sh"], &["", ".", "..", "a/b.sh", "/start.sh", "a\nb"]);
        assert_eq!(Form::Name.check("My Shop").unwrap_err().suggestion.as_deref(), Some("my-shop"));
    }

    #[test]
    fn paths_and_patterns() {
        fits(
            Form::AbsolutePath,
            &["/", "/srv/shop", "/srv/./x", "/srv/a..b"],
            &["", "srv", "~/x", "/srv/../etc", "/a\0b"],
        );
        fits(Form::RelativePath, &["a", "a/b.txt", "..a"], &["", "/a", "../a", "a/..", "a//b", "./a", "a/"]);
        fits(Form::AbsoluteGlob, &["/var/log/*.log*", "/a/{b,c}/**"], &["*.log", "/a/[", "/a/{b", "/a/../*"]);
        fits(Form::Glob, &["**/tmp/**", "*.bak"], &["", "[z-a]", "{a"]);
    }

    #[test]
    fn addresses() {
        fits(
            Form::Url,
            &["http://a", "https://a:9443/x?y"],
            &["ftp://a", "a", "http://", "http://:80", "http://u:p@a/", "http://a b"],
        );
        fits(
            Form::Address,
            &["localhost:5432", "10.0.0.1:1", "[::1]:80"],
            &["", "a", "a:", ":80", "a:0", "a:65536", "::1:80", "a:+1"],
        );
        fits(Form::MailAddress, &["ops@acme.example"], &["ops", "@a", "a@", "a@b@c", "a b@c"]);
        assert_eq!(Form::Url.check("localhost:80/x").unwrap_err().suggestion.as_deref(), Some("http://localhost:80/x"));
    }

    #[test]
    fn aws_words() {
        fits(
            Form::Region,
            &["us-east-1", "us-gov-west-1", "eu-isoe-west-1"],
            &["", "us-east", "US-EAST-1", "us-east-1a", "1"],
        );
        fits(Form::Bucket, &["acme-dr"], &["a", "Acme", "-acme", "acme_dr", &"a".repeat(64)]);
        fits(Form::Volume, &["vol-0123456789abcdef0"], &["vol-", "i-0123456789abcdef0", "vol-xyzxyzxyz"]);
        fits(Form::Tag, &["system=acme-prod", "k="], &["=v", "k"]);
    }

    #[test]
    fn secrets_are_references_and_what_is_not_is_not_shown() {
        fits(
            Form::Secret,
            &["env:DB_USER", "file:/etc/p", "command:pass show x"],
            &["", "hunter2", "env:", "vault:x", "env:my pw"],
        );
        for bad in ["hunter2", "env:hunter2!"] {
            let misfit = Form::Secret.check(bad).unwrap_err();
            assert!(!format!("{misfit:?}").contains("hunter2"), "{misfit:?}");
        }
        assert!(!Form::Url.check("http://me:hunter2@a/").unwrap_err().message.contains("hunter2"));
    }

    #[test]
    fn sums_and_times() {
        fits(Form::Sha256, &[&"0a".repeat(32)], &["", &"0A".repeat(32), &"0a".repeat(31), &"0g".repeat(32)]);
        fits(Form::Duration, &["1h30m", "7y"], &["soon"]);
        fits(Form::Cadence, &["auto", "daily 00:30", "every 1h30m", "0 4 1 * *", "0 0 4 1 * *"], &["never"]);
        fits(Form::Window, &["22:00-24:00"], &["24:30-"]);
        fits(Form::Weekly, &["mon 08:00"], &["8 o'clock"]);
        fits(Form::TimeZone, &["UTC", "Europe/Paris"], &["", "Mars/Olympus"]);
    }
}
