//! Repeatable content: random bytes and believable text from a seed.

use std::fmt::Write;

/// A small generator of pseudo-random numbers (SplitMix64). For sample data, never for secrets.
#[derive(Debug, Clone)]
pub struct Seed(u64);

impl Seed {
    /// Equal numbers give equal content.
    pub fn new(number: u64) -> Self {
        Self(number)
    }

    /// The next 64 bits.
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `limit`, which is not 0.
    pub fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    /// One of several.
    pub fn pick<'a, T: ?Sized>(&mut self, choices: &[&'a T]) -> &'a T {
        choices[self.below(choices.len() as u64) as usize]
    }

    /// Bytes that do not compress.
    pub fn bytes(&mut self, length: usize) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(length + 8);
        while bytes.len() < length {
            bytes.extend_from_slice(&self.next().to_le_bytes());
        }
        bytes.truncate(length);
        bytes
    }
}

const WORDS: [&str; 24] = [
    "account", "address", "basket", "button", "catalog", "checkout", "color", "column", "customer", "delivery",
    "display", "header", "invoice", "margin", "message", "order", "padding", "payment", "price", "render", "return",
    "session", "update", "width",
];

/// A small text file of `lines` lines in the manner of its extension.
pub fn source_text(seed: &mut Seed, extension: &str, lines: u64) -> String {
    let mut text = String::new();
    for number in 0..lines {
        let (first, second, value) = (seed.pick(&WORDS), seed.pick(&WORDS), seed.below(1000));
        let _ = match extension {
            "css" => writeln!(text, ".{first}-{second} {{ margin: {value}px; width: {}%; }}", value % 100),
            "js" => writeln!(text, "function {first}_{number}({second}) {{ return {second} + {value}; }}"),
            "jsp" => writeln!(text, "<c:out value=\"${{{first}.{second}}}\" default=\"{value}\"/>"),
            "properties" => writeln!(text, "shop.{first}.{second}={value}"),
            _ => writeln!(text, "<p class=\"{first}\">{second} {value}</p>"),
        };
    }
    text
}

/// One line of an application log. `time` is RFC 3339.
pub fn log_line(seed: &mut Seed, time: &str) -> String {
    let level = seed.pick(&["INFO ", "INFO ", "INFO ", "DEBUG", "WARN "]);
    let (class, word, number) = (seed.pick(&WORDS), seed.pick(&WORDS), seed.below(1_000_000));
    format!(
        "{time} {level} [http-{}] com.example.shop.{class} - {word} {number} took {} ms\n",
        number % 64,
        number % 900
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_seeds_give_equal_content() {
        assert_eq!(Seed::new(7).bytes(1001), Seed::new(7).bytes(1001));
        assert_ne!(Seed::new(7).bytes(1001), Seed::new(8).bytes(1001));
        assert_eq!(Seed::new(7).bytes(1001).len(), 1001);
        assert_eq!(source_text(&mut Seed::new(1), "css", 9), source_text(&mut Seed::new(1), "css", 9));
    }
}
