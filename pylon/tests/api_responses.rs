//! Responses as clients go on from them: by id, by references to items, cut, and from instructions alone.

use serde_json::{Value, json};

use super::api::{HUNGARY, PARIS, Server, by_contract, demo, question, weather_schema};

#[track_caller]
fn refused(server: &Server, body: &Value, param: &str) {
    let (status, _, text) = server.ask("POST", "/v1/responses", "", &body.to_string());
    let error = serde_json::from_str::<Value>(&text).unwrap()["error"].clone();
    assert!(status == 400 && error["param"] == param, "{body}: {text}");
    assert!(error["message"].as_str().is_some_and(|message| message.contains(param)), "{text}");
}

/// Tokens of the prompt.
#[track_caller]
fn read(server: &Server, body: &Value) -> u64 {
    server.post("/v1/responses", body)["usage"]["input_tokens"].as_u64().expect("a number")
}

fn user(text: &str) -> Value {
    json!({"role": "user", "content": text})
}

fn weather() -> Value {
    json!([{"type": "function", "name": "get_weather", "description": "Get the current weather in a city.",
        "parameters": weather_schema()}])
}

#[test]
fn what_the_developer_said_stays_when_only_the_id_comes_back() {
    let server = demo();
    let developer = json!({"role": "developer", "content": "Answer in one short sentence, and in English."});
    let first = server.post("/v1/responses", &json!({"input": [developer, user(HUNGARY)], "temperature": 0}));
    let by_id = json!({"input": "And of France?", "previous_response_id": first["id"], "temperature": 0});
    let mut items = vec![developer, user(HUNGARY)];
    items.extend(first["output"].as_array().expect("items").iter().cloned());
    items.push(user("And of France?"));
    let second = server.post("/v1/responses", &by_id);
    assert_eq!(second["usage"]["input_tokens"], read(&server, &json!({"input": items, "temperature": 0})));
    // `instructions` are those of one response only.
    let bare = server.post("/v1/responses", &json!({"input": HUNGARY, "instructions": "Be brief.", "temperature": 0}));
    let next = json!({"input": "And?", "previous_response_id": bare["id"], "temperature": 0});
    let other =
        json!({"input": "And?", "previous_response_id": bare["id"], "instructions": "Be brief.", "temperature": 0});
    assert!(read(&server, &next) < read(&server, &other));
}

#[test]
fn items_that_are_kept_can_be_referred_to() {
    let server = demo();
    let first = server.post("/v1/responses", &json!({"input": PARIS, "tools": weather(), "temperature": 0}));
    let output = first["output"].as_array().expect("items").clone();
    let [.., call] = &output[..] else { panic!("{first}") };
    assert_eq!(call["type"], "function_call");
    let result = json!({"type": "function_call_output", "call_id": call["call_id"], "output": "{\"temperature\": 21, \"sky\": \"sunny\"}"});
    let reference = |item: &Value| json!({"type": "item_reference", "id": item["id"]});
    let around = |items: Vec<Value>| {
        let input: Vec<Value> = [vec![user(PARIS)], items, vec![result.clone()]].concat();
        server.post("/v1/responses", &json!({"input": input, "tools": weather(), "temperature": 0}))
    };
    let (referred, written) = (around(output.iter().map(reference).collect()), around(output));
    let text = |response: &Value| response["output"].as_array().unwrap().last().unwrap()["content"][0]["text"].clone();
    assert_eq!(text(&referred), "It is 21 degrees and sunny in Paris.");
    assert_eq!(
        (text(&referred), &referred["usage"]["input_tokens"]),
        (text(&written), &written["usage"]["input_tokens"])
    );
    refused(
        &server,
        &json!({"input": [user("a"), {"type": "item_reference", "id": "msg_none"}, user("b")]}),
        "input[1].id",
    );
}

/// Of each item that a stream told: its type and its state when it was done. And the state of the whole.
fn told(server: &Server, body: &Value) -> (Vec<(String, String)>, Value) {
    let events = by_contract(&server.stream("/v1/responses", body.clone()));
    let text = |value: &Value| value.as_str().expect("a text").to_owned();
    let done = events.iter().filter(|event| event["type"] == "response.output_item.done");
    let done = done.map(|event| (text(&event["item"]["type"]), text(&event["item"]["status"]))).collect();
    (done, events.last().expect("an end")["response"].clone())
}

#[test]
fn only_the_item_that_was_cut_is_incomplete() {
    let server = demo();
    let asked = |most: u64| json!({"input": PARIS, "tools": weather(), "temperature": 0, "max_output_tokens": most});
    let (mut cut_in_reasoning, mut cut_in_call) = (0, 0);
    let (_, whole) = told(&server, &asked(400));
    let tokens = whole["usage"]["output_tokens"].as_u64().unwrap();
    for most in 16..=tokens {
        let (done, response) = told(&server, &asked(most));
        let kept = response["output"].as_array().unwrap().iter();
        let kept: Vec<_> = kept.map(|item| (item["type"].clone(), item["status"].clone())).collect();
        assert_eq!(json!(done), json!(kept), "the events and the object say the same");
        if most == tokens {
            assert!(response["status"] == "completed" && done.iter().all(|(_, status)| status == "completed"));
            continue;
        }
        assert_eq!(response["status"], "incomplete");
        let (last, before) = done.split_last().expect("an item");
        assert!(before.iter().all(|(_, status)| status == "completed"), "{done:?}");
        match (last.0.as_str(), last.1.as_str()) {
            ("reasoning", "incomplete") => cut_in_reasoning += 1,
            ("function_call", "incomplete") => cut_in_call += 1,
            // It was whole, and the next one had no text yet.
            ("reasoning", "completed") => {}
            _ => panic!("{most}: {done:?}"),
        }
        assert_eq!(server.post("/v1/responses", &asked(most))["output"].as_array().unwrap().len(), done.len());
    }
    assert!(cut_in_call > 0, "{tokens} tokens, {cut_in_reasoning} cut in reasoning");
}

