//! Durations, cadences, windows and the weekly hour, as they are written in a policy.
//!
//! Every parser here is pure and strict: one way to write a thing, and a suggestion for the near misses.

use std::time::Duration;

use chrono::NaiveDate;
use croner::parser::{CronParser, Seconds, Year};

use super::nearest::nearest;
use super::{Cadence, Window};

/// Why a text does not fit, and what was probably meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Misfit {
    /// What is wrong, with the text found.
    pub message: String,
    /// What to write instead.
    pub suggestion: Option<String>,
}

impl Misfit {
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), suggestion: None }
    }

    pub(crate) fn suggest(mut self, suggestion: Option<String>) -> Self {
        self.suggestion = suggestion;
        self
    }
}

/// Text found in a policy, made safe and short enough for a message.
pub(crate) fn quoted(text: &str) -> String {
    const SHOWN_CHARS_MAX: usize = 80;
    let mut shown: String = text.chars().take(SHOWN_CHARS_MAX).flat_map(char::escape_debug).collect();
    if text.chars().nth(SHOWN_CHARS_MAX).is_some() {
        shown.push_str("...");
    }
    format!("\"{shown}\"")
}

/// Units from long to short: letter, seconds, and the spellings that are recognised to suggest the letter.
const UNITS: [(char, u64, &[&str]); 6] = [
    ('y', 365 * 86_400, &["year", "years", "yr", "yrs"]),
    ('w', 7 * 86_400, &["week", "weeks"]),
    ('d', 86_400, &["day", "days"]),
    ('h', 3_600, &["hour", "hours", "hr", "hrs"]),
    ('m', 60, &["minute", "minutes", "min", "mins"]),
    ('s', 1, &["second", "seconds", "sec", "secs"]),
];

/// Nothing may last longer: sums with any date stay far inside what the calendar libraries can represent.
const DURATION_SECONDS_MAX: u64 = 1_000 * 365 * 86_400;

/// Parses `90d`, `4h`, `30m`, `45s`, `2w`, `7y` (a year is 365 days) and descending sums such as `1h30m`.
///
/// Zero, repeated or ascending units, fractions, and more than 1000 years are refused.
pub fn parse_duration(text: &str) -> Result<Duration, Misfit> {
    let seconds = sum_units(text).map_err(|why| {
        Misfit::new(format!("{} is no duration: {why}", quoted(text))).suggest(suggest_duration(text))
    })?;
    match seconds {
        0 => Err(Misfit::new(format!("{} is a duration of zero", quoted(text)))),
        s if s > DURATION_SECONDS_MAX => Err(Misfit::new(format!("{} is longer than 1000 years", quoted(text)))),
        s => Ok(Duration::from_secs(s)),
    }
}

fn sum_units(text: &str) -> Result<u64, &'static str> {
    let (mut rest, mut total, mut next_unit) = (text, 0_u64, 0_usize);
    if rest.is_empty() {
        return Err("it is empty");
    }
    while !rest.is_empty() {
        let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let (number, tail) = rest.split_at(digits);
        if number.is_empty() {
            return Err("a number is missing before a unit");
        }
        let letter = tail.chars().next().ok_or("the unit is missing")?;
        let unit = UNITS.iter().position(|u| u.0 == letter).ok_or("the units are y, w, d, h, m and s")?;
        if unit < next_unit {
            return Err("units go from long to short, each once");
        }
        next_unit = unit + 1;
        // A number that overflows is longer than any limit: saturate, and let the limit speak.
        let part = number.parse::<u64>().unwrap_or(u64::MAX).saturating_mul(UNITS[unit].1);
        total = total.saturating_add(part);
        rest = &tail[letter.len_utf8()..];
    }
    Ok(total)
}

/// `24 hours` -> `24h`, `1h 30min` -> `1h30m`, `2D` -> `2d`.
fn suggest_duration(text: &str) -> Option<String> {
    let lower = text.to_lowercase();
    let mut out = String::new();
    let mut rest = lower.trim();
    while !rest.is_empty() {
        let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let (number, tail) = rest.split_at(digits);
        let tail = tail.trim_start();
        let letters = tail.len() - tail.trim_start_matches(|c: char| c.is_ascii_lowercase()).len();
        let (word, tail) = tail.split_at(letters);
        let unit = UNITS.iter().find(|u| word == u.0.to_string() || u.2.contains(&word))?;
        out.push_str(number);
        out.push(unit.0);
        rest = tail.trim_start();
    }
    (out != text && parse_duration(&out).is_ok()).then_some(out)
}

