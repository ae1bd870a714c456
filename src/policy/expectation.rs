//! What a check expects of a value: `> 0`, `!= x`, or a plain text for equality.

use std::cmp::Ordering;

use super::time::{Misfit, quoted};
use super::{Comparison, Expectation};

/// Longer operators first: `>=` must not be read as `>`.
const OPERATORS: [(&str, Comparison); 6] = [
    (">=", Comparison::GreaterOrEqual),
    ("<=", Comparison::LessOrEqual),
    ("!=", Comparison::NotEqual),
    (">", Comparison::Greater),
    ("<", Comparison::Less),
    ("=", Comparison::Equal),
];

/// Spellings of other languages, with the one used here.
const FOREIGN: [(&str, &str); 5] = [("==", "="), ("=>", ">="), ("=<", "<="), ("<>", "!="), ("=!", "!=")];

impl Expectation {
    /// Parses the written form. An ordering needs a number to compare with.
    pub fn parse(text: &str) -> Result<Self, Misfit> {
        let text = text.trim();
        if let Some((foreign, ours)) = FOREIGN.iter().find(|(foreign, _)| text.starts_with(foreign)) {
            let meant = format!("{ours} {}", text[foreign.len()..].trim());
            return Err(Misfit::new(format!("{} is no expectation", quoted(text))).suggest(Some(meant)));
        }
        let operator = OPERATORS.iter().find(|(sign, _)| text.starts_with(sign));
        let (comparison, value) = match operator {
            Some((sign, comparison)) => (*comparison, text[sign.len()..].trim()),
            None if text.is_empty() => return Err(Misfit::new("the expectation is empty")),
            None => (Comparison::Equal, text),
        };
        let equality = matches!(comparison, Comparison::Equal | Comparison::NotEqual);
        if !equality && Number::parse(value).is_none() {
            return Err(Misfit::new(format!("{} compares with something that is no number", quoted(text))));
        }
        Ok(Self { comparison, value: value.to_owned() })
    }

    /// Whether `actual` is as expected; white space around it does not count.
    ///
    /// Numbers compare as numbers (`7` equals `7.0`). An ordering never holds for what is no number.
    pub fn holds(&self, actual: &str) -> bool {
        let actual = actual.trim();
        let ordering = match (Number::parse(actual), Number::parse(&self.value)) {
            (Some(actual), Some(expected)) => actual.compare(&expected),
            _ => (actual == self.value).then_some(Ordering::Equal),
        };
        match self.comparison {
            Comparison::Equal => ordering == Some(Ordering::Equal),
            Comparison::NotEqual => ordering != Some(Ordering::Equal),
            Comparison::Greater => ordering == Some(Ordering::Greater),
            Comparison::Less => ordering == Some(Ordering::Less),
            Comparison::GreaterOrEqual => {
                is_number(actual) && matches!(ordering, Some(Ordering::Greater | Ordering::Equal))
            }
            Comparison::LessOrEqual => is_number(actual) && matches!(ordering, Some(Ordering::Less | Ordering::Equal)),
        }
    }
}

impl std::fmt::Display for Expectation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let sign =
            OPERATORS.iter().find(|(_, comparison)| *comparison == self.comparison).map_or("=", |(sign, _)| sign);
        write!(f, "{sign} {}", self.value)
    }
}

fn is_number(text: &str) -> bool {
    Number::parse(text).is_some()
}

/// Whole numbers stay exact; a 64-bit row id must not be rounded to a float.
enum Number {
    Whole(i128),
    Real(f64),
}

impl Number {
    fn parse(text: &str) -> Option<Self> {
        if let Ok(whole) = text.parse() {
            return Some(Self::Whole(whole));
        }
        // `nan` and `inf` are words in a database's answer, no numbers to hold an objective against.
        let numeric = text.bytes().all(|b| b.is_ascii_digit() || b"+-.eE".contains(&b));
        text.parse().ok().filter(|real: &f64| numeric && real.is_finite()).map(Self::Real)
    }

    fn compare(&self, other: &Self) -> Option<Ordering> {
        match (self, other) {
            (Self::Whole(a), Self::Whole(b)) => Some(a.cmp(b)),
            (a, b) => a.real().partial_cmp(&b.real()),
        }
    }

    fn real(&self) -> f64 {
        match self {
            #[allow(clippy::cast_precision_loss)] // the other side is a float already
            Self::Whole(whole) => *whole as f64,
            Self::Real(real) => *real,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holds(expectation: &str, actual: &str) -> bool {
        Expectation::parse(expectation).expect("an expectation").holds(actual)
    }

    #[test]
    fn numbers_compare_as_numbers() {
        assert!(holds("> 0", "1") && !holds("> 0", "0") && !holds("> 0", "-3"));
        assert!(holds(">= 5", "5") && holds(">=5", "5.0") && !holds(">= 5", "4.99"));
        assert!(holds("< 7", "6") && !holds("< 7", "10") && holds("<= 7", "7"));
        assert!(holds("= 7", "7.0") && holds("7", "07") && !holds("!= 7", "7.0"));
        assert!(!holds("= 9007199254740993", "9007199254740992"), "exact beyond the precision of a float");
    }

    #[test]
    fn texts_compare_as_texts_and_have_no_order() {
        assert!(holds("ok", "ok\n") && !holds("ok", "OK") && holds("!= broken", "ok"));
        assert!(!holds("> 0", "many") && !holds(">= 0", "") && !holds("<= 0", "nan") && !holds("< 1", "-inf"));
        assert!(holds("=", "  ") && !holds("=", "x"));
    }

    #[test]
    fn what_cannot_be_compared_is_refused() {
        for bad in ["", "  ", "> many", ">", "<= ", ">= 1 2"] {
            assert!(Expectation::parse(bad).is_err(), "{bad:?} must be refused");
        }
        let meant = |text| Expectation::parse(text).expect_err("must be refused").suggestion;
        assert_eq!(meant("=> 5").as_deref(), Some(">= 5"));
        assert_eq!(meant("== ok").as_deref(), Some("= ok"));
    }

    #[test]
    fn shown_as_written() {
        for text in ["> 0", ">= 5", "!= x", "= ok"] {
            assert_eq!(Expectation::parse(text).expect("an expectation").to_string(), text);
        }
    }
}
