//! Fields that other servers know, that would change an answer, and that are not served. A value that asks for nothing but what is
//! done anyway is accepted, and any other refused by the field's name: ignored, it would make another answer than was asked for.

use serde_json::Value;

use crate::error::ApiError;
use crate::prompt::{Draw, wrong};

/// A field, the values of it that ask for nothing, and what is expected in its place.
pub(crate) type NotServed = (&'static str, fn(&Value) -> bool, &'static str);

/// In every dialect: how tokens are drawn, and when they end.
pub(crate) const NOT_SERVED: &[&[NotServed]] = &[&[
    ("repetition_penalty", is_one, PENALTIES),
    ("repeat_penalty", is_one, PENALTIES),
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
    ("allowed_token_ids", never, "null: logit_bias keeps tokens out, and forms of answers say what may come"),
    ("truncate_prompt_tokens", never, "null: prompts are not shortened here"),
    ("prompt_logprobs", never, "null: log probabilities are told of the answer's tokens"),
    ("include_reasoning", is_true, "true: what the model thinks is told, in fields of its own"),
    // Completions have a field for it, and it is not among these there.
    ("return_token_ids", is_false, "false: /v1/completions tells token ids"),
]];

const PENALTIES: &str = "1: presence_penalty and frequency_penalty are what this server has against repetition";

/// What other servers have for several answers, or for others than a text.
const ONE_TEXT: [NotServed; 4] = [
    ("n", is_one, "1: a request has one answer"),
    ("best_of", is_one, "1: a request has one answer"),
    ("echo", is_false, "false: the answer is what the model says"),
    ("modalities", is_text, "[\"text\"]: gpt-oss writes text only"),
];

/// What other servers call the form of an answer, where a dialect has another word for it.
const fn forms(expected: &'static str) -> [NotServed; 9] {
    [
        ("response_format", is_free, expected),
        ("structured_outputs", is_empty, expected),
        ("guided_json", never, expected),
        ("guided_regex", never, expected),
        ("guided_choice", never, expected),
        ("guided_grammar", never, expected),
        ("guided_whitespace_pattern", never, expected),
        ("json_schema", never, expected),
        ("grammar", is_empty, expected),
    ]
}

/// The functions of OpenAI's first models, and how a prompt is written, where neither was ever served.
const OF_OTHERS: [NotServed; 3] = [
    ("functions", is_empty, "tools and tool_choice in its place"),
    ("function_call", never, "tools and tool_choice in its place"),
    ("chat_template", is_empty, NO_TEMPLATE),
];

const NO_TEMPLATE: &str = "null: what is said becomes Harmony, the format that gpt-oss was trained with";

/// In chat completions.
pub(crate) const NOT_FOR_CHAT: &[&[NotServed]] = &[
    &ONE_TEXT,
    &[
        ("audio", never, "null: gpt-oss writes text only"),
        ("continue_final_message", is_false, "false: to go on with a text, ask /v1/completions"),
        ("add_generation_prompt", is_true, "true: the model answers the last message"),
        ("chat_template", is_empty, NO_TEMPLATE),
        ("grammar", is_empty, "structured_outputs.grammar in its place, with a grammar in Lark: GBNF is not read"),
        ("guided_whitespace_pattern", never, "null: between the parts of JSON are at most 64 blanks at one place"),
    ],
];

const FORM_IN_RESPONSES: &str = "null: in responses text.format says what form the answer has";
const NO_STOPS: &str = "none: responses know no stop sequences, /v1/chat/completions does";