/// A duration for people: `90d`, `1h 30m`, `12.3s`, `350ms`. Parts below a second are dropped above a minute.
pub fn format_duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    if seconds < 60 {
        return format_short(duration);
    }
    let mut parts = Vec::new();
    let mut rest = seconds;
    for (letter, length, _) in UNITS.iter().filter(|unit| unit.0 != 'w') {
        if rest >= *length {
            parts.push(format!("{}{letter}", rest / length));
            rest %= length;
        }
    }
    parts.join(" ")
}

fn format_short(duration: Duration) -> String {
    let millis = duration.subsec_millis();
    match (duration.as_secs(), millis) {
        (seconds, 0) => format!("{seconds}s"),
        (0, millis) => format!("{millis}ms"),
        (seconds, millis) => {
            let tenths = millis / 100;
            if tenths == 0 { format!("{seconds}s") } else { format!("{seconds}.{tenths}s") }
        }
    }
}

/// Parses `daily HH:MM`, `every 30m`, `auto` or a cron line with 5 or 6 fields that can occur.
pub fn parse_cadence(text: &str) -> Result<Cadence, Misfit> {
    if text == "auto" {
        return Ok(Cadence::Auto);
    }
    if text.trim() != text {
        let meant = Some(text.trim().to_owned()).filter(|trimmed| parse_cadence(trimmed).is_ok());
        return Err(Misfit::new(format!("{} has white space around it", quoted(text))).suggest(meant));
    }
    let (word, rest) = text.split_once(' ').unwrap_or((text, ""));
    match word {
        "daily" => parse_daily(text, rest),
        "every" => parse_duration(rest).map(Cadence::Every).map_err(|misfit| Misfit {
            message: format!("{} cannot be kept: {}", quoted(text), misfit.message),
            suggestion: misfit.suggestion.map(|duration| format!("every {duration}")),
        }),
        _ if (5..=6).contains(&text.split_whitespace().count()) => parse_cron(text),
        _ => Err(no_cadence(text, word, rest)),
    }
}

fn no_cadence(text: &str, word: &str, rest: &str) -> Misfit {
    let meant = nearest(word, ["daily", "every", "auto"]).map(|w| format!("{w} {rest}").trim_end().to_owned());
    let bare_time = parse_clock(text).map(|_| format!("daily {text}"));
    let bare_duration = parse_duration(text).ok().map(|_| format!("every {text}"));
    Misfit::new(format!("{} is no schedule", quoted(text)))
        .suggest(meant.filter(|m| m == "auto" || parse_cadence(m).is_ok()).or(bare_time).or(bare_duration))
}

fn parse_daily(text: &str, clock: &str) -> Result<Cadence, Misfit> {
    let Some(minute_of_day) = parse_clock(clock).filter(|minute| *minute < 1440) else {
        let padded = format!("0{clock}");
        let suggestion = parse_clock(&padded).filter(|m| *m < 1440).map(|_| format!("daily {padded}"));
        return Err(Misfit::new(format!("{} names no time of day", quoted(text))).suggest(suggestion));
    };
    let part = |value: u16| u8::try_from(value).unwrap_or_default();
    Ok(Cadence::Daily { hour: part(minute_of_day / 60), minute: part(minute_of_day % 60) })
}

/// `HH:MM` as minutes after midnight; `24:00` is 1440.
fn parse_clock(text: &str) -> Option<u16> {
    let (hour, minute) = text.split_once(':')?;
    let two_digits = |part: &str| part.len() == 2 && part.bytes().all(|b| b.is_ascii_digit());
    if !two_digits(hour) || !two_digits(minute) {
        return None;
    }
    let (hour, minute) = (hour.parse::<u16>().ok()?, minute.parse::<u16>().ok()?);
    let total = hour * 60 + minute;
    (minute < 60 && total <= 1440).then_some(total)
}

