//! Whatever is thrown at the reader, it answers with a policy or with mistakes that lie within the text.

use std::sync::LazyLock;

use lifeboat::policy;
use proptest::prelude::*;

use super::base::BASE;

/// Fails when a mistake points outside the text, or when mistakes are out of order.
fn holds_its_promises(text: &str) -> Result<(), TestCaseError> {
    let Err(errors) = policy::parse("p.toml", text) else { return the_schema_agrees(text) };
    prop_assert!(!errors.errors.is_empty());
    let lines: Vec<&str> = text.split('\n').collect();
    for error in &errors.errors {
        prop_assert!((1..=lines.len()).contains(&error.line), "line {} of {}", error.line, lines.len());
        let length = lines[error.line - 1].chars().count();
        prop_assert!((1..=length + 1).contains(&error.column), "column {} of {length}", error.column);
        prop_assert!(text.get(error.span.clone()).is_some());
    }
    prop_assert!(errors.errors.is_sorted_by_key(|error| error.span.start));
    let told = errors.to_string();
    let heads = told.lines().filter(|line| line.starts_with("p.toml:")).count();
    prop_assert_eq!(heads, errors.errors.len());
    Ok(())
}

/// What the reader accepts, an editor with the schema must not call wrong.
fn the_schema_agrees(text: &str) -> Result<(), TestCaseError> {
    static SCHEMA: LazyLock<jsonschema::Validator> =
        LazyLock::new(|| jsonschema::validator_for(&policy::schema()).expect("the schema is a schema"));
    let document: serde_json::Value = toml::from_str(text).expect("a policy is TOML");
    let errors: Vec<String> = SCHEMA.iter_errors(&document).map(|error| error.to_string()).collect();
    prop_assert!(errors.is_empty(), "{errors:?}\n{text}");
    Ok(())
}

/// The base with a stretch of it replaced.
fn mutated(from: usize, length: usize, insert: &str) -> String {
    let from = BASE.floor_char_boundary(from % BASE.len());
    let to = BASE.floor_char_boundary((from + length).min(BASE.len()));
    format!("{}{insert}{}", &BASE[..from], &BASE[to..])
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_text(text in any::<String>()) {
        holds_its_promises(&text)?;
    }

    #[test]
    fn text_that_looks_like_toml(text in "([a-z]{1,6}|\\[+|\\]+|=|\"|'|\\{|\\}|,|\\.|#|\n|\r\n|\t| |[0-9]{1,4}|\u{e9}|\u{1F600}|\0){0,60}") {
        holds_its_promises(&text)?;
    }

    #[test]
    fn a_policy_with_a_stretch_replaced(from in 0usize..10_000, length in 0usize..60, insert in "\\PC{0,20}") {
        holds_its_promises(&mutated(from, length, &insert))?;
    }

    #[test]
    fn a_policy_with_another_value(line in 0usize..200, value in "[ -~\u{e0}-\u{ff}]{0,30}") {
        let quoted = toml::Value::String(value).to_string();
        let lines: Vec<&str> = BASE.lines().collect();
        let chosen = line % lines.len();
        let changed: Vec<String> = lines.iter().enumerate().map(|(number, line)| match line.split_once(" = ") {
            Some((key, _)) if number == chosen => format!("{key} = {quoted}"),
            _ => (*line).to_owned(),
        }).collect();
        holds_its_promises(&changed.join("\n"))?;
    }

    #[test]
    fn a_policy_with_another_value_that_may_well_be_valid(
        (key, value) in prop_oneof![
            ("(system|rpo|window|backup|online|expect|to)", "[a-z0-9]{1,4}"),
            ("(rpo|rto|online|after)", "([0-9]{1,3}y)?([0-9]{1,3}d)?([0-9]{1,3}h)?"),
            ("backup", "(daily [0-2][0-9]:[0-5][0-9]|every [1-9][0-9]?[hms]|[0-5]?[0-9] [0-9] [*] [*] (MON|[*]|[0-7]))"),
            ("window", "[0-2][0-9]:[0-5][0-9]-[0-2][0-9]:[0-5][0-9]"),
            ("expect", "[<>=!]{0,2} ?[a-z0-9.-]{0,5}"),
            ("(path|file|tcp|http|restore|script|on)", "(/|http://)?[a-z./]{1,8}(:[0-9]{1,6})?"),
        ]
    ) {
        let key = format!("{key} = \"");
        let Some(at) = BASE.find(&key) else { return Ok(()) };
        let start = at + key.len();
        let end = start + BASE[start..].find('"').expect("a closing quote");
        holds_its_promises(&format!("{}{value}{}", &BASE[..start], &BASE[end..]))?;
    }

    #[test]
    fn any_schedule(cadence in "(daily |every )?[0-9*,/LW#?A-Z -]{0,24}") {
        let _ = policy::parse_cadence(&cadence);
    }

    #[test]
    fn a_duration_that_is_shown_is_read_back(seconds in 1u64..31_536_000_000) {
        let duration = std::time::Duration::from_secs(seconds);
        let shown = policy::format_duration(duration).replace(' ', "");
        prop_assert_eq!(policy::parse_duration(&shown).map_err(|misfit| misfit.message), Ok(duration));
    }
}

#[test]
fn deep_nesting_is_refused_and_does_not_overflow() {
    let deep = format!("a = {}", "[".repeat(20_000));
    assert!(policy::parse("p.toml", &deep).is_err());
    let tables = format!("a = {}", "{ a = ".repeat(20_000));
    assert!(policy::parse("p.toml", &tables).is_err());
}
