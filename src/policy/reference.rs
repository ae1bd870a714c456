//! The key reference in `docs/policy.md`, made from the key tables.

use std::fmt::Write as _;

use super::keys::POLICY;
use super::table::{Field, Need, Shape, Table};

/// The key reference as Markdown: one section per table, every key of it.
pub fn reference() -> String {
    let mut out = String::new();
    write_table(&mut out, &POLICY, "The file");
    out.trim_end().to_owned() + "\n"
}

fn write_table(out: &mut String, table: &'static Table, path: &str) {
    let title = if table.header.is_empty() { path.to_owned() } else { format!("`{}`", table.header) };
    // Writing into a String cannot fail.
    let _ = write!(out, "### {title}\n\n{}\n\n", table.doc);
    write_fields(out, table.fields);
    for case in table.choice.cases() {
        let _ = write!(out, "**{}**: {}\n\n", case.word, case.doc);
        write_fields(out, case.fields);
    }
    for field in table.all_fields() {
        if let Shape::Table(inner) | Shape::Tables(inner, _) | Shape::Named(inner) = &field.shape {
            write_table(out, inner, &format!("`{}`, in {title}", field.name));
        }
    }
}

fn write_fields(out: &mut String, fields: &'static [Field]) {
    if fields.is_empty() {
        return;
    }
    out.push_str("| key | value | needed | meaning |\n|---|---|---|---|\n");
    for field in fields {
        let need = match field.need {
            Need::Required => "yes".to_owned(),
            Need::Optional => "no".to_owned(),
            Need::Default(words) => format!("no: {words}"),
        };
        let value = field.shape.expected().replace('|', "\\|").replace('*', "\\*");
        let _ = writeln!(out, "| `{}` | {value} | {need} | {} |", field.name, field.doc);
    }
    out.push('\n');
}
