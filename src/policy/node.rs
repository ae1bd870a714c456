//! Reading a parsed document: a table with its place in the text, and typed look-ups that keep the place.
//!
//! Look-ups answer `None` for what is absent or of another type; [`super::shape`] has reported that already.

use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// A table and where it stands.
#[derive(Clone)]
pub(crate) struct Node<'a> {
    pub table: &'a DeTable<'a>,
    pub span: Range<usize>,
}

/// A text and where it stands.
#[derive(Clone)]
pub(crate) struct Located<'a> {
    pub text: &'a str,
    pub span: Range<usize>,
}

impl<'a> Node<'a> {
    pub fn new(table: &'a DeTable<'a>, span: Range<usize>) -> Self {
        Self { table, span }
    }

    pub fn of(value: &'a Spanned<DeValue<'a>>) -> Option<Self> {
        Some(Self::new(value.get_ref().as_table()?, value.span()))
    }

    pub fn get(&self, key: &str) -> Option<&'a Spanned<DeValue<'a>>> {
        self.table.get(key)
    }

    pub fn has(&self, key: &str) -> bool {
        self.get(key).is_some()
    }

    /// Where the key itself stands; the table's place when it is absent.
    pub fn key_span(&self, key: &str) -> Range<usize> {
        self.table.get_key_value(key).map_or_else(|| self.span.clone(), |(key, _)| key.span())
    }

    pub fn text(&self, key: &str) -> Option<Located<'a>> {
        located(self.get(key)?)
    }

    pub fn texts(&self, key: &str) -> Vec<Located<'a>> {
        let array = self.get(key).and_then(|value| value.get_ref().as_array());
        array.into_iter().flat_map(|items| items.iter()).filter_map(located).collect()
    }

    pub fn count(&self, key: &str) -> Option<u64> {
        whole(self.get(key)?.get_ref())
    }

    pub fn flag(&self, key: &str) -> Option<bool> {
        self.get(key)?.get_ref().as_bool()
    }

    pub fn child(&self, key: &str) -> Option<Node<'a>> {
        Node::of(self.get(key)?)
    }

    /// The tables of an array of tables.
    pub fn children(&self, key: &str) -> Vec<Node<'a>> {
        let array = self.get(key).and_then(|value| value.get_ref().as_array());
        array.into_iter().flat_map(|items| items.iter()).filter_map(Node::of).collect()
    }

    /// The tables in a table of tables, with their names.
    pub fn named(&self, key: &str) -> Vec<(Located<'a>, Node<'a>)> {
        let table = self.get(key).and_then(|value| value.get_ref().as_table());
        let entries = table.into_iter().flat_map(|table| table.iter());
        entries
            .filter_map(|(name, value)| Some((Located { text: name.get_ref(), span: name.span() }, Node::of(value)?)))
            .collect()
    }
}

fn located<'a>(value: &'a Spanned<DeValue<'a>>) -> Option<Located<'a>> {
    Some(Located { text: value.get_ref().as_str()?, span: value.span() })
}

/// A whole number that is not negative.
pub(crate) fn whole(value: &DeValue<'_>) -> Option<u64> {
    let integer = value.as_integer()?;
    u64::from_str_radix(integer.as_str(), integer.radix()).ok()
}

/// The TOML type of a value, with its article.
pub(crate) fn type_name(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a text",
        DeValue::Integer(_) => "an integer",
        DeValue::Float(_) => "a floating-point number",
        DeValue::Boolean(_) => "a boolean",
        DeValue::Datetime(_) => "a date or time",
        DeValue::Array(_) => "an array",
        DeValue::Table(_) => "a table",
    }
}
