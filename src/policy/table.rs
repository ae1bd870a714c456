//! How the keys of a policy are described: once, in [`super::keys`].
//!
//! The reader's unknown-key, type and missing-key checks, the JSON Schema and the key reference in the docs are all
//! made from these tables.

use super::form::Form;

/// One key.
pub(crate) struct Field {
    pub name: &'static str,
    pub shape: Shape,
    pub need: Need,
    /// One or two sentences; Markdown without line breaks.
    pub doc: &'static str,
}

/// Whether a key must be there.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Need {
    Required,
    Optional,
    /// Absent means this, in words.
    Default(&'static str),
}

/// What a key's value looks like.
pub(crate) enum Shape {
    Text(Form),
    /// An array of texts, at least so many.
    Texts(Form, usize),
    /// A whole number, both ends included.
    Count(u64, u64),
    Flag,
    /// `true` and nothing else: a choice, not a switch.
    Yes,
    Table(&'static Table),
    /// `[[name]]`, at least so many.
    Tables(&'static Table, usize),
    /// `[name.WORD]`: tables under names of the operator's choosing.
    Named(&'static Table),
}

/// The keys of one TOML table.
pub(crate) struct Table {
    /// As in "unknown key in {title}".
    pub title: &'static str,
    /// How its header is written, for the reference; empty for tables that are usually written inline.
    pub header: &'static str,
    pub doc: &'static str,
    /// Keys that are there in every case.
    pub fields: &'static [Field],
    pub choice: Choice,
}

/// Keys that depend on others.
pub(crate) enum Choice {
    None,
    /// The value of this key (one of `fields`) decides.
    ByValue(&'static str, &'static [Case]),
    /// Exactly one of the cases' words must be there as a key; it is the first field of its case.
    ByKey(&'static [Case]),
}

/// One case of a [`Choice`].
pub(crate) struct Case {
    pub word: &'static str,
    pub doc: &'static str,
    pub fields: &'static [Field],
}

impl Choice {
    pub fn cases(&self) -> &'static [Case] {
        match self {
            Self::None => &[],
            Self::ByValue(_, cases) | Self::ByKey(cases) => cases,
        }
    }
}

impl Table {
    /// The header with something before it; nothing for tables that are written inline.
    fn header_after(&self, before: &str) -> String {
        if self.header.is_empty() { String::new() } else { format!("{before}{}", self.header) }
    }

    /// Every field of every case.
    pub fn all_fields(&self) -> impl Iterator<Item = &'static Field> {
        self.fields.iter().chain(self.choice.cases().iter().flat_map(|case| case.fields))
    }
}

impl Shape {
    /// What to write, for messages and the reference.
    pub fn expected(&self) -> String {
        match self {
            Self::Text(form) => form.expected(),
            Self::Texts(form, 0) => format!("an array; each: {}", form.expected()),
            Self::Texts(form, _) => format!("an array of at least one; each: {}", form.expected()),
            Self::Count(min, max) => format!("a whole number from {min} to {max}"),
            Self::Flag => "true or false".to_owned(),
            Self::Yes => "true".to_owned(),
            Self::Table(table) | Self::Named(table) => format!("a table{}", table.header_after(" ")),
            Self::Tables(table, 0) => format!("tables{}", table.header_after(" ")),
            Self::Tables(table, _) => format!("at least one table{}", table.header_after(" ")),
        }
    }

    /// Whether the value may be a secret that must not be shown when it is written wrongly.
    pub fn is_secret(&self) -> bool {
        matches!(self, Self::Text(Form::Secret) | Self::Texts(Form::Variable, _))
    }
}
