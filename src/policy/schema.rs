//! The JSON Schema of a policy (draft 2020-12), made from the key tables; editors complete and check with it.

use serde_json::{Map, Value, json};

use super::form::Form;
use super::keys::POLICY;
use super::table::{Case, Choice, Field, Need, Shape, Table};

/// The JSON Schema of a policy.
///
/// It holds what can be said key by key; what spans keys (names that refer to each other, paths inside each other)
/// only [`super::parse`] can tell.
pub fn schema() -> Value {
    let mut schema = table_schema(&POLICY);
    if let Some(object) = schema.as_object_mut() {
        object.insert("$schema".to_owned(), json!("https://json-schema.org/draft/2020-12/schema"));
        object.insert("title".to_owned(), json!("lifeboat policy"));
    }
    schema
}

fn table_schema(table: &'static Table) -> Value {
    let cases: Vec<Value> = table.choice.cases().iter().map(|case| case_schema(table, case)).collect();
    if cases.is_empty() {
        return object_schema(table.doc, table.fields.iter(), None);
    }
    json!({ "type": "object", "description": table.doc, "oneOf": cases })
}

fn case_schema(table: &'static Table, case: &'static Case) -> Value {
    let decided = match table.choice {
        Choice::ByValue(key, _) => Some((key, case.word)),
        _ => None,
    };
    object_schema(case.doc, table.fields.iter().chain(case.fields), decided)
}

fn object_schema<'f>(doc: &str, fields: impl Iterator<Item = &'f Field>, decided: Option<(&str, &str)>) -> Value {
    let (mut properties, mut required) = (Map::new(), Vec::new());
    for field in fields {
        let mut property = shape_schema(&field.shape);
        if let Some((_, word)) = decided.filter(|(key, _)| *key == field.name) {
            property = json!({ "const": word });
        }
        describe(&mut property, field);
        properties.insert(field.name.to_owned(), property);
        if field.need == Need::Required {
            required.push(field.name);
        }
    }
    let mut object = json!({
        "type": "object", "description": doc, "properties": properties, "additionalProperties": false,
    });
    if !required.is_empty() {
        object["required"] = json!(required);
    }
    object
}

fn describe(property: &mut Value, field: &Field) {
    let default = match field.need {
        Need::Default(words) => format!(" Default: {words}."),
        _ => String::new(),
    };
    property["description"] = json!(format!("{}{default}", field.doc));
}

fn shape_schema(shape: &Shape) -> Value {
    match shape {
        Shape::Text(form) => text_schema(*form),
        Shape::Texts(form, least) => json!({ "type": "array", "items": text_schema(*form), "minItems": least }),
        Shape::Count(min, max) => json!({ "type": "integer", "minimum": min, "maximum": max }),
        Shape::Flag => json!({ "type": "boolean" }),
        Shape::Yes => json!({ "const": true }),
        Shape::Table(table) => table_schema(table),
        Shape::Tables(table, least) => json!({ "type": "array", "items": table_schema(table), "minItems": least }),
        Shape::Named(table) => json!({
            "type": "object",
            "propertyNames": { "pattern": Form::Name.pattern() },
            "additionalProperties": table_schema(table),
        }),
    }
}

fn text_schema(form: Form) -> Value {
    match (form, form.pattern()) {
        (Form::Words(words), _) => json!({ "enum": words }),
        (_, Some(pattern)) => json!({ "type": "string", "pattern": pattern }),
        (Form::Any, None) => json!({ "type": "string" }),
        (_, None) => json!({ "type": "string", "minLength": 1 }),
    }
}
