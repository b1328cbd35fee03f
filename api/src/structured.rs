//! The form of an answer as vLLM and llama.cpp have it asked for, beside `response_format`: `structured_outputs`, the older
//! `guided_…`, and `json_schema`.

use gptoss_protocol::TextShape;
use serde_json::Value;

use crate::error::ApiError;
use crate::prompt::{Draw, wrong};
use crate::shape::Format;

/// Reads the form that a field of this name has.
type Read = fn(&str, &Value) -> Result<Format, ApiError>;

/// Fields of a request.
const FIELDS: [(&str, Read); 5] = [
    ("guided_json", schema),
    ("guided_regex", regex),
    ("guided_choice", choice),
    ("guided_grammar", lark),
    ("json_schema", schema),
];

/// Fields of `structured_outputs`.
const OUTPUTS: [(&str, Read); 5] =
    [("json", schema), ("regex", regex), ("choice", choice), ("grammar", lark), ("json_object", json_object)];

/// All forms that such fields ask for.
pub(crate) fn structured(fields: &Draw) -> Result<Vec<Format>, ApiError> {
    let given = FIELDS.iter().filter_map(|(name, read)| Some((name, read, fields.get(name)?)));
    let mut formats = given.map(|(name, read, value)| read(name, value)).collect::<Result<Vec<_>, _>>()?;
    let Some(outputs) = fields.get("structured_outputs") else { return Ok(formats) };
    let expected = "json, regex, choice, grammar or json_object";
    let Some(given) = outputs.as_object() else {
        return Err(wrong("structured_outputs", outputs, &format!("an object with {expected}")));
    };
    for (name, value) in given.iter().filter(|(_, value)| !value.is_null()) {
        let field = format!("structured_outputs.{name}");
        match OUTPUTS.iter().find(|(known, _)| known == name) {
            Some((_, read)) => formats.push(read(&field, value)?),
            // What switches something off that is not there asks for nothing.
            None if *value == false => {}
            None => return Err(ApiError::invalid(&field, format!("{field} is not served, expected {expected}"))),
        }
    }
    Ok(formats)
}

/// The only form of several that is one.
pub(crate) fn one_of(format: Format, others: Vec<Format>) -> Result<Format, ApiError> {
    others.into_iter().try_fold(format, |one, other| match (one.field(), other.field()) {
        (Some(first), Some(second)) => {
            let message = format!("{first} and {second} both say what form the answer has, expected one of them");
            Err(ApiError::invalid(second, message))
        }
        (Some(_), None) => Ok(one),
        (None, _) => Ok(other),
    })
}

/// A JSON Schema, also as the text of one.
fn schema(field: &str, value: &Value) -> Result<Format, ApiError> {
    let Value::String(text) = value else { return Format::of_schema(field, value) };
    let read = serde_json::from_str(text).map_err(|error| {
        let message = format!("{field} is a text that is no JSON, expected a JSON Schema: {error}");
        ApiError::invalid(field, message)
    })?;
    Format::of_schema(field, &read)
}

fn regex(field: &str, value: &Value) -> Result<Format, ApiError> {
    let text = value.as_str().ok_or_else(|| wrong(field, value, "a regular expression as a text"))?;
    Ok(Format::untold(field, TextShape::Regex(text.to_owned())))
}

fn lark(field: &str, value: &Value) -> Result<Format, ApiError> {
    let text = value.as_str().ok_or_else(|| wrong(field, value, "a Lark grammar as a text"))?;
    Ok(Format::untold(field, TextShape::Lark(text.to_owned())))
}

/// One of several texts.
fn choice(field: &str, value: &Value) -> Result<Format, ApiError> {
    let expected = "a list of texts, of which the answer is to be one";
    let texts: Option<Vec<&str>> = value.as_array().and_then(|texts| texts.iter().map(Value::as_str).collect());
    match texts.filter(|texts| !texts.is_empty()) {
        Some(texts) => {
            let alternatives: Vec<String> = texts.into_iter().map(literal).collect();
            Ok(Format::untold(field, TextShape::Regex(alternatives.join("|"))))
        }
        None => Err(ApiError::invalid(field, format!("{field} is to be {expected}"))),
    }
}

fn json_object(field: &str, value: &Value) -> Result<Format, ApiError> {
    match value.as_bool() {
        Some(true) => Ok(Format::untold(field, TextShape::JsonObject)),
        Some(false) => Ok(Format::untold(field, TextShape::Any)),
        None => Err(wrong(field, value, "true or false")),
    }
}

