//! Durations, sizes and times as people say them.

use jiff::Timestamp;

/// Units of a duration, largest first, in seconds.
const UNITS: [(u64, &str); 4] = [(86_400, "d"), (3_600, "h"), (60, "min"), (1, "s")];

/// Seconds as people say them: `0.35 s`, `7.2 s`, `3 min 12 s`, `1 h`, `2 d 4 h`; at most two units.
pub fn duration(seconds: f64) -> String {
    if !seconds.is_finite() {
        return "unknown".to_owned();
    }
    let sign = if seconds < 0.0 { "-" } else { "" };
    let seconds = seconds.abs();
    if seconds == 0.0 {
        return "0 s".to_owned();
    }
    if seconds < 0.9995 {
        return format!("{sign}{} s", short(seconds, if seconds < 0.0995 { 3 } else { 2 }));
    }
    if seconds < 59.95 {
        return format!("{sign}{} s", short(seconds, 1));
    }
    format!("{sign}{}", two_units(seconds))
}

/// The largest unit that fits and the next smaller one, rounded so that `59 min 60 s` cannot be.
fn two_units(seconds: f64) -> String {
    let rounding = if seconds >= 86_370.0 {
        3_600
    } else if seconds >= 3_599.5 {
        60
    } else {
        1
    };
    // A float beyond the range of the integer saturates, which is right here.
    let whole = ((seconds / rounding as f64).round() as u64).saturating_mul(rounding);
    let first = UNITS.iter().position(|(size, _)| whole >= *size).unwrap_or(UNITS.len() - 1);
    let (size, unit) = UNITS[first];
    let rest = whole % size;
    match UNITS.get(first + 1) {
        Some((smaller, name)) if rest >= *smaller => format!("{} {unit} {} {name}", whole / size, rest / smaller),
        _ => format!("{} {unit}", whole / size),
    }
}

/// At most `digits` decimals, without trailing zeros.
fn short(value: f64, digits: usize) -> String {
    let text = format!("{value:.digits$}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// Bytes in binary units: `0 B`, `1.5 KiB`, `46.1 MiB`.
pub fn bytes(bytes: u64) -> String {
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut value = bytes as f64 / 1024.0;
    for unit in ["KiB", "MiB", "GiB", "TiB", "PiB"] {
        if value < 1023.95 {
            return format!("{value:.1} {unit}");
        }
        value /= 1024.0;
    }
    format!("{value:.1} EiB")
}

/// A count with separators: `3,412`.
pub fn count(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A count with its noun: `1 step`, `3,412 steps`.
pub fn counted(number: u64, noun: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{} {noun}{plural}", count(number))
}

/// A moment to the second: `2026-11-22 04:00:00 UTC`.
pub fn moment(time: Timestamp) -> String {
    time.strftime("%Y-%m-%d %H:%M:%S UTC").to_string()
}

/// A moment to the millisecond, without the zone's name: `2026-11-22 04:00:00.250`.
pub fn precise(time: Timestamp) -> String {
    time.strftime("%Y-%m-%d %H:%M:%S%.3f").to_string()
}

/// The time of day to the millisecond: `04:00:00.250`.
pub fn clock(time: Timestamp) -> String {
    time.strftime("%H:%M:%S%.3f").to_string()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn durations_as_people_say_them() {
        let cases = [
            (0.0, "0 s"),
            (0.0004, "0 s"),
            (0.012, "0.012 s"),
            (0.35, "0.35 s"),
            (0.9996, "1 s"),
            (7.25, "7.2 s"),
            (24.0, "24 s"),
            (59.96, "1 min"),
            (60.0, "1 min"),
            (192.4, "3 min 12 s"),
            (3599.7, "1 h"),
            (3780.0, "1 h 3 min"),
            (86_399.0, "1 d"),
            (187_200.0, "2 d 4 h"),
            (86_400.0 * 400.0, "400 d"),
            (-90.0, "-1 min 30 s"),
            (f64::NAN, "unknown"),
            (f64::INFINITY, "unknown"),
        ];
        for (seconds, expected) in cases {
            assert_eq!(duration(seconds), expected, "{seconds}");
        }
    }

    #[test]
    fn sizes_and_counts() {
        assert_eq!([0, 1023, 1536, 48_318_382].map(bytes), ["0 B", "1023 B", "1.5 KiB", "46.1 MiB"]);
        assert_eq!(bytes(1024 * 1024 - 1), "1.0 MiB");
        assert_eq!(bytes(u64::MAX), "16.0 EiB");
        assert_eq!([0, 999, 1000, 1_234_567].map(count), ["0", "999", "1,000", "1,234,567"]);
        assert_eq!([counted(1, "step"), counted(2, "step")], ["1 step", "2 steps"]);
    }

    #[test]
    fn moments_are_utc() {
        let time: Timestamp = "2026-11-22T04:00:00.25Z".parse().expect("a time");
        assert_eq!(moment(time), "2026-11-22 04:00:00 UTC");
        assert_eq!(precise(time), "2026-11-22 04:00:00.250");
        assert_eq!(clock(time), "04:00:00.250");
    }

    proptest! {
        #[test]
        fn no_number_panics(seconds: f64, number: u64) {
            prop_assert!(!duration(seconds).is_empty());
            prop_assert!(!bytes(number).is_empty());
            prop_assert_eq!(count(number).replace(',', ""), number.to_string());
        }

        #[test]
        fn what_is_said_is_near_what_is_meant(seconds in 60.0..1e7_f64) {
            let said: f64 = duration(seconds).split(' ').collect::<Vec<_>>().chunks(2).map(|pair| {
                let unit = UNITS.iter().find(|(_, name)| *name == pair[1]).expect("a unit").0;
                pair[0].parse::<f64>().expect("a number") * unit as f64
            }).sum();
            prop_assert!((said - seconds).abs() <= seconds * 0.021 + 0.5, "{} for {}", said, seconds);
        }
    }
}
