//! Holds a document against the key tables: unknown, misplaced and missing keys, types, and the form of each text.

use std::ops::Range;
use std::sync::LazyLock;

use toml::Spanned;
use toml::de::DeValue;

use super::diagnostics::{Fault, Faults};
use super::form::{Form, one_of};
use super::keys::POLICY;
use super::nearest::nearest;
use super::node::{Located, Node, type_name, whole};
use super::table::{Case, Choice, Field, Need, Shape, Table};
use super::time::quoted;

/// Which keys a table may have, after its deciding key was looked at.
struct Allowed {
    table: &'static Table,
    /// `None` when it cannot be told: then the keys of every case are let pass.
    case: Option<&'static Case>,
}

impl Allowed {
    fn field(&self, key: &str) -> Option<&'static Field> {
        let fields = || self.table.fields.iter().chain(self.case.into_iter().flat_map(|case| case.fields));
        let undecided = || self.table.all_fields().find(|field| self.case.is_none() && field.name == key);
        fields().find(|field| field.name == key).or_else(undecided)
    }

    fn names(&self) -> Vec<&'static str> {
        let mut names: Vec<_> =
            self.table.all_fields().map(|field| field.name).filter(|name| self.field(name).is_some()).collect();
        let mut seen = std::collections::BTreeSet::new();
        names.retain(|name| seen.insert(*name));
        names
    }

    /// As in `a source of kind "files"`.
    fn title(&self) -> String {
        match (&self.table.choice, self.case) {
            (Choice::ByValue(key, _), Some(case)) => format!("{} with {key} = \"{}\"", self.table.title, case.word),
            (Choice::ByKey(_), Some(case)) => format!("{} with \"{}\"", self.table.title, case.word),
            _ => self.table.title.to_owned(),
        }
    }
}

/// Reports all that is wrong with the table itself and everything below it.
pub(crate) fn check(table: &'static Table, node: &Node<'_>, faults: &mut Faults) {
    let allowed = Allowed { table, case: decide(table, node, faults) };
    let mut meant = Vec::new();
    for (key, value) in node.table {
        match allowed.field(key.get_ref()) {
            Some(field) => check_value(field, value, faults),
            None => {
                meant.extend(refuse_key(&allowed, &Located { text: key.get_ref(), span: key.span() }, value, faults))
            }
        }
    }
    let fields = table.fields.iter().chain(allowed.case.into_iter().flat_map(|case| case.fields));
    let missing = fields.filter(|f| f.need == Need::Required && !node.has(f.name) && !meant.contains(&f.name));
    for field in missing {
        let message = format!("\"{}\" is missing in {}", field.name, allowed.title());
        faults.push(Fault::new(node.span.clone(), message).expected(field.shape.expected()));
    }
}

fn decide(table: &'static Table, node: &Node<'_>, faults: &mut Faults) -> Option<&'static Case> {
    match &table.choice {
        Choice::None => None,
        Choice::ByValue(key, cases) => {
            let word = node.text(key)?;
            cases.iter().find(|case| case.word == word.text)
        }
        Choice::ByKey(cases) => {
            let mut present: Vec<_> = cases.iter().filter(|case| node.has(case.word)).collect();
            present.sort_by_key(|case| node.key_span(case.word).start);
            match present.as_slice() {
                [case] => Some(case),
                [] => refuse_none(table, cases, node, faults),
                [first, second, ..] => {
                    let message = format!("{} has both \"{}\" and \"{}\"", table.title, first.word, second.word);
                    faults.push(Fault::new(node.key_span(second.word), message).expected(exactly_one(cases)));
                    None
                }
            }
        }
    }
}

fn refuse_none(table: &Table, cases: &[Case], node: &Node<'_>, faults: &mut Faults) -> Option<&'static Case> {
    // A slip in the deciding key is reported as an unknown key; to say that it is missing too would be noise.
    let slip = node.table.keys().any(|key| {
        let known = table.all_fields().any(|field| field.name == key.get_ref().as_ref());
        !known && nearest(key.get_ref(), cases.iter().map(|case| case.word)).is_some()
    });
    if !slip {
        let message = format!("{} does not say what to do", table.title);
        faults.push(Fault::new(node.span.clone(), message).expected(exactly_one(cases)));
    }
    None
}

fn exactly_one(cases: &[Case]) -> String {
    format!("exactly {}", one_of(&cases.iter().map(|case| case.word).collect::<Vec<_>>()))
}

/// Reports a key that may not stand here; answers the key that was meant.
fn refuse_key(
    allowed: &Allowed,
    key: &Located<'_>,
    value: &Spanned<DeValue<'_>>,
    faults: &mut Faults,
) -> Option<&'static str> {
    if looks_secret(key.text) {
        mask_unless_reference(value, faults);
    }
    let names = allowed.names();
    if let Some(field) = allowed.table.all_fields().find(|field| field.name == key.text) {
        if field.shape.is_secret() {
            mask_unless_reference(value, faults);
        }
        let message = format!("\"{}\" does not belong to {}", field.name, allowed.title());
        let homes: Vec<_> = homes_of(allowed.table, field.name).map(|word| format!("\"{word}\"")).collect();
        let expected = format!("{} (\"{}\" belongs to {})", one_of(&names), field.name, homes.join(", "));
        faults.push(Fault::new(key.span.clone(), message).expected(expected));
        return None;
    }
    let meant = nearest(key.text, names.iter().copied());
    let shown = if key.text.is_empty() { "empty key".to_owned() } else { format!("unknown key {}", quoted(key.text)) };
    let fault = Fault::new(key.span.clone(), format!("{shown} in {}", allowed.title()));
    faults.push(fault.expected(one_of(&names)).suggest(meant.map(str::to_owned)));
    names.into_iter().find(|name| Some(*name) == meant)
}

