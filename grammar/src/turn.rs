//! The grammar of an assistant's turn: free reasoning and preambles, then an answer or a call of the wanted shape.
//!
//! A turn is what follows `<|start|>assistant`. Headers may have every order that the format allows; the recipient behind the
//! channel is what the model writes by itself, and nothing forces another one.

use gptoss_protocol::{AnswerShape, TextShape};
use llguidance::api::{GrammarWithLexer, TopLevelGrammar};
use serde_json::{Value, json};

use crate::schema::without_remarks;

/// JSON may have blanks between its parts, and no more than these at one place: a model that is not sure writes blanks for ever.
const BLANKS: &str = r"[\x20\x0A\x0D\x09]{1,64}";

const FREE: &str = r#"
free: <|channel|> ("analysis" | "commentary") <|message|> TEXT <|end|> <|start|> "assistant"
TEXT: /(?s:.*)/
"#;

/// Messages of reasoning and preambles at most, before an answer or a call that has to be: more than models write where nothing asks
/// anything of them.
const MOST_FREE: usize = 4;

/// What may stand between a header's names and `<|message|>` where the text is JSON.
const JSON_TYPE: &str = r#"(" "? <|constrain|> "json" | " json" | " code")?"#;
/// The same where the text is anything else. The words are those that models write there; any word could go on for ever.
const TEXT_TYPE: &str = r#"(" "? <|constrain|> KIND | " " KIND)?"#;
const KIND: &str = r#"KIND: "text" | "code" | "json" | "markdown" | "xml" | "yaml" | "python" | "patch" | "diff""#;

/// The grammar of a turn.
pub(crate) fn grammar(shape: &AnswerShape) -> TopLevelGrammar {
    // A model that may not end as it likes could go on reasoning for ever.
    let free = if shape.answer == Some(TextShape::Any) { "free*".into() } else { format!("free{{0,{MOST_FREE}}}") };
    let mut rules = format!("start: {free} last\n{FREE}{KIND}\n");
    let mut ends = Vec::new();
    let mut grammars = Vec::new();
    if let Some(answer) = &shape.answer {
        let kind = if is_json(answer) { JSON_TYPE } else { TEXT_TYPE };
        let text = reference(answer, "answer", &mut grammars);
        rules += &format!("answer: <|channel|> \"final\" {kind} <|message|> {text} <|return|>\n");
        ends.push("answer".to_owned());
    }
    for (at, call) in shape.calls.iter().enumerate() {
        let kind = if is_json(&call.input) { JSON_TYPE } else { TEXT_TYPE };
        let text = reference(&call.input, &format!("input{at}"), &mut grammars);
        let to = Value::from(format!(" to=functions.{}", call.name));
        let channel = "<|channel|> (\"commentary\" | \"analysis\")";
        rules += &format!("call{at}: ({channel} {to} | {to} {channel}) {kind} <|message|> {text} <|call|>\n");
        ends.push(format!("call{at}"));
    }
    rules += &format!("last: {}\n", ends.join(" | "));
    grammars.insert(0, GrammarWithLexer::from_lark(rules));
    TopLevelGrammar { grammars, max_tokens: None }
}

fn is_json(shape: &TextShape) -> bool {
    matches!(shape, TextShape::JsonObject | TextShape::JsonSchema(_))
}

/// How the rules of the turn name a text, whose grammar joins the others.
fn reference(shape: &TextShape, name: &str, grammars: &mut Vec<GrammarWithLexer>) -> String {
    match text(shape) {
        None => "TEXT".to_owned(),
        Some(grammar) => {
            grammars.push(GrammarWithLexer { name: Some(name.to_owned()), ..grammar });
            format!("@{name}")
        }
    }
}

/// The grammar of a text; `None` for any text.
pub(crate) fn text(shape: &TextShape) -> Option<GrammarWithLexer> {
    match shape {
        TextShape::Any => None,
        TextShape::JsonObject => Some(GrammarWithLexer::from_json_schema(with_options(&json!({"type": "object"})))),
        TextShape::JsonSchema(schema) => Some(GrammarWithLexer::from_json_schema(with_options(schema))),
        TextShape::Lark(grammar) => Some(GrammarWithLexer::from_lark(grammar.clone())),
        TextShape::Regex(regex) => Some(GrammarWithLexer::from_regex(regex)),
    }
}

/// A schema with options of ours, in place of any that it brought: one of them would loosen it.
fn with_options(schema: &Value) -> Value {
    let mut schema = without_remarks(schema);
    if let Some(fields) = schema.as_object_mut() {
        fields.insert("x-guidance".into(), json!({"whitespace_pattern": BLANKS}));
    }
    schema
}
