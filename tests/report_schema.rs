//! `docs/drill-report.schema.json` and `report.json` say the same: every report is valid, and the schema names
//! exactly the fields that the code writes.

#[path = "../verify/tests/samples/mod.rs"]
mod samples;

use lifeboat_verify::report::summarize;
use serde_json::{Value, json};

fn schema() -> Value {
    serde_json::from_str(include_str!("../docs/drill-report.schema.json")).expect("the schema is JSON")
}

fn written(drill: samples::Drill) -> Value {
    let report = summarize(&drill.events()).expect("well-formed").with_run("20261122T040000Z-51c2");
    serde_json::from_slice(&report.to_bytes()).expect("JSON")
}

fn all() -> Vec<Value> {
    let drills = [
        samples::passed(),
        samples::failed_check(),
        samples::failed_step(),
        samples::partial(),
        samples::interrupted(),
        samples::over_objective(),
        samples::aborted(),
        samples::large(20),
        samples::hostile(),
    ];
    drills.map(written).into()
}

#[test]
fn every_report_is_valid() {
    let validator = jsonschema::validator_for(&schema()).expect("the schema is a schema");
    for report in all() {
        let errors: Vec<String> = validator.iter_errors(&report).map(|error| error.to_string()).collect();
        assert!(errors.is_empty(), "{errors:?}");
    }
}

#[test]
fn a_field_more_less_or_of_another_type_is_not_valid() {
    let validator = jsonschema::validator_for(&schema()).expect("the schema is a schema");
    let report = written(samples::partial());
    for key in report.as_object().expect("an object").keys() {
        let mut without = report.clone();
        without.as_object_mut().expect("an object").remove(key);
        assert!(!validator.is_valid(&without), "{key} is not required");
        let mut other = report.clone();
        other[key] = json!([{ "no": "such thing" }]);
        assert!(!validator.is_valid(&other), "{key} may be anything");
    }
    let mut more = report.clone();
    more["reviewer"] = "somebody".into();
    assert!(!validator.is_valid(&more));
}

/// Rows too: the keys of each object in a report are the properties of its schema.
#[test]
fn rows_have_exactly_the_fields_of_the_schema() {
    let schema = schema();
    let report = written(samples::interrupted());
    let keys = |value: &Value| value.as_object().map(|map| map.keys().cloned().collect::<Vec<_>>());
    for list in ["sources", "steps", "checks", "interruptions"] {
        let documented = keys(&schema["properties"][list]["items"]["properties"]);
        assert_eq!(keys(&report[list][0]), documented, "{list}");
    }
    let failed = written(samples::failed_step());
    let documented = keys(&schema["properties"]["deficiencies"]["items"]["properties"]);
    assert_eq!(keys(&failed["deficiencies"][0]), documented);
    for object in ["isolation", "clean_up"] {
        assert_eq!(keys(&report[object]), keys(&schema["properties"][object]["anyOf"][1]["properties"]), "{object}");
    }
}

/// The guide for auditors explains every field by its name.
#[test]
fn the_guide_names_every_field() {
    let guide = include_str!("../docs/drill-report.md");
    for key in schema()["properties"].as_object().expect("an object").keys() {
        assert!(guide.contains(&format!("`{key}`")), "docs/drill-report.md does not explain {key}");
    }
}