/// The regular expression that matches this text and no other.
fn literal(text: &str) -> String {
    let is_special = |c: &char| r"\.+*?()|[]{}^$#&-~".contains(*c);
    text.chars().flat_map(|c| is_special(&c).then_some('\\').into_iter().chain([c])).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::{from_value, json};

    use super::*;
    use crate::prompt::prompt;
    use crate::shape::Wanted;
    use crate::tools::Choice;

    /// The shape of the answer that such fields make.
    fn shape(fields: Value) -> Result<Option<TextShape>, ApiError> {
        let free = Format::read("response_format", fields.get("response_format"))?;
        let format = one_of(free, structured(&from_value::<Draw>(fields).expect("fields"))?)?;
        let wanted = Wanted { tools: Vec::new(), choice: Choice::default(), format };
        Ok(wanted.apply(prompt(Vec::new(), String::new()))?.shape.and_then(|shape| shape.answer))
    }

    #[test]
    fn forms_of_other_servers_are_forms_of_this_one() {
        let object = json!({"type": "object", "properties": {}});
        let schema = Some(TextShape::JsonSchema(object.clone()));
        let lark = "start: \"x\"\n";
        let numbers = Some(TextShape::Regex("[0-9]+".into()));
        let choice = Some(TextShape::Regex(r"a\.b|c|\(".into()));
        for (fields, want) in [
            (json!({"structured_outputs": {"json": object, "regex": null, "disable_fallback": false}}), schema.clone()),
            (json!({"structured_outputs": {"json": object.to_string()}}), schema.clone()),
            (json!({"guided_json": object, "response_format": {"type": "text"}}), schema.clone()),
            (json!({"json_schema": object}), schema),
            (json!({"structured_outputs": {"regex": "[0-9]+"}}), numbers.clone()),
            (json!({"guided_regex": "[0-9]+"}), numbers),
            (json!({"structured_outputs": {"choice": ["a.b", "c", "("]}}), choice.clone()),
            (json!({"guided_choice": ["a.b", "c", "("]}), choice),
            (json!({"structured_outputs": {"grammar": lark}}), Some(TextShape::Lark(lark.into()))),
            (json!({"guided_grammar": lark}), Some(TextShape::Lark(lark.into()))),
            (json!({"structured_outputs": {"json_object": true}}), Some(TextShape::JsonObject)),
            (json!({"structured_outputs": {"json_object": false}}), None),
            (json!({"structured_outputs": null, "guided_json": null}), None),
        ] {
            assert_eq!(shape(fields.clone()), Ok(want), "{fields}");
        }
    }

    #[test]
    fn what_cannot_be_is_refused_by_name() {
        let bad = json!({"not": {"type": "null"}});
        for (fields, param, word) in [
            (json!({"structured_outputs": {"json": bad}}), "structured_outputs.json", "\"not\""),
            (json!({"structured_outputs": {"json": "{"}}), "structured_outputs.json", "no JSON"),
            (json!({"guided_json": true}), "guided_json", "JSON Schema"),
            (json!({"json_schema": bad}), "json_schema", "\"not\""),
            (json!({"guided_regex": "("}), "guided_regex", "regular expression"),
            (json!({"structured_outputs": {"regex": 5}}), "structured_outputs.regex", "text"),
            (json!({"guided_choice": []}), "guided_choice", "list of texts"),
            (json!({"guided_choice": ["a", 5]}), "guided_choice", "list of texts"),
            (json!({"guided_grammar": "root ::= \"x\""}), "guided_grammar", "Lark"),
            (json!({"structured_outputs": {"structural_tag": "x"}}), "structured_outputs.structural_tag", "choice"),
            (json!({"structured_outputs": "json"}), "structured_outputs", "object"),
            (json!({"structured_outputs": {"json_object": 1}}), "structured_outputs.json_object", "true"),
            (
                json!({"guided_regex": "a", "response_format": {"type": "json_object"}}),
                "guided_regex",
                "response_format and guided_regex",
            ),
            (
                json!({"structured_outputs": {"regex": "a", "choice": ["a"]}}),
                "structured_outputs.choice",
                "one of them",
            ),
        ] {
            let error = shape(fields.clone()).expect_err(param);
            assert_eq!(error.param.as_deref(), Some(param), "{fields}: {error}");
            assert!(error.message.contains(param) && error.message.contains(word), "{error}");
        }
    }
}