/// In responses.
pub(crate) const NOT_FOR_RESPONSES: &[&[NotServed]] = &[
    &ONE_TEXT,
    &forms(FORM_IN_RESPONSES),
    &OF_OTHERS,
    &[
        ("output_format", is_free, FORM_IN_RESPONSES),
        ("stop", is_empty, NO_STOPS),
        ("stop_sequences", is_empty, NO_STOPS),
        ("stop_token_ids", is_empty, NO_STOPS),
        ("logprobs", is_false, "top_logprobs in its place, or \"message.output_text.logprobs\" in include"),
        ("max_tokens", never, "max_output_tokens in its place"),
        ("max_completion_tokens", never, "max_output_tokens in its place"),
        ("reasoning_effort", never, "reasoning.effort in its place"),
    ],
];

/// In messages.
pub(crate) const NOT_FOR_MESSAGES: &[&[NotServed]] = &[
    &ONE_TEXT,
    &forms("null: in messages output_config.format says what form the answer has"),
    &OF_OTHERS,
    &[
        ("stop", is_empty, "stop_sequences in its place"),
        ("stop_token_ids", is_empty, "stop_sequences in its place: tokens are for /v1/chat/completions"),
        ("logprobs", is_false, "false: /v1/chat/completions tells log probabilities"),
        ("top_logprobs", is_zero, "0: /v1/chat/completions tells log probabilities"),
        ("max_completion_tokens", never, "max_tokens in its place"),
        ("reasoning_effort", never, "output_config.effort in its place"),
    ],
];

/// In completions, which have no forms.
pub(crate) const NOT_FOR_COMPLETIONS: &[&[NotServed]] = &[
    &[
        ("echo", is_false, "false: put the prompt before the text that comes"),
        ("suffix", is_empty, "an empty text: gpt-oss was not trained to fill gaps"),
        ("grammar", is_empty, "null: /v1/chat/completions takes a grammar in Lark, as structured_outputs.grammar"),
    ],
    &ONE_TEXT,
    &forms(
        "null: /v1/chat/completions takes this field, and of forms of answers /v1/responses has text.format and /v1/messages \
         output_config.format",
    ),
];

/// Refuses the first of these fields that asks for something.
pub(crate) fn refuse(given: &Draw, tables: &[&[NotServed]]) -> Result<(), ApiError> {
    for (name, is_nothing, expected) in tables.iter().copied().flatten() {
        if let Some(value) = given.get(name).filter(|value| !is_nothing(value)) {
            return Err(wrong(name, value, expected));
        }
    }
    Ok(())
}

/// Refuses stop sequences that are to be told with the answer; where there are none, that asks for nothing.
pub(crate) fn refuse_stops_in_texts(given: &Draw, stop: &[String]) -> Result<(), ApiError> {
    const EXPECTED: &str = "false: a stop sequence is no part of the answer, which ends before it";
    match stop {
        [] => Ok(()),
        _ => refuse(given, &[&[("include_stop_str_in_output", is_false, EXPECTED)]]),
    }
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
            "include_reasoning": true, "return_token_ids": false, "output_format": {"type": "text"}, "stop": "",
            "stop_sequences": [], "stop_token_ids": [], "functions": [], "logprobs": false, "top_logprobs": 0,
        });
        let with = |name: &str, value: Value| from_value::<Draw>(json!({ name: value })).expect("fields");
        let dialects = [NOT_SERVED, NOT_FOR_CHAT, NOT_FOR_COMPLETIONS, NOT_FOR_RESPONSES, NOT_FOR_MESSAGES];
        for (name, is_nothing, expected) in dialects.into_iter().flatten().copied().flatten() {
            let field: &[&[NotServed]] = &[&[(*name, *is_nothing, *expected)]];
            for value in [Value::Null].iter().chain(nothings.get(name)) {
                assert_eq!(refuse(&with(name, value.clone()), field), Ok(()), "{name}: {value}");
            }
            for value in [json!(2), json!("other"), json!(["audio"]), json!({"a": 1})] {
                let error = refuse(&with(name, value.clone()), field).expect_err(name);
                assert_eq!(error.param.as_deref(), Some(*name));
                assert!(error.message.contains(name) && error.message.contains(expected), "{error}");
            }
        }
    }
}
