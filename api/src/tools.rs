//! Tools that a request offers, in every dialect's spelling, and which of them may be called.

use gptoss_protocol::{Function, TextShape};
use serde_json::{Value, json};

use crate::error::ApiError;
use crate::prompt::{function, wrong};

/// What parameters are.
pub(crate) const SCHEMA: &str = "a JSON Schema, which is an object";

/// A tool that the model is told of.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Tool {
    /// The function that the model sees.
    pub function: Function,
    /// What its input has to be like.
    pub input: TextShape,
    /// Whether a request without a grammar for anything else needs one for this.
    pub is_strict: bool,
    /// Whether its input is plain text rather than JSON.
    pub is_custom: bool,
    /// Where in the request its input is described.
    pub input_param: String,
}

impl Tool {
    /// A tool of type `function` or `custom`; `None`: of another type, which belongs to other people's servers. The fields are in
    /// the tool itself, or as chat completions have them under the name of its type.
    pub fn read(param: &str, tool: &Value) -> Result<Option<Self>, ApiError> {
        let kind = kind_of(param, tool)?;
        if kind != "function" && kind != "custom" {
            return Ok(None);
        }
        let (fields, param) = match tool.get(kind) {
            Some(fields) => (fields, format!("{param}.{kind}")),
            None => (tool, param.to_owned()),
        };
        let text = |field: &str| match &fields[field] {
            Value::Null => Ok(None),
            Value::String(text) => Ok(Some(text.clone())),
            _ => Err(ApiError::invalid(format!("{param}.{field}"), format!("{param}.{field} is to be a text"))),
        };
        let (name, description) = (text("name")?.unwrap_or_default(), text("description")?);
        if kind == "custom" {
            return Self::custom(&param, &name, description, &fields["format"]).map(Some);
        }
        let parameters = Some(fields["parameters"].clone()).filter(|schema| !schema.is_null());
        if let Some(other) = parameters.as_ref().filter(|schema| !schema.is_object()) {
            return Err(wrong(&format!("{param}.parameters"), other, SCHEMA));
        }
        let is_strict = fields["strict"] == true;
        let input = match (&parameters, is_strict) {
            (Some(schema), true) => TextShape::JsonSchema(schema.clone()),
            _ => TextShape::JsonObject,
        };
        let function = function(&format!("{param}.name"), &name, description, parameters)?;
        let input_param = format!("{param}.parameters");
        Ok(Some(Self { function, input, is_strict, is_custom: false, input_param }))
    }

    /// A tool whose input is plain text. The model sees a function of one string, as OpenAI's own programs for gpt-oss show it
    /// `apply_patch`, with the format in its comment: a grammar alone would only keep the model from what it would like to write.
    fn custom(param: &str, name: &str, description: Option<String>, format: &Value) -> Result<Self, ApiError> {
        let at = format!("{param}.format");
        let (input, input_param) = match format["type"].as_str() {
            None if format.is_null() => (TextShape::Any, at),
            Some("text") => (TextShape::Any, at),
            Some("grammar") => grammar(&at, format)?,
            _ => {
                let message = format!("{at}.type is {}, expected \"text\" or \"grammar\"", format["type"]);
                return Err(ApiError::invalid(format!("{at}.type"), message));
            }
        };
        let words = match &input {
            TextShape::Lark(text) => format!(" It follows this Lark grammar:\n{}", text.trim_end()),
            TextShape::Regex(text) => format!(" It matches this regular expression: {text}"),
            _ => String::new(),
        };
        let mut lines: Vec<String> = description.into_iter().filter(|text| !text.is_empty()).collect();
        lines.push(format!("The input is plain text, not JSON.{words}"));
        let parameters = Some(json!({"type": "string"}));
        let function = function(&format!("{param}.name"), name, Some(lines.join("\n")), parameters)?;
        let is_strict = input != TextShape::Any;
        Ok(Self { function, input, is_strict, is_custom: true, input_param })
    }
}

/// The type of a tool. Without one it is no tool of anybody's.
fn kind_of<'t>(param: &str, tool: &'t Value) -> Result<&'t str, ApiError> {
    let expected = "\"function\", \"custom\", or the type of a tool of another server";
    let at = format!("{param}.type");
    match (tool, &tool["type"]) {
        (Value::Object(_), Value::Null) => Err(ApiError::invalid(&at, format!("{at} is missing, expected {expected}"))),
        (Value::Object(_), Value::String(kind)) if !kind.is_empty() => Ok(kind),
        (Value::Object(_), other) => Err(wrong(&at, other, expected)),
        (other, _) => Err(wrong(param, other, "a tool, which is an object with a type")),
    }
}

/// A format of type `grammar`, and where in the request its definition is: in the format, or as chat completions have it under the
/// name of its type.
pub(crate) fn grammar(param: &str, format: &Value) -> Result<(TextShape, String), ApiError> {
    let (fields, at) = match format.get("grammar") {
        Some(fields) => (fields, format!("{param}.grammar")),
        None => (format, param.to_owned()),
    };
    let field = |name: &str, expected: &str| {
        let missing = || {
            let message = format!("{at}.{name} is missing, expected {expected}");
            ApiError::invalid(format!("{at}.{name}"), message)
        };
        fields[name].as_str().ok_or_else(missing)
    };
    let syntaxes = "\"lark\" or \"regex\"";
    let shape = match field("syntax", syntaxes)? {
        "lark" => TextShape::Lark,
        "regex" => TextShape::Regex,
        _ => return Err(wrong(&format!("{at}.syntax"), &fields["syntax"], syntaxes)),
    };
    let definition = field("definition", "the text of the grammar or of the regular expression")?;
    Ok((shape(definition.to_owned()), format!("{at}.definition")))
}

