//! Rows of an answer, as the clients of both vendors write them on request as XML: the one form of theirs that tells no
//! value from a value.

use std::borrow::Cow;

/// An answer to a query.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Answer {
    /// Values by row; `None` for NULL.
    pub rows: Vec<Vec<Option<String>>>,
    /// Whether its end was there.
    pub whole: bool,
}

/// The first result in what a client wrote.
pub(super) fn parse(text: &str) -> Answer {
    let Some((_, rest)) = text.split_once("<resultset") else { return Answer { rows: Vec::new(), whole: true } };
    // What belongs to a value or a name is escaped, so that no `<` or `>` is part of one.
    let rest = rest.split_once('>').map_or("", |(_, rest)| rest);
    let (result, whole) = match rest.split_once("</resultset>") {
        Some((result, _)) => (result, true),
        None => (rest, false),
    };
    let rows = result.split("<row>").skip(1).map(row).collect();
    Answer { rows, whole }
}

/// What a client says of an error. In front of it stands the statement, which may hold the data of people.
pub(super) fn error(said: &str) -> &str {
    let said = said.trim();
    said.rfind("\nERROR ").map_or(said, |at| said[at..].trim_start())
}

fn row(text: &str) -> Vec<Option<String>> {
    let mut values = Vec::new();
    for field in text.split("<field name=").skip(1) {
        let Some((head, rest)) = field.split_once('>') else { break };
        if head.ends_with('/') {
            values.push(None);
        } else if let Some((value, _)) = rest.split_once("</field>") {
            values.push(Some(unescaped(value).into_owned()));
        }
    }
    values
}

fn unescaped(text: &str) -> Cow<'_, str> {
    if !text.contains('&') {
        return text.into();
    }
    let plain = text.replace("&lt;", "<").replace("&gt;", ">").replace("&quot;", "\"");
    plain.replace("&amp;", "&").into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(text: &str) -> Vec<Vec<Option<String>>> {
        let answer = parse(text);
        assert!(answer.whole, "{text}");
        answer.rows
    }

    #[test]
    fn a_value_is_what_is_not_null() {
        let head = "<?xml version=\"1.0\"?>\n\n<resultset statement=\"select &lt;&quot;&gt;\" xmlns:xsi=\"x\">";
        let one = |field: &str| rows(&format!("{head}\n  <row>\n\t{field}\n  </row>\n</resultset>\n"));
        let value = |text: &str| vec![vec![Some(text.to_owned())]];
        assert_eq!(one("<field name=\"NULL\" xsi:nil=\"true\" />"), [[None]]);
        assert_eq!(one("<field name=\"a\"></field>"), value(""));
        assert_eq!(one("<field name=\"a&quot;&gt;/\">NULL</field>"), value("NULL"));
        assert_eq!(one("<field name=\"a\">&amp;lt;&lt;b&quot;\nc &gt;</field>"), value("&lt;<b\"\nc >"));
        assert_eq!(rows(&format!("{head}</resultset>\n")), Vec::<Vec<_>>::new());
        assert_eq!(rows(""), Vec::<Vec<_>>::new());
    }

    #[test]
    fn an_error_is_told_without_its_statement() {
        let said = "--------------\ninsert into people values ('hunter2')\n--------------\n\nERROR 1146 (42S02) at line 1: none\n";
        assert_eq!(error(said), "ERROR 1146 (42S02) at line 1: none");
        assert_eq!(error("ERROR 2002 (HY000): no server\n"), "ERROR 2002 (HY000): no server");
        assert_eq!(error("setpriv: no such user\n"), "setpriv: no such user");
    }

    #[test]
    fn several_rows_and_an_answer_that_breaks_off() {
        let text = "<resultset statement=\"x\">\n<row>\n<field name=\"a\">1</field>\n<field name=\"b\">2</field>\n</row>\n\
                    <row>\n<field name=\"a\">3</field>\n<field name=\"b\" xsi:nil=\"true\" />\n</row>\n</resultset>";
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(rows(text), [vec![some("1"), some("2")], vec![some("3"), None]]);
        let broken = parse(text.split_once("3</field>").unwrap().0);
        assert!(!broken.whole && broken.rows[0] == [some("1"), some("2")], "{broken:?}");
    }
}
