//! JSON Schema to the TypeScript-like notation in which gpt-oss was shown its tools.
//!
//! It is the notation of OpenAI's renderer byte for byte, its omissions and slips included, because that is the text
//! that the model knows:
//! - `integer` is `number`; `null`, `anyOf`, `allOf`, `const` and `$ref` are `any`; only strings are listed of an
//!   `enum` and of examples. Strings are put between quotes as they are.
//! - Of a text inside a schema only the first line is a comment; further lines stand there bare.
//! - An object repeats its description in front of its brace.
//! - Of a property that is a `oneOf`, the first variant's description is dropped where the property has its own, and
//!   every description that repeats the property's is dropped.

use serde_json::{Map, Value};

/// One more level of nesting.
const INDENT: &str = "    ";

/// The parameter list of a function whose arguments `schema` describes: `_: {…}`.
pub(super) fn parameters(schema: &Value) -> String {
    format!("_: {}", type_of(schema, ""))
}

/// The type that `schema` describes. Lines after the first begin with `indent`.
fn type_of(schema: &Value, indent: &str) -> String {
    if let Some(variants) = variants_of(schema) {
        return union_of(variants, indent);
    }
    match schema.get("type") {
        Some(Value::Array(names)) => {
            let name = |name| if name == "integer" { "number" } else { name };
            let names: Vec<&str> = names.iter().filter_map(Value::as_str).map(name).collect();
            if names.is_empty() { "any".to_owned() } else { names.join(" | ") }
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
    let listed: Vec<String> =
        list_at(schema, "enum").iter().filter_map(Value::as_str).map(|value| format!("\"{value}\"")).collect();
    if listed.is_empty() { "string".to_owned() } else { listed.join(" | ") }
}

/// A union that is not a property's own type: one variant to a line, with its description and default behind it.
fn union_of(variants: &[Value], indent: &str) -> String {
    let line = |variant: &Value| {
        let default = variant.get("default").map(|value| match value {
            Value::String(text) if !is_enum(variant) => format!("\"{text}\""),
            value => json_of(value),
        });
        format!("\n{}", variant_of(variant, indent, text_at(variant, "description"), default))
    };
    variants.iter().map(line).collect()
}

/// One line of a union; an object takes several.
fn variant_of(variant: &Value, indent: &str, description: Option<&str>, default: Option<String>) -> String {
    let type_text = nullable(type_of(variant, &format!("{indent}   ")), variant);
    let default = default.map(|default| format!("default: {default}"));
    let remarks: Vec<String> = description.map(str::to_owned).into_iter().chain(default).collect();
    let remarks = if remarks.is_empty() { String::new() } else { format!(" // {}", remarks.join(" ")) };
    format!("{indent} | {type_text}{remarks}")
}

fn object_of(schema: &Value, indent: &str) -> String {
    let mut out = String::new();
    push_comment(&mut out, text_at(schema, "description"), indent);
    out.push_str("{\n");
    let none = Map::new();
    let properties = schema.get("properties").and_then(Value::as_object).unwrap_or(&none);
    let required = list_at(schema, "required");
    for (name, property) in properties {
        let is_required = required.iter().any(|required| required.as_str() == Some(name));
        let name = format!("{indent}{name}{}:", if is_required { "" } else { "?" });
        push_property(&mut out, &name, property, indent);
    }
    out.push_str(&format!("{indent}}}"));
    out
}

/// Appends a property; `name` with its indentation, its mark and its colon.
fn push_property(out: &mut String, name: &str, property: &Value, indent: &str) {
    if let Some(title) = text_at(property, "title") {
        out.push_str(&format!("{indent}// {title}\n{indent}//\n"));
    }
    // A `oneOf` that is no list has no variants, yet hides what a union says itself.
    let is_plain = property.get("oneOf").is_none();
    if is_plain {
        push_comment(out, text_at(property, "description"), indent);
    }
    push_examples(out, property, indent);
    if let Some(variants) = variants_of(property) {
        return push_union(out, name, property, variants, indent);
    }
    let type_text = nullable(type_of(property, &format!("{indent}{INDENT}")), property);
    let default = default_of(property).filter(|_| is_plain).map(|default| format!(" // default: {default}"));
    out.push_str(&format!("{name} {type_text},{}\n", default.unwrap_or_default()));
}

/// The rest of a property that is a union.
fn push_union(out: &mut String, name: &str, property: &Value, variants: &[Value], indent: &str) {
    let description = text_at(property, "description");
    let first = variants.first().and_then(|variant| text_at(variant, "description"));
    let above = description.filter(|_| description != first);
    push_comment(out, above, indent);
    push_comment(out, default_of(property).map(|default| format!("default: {default}")).as_deref(), indent);
    out.push_str(&format!("{name}\n"));
    for (index, variant) in variants.iter().enumerate() {
        let own = text_at(variant, "description").filter(|own| Some(*own) != description);
        let own = own.filter(|_| index > 0 || above.is_none());
        out.push_str(&variant_of(variant, indent, own, default_of(variant)));
        out.push('\n');
    }
    out.push_str(&format!("{indent},\n"));
}

/// The examples that are strings.
fn push_examples(out: &mut String, property: &Value, indent: &str) {
    let examples = list_at(property, "examples");
    if !examples.is_empty() {
        push_comment(out, Some("Examples:"), indent);
    }
    for example in examples.iter().filter_map(Value::as_str) {
        push_comment(out, Some(&format!("- \"{example}\"")), indent);
    }
}

/// Appends `text`, if there is any, behind the mark of a comment. Only its first line gets one.
fn push_comment(out: &mut String, text: Option<&str>, indent: &str) {
    if let Some(text) = text {
        out.push_str(&format!("{indent}// {text}\n"));
    }
}

/// Adds `null` to a type whose schema allows it.
fn nullable(type_text: String, schema: &Value) -> String {
    let allowed = schema.get("nullable").and_then(Value::as_bool) == Some(true);
    if allowed && !type_text.contains("null") { format!("{type_text} | null") } else { type_text }
}

/// The default value: strings quoted, unless they are one of an `enum`.
fn default_of(schema: &Value) -> Option<String> {
    schema.get("default").map(|value| match value {
        Value::String(text) if is_enum(schema) => text.clone(),
        Value::String(text) => format!("\"{text}\""),
        value => json_of(value),
    })
}

/// `value` as JSON, where exponents have no plus sign: serde_json began to write one after that renderer was made.
fn json_of(value: &Value) -> String {
    match value {
        Value::Number(number) => number.to_string().replace("e+", "e"),
        Value::Array(values) => format!("[{}]", values.iter().map(json_of).collect::<Vec<_>>().join(",")),
        Value::Object(fields) => {
            let field = |(name, value): (&String, &Value)| format!("{}:{}", Value::from(name.as_str()), json_of(value));
            format!("{{{}}}", fields.iter().map(field).collect::<Vec<_>>().join(","))
        }
        value => value.to_string(),
    }
}

fn is_enum(schema: &Value) -> bool {
    !list_at(schema, "enum").is_empty()
}

fn variants_of(schema: &Value) -> Option<&[Value]> {
    schema.get("oneOf").and_then(Value::as_array).map(Vec::as_slice)
}

fn list_at<'a>(schema: &'a Value, key: &str) -> &'a [Value] {
    schema.get(key).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

fn text_at<'a>(schema: &'a Value, key: &str) -> Option<&'a str> {
    schema.get(key).and_then(Value::as_str)
}
