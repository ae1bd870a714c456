//! The words themselves: what people read when a policy is wrong. Reviewed as text, because text is what it is.

use lifeboat::ground::{Failure, FailureKind};

use super::base::{BASE, errors, with};

#[test]
fn several_mistakes_at_once() {
    let text = BASE
        .replace("timezone = \"Europe/Paris\"", "timezone = \"Paris\"")
        .replace("rpo = \"1h\"", "rpo = \"1 hour\"")
        .replace("path = \"/mnt/dr/shop\"", "path = \"/srv/shop/dr\"")
        .replace("kind = \"sqlite\"", "kind = \"sqllite\"")
        .replace("daily 00:30", "daily 25:00")
        .replace("restore = \"orders\"", "restore = \"order\"")
        .replace("after = [\"app\", \"db\"]", "after = [\"app\", \"database\"]");
    insta::assert_snapshot!(errors(&text));
}

#[test]
fn a_secret_written_as_a_value() {
    let text = with("\"file:/etc/lifeboat/shop.password\"", "\"hunter2\" # my password");
    insta::assert_snapshot!(errors(&text));
}

#[test]
fn a_cycle() {
    let text = with("to = \"www/app\"", "to = \"www/app\"\nafter = [\"start\"]");
    insta::assert_snapshot!(errors(&text));
}

#[test]
fn keys_that_are_unknown_missing_or_misplaced() {
    let text = BASE
        .replace("exclude =", "exlude =")
        .replace("dsn = \"env:ACCOUNTS_DSN\"", "path = \"/var/lib/accounts\"")
        .replace("status = 200", "sql = \"select 1\"");
    insta::assert_snapshot!(errors(&text));
}

#[test]
fn no_toml_at_all() {
    insta::assert_snapshot!(errors("system: shop\nsources:\n  - /srv\n"));
}

#[test]
fn a_quote_that_is_not_closed() {
    insta::assert_snapshot!(errors(&with("kind = \"files\"", "kind = \"files")));
}

#[test]
fn an_empty_file() {
    insta::assert_snapshot!(errors(""));
}

#[test]
fn an_impossible_cron_line_and_a_drill_that_proves_nothing() {
    let start = BASE.find("[[plan.drill.check]]").expect("checks");
    insta::assert_snapshot!(errors(&BASE[..start].replace("0 4 1 * *", "0 0 30 2 *")));
}

#[test]
fn carets_stand_under_what_is_meant() {
    let long = format!("{}\u{1F600}", "x".repeat(300));
    let text =
        with("paths = [\"/srv/shop\"]", &format!("paths = [\"/{long}\", \t\"\u{e9}t\u{e9}\", \"/{long}\"] # \u{200b}"));
    insta::assert_snapshot!(errors(&text));
}

#[test]
fn all_of_it_is_wrong_input() {
    let failure = Failure::from(errors("system = 1"));
    assert_eq!(failure.kind, FailureKind::WrongInput);
    assert!(failure.message.starts_with("shop.toml:1:1: "), "{failure}");
}