fn parse_cron(text: &str) -> Result<Cadence, Misfit> {
    let refused = |why: String| Misfit::new(format!("the cron line {} {why}", quoted(text)));
    let known = |c: char| c.is_ascii_alphanumeric() || " *,/-?#+".contains(c);
    if let Some(strange) = text.chars().find(|c| !known(*c)) {
        return Err(refused(format!("holds {}, which has no meaning there", quoted(&strange.to_string()))));
    }
    let parser = CronParser::builder().seconds(Seconds::Optional).year(Year::Disallowed).build();
    let cron = parser.parse(text).map_err(|error| refused(format!("cannot be read: {error}")))?;
    // A fixed start keeps the judgement the same on every day; a leap year, so that 29 February is found at once.
    let start = NaiveDate::from_ymd_opt(2024, 1, 1).and_then(|day| day.and_hms_opt(0, 0, 0));
    let occurs = start.is_some_and(|start| cron.find_next_occurrence(&start, true).is_ok());
    if occurs { Ok(Cadence::Cron(text.to_owned())) } else { Err(refused("names a moment that never comes".to_owned())) }
}

/// Parses `HH:MM-HH:MM`; an end before the start is on the next day, `24:00` is allowed as an end.
pub fn parse_window(text: &str) -> Result<Window, Misfit> {
    let misfit = |why: &str| Misfit::new(format!("{} is no window: {why}", quoted(text)));
    let (start, end) = text.split_once('-').ok_or_else(|| misfit("there is no \"-\" in it"))?;
    let start_minute =
        parse_clock(start).filter(|m| *m < 1440).ok_or_else(|| misfit(&format!("{} is no start", quoted(start))))?;
    let end_minute = parse_clock(end).ok_or_else(|| misfit(&format!("{} is no end", quoted(end))))?;
    if start_minute == end_minute {
        return Err(misfit("it ends where it starts").suggest(Some("00:00-24:00".to_owned())));
    }
    Ok(Window { start_minute, end_minute })
}

impl Window {
    /// Whether a start at this minute after midnight falls into the window. The end itself does not.
    pub fn contains(&self, minute: u16) -> bool {
        if self.start_minute < self.end_minute {
            (self.start_minute..self.end_minute).contains(&minute)
        } else {
            minute >= self.start_minute || minute < self.end_minute
        }
    }
}

const WEEKDAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];

