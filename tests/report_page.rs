//! The drill report's page: self-contained, escaped, accessible, and complete for every kind of drill.
//!
//! The pages are left in the target directory's `tmp/drill-reports`, to be looked at in a browser.

#[path = "../verify/tests/samples/mod.rs"]
mod samples;

use std::collections::BTreeMap;

use lifeboat::report::html;
use lifeboat_verify::report::{Report, summarize};

fn page(drill: samples::Drill) -> (Report, String) {
    let events = drill.events();
    let report = summarize(&events).expect("well-formed").with_run("20261122T040000Z-51c2");
    let page = html(&report, &events);
    (report, page)
}

fn all() -> BTreeMap<&'static str, samples::Drill> {
    BTreeMap::from([
        ("passed", samples::passed()),
        ("failed-check", samples::failed_check()),
        ("failed-step", samples::failed_step()),
        ("partial", samples::partial()),
        ("interrupted", samples::interrupted()),
        ("over-objective", samples::over_objective()),
        ("aborted", samples::aborted()),
        ("large", samples::large(200)),
        ("hostile", samples::hostile()),
    ])
}

#[test]
fn every_page_is_self_contained_and_accessible() {
    let directory = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("drill-reports");
    std::fs::create_dir_all(&directory).expect("create");
    for (name, drill) in all() {
        let (_, page) = page(drill);
        std::fs::write(directory.join(format!("{name}.html")), &page).expect("write");
        for forbidden in ["<script", "<link", "<img", "<iframe", "src=", "href=", "url(http", "@import", " on"] {
            let outside_text = strip_text(&page);
            assert!(!outside_text.contains(forbidden), "{name} contains {forbidden}");
        }
        assert!(page.starts_with("<!DOCTYPE html><html lang=\"en\">"), "{name}");
        assert_eq!(page.matches("<h1>").count(), 1, "{name}");
        assert_eq!(page.matches("<svg").count(), page.matches("role=\"img\"").count(), "{name}");
        assert!(page.matches("<thead").count() * 6 <= page.matches("scope=\"col\"").count(), "{name}");
        assert!(!page.contains("NaN") && !page.contains("inf\""), "{name}");
        assert_balanced(name, &page);
    }
}

/// Tags without what is written between them, so that escaped text cannot match.
fn strip_text(page: &str) -> String {
    page.split('<')
        .filter_map(|part| part.split_once('>'))
        .map(|(tag, _)| format!("<{}>", without_values(tag)))
        .collect()
}

/// A tag without the values of its attributes.
fn without_values(tag: &str) -> String {
    tag.split('"').step_by(2).collect()
}

/// Every element that is opened is closed, in order.
fn assert_balanced(name: &str, page: &str) {
    const VOID: [&str; 3] = ["meta", "br", "!DOCTYPE"];
    let mut open: Vec<&str> = Vec::new();
    for tag in page.split('<').skip(1).filter_map(|part| part.split_once('>')).map(|(tag, _)| tag) {
        let word = tag.split([' ', '\n']).next().unwrap_or_default();
        match word.strip_prefix('/') {
            Some(closing) => assert_eq!(open.pop(), Some(closing), "{name}"),
            None if !VOID.contains(&word) => open.push(word),
            None => {}
        }
    }
    assert!(open.is_empty(), "{name}: {open:?} left open");
}

#[test]
fn hostile_text_stays_text() {
    let (_, page) = page(samples::hostile());
    assert!(!page.contains("<script>"));
    assert!(!page.contains("<b>\""), "raw");
    assert!(page.contains("&lt;script&gt;alert(1)&lt;/script&gt;"));
}

#[test]
fn the_page_says_all_that_the_report_says() {
    for (name, drill) in all() {
        let (report, page) = page(drill);
        let shown = |text: &str| page.contains(&escaped(text));
        for deficiency in &report.deficiencies {
            assert!(shown(&deficiency.sentence), "{name}: {}", deficiency.sentence);
        }
        assert!(report.not_tested.iter().chain(&report.assumptions).all(|sentence| shown(sentence)), "{name}");
        assert!(report.checks.iter().all(|check| shown(&check.actual) && shown(&check.expected)), "{name}");
        assert!(report.steps.iter().all(|step| shown(&step.name)), "{name}");
        assert!(report.sources.iter().all(|row| shown(&row.point) && shown(&row.tree)), "{name}");
        assert!(shown(&report.events_sha256) && shown(&report.policy) && shown(&report.run), "{name}");
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[test]
fn a_thousand_steps_stay_one_picture() {
    let (report, page) = page(samples::large(1000));
    assert!(report.passed);
    let picture = &page
        [page.find("class=\"timeline\"").expect("a picture")..page.find("</svg></div><figcaption").expect("its end")];
    assert!(picture.contains("shorter steps"));
    assert!(picture.matches("class=\"label\"").count() <= 41, "rows that fit a printed page");
}

#[test]
fn a_failed_drill_shows_no_recovery_time() {
    let (_, page) = page(samples::failed_check());
    assert!(page.contains("This drill does not show that the system can be recovered."));
    assert!(page.contains("<p class=\"value\">not measured</p>"));
}
