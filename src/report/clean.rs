//! Characters that must not reach a reader as they are.

/// Replaces control characters (but line feed and tab) and those that turn the direction of writing: output of a
/// failed command must not rewrite what is shown around it.
pub(super) fn clean(text: &str) -> String {
    text.chars().map(|character| if is_unfit(character) { '\u{fffd}' } else { character }).collect()
}

fn is_unfit(character: char) -> bool {
    let turns = matches!(character, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    turns || character.is_control() && !matches!(character, '\n' | '\t')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_text_becomes_visible() {
        assert_eq!(clean("a\u{1b}[2Jb\u{202e}c\n\td"), "a\u{fffd}[2Jb\u{fffd}c\n\td");
    }
}
