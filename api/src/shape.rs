//! What a request asks of the answer's form, and the shape that it makes.

use gptoss_grammar::{ShapePart, check};
use gptoss_protocol::{AnswerShape, CallShape, Function, Prompt, ResponseFormat, TextShape};
use serde_json::Value;

use crate::error::ApiError;
use crate::prompt::wrong;
use crate::tools::{Choice, Tool, grammar};

/// Where chats say what form the answer has: its schema is a level deeper than elsewhere.
pub(crate) const CHAT_FORMAT: &str = "response_format";

/// Name of a schema that the request has no name for.
const ANSWER: &str = "answer";

/// `response_format`, `text.format`, or what other servers have in their place.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Format {
    answer: TextShape,
    told: Option<ResponseFormat>,
    /// The field of the request.
    field: String,
    /// Where in the request the schema or the grammar is.
    shape_param: String,
}

impl Format {
    /// Reads a format, whose fields are in it, or as chat completions have them under the name of its type.
    pub fn read(param: &str, format: Option<&Value>) -> Result<Self, ApiError> {
        let Some(format) = format.filter(|format| !format.is_null()) else {
            return Ok(Self::untold(param, TextShape::Any));
        };
        match format["type"].as_str() {
            Some("text") => Ok(Self::untold(param, TextShape::Any)),
            // llama.cpp's way to give a schema.
            Some("json_object") if !format["schema"].is_null() => {
                let read = Self::of_schema(&format!("{param}.schema"), &format["schema"])?;
                Ok(Self { field: param.to_owned(), ..read })
            }
            Some("json_object") => Ok(Self::untold(param, TextShape::JsonObject)),
            Some("json_schema") => Self::with_schema(param, format),
            Some("grammar") => {
                let (answer, shape_param) = grammar(param, format)?;
                Ok(Self { shape_param, ..Self::untold(param, answer) })
            }
            _ => {
                let expected = "\"text\", \"json_object\", \"json_schema\" or \"grammar\"";
                let message = format!("{param}.type is {}, expected {expected}", format["type"]);
                Err(ApiError::invalid(format!("{param}.type"), message))
            }
        }
    }

    /// A form that the model is not told of, since it was trained with no words for it.
    pub fn untold(field: &str, answer: TextShape) -> Self {
        Self { answer, told: None, field: field.to_owned(), shape_param: field.to_owned() }
    }

    /// A JSON Schema without a name.
    pub fn of_schema(field: &str, schema: &Value) -> Result<Self, ApiError> {
        require_schema(field, schema)?;
        let told = ResponseFormat { name: ANSWER.into(), description: String::new(), schema: schema.clone() };
        Ok(Self { told: Some(told), ..Self::untold(field, TextShape::JsonSchema(schema.clone())) })
    }

    /// The field of the request that asks for this form; `None` where no form is asked for.
    pub fn field(&self) -> Option<&str> {
        (self.answer != TextShape::Any).then_some(self.field.as_str())
    }

    fn with_schema(param: &str, format: &Value) -> Result<Self, ApiError> {
        let nested = format!("{param}.json_schema");
        let expected = "an object with the name and the schema";
        let (fields, at) = match format.get("json_schema").filter(|fields| !fields.is_null()) {
            Some(fields) if fields.is_object() => (fields, nested),
            Some(other) => return Err(wrong(&nested, other, expected)),
            None if param == CHAT_FORMAT && format["name"].is_null() && format["schema"].is_null() => {
                return Err(ApiError::invalid(&nested, format!("{nested} is missing, expected {expected}")));
            }
            None => (format, param.to_owned()),
        };
        let name = fields["name"].as_str().unwrap_or_default();
        let is_plain = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
        if name.is_empty() || name.len() > 64 || !name.chars().all(is_plain) {
            let message = format!("{at}.name is {name:?}, expected 1 to 64 letters, digits, _ or -");
            return Err(ApiError::invalid(format!("{at}.name"), message));
        }
        let shape_param = format!("{at}.schema");
        let schema = &fields["schema"];
        require_schema(&shape_param, schema)?;
        let description = fields["description"].as_str().unwrap_or_default().to_owned();
        let told = ResponseFormat { name: name.to_owned(), description, schema: schema.clone() };
        let answer = TextShape::JsonSchema(schema.clone());
        Ok(Self { answer, told: Some(told), field: param.to_owned(), shape_param })
    }
}

fn require_schema(param: &str, schema: &Value) -> Result<(), ApiError> {
    match schema.is_object() {
        true => Ok(()),
        false => Err(ApiError::invalid(param, format!("{param} is to be a JSON Schema, which is an object"))),
    }
}

