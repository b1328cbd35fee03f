//! Log probabilities in the three dialects that have them, and tokens by id.

use serde_json::{Value, json};

use super::api::{ANSWER, HUNGARY, REASONING, by_contract, demo, question};
use super::support::{nano, run_with_input};

/// The tokens of a list of log probabilities, joined. In each place as many are told as were asked for, the likeliest first, of which
/// a greedy draw takes the first.
#[track_caller]
fn joined(logprobs: &Value, top: usize) -> String {
    let each = |entry: &Value| {
        let best = entry["top_logprobs"].as_array().expect("a list");
        let values: Vec<f64> = best.iter().map(|best| best["logprob"].as_f64().expect("a number")).collect();
        assert_eq!(values.len(), top, "{entry}");
        assert!(values.is_sorted_by(|one, next| one >= next), "{entry}");
        assert!(values.iter().map(|value| value.exp()).sum::<f64>() <= 1.000_01, "{entry}");
        assert!(values.first().is_none_or(|first| entry["logprob"] == *first), "{entry}");
        assert_eq!(entry["bytes"], json!(entry["token"].as_str().expect("a text").as_bytes()));
        entry["token"].as_str().expect("a text").to_owned()
    };
    logprobs.as_array().expect("a list").iter().map(each).collect()
}

fn part(response: &Value) -> &Value {
    let items = response["output"].as_array().expect("items");
    &items.iter().find(|item| item["type"] == "message").expect("a message")["content"][0]
}

#[test]
fn chats_and_responses_tell_the_same_of_the_same_answer() {
    let server = demo();
    let mut chat = question(HUNGARY);
    chat["logprobs"] = true.into();
    chat["top_logprobs"] = 20.into();
    // A prompt that the cache has is computed from its last token on, whose logits need not be the same to the last
    // bit as among others. From here on the cache has it.
    server.post("/v1/chat/completions", &chat);
    let of_chat = server.post("/v1/chat/completions", &chat)["choices"][0]["logprobs"]["content"].clone();
    assert_eq!(joined(&of_chat, 20), ANSWER);
    let asked = json!({"input": HUNGARY, "temperature": 0, "top_logprobs": 20});
    let response = server.post("/v1/responses", &asked);
    assert_eq!((&part(&response)["logprobs"], &response["top_logprobs"]), (&of_chat, &json!(20)));
    // In a stream they come with the deltas and again with the ends.
    let events = by_contract(&server.stream("/v1/responses", asked));
    let named = |name: &str| events.iter().filter(|event| event["type"] == name).cloned().collect::<Vec<Value>>();
    let of_deltas = named("response.output_text.delta");
    let of_deltas = of_deltas.iter().flat_map(|event| event["logprobs"].as_array().expect("a list").clone());
    assert_eq!(Value::from(of_deltas.collect::<Vec<_>>()), of_chat);
    assert_eq!(named("response.output_text.done")[0]["logprobs"], of_chat);
    assert_eq!(part(&events.last().expect("an end")["response"])["logprobs"], of_chat);
    // They can be asked for without others in their place.
    let include = json!({"input": HUNGARY, "temperature": 0, "include": ["message.output_text.logprobs"]});
    let alone = part(&server.post("/v1/responses", &include))["logprobs"].clone();
    assert_eq!(joined(&alone, 0), ANSWER);
    let of = |list: &Value| list.as_array().expect("a list").iter().map(|it| it["logprob"].clone()).collect::<Vec<_>>();
    assert_eq!(of(&alone), of(&of_chat));
    assert_eq!(
        part(&server.post("/v1/responses", &json!({"input": HUNGARY, "temperature": 0})))["logprobs"],
        json!([])
    );
}

#[test]
fn completions_tell_them_in_columns() {
    let server = demo();
    let asked = json!({"prompt": "Add 12 and", "max_tokens": 12, "temperature": 0, "logprobs": 3});
    let choice = server.post("/v1/completions", &asked)["choices"][0].clone();
    let list = |of: &Value, name: &str| of["logprobs"][name].as_array().expect("a list").clone();
    let text = choice["text"].as_str().expect("a text");
    let mut at = 0;
    for (token, offset) in list(&choice, "tokens").iter().zip(list(&choice, "text_offset")) {
        let token = token.as_str().expect("a text");
        assert_eq!(offset, text[..at].chars().count());
        assert!(text[at..].starts_with(token), "{token:?} at {at} of {text:?}");
        at += token.len();
    }
    assert_eq!(at, text.len());
    for (best, own) in list(&choice, "top_logprobs").iter().zip(list(&choice, "token_logprobs")) {
        let best = best.as_object().expect("an object");
        assert!((1..=3).contains(&best.len()) && best.values().all(|other| other.as_f64() <= own.as_f64()), "greedy");
    }
    let chunks = server.stream("/v1/completions", asked);
    for name in ["tokens", "token_logprobs", "top_logprobs", "text_offset"] {
        let told = chunks.iter().filter_map(|(_, data)| serde_json::from_str::<Value>(data).ok());
        let told: Vec<Value> = told.flat_map(|chunk| list(&chunk["choices"][0], name)).collect();
        assert_eq!(told, list(&choice, name), "{name}");
    }
}

