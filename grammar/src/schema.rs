//! What a JSON Schema says that forbids nothing, and that llguidance would refuse for not knowing it.

use serde_json::{Map, Value, json};

/// Formats that are enforced, as far as a regular expression can. By JSON Schema any other one is a remark.
const FORMATS: [&str; 10] =
    ["date-time", "time", "date", "duration", "email", "hostname", "ipv4", "ipv6", "uuid", "uri"];

/// Keywords that forbid nothing.
const REMARKS: [&str; 8] =
    ["title", "description", "$comment", "default", "examples", "deprecated", "readOnly", "writeOnly"];

/// The schema without what forbids nothing: formats that are remarks, and `propertyNames` that every name satisfies (libraries write
/// `{"type": "string"}` there for each record).
pub(crate) fn without_remarks(schema: &Value) -> Value {
    let Value::Object(fields) = schema else { return schema.clone() };
    let kept = fields.iter().filter(|(keyword, value)| !is_remark(keyword, value));
    Value::Object(kept.map(|(keyword, value)| (keyword.clone(), of_keyword(keyword, value))).collect())
}

fn is_remark(keyword: &str, value: &Value) -> bool {
    match keyword {
        "format" => value.as_str().is_some_and(|format| !FORMATS.contains(&format)),
        "propertyNames" => match value {
            Value::Bool(allows_all) => *allows_all,
            Value::Object(fields) => fields.iter().all(|(keyword, value)| {
                REMARKS.contains(&keyword.as_str()) || (keyword == "type" && *value == json!("string"))
            }),
            _ => false,
        },
        _ => false,
    }
}

/// The value of a keyword, with the schemas in it.
fn of_keyword(keyword: &str, value: &Value) -> Value {
    let named = |fields: &Map<String, Value>| {
        fields.iter().map(|(name, schema)| (name.clone(), without_remarks(schema))).collect::<Map<_, _>>()
    };
    match (keyword, value) {
        ("properties" | "patternProperties" | "$defs" | "definitions" | "dependentSchemas", Value::Object(fields)) => {
            Value::Object(named(fields))
        }
        ("allOf" | "anyOf" | "oneOf" | "prefixItems" | "items", Value::Array(schemas)) => {
            schemas.iter().map(without_remarks).collect()
        }
        (
            "items"
            | "additionalItems"
            | "additionalProperties"
            | "unevaluatedItems"
            | "unevaluatedProperties"
            | "not"
            | "contains"
            | "propertyNames"
            | "if"
            | "then"
            | "else",
            schema,
        ) => without_remarks(schema),
        _ => value.clone(),
    }
}

#[cfg(test)]
mod tests {
    use gptoss_protocol::{AnswerShape, TextShape};

    use super::*;

    #[test]
    fn remarks_go_and_what_looks_like_them_stays() {
        let schema = json!({
            "type": "object",
            "propertyNames": {"type": "string", "description": "any"},
            "properties": {
                "format": {"type": "string", "format": "password", "minLength": 3},
                "day": {"type": "string", "format": "date"},
                "fixed": {"const": {"format": "password"}},
                "one": {"enum": [{"propertyNames": true}], "default": {"format": "password"}},
            },
            "additionalProperties": {"anyOf": [{"format": "binary"}, {"items": {"format": "emoji", "type": "string"}}]},
            "$defs": {"propertyNames": {"propertyNames": {"maxLength": 3}}},
        });
        assert_eq!(
            without_remarks(&schema),
            json!({
                "type": "object",
                "properties": {
                    "format": {"type": "string", "minLength": 3},
                    "day": {"type": "string", "format": "date"},
                    "fixed": {"const": {"format": "password"}},
                    "one": {"enum": [{"propertyNames": true}], "default": {"format": "password"}},
                },
                "additionalProperties": {"anyOf": [{}, {"items": {"type": "string"}}]},
                "$defs": {"propertyNames": {"propertyNames": {"maxLength": 3}}},
            })
        );
        assert_eq!(without_remarks(&json!(true)), json!(true));
    }

    /// The list is that of the library: what is on it can be enforced, and an unknown one would be refused.
    #[test]
    fn formats_that_are_kept_are_those_that_can_be_enforced() {
        let check = |format: &str| {
            let schema = json!({"type": "string", "format": format});
            crate::check(&AnswerShape { answer: Some(TextShape::JsonSchema(schema)), calls: Vec::new() })
        };
        for format in FORMATS {
            assert_eq!(check(format), Ok(()), "{format}");
        }
        assert_eq!(check("password"), Ok(()), "a remark");
        assert_eq!(without_remarks(&json!({"format": "iri"})), json!({}));
    }
}