/// All that a request says of the answer's form.
pub(crate) struct Wanted {
    pub tools: Vec<Tool>,
    pub choice: Choice,
    pub format: Format,
}

impl Wanted {
    /// Puts into a prompt what the model is told, and what it is held to.
    pub fn apply(self, prompt: Prompt) -> Result<Prompt, ApiError> {
        let shape = self.shape()?;
        let functions: Vec<Function> = match self.choice.hides {
            true => Vec::new(),
            false => self.tools.into_iter().map(|tool| tool.function).collect(),
        };
        let response_format = self.format.told.map(Box::new);
        Ok(Prompt { functions, response_format, shape: shape.map(Box::new), ..prompt })
    }

    /// The names of tools whose input is plain text.
    pub fn custom_names(&self) -> Vec<String> {
        self.tools.iter().filter(|tool| tool.is_custom).map(|tool| tool.function.name.clone()).collect()
    }

    /// The shape of the answer, if anything asks for one. A shape that cannot be enforced is refused by the name of its field.
    fn shape(&self) -> Result<Option<AnswerShape>, ApiError> {
        let Self { tools, choice, format } = self;
        let callable = || tools.iter().filter(|tool| choice.allows(&tool.function.name));
        let is_shaped = format.answer != TextShape::Any
            || choice.must_call
            || choice.allowed.is_some()
            || callable().any(|tool| tool.is_strict);
        if !is_shaped {
            return Ok(None);
        }
        let answer = (!choice.must_call).then(|| format.answer.clone());
        let input = |tool: &Tool| if choice.must_call { forced(tool) } else { tool.input.clone() };
        let call = |tool: &Tool| CallShape { name: tool.function.name.clone(), input: input(tool) };
        let shape = AnswerShape { answer, calls: callable().map(call).collect() };
        check(&shape).map_err(|unusable| {
            let of_tool = |name: &String| tools.iter().find(|tool| tool.function.name == *name);
            let param = match &unusable.part {
                ShapePart::Answer => &format.shape_param,
                ShapePart::Input(name) => of_tool(name).map_or(&format.shape_param, |tool| &tool.input_param),
            };
            ApiError::invalid(param, format!("{param}: {unusable}"))
        })?;
        Ok(Some(shape))
    }
}