/// Also of a token that is none of the likely ones, drawn hot or asked for by a schema.
#[test]
fn the_probability_of_any_token_is_known() {
    let server = demo();
    let mut unlikely = 0;
    for seed in 0..6 {
        let asked = json!({"prompt": "Add 12 and", "max_tokens": 80, "temperature": 2, "seed": seed, "logprobs": 20});
        let told = server.post("/v1/completions", &asked)["choices"][0]["logprobs"].clone();
        let list = |name: &str| told[name].as_array().expect("a list").clone();
        for (own, best) in list("token_logprobs").iter().zip(list("top_logprobs")) {
            let (own, best) = (own.as_f64().expect("a number"), best.as_object().expect("an object").values());
            let least = best.map(|other| other.as_f64().expect("a number")).fold(0.0, f64::min);
            assert!(own > -100.0, "{own}");
            unlikely += usize::from(own < least);
        }
    }
    assert!(unlikely > 0, "hot draws take tokens beyond the twenty best");
    let schema = json!({"type": "object", "properties": {"zebra": {"type": "integer"}}, "required": ["zebra"],
                        "additionalProperties": false});
    let format = json!({"type": "json_schema", "name": "z", "schema": schema, "strict": true});
    let asked = json!({"input": HUNGARY, "temperature": 0, "text": {"format": format}, "max_output_tokens": 200,
                       "include": ["message.output_text.logprobs"]});
    let response = server.post("/v1/responses", &asked);
    let told = part(&response)["logprobs"].as_array().expect("a list");
    let of: Vec<f64> = told.iter().map(|it| it["logprob"].as_f64().expect("a number")).collect();
    assert!(of.len() > 3 && of.iter().all(|logprob| (-100.0..=0.0).contains(logprob)), "{response}");
}

#[test]
fn what_cannot_be_told_is_refused_by_name() {
    let server = demo();
    let messages = json!([{"role": "user", "content": HUNGARY}]);
    for (path, body, param) in [
        ("chat/completions", json!({"messages": messages, "logprobs": true, "top_logprobs": 21}), "top_logprobs"),
        ("chat/completions", json!({"messages": messages, "top_logprobs": 2}), "top_logprobs"),
        ("completions", json!({"prompt": "a", "logprobs": 21}), "logprobs"),
        ("responses", json!({"input": HUNGARY, "top_logprobs": 21}), "top_logprobs"),
    ] {
        let (status, _, text) = server.ask("POST", &format!("/v1/{path}"), "", &body.to_string());
        let error = serde_json::from_str::<Value>(&text).unwrap()["error"].clone();
        assert!(status == 400 && error["param"] == param, "{body}: {text}");
        assert!(error["message"].as_str().unwrap().contains("expected"), "{text}");
    }
}

#[test]
fn a_token_ends_a_chat_too() {
    let server = demo();
    let mut chat = question(HUNGARY);
    chat["logprobs"] = true.into();
    let whole = server.post("/v1/chat/completions", &chat)["choices"][0].clone();
    let tokens = whole["logprobs"]["content"].as_array().expect("a list").iter();
    let mut texts = tokens.map(|token| token["token"].as_str().expect("a text"));
    // One that the reasoning does not have, where it would end the answer, too.
    let id = id_of(texts.find(|text| !REASONING.contains(text) && text.starts_with(' ')).expect("a word"));
    chat["stop_token_ids"] = json!([id]);
    let cut = server.post("/v1/chat/completions", &chat)["choices"][0].clone();
    assert_eq!((&cut["finish_reason"], &cut["stop_reason"]), (&json!("stop"), &json!(id)));
    let said = cut["message"]["content"].as_str().expect("a text");
    assert!(ANSWER.starts_with(said) && said.len() < ANSWER.len(), "{said}");
}

/// The id of a text that is one token.
fn id_of(text: &str) -> u32 {
    let input = json!({"text": text}).to_string();
    let run = run_with_input(&["tokenize", "--gguf", nano()], input.as_bytes()).expect(0);
    let ids: Vec<u32> = serde_json::from_value(run.rows()[0]["tokens"].clone()).expect("ids");
    assert_eq!(ids.len(), 1, "{text:?}");
    ids[0]
}