fn homes_of(table: &'static Table, key: &str) -> impl Iterator<Item = &'static str> {
    let homes = table.choice.cases().iter().filter(move |case| case.fields.iter().any(|field| field.name == key));
    homes.map(|case| case.word)
}

fn check_value(field: &'static Field, value: &Spanned<DeValue<'_>>, faults: &mut Faults) {
    match (&field.shape, value.get_ref()) {
        (Shape::Text(form), DeValue::String(text)) => check_text(field.name, *form, text, value.span(), faults),
        (Shape::Texts(form, least), DeValue::Array(items)) => {
            for item in items.iter() {
                match item.get_ref() {
                    DeValue::String(text) => check_text(field.name, *form, text, item.span(), faults),
                    other => wrong_type(field.name, other, item.span(), form.expected(), faults),
                }
            }
            refuse_fewer(field, items.len(), *least, value.span(), faults);
        }
        (Shape::Count(min, max), found @ DeValue::Integer(digits)) => {
            if !whole(found).is_some_and(|n| (*min..=*max).contains(&n)) {
                let message =
                    format!("{} is out of range for \"{}\"", quoted(digits.as_str()).trim_matches('"'), field.name);
                faults.push(Fault::new(value.span(), message).expected(field.shape.expected()));
            }
        }
        (Shape::Flag, DeValue::Boolean(_)) | (Shape::Yes, DeValue::Boolean(true)) => {}
        (Shape::Yes, DeValue::Boolean(false)) => {
            let message = format!("\"{}\" can only be true", field.name);
            faults.push(Fault::new(value.span(), message).expected("true, or leave the key out"));
        }
        (Shape::Table(table), DeValue::Table(inner)) => check(table, &Node::new(inner, value.span()), faults),
        (Shape::Named(table), DeValue::Table(inner)) => check_named(field, table, inner, faults),
        (Shape::Tables(table, least), DeValue::Array(items)) => {
            for item in items.iter() {
                match item.get_ref() {
                    DeValue::Table(inner) => check(table, &Node::new(inner, item.span()), faults),
                    other => wrong_type(field.name, other, item.span(), format!("a table: {}", table.title), faults),
                }
            }
            refuse_fewer(field, items.len(), *least, value.span(), faults);
        }
        (shape, found) => {
            if shape.is_secret() {
                faults.mask(value.span());
            }
            wrong_type(field.name, found, value.span(), shape.expected(), faults);
        }
    }
}

fn check_named(field: &Field, table: &'static Table, inner: &toml::de::DeTable<'_>, faults: &mut Faults) {
    for (name, value) in inner {
        if let Err(misfit) = Form::Name.check(name.get_ref()) {
            faults.push(Fault::misfit(name.span(), misfit).expected(Form::Name.expected()));
        }
        match value.get_ref() {
            DeValue::Table(plan) => check(table, &Node::new(plan, value.span()), faults),
            other => wrong_type(field.name, other, value.span(), format!("a table: {}", table.title), faults),
        }
    }
}

fn refuse_fewer(field: &Field, found: usize, least: usize, span: Range<usize>, faults: &mut Faults) {
    if found < least {
        faults.push(Fault::new(span, format!("\"{}\" is empty", field.name)).expected(field.shape.expected()));
    }
}

fn check_text(name: &str, form: Form, text: &str, span: Range<usize>, faults: &mut Faults) {
    let Err(mut misfit) = form.check(text) else { return };
    if matches!(form, Form::Words(_)) {
        misfit.message = format!("unknown {name} {}", quoted(text));
    }
    let holds_credentials = form == Form::Url && text.contains('@');
    if matches!(form, Form::Secret | Form::Variable) || holds_credentials {
        faults.mask(span.clone());
    }
    faults.push(Fault::misfit(span, misfit).expected(form.expected()));
}

fn wrong_type(name: &str, found: &DeValue<'_>, span: Range<usize>, expected: String, faults: &mut Faults) {
    // A number where a text belongs is nearly always a text without its quotes.
    let meant = match found {
        DeValue::Integer(digits) if expected == Form::Expectation.expected() => Some(digits.as_str().to_owned()),
        _ => None,
    };
    let fault = Fault::new(span, format!("{} stands for \"{name}\"", type_name(found)));
    faults.push(fault.expected(expected).suggest(meant));
}

fn mask_unless_reference(value: &Spanned<DeValue<'_>>, faults: &mut Faults) {
    let is_reference = value.get_ref().as_str().is_some_and(|text| Form::Secret.check(text).is_ok());
    if !is_reference {
        faults.mask(value.span());
    }
}

/// Names of all keys whose value is a secret.
static SECRET_KEYS: LazyLock<Vec<&'static str>> = LazyLock::new(|| {
    let mut names = Vec::new();
    collect_secret_keys(&POLICY, &mut names);
    names
});

fn collect_secret_keys(table: &'static Table, names: &mut Vec<&'static str>) {
    for field in table.all_fields() {
        match &field.shape {
            shape if shape.is_secret() => names.push(field.name),
            Shape::Table(inner) | Shape::Tables(inner, _) | Shape::Named(inner) => collect_secret_keys(inner, names),
            _ => {}
        }
    }
}

/// Whether what stands after this key might be a secret, even when the key is misspelt or unknown.
pub(crate) fn looks_secret(key: &str) -> bool {
    if key.len() < 3 {
        return false; // nothing that short is near any of them
    }
    let lower = key.to_lowercase();
    ["pass", "pwd", "secret", "token", "credential", "dsn"].iter().any(|word| lower.contains(word))
        || nearest(&lower, SECRET_KEYS.iter().copied()).is_some()
}