/// What the input of a call is held to that has to be made: the parameters, also of a function that is not strict, where they can be
/// enforced. A model that is made to call fits its words to the function less well than one that chose to.
fn forced(tool: &Tool) -> TextShape {
    let parameters = tool.function.parameters.as_ref().filter(|_| tool.input == TextShape::JsonObject);
    let schema = parameters.map(|parameters| TextShape::JsonSchema(parameters.clone()));
    let can_be_enforced = |input: &TextShape| {
        let call = CallShape { name: tool.function.name.clone(), input: input.clone() };
        check(&AnswerShape { answer: None, calls: vec![call] }).is_ok()
    };
    schema.filter(can_be_enforced).unwrap_or_else(|| tool.input.clone())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::prompt::prompt;

    fn wanted(tools: &[Value], choice: Value, format: Value) -> Result<Prompt, ApiError> {
        let tools: Vec<Tool> = tools
            .iter()
            .enumerate()
            .filter_map(|(at, tool)| Tool::read(&format!("tools[{at}]"), tool).transpose())
            .collect::<Result<_, _>>()?;
        let choice = Choice::read(Some(&choice), &tools)?;
        let format = Format::read("response_format", Some(&format))?;
        Wanted { tools, choice, format }.apply(prompt(Vec::new(), String::new()))
    }

    fn function(name: &str) -> Value {
        json!({"type": "function", "function": {"name": name, "parameters": {"type": "object"}}})
    }

    /// Names of what may be called, whether there may be an answer, and names of what the model is told of.
    fn outcome(prompt: &Prompt) -> (Vec<&str>, bool, Vec<&str>) {
        let shape = prompt.shape.as_ref().expect("a shape");
        let calls = shape.calls.iter().map(|call| call.name.as_str()).collect();
        (calls, shape.answer.is_some(), prompt.functions.iter().map(|it| it.name.as_str()).collect())
    }

    #[test]
    fn a_choice_is_what_may_be_called() {
        let tools = [function("a"), json!({"type": "function", "name": "b"}), json!({"type": "web_search"})];
        let told = vec!["a", "b"];
        for (choice, calls, has_answer) in [
            (json!("required"), vec!["a", "b"], false),
            (json!({"type": "function", "name": "b"}), vec!["b"], false),
            (json!({"type": "function", "function": {"name": "a"}}), vec!["a"], false),
            (
                json!({"type": "allowed_tools", "mode": "auto", "tools": [{"type": "function", "name": "a"}, {"type": "web_search"}]}),
                vec!["a"],
                true,
            ),
            (
                json!({"type": "allowed_tools", "allowed_tools": {"mode": "required", "tools": [{"type": "function", "function": {"name": "b"}}]}}),
                vec!["b"],
                false,
            ),
            (json!({"type": "allowed_tools", "mode": "auto", "tools": []}), vec![], true),
        ] {
            let prompt = wanted(&tools, choice.clone(), Value::Null).expect("good");
            assert_eq!(outcome(&prompt), (calls, has_answer, told.clone()), "{choice}");
        }
        for choice in [json!("auto"), Value::Null, json!("none")] {
            let prompt = wanted(&tools, choice.clone(), Value::Null).expect("good");
            assert_eq!((prompt.shape, prompt.functions.len()), (None, if choice == "none" { 0 } else { 2 }));
        }
        let hidden = wanted(&tools, json!("none"), json!({"type": "json_object"})).expect("good");
        assert_eq!(outcome(&hidden), (vec![], true, vec![]));
        for choice in [
            json!("any"),
            json!({"type": "function", "name": "c"}),
            json!({"type": "web_search"}),
            json!({"type": "allowed_tools", "tools": []}),
            json!({"type": "allowed_tools", "mode": "required", "tools": []}),
            json!(5),
        ] {
            let error = wanted(&tools, choice.clone(), Value::Null).expect_err("refused");
            assert!(error.param.as_deref().is_some_and(|param| param.starts_with("tool_choice")), "{choice}: {error}");
        }
        assert!(wanted(&[], json!("required"), Value::Null).is_err());
    }

    #[test]
    fn strict_functions_and_grammars_are_enforced_and_others_left_alone() {
        let strict = json!({"type": "function", "name": "s", "strict": true, "parameters": {"type": "object", "properties": {}}});
        let prompt = wanted(&[strict, function("a")], json!("auto"), Value::Null).expect("good");
        let shape = prompt.shape.expect("a shape");
        assert_eq!(shape.answer, Some(TextShape::Any));
        assert!(matches!(&shape.calls[0].input, TextShape::JsonSchema(schema) if schema["type"] == "object"));
        assert_eq!(shape.calls[1].input, TextShape::JsonObject);

        let lark = json!({"type": "custom", "name": "patch", "description": "Edits.",
            "format": {"type": "grammar", "syntax": "lark", "definition": "start: \"x\"\n"}});
        let prompt = wanted(&[lark], json!("auto"), Value::Null).expect("good");
        let told = &prompt.functions[0];
        assert_eq!(
            told.description,
            "Edits.\nThe input is plain text, not JSON. It follows this Lark grammar:\nstart: \"x\""
        );
        assert_eq!(told.parameters, Some(json!({"type": "string"})));
        assert_eq!(prompt.shape.expect("a shape").calls[0].input, TextShape::Lark("start: \"x\"\n".into()));
        let regex = json!({"type": "custom", "custom": {"name": "date",
            "format": {"type": "grammar", "grammar": {"syntax": "regex", "definition": "[0-9]+"}}}});
        let prompt = wanted(&[regex], json!("required"), Value::Null).expect("good");
        assert_eq!(prompt.shape.expect("a shape").calls[0].input, TextShape::Regex("[0-9]+".into()));
        let free = json!({"type": "custom", "name": "note", "format": {"type": "text"}});
        assert_eq!(wanted(&[free], json!("auto"), Value::Null).expect("good").shape, None);
    }

    #[test]
    fn a_schema_is_told_and_enforced() {
        let schema = json!({"type": "object", "properties": {"z": {"type": "null"}, "a": {"type": "null"}}});
        let format = json!({"type": "json_schema", "json_schema": {"name": "f", "strict": true, "schema": schema}});
        let prompt = wanted(&[function("a")], json!("auto"), format).expect("good");
        assert_eq!(
            prompt.response_format.as_ref().map(|told| (told.name.as_str(), &told.schema)),
            Some(("f", &schema))
        );
        assert_eq!(outcome(&prompt).0, ["a"]);
        assert_eq!(prompt.shape.expect("a shape").answer, Some(TextShape::JsonSchema(schema)));
    }

    #[test]
    fn an_answer_may_follow_a_grammar_of_its_own() {
        let lark = json!({"type": "grammar", "syntax": "lark", "definition": "start: \"x\"\n"});
        let prompt = wanted(&[function("a")], json!("auto"), lark).expect("good");
        assert_eq!(prompt.response_format, None);
        assert_eq!(prompt.shape.expect("a shape").answer, Some(TextShape::Lark("start: \"x\"\n".into())));
        let nested = json!({"type": "grammar", "grammar": {"syntax": "regex", "definition": "[0-9]+"}});
        let prompt = wanted(&[], Value::Null, nested).expect("good");
        assert_eq!(prompt.shape.expect("a shape").answer, Some(TextShape::Regex("[0-9]+".into())));
        // llama.cpp's schema.
        let schema = json!({"type": "object", "properties": {}});
        let prompt = wanted(&[], Value::Null, json!({"type": "json_object", "schema": schema})).expect("good");
        assert_eq!(prompt.shape.expect("a shape").answer, Some(TextShape::JsonSchema(schema)));
    }

    #[test]
    fn what_cannot_be_enforced_is_refused_by_field_keyword_and_place() {
        let bad = json!({"type": "object", "properties": {"a": {"not": {"type": "null"}}}});
        let refused = |tools: &[Value], format: Value, field: &str, word: &str| {
            let error = wanted(tools, json!("auto"), format).expect_err("refused");
            assert_eq!(error.param.as_deref(), Some(field), "{error}");
            assert!(error.message.starts_with(field) && error.message.contains(word), "{error}");
        };
        let nested = json!({"type": "json_schema", "json_schema": {"name": "f", "schema": bad}});
        refused(&[], nested, "response_format.json_schema.schema", "\"not\"");
        let flat = json!({"type": "json_schema", "name": "f", "schema": bad});
        refused(&[], flat, "response_format.schema", "/properties/a");
        refused(&[], json!({"type": "json_schema", "name": "f"}), "response_format.schema", "JSON Schema");
        refused(
            &[],
            json!({"type": "json_schema", "name": "two words", "schema": {}}),
            "response_format.name",
            "two words",
        );
        refused(&[], json!({"type": "json_schema"}), "response_format.json_schema", "missing");
        let text = json!({"type": "json_schema", "json_schema": "{}"});
        refused(&[], text, "response_format.json_schema", "expected an object");
        refused(&[], json!({"type": "xml"}), "response_format.type", "xml");
        refused(&[], json!({"type": "json_object", "schema": bad}), "response_format.schema", "/properties/a");
        let answer =
            |syntax: &str, definition: &str| json!({"type": "grammar", "syntax": syntax, "definition": definition});
        refused(&[], answer("lark", "start: nothing"), "response_format.definition", "Lark");
        refused(&[], answer("regex", "("), "response_format.definition", "regular expression");
        refused(&[], answer("gbnf", "root ::= x"), "response_format.syntax", "\"lark\"");
        refused(&[], json!({"type": "grammar", "syntax": "lark"}), "response_format.definition", "missing");
        let strict = json!({"type": "function", "function": {"name": "s", "strict": true, "parameters": bad}});
        refused(&[strict], Value::Null, "tools[0].function.parameters", "\"not\"");
        let tool = |format: Value| json!({"type": "custom", "name": "t", "format": format});
        let grammar = |syntax: &str, definition: &str| {
            tool(json!({"type": "grammar", "syntax": syntax, "definition": definition}))
        };
        refused(&[grammar("lark", "start: nothing")], Value::Null, "tools[0].format.definition", "Lark");
        refused(&[grammar("regex", "(")], Value::Null, "tools[0].format.definition", "regular expression");
        refused(&[grammar("peg", "x")], Value::Null, "tools[0].format.syntax", "peg");
        refused(
            &[tool(json!({"type": "grammar", "syntax": "lark"}))],
            Value::Null,
            "tools[0].format.definition",
            "missing",
        );
        refused(&[tool(json!({"type": "table"}))], Value::Null, "tools[0].format.type", "table");
    }

    #[test]
    fn a_call_that_has_to_be_made_is_held_to_its_parameters_where_that_can_be() {
        let function = |name: &str, parameters: Value| json!({"type": "function", "function": {"name": name, "parameters": parameters}});
        let schema = json!({"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]});
        let unenforceable = json!({"type": "object", "not": {"required": ["b"]}});
        let tools = [function("good", schema.clone()), function("other", unenforceable)];
        let inputs = |choice: &str| {
            let prompt = wanted(&tools, json!(choice), json!({"type": "json_object"})).expect("a prompt");
            prompt.shape.expect("a shape").calls.into_iter().map(|call| call.input).collect::<Vec<_>>()
        };
        assert_eq!(inputs("required"), [TextShape::JsonSchema(schema), TextShape::JsonObject]);
        assert_eq!(inputs("auto"), [TextShape::JsonObject, TextShape::JsonObject]);
    }
}