/// Checks `mon 08:00`.
pub(crate) fn check_weekly(text: &str) -> Result<(), Misfit> {
    let (day, clock) = text.split_once(' ').unwrap_or((text, ""));
    let clock_ok = parse_clock(clock).is_some_and(|minute| minute < 1440);
    if WEEKDAYS.contains(&day) && clock_ok {
        return Ok(());
    }
    let lower = day.to_lowercase();
    let meant = WEEKDAYS.iter().find(|known| clock_ok && lower.starts_with(**known)).map(|d| format!("{d} {clock}"));
    Err(Misfit::new(format!("{} is no hour of a week", quoted(text))).suggest(meant))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(text: &str) -> Option<u64> {
        parse_duration(text).ok().map(|d| d.as_secs())
    }

    fn suggestion<T: std::fmt::Debug>(result: Result<T, Misfit>) -> Option<String> {
        result.expect_err("must be refused").suggestion
    }

    #[test]
    fn durations_are_sums_of_units_from_long_to_short() {
        assert_eq!(seconds("90d"), Some(90 * 86_400));
        assert_eq!(seconds("4h"), Some(14_400));
        assert_eq!(seconds("30m"), Some(1_800));
        assert_eq!(seconds("45s"), Some(45));
        assert_eq!(seconds("2w"), Some(14 * 86_400));
        assert_eq!(seconds("7y"), Some(7 * 365 * 86_400));
        assert_eq!(seconds("1h30m"), Some(5_400));
        for bad in
            ["", "90", "h", "30m1h", "1h1h", "1.5h", "-1h", "1h ", "0s", "0h0m", "1001y", "99999999999999999999d"]
        {
            assert_eq!(seconds(bad), None, "{bad:?} must be refused");
        }
    }

    #[test]
    fn durations_spelled_out_get_their_short_form_suggested() {
        assert_eq!(suggestion(parse_duration("24 hours")), Some("24h".to_owned()));
        assert_eq!(suggestion(parse_duration("1h 30min")), Some("1h30m".to_owned()));
        assert_eq!(suggestion(parse_duration("2D")), Some("2d".to_owned()));
        assert_eq!(suggestion(parse_duration("soon")), None);
        assert_eq!(suggestion(parse_duration("90")), None);
    }

    #[test]
    fn durations_are_shown_in_units_people_use() {
        for (seconds, shown) in
            [(0, "0s"), (45, "45s"), (5_400, "1h 30m"), (90 * 86_400, "90d"), (400 * 86_400, "1y 35d")]
        {
            assert_eq!(format_duration(Duration::from_secs(seconds)), shown);
        }
        assert_eq!(format_duration(Duration::from_millis(350)), "350ms");
        assert_eq!(format_duration(Duration::from_millis(12_340)), "12.3s");
        assert_eq!(format_duration(Duration::from_millis(12_040)), "12s");
        assert_eq!(format_duration(Duration::from_millis(61_900)), "1m 1s");
    }

    #[test]
    fn cadences_are_read() {
        assert_eq!(parse_cadence("daily 00:30"), Ok(Cadence::Daily { hour: 0, minute: 30 }));
        assert_eq!(parse_cadence("daily 23:59"), Ok(Cadence::Daily { hour: 23, minute: 59 }));
        assert_eq!(parse_cadence("every 30m"), Ok(Cadence::Every(Duration::from_secs(1800))));
        assert_eq!(parse_cadence("auto"), Ok(Cadence::Auto));
        for cron in ["0 4 1 * *", "0 0 29 2 *", "*/5 * * * * *", "0 9 * * MON-FRI", "0 0 L * *"] {
            assert_eq!(parse_cadence(cron), Ok(Cadence::Cron(cron.to_owned())));
        }
    }

    #[test]
    fn impossible_cadences_are_refused() {
        for bad in [
            "",
            "daily",
            "daily 25:00",
            "daily 24:00",
            "daily 12:60",
            "every",
            "every 0s",
            "0 0 30 2 *",
            "0 0 31 4 *",
            "61 * * * *",
            "* * * *",
            "0 0 0 1 1 * 2030",
            "@daily",
            "0 0 1 * \u{e9}",
            "0 0 1 * @",
            "99999999999 * * * *",
        ] {
            assert!(parse_cadence(bad).is_err(), "{bad:?} must be refused");
        }
    }

    #[test]
    fn near_misses_of_a_cadence_get_a_suggestion() {
        assert_eq!(suggestion(parse_cadence("dayly 02:00")), Some("daily 02:00".to_owned()));
        assert_eq!(suggestion(parse_cadence("daily 2:00")), Some("daily 02:00".to_owned()));
        assert_eq!(suggestion(parse_cadence(" 0 4 1 * *")), Some("0 4 1 * *".to_owned()));
        assert_eq!(suggestion(parse_cadence("02:00")), Some("daily 02:00".to_owned()));
        assert_eq!(suggestion(parse_cadence("30m")), Some("every 30m".to_owned()));
        assert_eq!(suggestion(parse_cadence("every 30 minutes")), Some("every 30m".to_owned()));
    }

    #[test]
    fn windows_may_cross_midnight() {
        let night = parse_window("22:00-02:00").expect("a window");
        assert!(night.contains(23 * 60) && night.contains(60) && !night.contains(120) && !night.contains(12 * 60));
        let day = parse_window("00:00-24:00").expect("a window");
        assert!(day.contains(0) && day.contains(1439));
        for bad in
            ["", "24:30-", "24:00-02:00", "01:00", "01:00-25:00", "1:00-2:00", "01:00-01:00", "01:00-02:00-03:00"]
        {
            assert!(parse_window(bad).is_err(), "{bad:?} must be refused");
        }
    }

    #[test]
    fn weekly_hours_are_a_day_and_a_time() {
        assert_eq!(check_weekly("mon 08:00"), Ok(()));
        assert_eq!(suggestion(check_weekly("Monday 08:00")), Some("mon 08:00".to_owned()));
        assert!(
            check_weekly("mon").is_err() && check_weekly("mon 24:00").is_err() && check_weekly("xyz 08:00").is_err()
        );
    }
}