/// The tools that the model is told of, and what cannot be served: types, with the names of those that have one.
pub(crate) fn offered(tools: &[Value]) -> Result<(Vec<Tool>, Vec<String>), ApiError> {
    let (mut offered, mut left_out) = (Vec::new(), Vec::new());
    for (at, tool) in tools.iter().enumerate() {
        match Tool::read(&format!("tools[{at}]"), tool)? {
            Some(tool) => offered.push(tool),
            None => {
                let kind = tool["type"].as_str().unwrap_or_default();
                left_out.push(tool["name"].as_str().map_or_else(|| kind.to_owned(), |name| format!("{kind} {name}")));
            }
        }
    }
    Ok((offered, left_out))
}

/// `tool_choice`: which tools may be called, and whether one has to be.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Choice {
    /// The turn ends with a call.
    pub must_call: bool,
    /// The model is told of no tools.
    pub hides: bool,
    /// The only tools that may be called; the model is told of all.
    pub allowed: Option<Vec<String>>,
}

impl Choice {
    /// Reads `tool_choice`, in either dialect's spelling.
    pub fn read(choice: Option<&Value>, tools: &[Tool]) -> Result<Self, ApiError> {
        let refused = |message: String| ApiError::invalid("tool_choice", message);
        let choice = match choice {
            None | Some(Value::Null) => Self::default(),
            Some(Value::String(word)) => match word.as_str() {
                "auto" => Self::default(),
                "none" => Self { hides: true, ..Self::default() },
                "required" => Self { must_call: true, ..Self::default() },
                other => {
                    let expected = "\"auto\", \"none\", \"required\" or an object";
                    return Err(refused(format!("tool_choice is {other:?}, expected {expected}")));
                }
            },
            Some(object) => match object["type"].as_str() {
                Some("function" | "custom") => {
                    Self { must_call: true, allowed: Some(vec![name_of(object, tools)?]), ..Self::default() }
                }
                Some("allowed_tools") => Self::of_list(object.get("allowed_tools").unwrap_or(object), tools)?,
                _ => {
                    let expected = "\"function\", \"custom\" or \"allowed_tools\"";
                    return Err(refused(format!("tool_choice.type is {}, expected {expected}", object["type"])));
                }
            },
        };
        if choice.must_call && tools.is_empty() {
            return Err(refused("tool_choice asks for a call, and tools has none that can be called".into()));
        }
        Ok(choice)
    }

    fn of_list(list: &Value, tools: &[Tool]) -> Result<Self, ApiError> {
        let must_call = match list["mode"].as_str() {
            Some("auto") => false,
            Some("required") => true,
            _ => {
                let message = format!("tool_choice.mode is {}, expected \"auto\" or \"required\"", list["mode"]);
                return Err(ApiError::invalid("tool_choice.mode", message));
            }
        };
        let missing =
            || ApiError::invalid("tool_choice.tools", "tool_choice.tools is missing, expected a list of tools");
        let listed = list["tools"].as_array().ok_or_else(missing)?;
        // Tools of other servers are in nobody's way here: the model is not told of them.
        let is_ours = |tool: &&Value| matches!(tool["type"].as_str(), Some("function" | "custom"));
        let allowed: Vec<String> =
            listed.iter().filter(is_ours).map(|tool| name_of(tool, tools)).collect::<Result<_, _>>()?;
        if must_call && allowed.is_empty() {
            let message = "tool_choice.tools has no tool that can be called, and mode is \"required\"";
            return Err(ApiError::invalid("tool_choice.tools", message));
        }
        Ok(Self { must_call, hides: false, allowed: Some(allowed) })
    }

    /// Whether this tool may be called.
    pub fn allows(&self, name: &str) -> bool {
        !self.hides && self.allowed.as_ref().is_none_or(|allowed| allowed.iter().any(|it| it == name))
    }
}

/// The tool that is named, in either dialect's spelling; it has to be offered.
fn name_of(named: &Value, tools: &[Tool]) -> Result<String, ApiError> {
    let fields = named["type"].as_str().and_then(|kind| named.get(kind)).unwrap_or(named);
    let name = fields["name"].as_str().unwrap_or_default();
    if tools.iter().any(|tool| tool.function.name == name) {
        return Ok(name.to_owned());
    }
    Err(ApiError::invalid("tool_choice", format!("tool_choice names {name:?}, and tools has no tool of that name")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_tool_is_refused_by_its_place() {
        let named =
            |parameters: Value| json!({"type": "function", "function": {"name": "f", "parameters": parameters}});
        for (tool, param, word) in [
            (json!("web_search"), "tools[1]", "an object"),
            (Value::Null, "tools[1]", "null"),
            (json!({}), "tools[1].type", "missing"),
            (json!({"name": "x", "function": {"name": "x"}}), "tools[1].type", "missing"),
            (json!({"type": ""}), "tools[1].type", "expected"),
            (json!({"type": 5}), "tools[1].type", "5"),
            (named(json!("str")), "tools[1].function.parameters", "JSON Schema"),
            (named(json!([])), "tools[1].function.parameters", "a list"),
            (json!({"type": "function", "name": "f", "parameters": true}), "tools[1].parameters", "true"),
        ] {
            let error = offered(&[json!({"type": "web_search"}), tool]).expect_err(param);
            assert_eq!(error.param.as_deref(), Some(param), "{error}");
            assert!(error.message.starts_with(param) && error.message.contains(word), "{error}");
        }
        for parameters in [Value::Null, json!({})] {
            assert_eq!(offered(&[named(parameters)]).expect("good").0.len(), 1);
        }
    }
}
