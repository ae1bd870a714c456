//! Names in trees: bytes written as the inside of a quoted Go string (`strconv.Quote`), which is how the format keeps
//! names that are not UTF-8.

/// Writes a name. Printable text stays, everything else becomes an escape.
pub(super) fn quote(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for character in chunk.valid().chars() {
            push_character(&mut text, character);
        }
        for byte in chunk.invalid() {
            text.push_str(&format!("\\x{byte:02x}"));
        }
    }
    text
}

fn push_character(text: &mut String, character: char) {
    match character {
        '"' => text.push_str("\\\""),
        '\\' => text.push_str("\\\\"),
        '\x07' => text.push_str("\\a"),
        '\x08' => text.push_str("\\b"),
        '\x0c' => text.push_str("\\f"),
        '\n' => text.push_str("\\n"),
        '\r' => text.push_str("\\r"),
        '\t' => text.push_str("\\t"),
        '\x0b' => text.push_str("\\v"),
        '\0'..='\x1f' | '\x7f' => text.push_str(&format!("\\x{:02x}", u32::from(character))),
        _ if is_printable(character) => text.push(character),
        '\u{10000}'.. => text.push_str(&format!("\\U{:08x}", u32::from(character))),
        _ => text.push_str(&format!("\\u{:04x}", u32::from(character))),
    }
}

/// Near enough to Go's `IsPrint` that our trees equal restic's for usual names; both read either spelling.
fn is_printable(character: char) -> bool {
    !character.is_control()
        && (character == ' ' || !character.is_whitespace())
        && !matches!(character,
            '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
            | '\u{e000}'..='\u{f8ff}' | '\u{feff}' | '\u{f0000}'..)
}

/// Reads a name back; `None` when it is not the inside of a quoted Go string.
pub(super) fn unquote(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(['\\', '"', '\n']) {
        bytes.extend_from_slice(&rest.as_bytes()[..at]);
        let tail = rest[at..].strip_prefix('\\')?;
        rest = unescape(tail, &mut bytes)?;
    }
    bytes.extend_from_slice(rest.as_bytes());
    Some(bytes)
}

/// Reads what follows a backslash and returns what follows that.
fn unescape<'a>(text: &'a str, bytes: &mut Vec<u8>) -> Option<&'a str> {
    let kind = text.chars().next()?;
    let rest = &text[kind.len_utf8()..];
    let plain = match kind {
        'a' => b'\x07',
        'b' => b'\x08',
        'f' => b'\x0c',
        'n' => b'\n',
        'r' => b'\r',
        't' => b'\t',
        'v' => b'\x0b',
        '\\' => b'\\',
        '"' => b'"',
        'x' => {
            let (value, rest) = digits(rest, 2, 16)?;
            bytes.push(u8::try_from(value).ok()?);
            return Some(rest);
        }
        '0'..='7' => {
            let (value, rest) = digits(text, 3, 8)?;
            bytes.push(u8::try_from(value).ok()?);
            return Some(rest);
        }
        'u' | 'U' => {
            let (value, rest) = digits(rest, if kind == 'u' { 4 } else { 8 }, 16)?;
            let mut buffer = [0; 4];
            bytes.extend_from_slice(char::from_u32(value)?.encode_utf8(&mut buffer).as_bytes());
            return Some(rest);
        }
        _ => return None,
    };
    bytes.push(plain);
    Some(rest)
}

fn digits(text: &str, count: usize, radix: u32) -> Option<(u32, &str)> {
    let (number, rest) = text.split_at_checked(count)?;
    let all_digits = number.chars().all(|digit| digit.is_digit(radix));
    all_digits.then(|| u32::from_str_radix(number, radix).ok()).flatten().map(|value| (value, rest))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn as_go_writes_it() {
        assert_eq!(quote(b"plain name.txt"), "plain name.txt");
        assert_eq!(quote(b"a\xff\xfe"), "a\\xff\\xfe");
        assert_eq!(quote("crème \"q\" \\ \n\x01\x7f".as_bytes()), "crème \\\"q\\\" \\\\ \\n\\x01\\x7f");
        assert_eq!(quote("\u{a0}\u{200b}\u{f0001}".as_bytes()), "\\u00a0\\u200b\\U000f0001");
    }

    #[test]
    fn every_escape_of_go_is_read() {
        assert_eq!(unquote("\\a\\b\\f\\n\\r\\t\\v\\\\\\\"").unwrap(), b"\x07\x08\x0c\n\r\t\x0b\\\"");
        assert_eq!(unquote("\\x41\\101\\u00e9\\U0001F600").unwrap(), "AA\u{e9}\u{1f600}".as_bytes());
        for wrong in ["\\", "\\q", "\\x4", "\\xg0", "\\x+1", "\\400", "\\ud800", "a\"b", "a\nb", "\\'"] {
            assert_eq!(unquote(wrong), None, "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn every_byte_string_survives(bytes: Vec<u8>) {
            prop_assert_eq!(unquote(&quote(&bytes)), Some(bytes));
        }

        #[test]
        fn arbitrary_text_does_not_panic(text: String) {
            let _ = unquote(&text);
        }
    }
}
