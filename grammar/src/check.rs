//! Whether a shape can be enforced, and if not, which part of it, and where in it.

use gptoss_protocol::{AnswerShape, TextShape};
use llguidance::api::{GrammarInit, ParserLimits, TopLevelGrammar};
use serde_json::{Map, Value};

use crate::turn::text;

/// A part of a shape.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ShapePart {
    /// The answer to the user.
    Answer,
    /// The input of the function with this name.
    Input(String),
}

/// Why a shape cannot be enforced.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct Unusable {
    /// The part that cannot be enforced.
    pub part: ShapePart,
    /// What is wrong, and in a JSON Schema where: the place as a JSON Pointer.
    pub reason: String,
}

/// Checks every part of a shape.
///
/// # Errors
/// A schema has something that cannot be enforced; a grammar or a regular expression is none. Nothing is left out silently.
pub fn check(shape: &AnswerShape) -> Result<(), Unusable> {
    let answer = shape.answer.iter().map(|answer| (ShapePart::Answer, answer));
    let inputs = shape.calls.iter().map(|call| (ShapePart::Input(call.name.clone()), &call.input));
    for (part, text) in answer.chain(inputs) {
        fault(text).map_or(Ok(()), |reason| Err(Unusable { part, reason }))?;
    }
    Ok(())
}

/// What is wrong about a text's shape, if anything is.
fn fault(shape: &TextShape) -> Option<String> {
    match shape {
        TextShape::Any | TextShape::JsonObject => None,
        TextShape::Lark(_) => compiled(shape).map(|error| format!("the Lark grammar cannot be used: {error}")),
        TextShape::Regex(_) => compiled(shape).map(|error| format!("the regular expression cannot be used: {error}")),
        TextShape::JsonSchema(schema) => schema_fault(schema),
    }
}

/// What llguidance says against a shape.
fn compiled(shape: &TextShape) -> Option<String> {
    let grammar = TopLevelGrammar { grammars: vec![text(shape)?], max_tokens: None };
    let done = GrammarInit::Serialized(grammar).to_internal(None, ParserLimits::default());
    done.err().map(|error| format!("{error:#}"))
}

fn schema_fault(schema: &Value) -> Option<String> {
    let error = compiled(&TextShape::JsonSchema(schema.clone()))?;
    let mut place = String::new();
    let mut at = schema;
    // The smallest schema inside it that has the same fault is where it is.
    while let Some((step, inner)) = children(at).into_iter().find(|(_, inner)| has_fault(schema, inner, &error)) {
        place += &step;
        at = inner;
    }
    let place = if place.is_empty() { "/".to_owned() } else { place };
    let reason = match (error.strip_prefix("Unimplemented keys: "), error.split_once("; ref ")) {
        (Some(keywords), _) => format!("keywords {keywords} are not supported"),
        (None, Some((_, target))) => format!("$ref to {target} is not supported, expected one that begins with #/"),
        // Further lines tell of the same fault where it is referred to.
        (None, None) => plain(&error),
    };
    Some(format!("the JSON Schema cannot be enforced: {reason}, at {place}"))
}

/// The library's words without what only its own users can do something about.
fn plain(error: &str) -> String {
    let first = error.lines().next().unwrap_or_default();
    let pattern = error.lines().find_map(|line| line.strip_prefix("error: "));
    if first.starts_with("oneOf constraints are not supported") {
        return "oneOf whose variants overlap is not supported, use anyOf".into();
    }
    match pattern.filter(|_| first.contains("regex parse error")) {
        Some(reason) => format!("a pattern cannot be used: {reason}"),
        None => first.to_owned(),
    }
}

/// Whether a part of a schema has a fault by itself. It keeps the definitions that it may refer to.
fn has_fault(whole: &Value, part: &Value, fault: &str) -> bool {
    let mut part = part.clone();
    if let (Some(part), Some(whole)) = (part.as_object_mut(), whole.as_object()) {
        for name in ["$schema", "$defs", "definitions"] {
            if let Some(definitions) = whole.get(name) {
                part.entry(name).or_insert_with(|| definitions.clone());
            }
        }
    }
    compiled(&TextShape::JsonSchema(part)).is_some_and(|error| error == fault)
}

/// The schemas directly inside a schema, with the steps of a JSON Pointer to each.
fn children(schema: &Value) -> Vec<(String, &Value)> {
    let Some(fields) = schema.as_object() else { return Vec::new() };
    let mut children = Vec::new();
    for (keyword, value) in fields {
        match (keyword.as_str(), value) {
            (
                "properties" | "patternProperties" | "$defs" | "definitions" | "dependentSchemas",
                Value::Object(named),
            ) => {
                children.extend(named_children(keyword, named));
            }
            ("allOf" | "anyOf" | "oneOf" | "prefixItems" | "items", Value::Array(list)) => {
                children.extend(list.iter().enumerate().map(|(at, inner)| (format!("/{keyword}/{at}"), inner)));
            }
            ("items" | "additionalItems" | "additionalProperties" | "not" | "contains" | "propertyNames", inner) => {
                children.push((format!("/{keyword}"), inner));
            }
            _ => {}
        }
    }
    children
}

fn named_children<'a>(keyword: &str, named: &'a Map<String, Value>) -> Vec<(String, &'a Value)> {
    let step = |name: &str| format!("/{keyword}/{}", name.replace('~', "~0").replace('/', "~1"));
    named.iter().map(|(name, inner)| (step(name), inner)).collect()
}
