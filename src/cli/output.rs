//! Results on standard output: one JSON document, or a table for people.

use std::io::Write;

use serde::Serialize;

use crate::ground::Result;
use crate::ground::failure::OrFail;

/// Writes to standard output; a reader that went away (`| head`) ends the command quietly.
pub fn print(text: &str) -> Result<()> {
    let mut output = std::io::stdout().lock();
    match output.write_all(text.as_bytes()).and_then(|()| output.flush()) {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => std::process::exit(0),
        written => written.or_fail(|| "cannot write to standard output".to_owned()),
    }
}

/// One line.
pub fn line(text: &str) -> Result<()> {
    print(&format!("{text}\n"))
}

/// One JSON document.
pub fn json<T: Serialize>(document: &T) -> Result<()> {
    let text = serde_json::to_string_pretty(document).or_fail(|| "cannot write the result as JSON".to_owned())?;
    print(&format!("{text}\n"))
}

/// A table with aligned columns; the last column is not padded. Numbers are right-aligned when the header ends in `>`.
pub fn table(header: &[&str], rows: &[Vec<String>]) -> Result<()> {
    let names: Vec<String> = header.iter().map(|name| name.trim_end_matches('>').to_owned()).collect();
    let width = |column: usize| {
        let cells = rows.iter().map(|row| row[column].chars().count());
        cells.chain([names[column].chars().count()]).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..header.len()).map(width).collect();
    let mut text = String::new();
    for row in std::iter::once(&names).chain(rows) {
        let cells = row.iter().enumerate().map(|(column, cell)| {
            let padding = " ".repeat(widths[column] - cell.chars().count());
            match (header[column].ends_with('>'), column + 1 == row.len()) {
                (true, _) => format!("{padding}{cell}"),
                (false, true) => cell.clone(),
                (false, false) => format!("{cell}{padding}"),
            }
        });
        text.push_str(cells.collect::<Vec<_>>().join("  ").trim_end());
        text.push('\n');
    }
    print(&text)
}