#[test]
fn a_conversation_of_instructions_alone_begins() {
    let server = demo();
    for input in [json!([{"role": "system", "content": HUNGARY}]), json!([{"role": "developer", "content": HUNGARY}])] {
        let response = server.post("/v1/responses", &json!({"input": input, "temperature": 0}));
        let asked = read(&server, &json!({"input": HUNGARY, "temperature": 0}));
        assert!(response["usage"]["input_tokens"].as_u64() > Some(20), "{response}");
        assert_ne!(response["usage"]["input_tokens"].as_u64(), Some(asked), "nobody asked anything");
    }
    refused(&server, &json!({"input": []}), "input");
    refused(&server, &json!({"input": [user("a"), {"role": "assistant", "content": "b"}]}), "input");
}

#[test]
fn what_would_change_an_answer_is_refused_and_the_rest_is_told_again() {
    let server = demo();
    for (field, value, param) in [
        ("conversation", json!("conv_1"), "conversation"),
        ("conversation", json!({"id": "conv_1"}), "conversation"),
        ("prompt", json!({"id": "pmpt_1"}), "prompt"),
        ("truncation", json!("sideways"), "truncation"),
        ("text", json!({"verbosity": "loud"}), "text.verbosity"),
        ("metadata", json!({"a": 5}), "metadata.a"),
    ] {
        let mut body = json!({"input": HUNGARY});
        body[field] = value;
        refused(&server, &body, param);
    }
    let echoed = json!({"input": HUNGARY, "temperature": 0, "text": {"verbosity": "low"}, "max_tool_calls": 3,
        "prompt_cache_key": "k", "safety_identifier": "s", "conversation": null, "prompt": null});
    let response = server.post("/v1/responses", &echoed);
    for field in ["max_tool_calls", "prompt_cache_key", "safety_identifier"] {
        assert_eq!(response[field], echoed[field], "{field}");
    }
    assert_eq!(response["text"]["verbosity"], "low");
}

/// A turn that was cut while the model reasoned shows nothing by which it could be told from others.
#[test]
fn nobody_hears_what_the_model_thought_for_somebody_else() {
    let server = demo();
    let mut body = question("Hi there");
    body["max_tokens"] = 1.into();
    body["messages"] = json!([user("Hi there"), {"role": "assistant", "content": ""}, user("?")]);
    let read = || server.post("/v1/chat/completions", &body)["usage"]["prompt_tokens"].clone();
    let before = read();
    let mut cut = question("Spell the word strawberry, and name its letters.");
    cut["max_tokens"] = 16.into();
    let cut = server.post("/v1/chat/completions", &cut)["choices"][0].clone();
    assert!(cut["message"]["content"].is_null() && cut["message"]["reasoning"].is_string(), "{cut}");
    assert_eq!(read(), before);
}

/// The prompt's tokens and those that the cache had, of a chat.
fn cached(server: &Server, messages: &[Value]) -> (u64, u64) {
    let mut body = question("");
    body["messages"] = json!(messages);
    let usage = server.post("/v1/chat/completions", &body)["usage"].clone();
    let number = |value: &Value| value.as_u64().expect("a number");
    (number(&usage["prompt_tokens"]), number(&usage["prompt_tokens_details"]["cached_tokens"]))
}

#[test]
fn what_the_system_says_later_stands_where_it_was_said() {
    let server = demo();
    let said = json!({"role": "assistant", "content": "Budapest."});
    let system = |text: &str| json!({"role": "system", "content": text});
    let begun = [system("Be brief."), user(HUNGARY), said];
    let (read, _) = cached(&server, &[&begun[..], &[user("And of France?")]].concat());
    // Everything before it is in the cache: nothing moved to the front.
    let later = [&begun[..], &[system("Answer in English."), user("And of France?")]].concat();
    let (more, of_cache) = cached(&server, &later);
    assert!(more > read && of_cache + 30 > read, "{of_cache} of {more}, {read} before");
    // It can be the last, or all there is.
    cached(&server, &[&begun[..], &[system("Now name its river.")]].concat());
    cached(&server, &[system(HUNGARY)]);
    let anthropic = |messages: Value, system: &str| {
        let body = json!({"max_tokens": 60, "temperature": 0, "system": system, "messages": messages});
        server.ask("POST", "/v1/messages", "", &body.to_string()).0
    };
    assert_eq!(anthropic(json!([user("Hi"), {"role": "system", "content": "Be kind."}]), ""), 200);
    assert_eq!(anthropic(json!([]), HUNGARY), 200);
    assert_eq!((anthropic(json!([]), ""), anthropic(json!([{"role": "assistant", "content": "a"}]), "a")), (400, 400));
}
