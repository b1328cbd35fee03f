//! Fields that other servers know, that would change an answer, and that are not served. A value that asks for nothing but what is
//! done anyway is accepted, and any other refused by the field's name: ignored, it would make another answer than was asked for.

use serde_json::Value;

use crate::error::ApiError;
use crate::prompt::{Draw, wrong};

/// A field, the values of it that ask for nothing, and what is expected in its place.
pub(crate) type NotServed = (&'static str, fn(&Value) -> bool, &'static str);

/// In every dialect: how tokens are drawn, and when they end.
pub(crate) const NOT_SERVED: [NotServed; 10] = [
    (
        "repetition_penalty",
        is_one,
        "1: presence_penalty and frequency_penalty are what this server has against repetition",
    ),
    ("repeat_penalty", is_one, "1: presence_penalty and frequency_penalty are what this server has against repetition"),
    ("min_tokens", is_zero, "0: the model decides how soon it ends"),
    ("ignore_eos", is_false, "false: an answer ends where the model ends it"),
    ("use_beam_search", is_false, "false: tokens are drawn one by one"),
    ("typical_p", is_one, "1: top_p, top_k and min_p are what this server has"),
    ("mirostat", is_zero, "0: top_p, top_k and min_p are what this server has"),
    ("xtc_probability", is_zero, "0: top_p, top_k and min_p are what this server has"),
    (
        "dry_multiplier",
        is_zero,
        "0: presence_penalty and frequency_penalty are what this server has against repetition",
    ),
    ("bad_words", is_empty, "no words: logit_bias keeps tokens out"),
];

/// In chat completions.
pub(crate) const NOT_FOR_CHAT: [NotServed; 10] = [
    ("n", is_one, "1: a request has one answer"),
    ("best_of", is_one, "1: a request has one answer"),
    ("echo", is_false, "false: the answer is what the model says"),
    ("modalities", is_text, "[\"text\"]: gpt-oss writes text only"),
    ("audio", never, "null: gpt-oss writes text only"),
    ("continue_final_message", is_false, "false: to go on with a text, ask /v1/completions"),
    ("add_generation_prompt", is_true, "true: the model answers the last message"),
    ("chat_template", is_empty, "null: messages become Harmony, the format that gpt-oss was trained with"),
    ("grammar", is_empty, "structured_outputs.grammar in its place, with a grammar in Lark: GBNF is not read"),
    ("guided_whitespace_pattern", never, "null: between the parts of JSON are at most 64 blanks at one place"),
];

/// In completions, which have no forms.
pub(crate) const NOT_FOR_COMPLETIONS: [NotServed; 12] = [
    ("n", is_one, "1: a request has one answer"),
    ("best_of", is_one, "1: a request has one answer"),
    ("echo", is_false, "false: put the prompt before the text that comes"),
    ("suffix", is_empty, "an empty text: gpt-oss was not trained to fill gaps"),
    ("response_format", is_free, FORMS_ELSEWHERE),
    ("structured_outputs", is_empty, FORMS_ELSEWHERE),
    ("guided_json", never, FORMS_ELSEWHERE),
    ("guided_regex", never, FORMS_ELSEWHERE),
    ("guided_choice", never, FORMS_ELSEWHERE),
    ("guided_grammar", never, FORMS_ELSEWHERE),
    ("json_schema", never, FORMS_ELSEWHERE),
    ("grammar", is_empty, FORMS_ELSEWHERE),
];

const FORMS_ELSEWHERE: &str = "null: forms of answers are for /v1/chat/completions and /v1/responses";

/// Refuses the first of these fields that asks for something.
pub(crate) fn refuse(given: &Draw, fields: &[NotServed]) -> Result<(), ApiError> {
    for (name, is_nothing, expected) in fields {
        if let Some(value) = given.get(name).filter(|value| !is_nothing(value)) {
            return Err(wrong(name, value, expected));
        }
    }
    Ok(())
}

fn is_one(value: &Value) -> bool {
    value.as_f64() == Some(1.0)
}

fn is_zero(value: &Value) -> bool {
    value.as_f64() == Some(0.0)
}

fn is_false(value: &Value) -> bool {
    *value == false
}

fn is_true(value: &Value) -> bool {
    *value == true
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::String(text) => text.is_empty(),
        Value::Array(values) => values.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        _ => false,
    }
}

fn is_text(value: &Value) -> bool {
    value.as_array().is_some_and(|kinds| kinds.iter().all(|kind| kind == "text"))
}

fn is_free(value: &Value) -> bool {
    value["type"] == "text"
}

fn never(_value: &Value) -> bool {
    false
}

#[cfg(test)]
mod tests {
    use serde_json::{from_value, json};

    use super::*;

    #[test]
    fn every_field_is_refused_by_name_and_accepted_where_it_asks_for_nothing() {
        let nothings = json!({
            "repetition_penalty": 1.0, "repeat_penalty": 1, "min_tokens": 0, "ignore_eos": false, "use_beam_search": false,
            "typical_p": 1, "mirostat": 0, "xtc_probability": 0.0, "dry_multiplier": 0, "bad_words": [], "n": 1, "best_of": 1,
            "echo": false, "modalities": ["text"], "continue_final_message": false, "add_generation_prompt": true,
            "chat_template": "", "grammar": "", "suffix": "", "response_format": {"type": "text"}, "structured_outputs": {},
        });
        let with = |name: &str, value: Value| from_value::<Draw>(json!({ name: value })).expect("fields");
        for (name, is_nothing, expected) in NOT_SERVED.iter().chain(&NOT_FOR_CHAT).chain(&NOT_FOR_COMPLETIONS) {
            let field = [(*name, *is_nothing, *expected)];
            for value in [Value::Null].iter().chain(nothings.get(name)) {
                assert_eq!(refuse(&with(name, value.clone()), &field), Ok(()), "{name}: {value}");
            }
            for value in [json!(2), json!("other"), json!(["audio"]), json!({"a": 1})] {
                let error = refuse(&with(name, value.clone()), &field).expect_err(name);
                assert_eq!(error.param.as_deref(), Some(*name));
                assert!(error.message.contains(name) && error.message.contains(expected), "{error}");
            }
        }
    }
}
