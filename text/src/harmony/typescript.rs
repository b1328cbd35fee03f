//! JSON Schema to the TypeScript-like notation in which gpt-oss was shown its tools.
//!
//! It is the notation of OpenAI's renderer, omissions included, because that is what the model knows: `integer` is
//! `number`; `null`, `anyOf`, `allOf`, `const` and `$ref` are `any`; only strings are listed of an `enum` and of
//! examples. It differs where that renderer breaks the notation or repeats itself: here every line of a text is a
//! comment, an empty text is none, and the description of an object among the variants of `oneOf` is written once.

use serde_json::{Map, Value};

/// One more level of nesting.
const INDENT: &str = "    ";

/// The parameter list of a function whose arguments `schema` describes: `_: {…}`.
pub(super) fn parameters(schema: &Value) -> String {
    format!("_: {}", type_of(schema, ""))
}

/// Appends `text` as comment lines; nothing when it is empty.
pub(super) fn push_comment(out: &mut String, text: &str, indent: &str) {
    for line in text.lines() {
        out.push_str(&format!("{indent}// {line}\n"));
    }
}

/// The type that `schema` describes. Lines after the first begin with `indent`.
fn type_of(schema: &Value, indent: &str) -> String {
    if let Some(variants) = schema.get("oneOf").and_then(Value::as_array) {
        return union_of(variants, indent);
    }
    match schema.get("type") {
        Some(Value::Array(names)) if !names.is_empty() => {
            let name = |name| if name == "integer" { "number" } else { name };
            names.iter().filter_map(Value::as_str).map(name).collect::<Vec<_>>().join(" | ")
        }
        Some(Value::String(name)) => match name.as_str() {
            "object" => object_of(schema, indent),
            "array" => match schema.get("items") {
                Some(items) => format!("{}[]", type_of(items, indent)),
                None => "Array<any>".to_owned(),
            },
            "string" => string_of(schema),
            "number" | "integer" => "number".to_owned(),
            "boolean" => "boolean".to_owned(),
            _ => "any".to_owned(),
        },
        _ => "any".to_owned(),
    }
}

fn string_of(schema: &Value) -> String {
    let listed = schema.get("enum").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let listed: Vec<String> = listed.iter().filter_map(Value::as_str).map(|value| format!("\"{value}\"")).collect();
    if listed.is_empty() { "string".to_owned() } else { listed.join(" | ") }
}

/// One variant to a line, with what is said about it behind it.
fn union_of(variants: &[Value], indent: &str) -> String {
    let mut out = String::new();
    for variant in variants {
        out.push_str(&format!("\n{indent} | {}", nullable(type_of(variant, &format!("{indent}   ")), variant)));
        let mut remarks = Vec::new();
        // An object has its description in front of its brace.
        if variant.get("type").and_then(Value::as_str) != Some("object") {
            remarks.extend(text_at(variant, "description").map(str::to_owned));
        }
        remarks.extend(variant.get("default").map(|value| format!("default: {}", default_text(value, variant))));
        if !remarks.is_empty() {
            out.push_str(&format!(" // {}", remarks.join(" ")));
        }
    }
    out
}

fn object_of(schema: &Value, indent: &str) -> String {
    let mut out = String::new();
    push_comment(&mut out, text_at(schema, "description").unwrap_or_default(), indent);
    out.push_str("{\n");
    let none = Map::new();
    let properties = schema.get("properties").and_then(Value::as_object).unwrap_or(&none);
    let required = schema.get("required").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    for (name, property) in properties {
        let is_required = required.iter().any(|required| required.as_str() == Some(name));
        push_property(&mut out, name, property, is_required, indent);
    }
    out.push_str(&format!("{indent}}}"));
    out
}

fn push_property(out: &mut String, name: &str, property: &Value, is_required: bool, indent: &str) {
    if let Some(title) = text_at(property, "title").filter(|title| !title.is_empty()) {
        out.push_str(&format!("{indent}// {title}\n{indent}//\n"));
    }
    let description = text_at(property, "description").unwrap_or_default();
    let default = property.get("default").map(|value| format!("// default: {}", default_text(value, property)));
    let optional = if is_required { "" } else { "?" };
    if property.get("oneOf").is_some_and(Value::is_array) {
        push_examples(out, property, indent);
        push_comment(out, description, indent);
        out.extend(default.map(|default| format!("{indent}{default}\n")));
        let variants = type_of(property, indent);
        out.push_str(&format!("{indent}{name}{optional}:{variants}\n{indent},\n"));
    } else {
        push_comment(out, description, indent);
        push_examples(out, property, indent);
        let type_text = nullable(type_of(property, &format!("{indent}{INDENT}")), property);
        let default = default.map(|default| format!(" {default}")).unwrap_or_default();
        out.push_str(&format!("{indent}{name}{optional}: {type_text},{default}\n"));
    }
}

/// The examples that are strings.
fn push_examples(out: &mut String, property: &Value, indent: &str) {
    let examples = property.get("examples").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let examples: Vec<&str> = examples.iter().filter_map(Value::as_str).collect();
    if !examples.is_empty() {
        out.push_str(&format!("{indent}// Examples:\n"));
    }
    for example in examples {
        out.push_str(&format!("{indent}// - \"{example}\"\n"));
    }
}

/// Adds `null` to a type whose schema allows it.
fn nullable(type_text: String, schema: &Value) -> String {
    let allowed = schema.get("nullable").and_then(Value::as_bool) == Some(true);
    if allowed && !type_text.contains("null") { format!("{type_text} | null") } else { type_text }
}

/// A default value: strings quoted, unless they are one of an `enum`.
fn default_text(value: &Value, schema: &Value) -> String {
    match value {
        Value::String(text) if schema.get("enum").is_some() => text.clone(),
        Value::String(text) => format!("\"{text}\""),
        value => value.to_string(),
    }
}

fn text_at<'a>(schema: &'a Value, key: &str) -> Option<&'a str> {
    schema.get(key).and_then(Value::as_str)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// Where the recorded notation would be broken or repeat itself.
    #[test]
    fn every_line_of_a_text_is_a_comment_and_stands_once() {
        let schema = json!({"type": "object", "description": "one\ntwo", "properties": {
            "a": {"type": "string", "description": "three\n\nfour", "title": "", "examples": [1, "x"]},
            "b": {"type": "number", "description": ""},
            "c": {"oneOf": [{"type": "object", "description": "five", "properties": {}}, {"type": "string"}]},
        }});
        let expected = "_: // one\n// two\n{\n\
            // three\n// \n// four\n// Examples:\n// - \"x\"\na?: string,\n\
            b?: number,\n\
            c?:\n |    // five\n{\n   }\n | string\n,\n}";
        assert_eq!(parameters(&schema), expected);
    }
}
