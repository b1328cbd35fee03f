//! `/v1/messages` over real sockets, with the demo model.

use serde_json::{Value, json};

use super::api::{ANSWER, HUNGARY, REASONING, Server, demo, weather_schema};

fn question(text: &str) -> Value {
    let messages = json!([{"role": "user", "content": text}]);
    json!({"model": "gpt-oss-nano", "max_tokens": 500, "temperature": 0, "messages": messages})
}

/// Every event of a stream, with its name; each says its type in its data, too.
#[track_caller]
fn events(server: &Server, body: Value) -> Vec<Value> {
    let events = server.stream("/v1/messages", body);
    let event = |(name, data): (Option<String>, String)| {
        let data: Value = serde_json::from_str(&data).expect("JSON");
        assert_eq!(data["type"].as_str(), name.as_deref());
        data
    };
    events.into_iter().map(event).collect()
}

/// The blocks that the events of a stream make, as a client puts them together.
#[track_caller]
fn blocks(events: &[Value]) -> Vec<Value> {
    let mut blocks: Vec<Value> = Vec::new();
    let mut open: Option<(usize, String)> = None;
    for event in events {
        match event["type"].as_str().expect("a type") {
            "content_block_start" => {
                assert!(open.is_none() && event["index"] == blocks.len());
                blocks.push(event["content_block"].clone());
                open = Some((blocks.len() - 1, String::new()));
            }
            "content_block_delta" => {
                let (at, text) = open.as_mut().expect("a block is open");
                assert_eq!(event["index"], *at);
                let (kind, field) = match blocks[*at]["type"].as_str().expect("a type") {
                    "thinking" => ("thinking_delta", "thinking"),
                    "text" => ("text_delta", "text"),
                    "tool_use" => ("input_json_delta", "partial_json"),
                    other => panic!("{other}"),
                };
                assert_eq!(event["delta"]["type"], kind);
                text.push_str(event["delta"][field].as_str().expect("text"));
            }
            "content_block_stop" => {
                let (at, text) = open.take().expect("a block is open");
                assert_eq!(event["index"], at);
                match blocks[at]["type"].as_str().expect("a type").to_owned().as_str() {
                    "tool_use" => blocks[at]["input"] = serde_json::from_str(&text).expect("JSON"),
                    field => blocks[at][field] = text.into(),
                }
            }
            _ => assert!(open.is_none(), "{event}"),
        }
    }
    blocks
}

#[test]
fn a_message_is_answered_whole_and_in_events() {
    let server = demo();
    let whole = server.post("/v1/messages", &question(HUNGARY));
    // Who does not ask for thoughts reads the answer first.
    assert_eq!(whole["content"], json!([{"type": "text", "text": ANSWER}]));
    assert_eq!(
        (&whole["type"], &whole["role"], &whole["stop_reason"], &whole["stop_sequence"]),
        (&json!("message"), &json!("assistant"), &json!("end_turn"), &Value::Null)
    );
    let counted = server.post("/v1/messages/count_tokens", &question(HUNGARY));
    let tokens = |usage: &Value| {
        ["input_tokens", "cache_read_input_tokens", "cache_creation_input_tokens"]
            .iter()
            .map(|name| usage[name].as_u64().expect("a number"))
            .sum::<u64>()
    };
    assert_eq!(counted["input_tokens"], tokens(&whole["usage"]));

    let mut body = question(HUNGARY);
    body["thinking"] = json!({"type": "enabled", "budget_tokens": 1024});
    let events = events(&server, body);
    let names: Vec<_> = events.iter().map(|event| event["type"].as_str().expect("a type")).collect();
    assert_eq!((names[0], &names[names.len() - 2..]), ("message_start", &["message_delta", "message_stop"][..]));
    let start = &events[0]["message"];
    assert_eq!((&start["content"], &start["stop_reason"]), (&json!([]), &Value::Null));
    assert_eq!(counted["input_tokens"], tokens(&start["usage"]), "known before the first word");
    let want = json!([
        {"type": "thinking", "thinking": REASONING, "signature": ""}, {"type": "text", "text": ANSWER}]);
    assert_eq!(json!(blocks(&events)), want);
    let end = &events[events.len() - 2];
    assert_eq!(end["delta"], json!({"stop_reason": "end_turn", "stop_sequence": null}));
    assert_eq!(end["usage"]["output_tokens"], whole["usage"]["output_tokens"]);
}

#[test]
fn a_tool_is_used_and_its_result_is_read_with_the_cache_of_the_turn_before() {
    let server = demo();
    let mut body = question("What is the weather in Paris?");
    body["tools"] = json!([
        {"name": "get_weather", "description": "Get the current weather in a city.", "input_schema": weather_schema()},
        {"type": "web_search_20250305", "name": "web_search"},
    ]);
    let streamed = events(&server, body.clone());
    let first = server.post("/v1/messages", &body);
    assert_eq!((&first["stop_reason"], &first["content"][0]["type"]), (&json!("tool_use"), &json!("tool_use")));
    let call = &first["content"][0];
    assert_eq!((&call["name"], &call["input"]), (&json!("get_weather"), &json!({"city": "Paris"})));
    assert_eq!(first["pylon"], json!({"tools_left_out": ["web_search"]}));
    let in_stream = &blocks(&streamed)[0];
    assert_eq!((&in_stream["name"], &in_stream["input"]), (&call["name"], &call["input"]));

    let result = json!({"type": "tool_result", "tool_use_id": call["id"],
        "content": [{"type": "text", "text": "{\"temperature\": 21, \"sky\": \"sunny\"}"}]});
    let turns =
        [json!({"role": "assistant", "content": first["content"]}), json!({"role": "user", "content": [result]})];
    body["messages"].as_array_mut().expect("messages").extend(turns);
    let second = server.post("/v1/messages", &body);
    assert_eq!(second["content"][0]["text"], "It is 21 degrees and sunny in Paris.");
    // All that was read and written before, the call's last token aside.
    let number = |of: &Value, name: &str| of["usage"][name].as_u64().expect("a number");
    let before = ["input_tokens", "cache_read_input_tokens", "output_tokens"].map(|name| number(&first, name));
    assert!(number(&second, "cache_read_input_tokens") + 1 >= before.iter().sum(), "{first} {second}");
}

#[test]
fn what_ends_or_refuses_a_message_is_said_in_its_dialect() {
    let server = demo();
    let mut body = question(HUNGARY);
    body["stop_sequences"] = json!([" is"]);
    let stopped = server.post("/v1/messages", &body);
    assert_eq!((&stopped["stop_reason"], &stopped["stop_sequence"]), (&json!("stop_sequence"), &json!(" is")));
    assert_eq!(stopped["content"][0]["text"], "The capital of Hungary");
    // Two of these end first, and together: the longer one ended it.
    body["stop_sequences"] = json!(["Hun", " is", "gary", " of Hun"]);
    let stopped = server.post("/v1/messages", &body);
    assert_eq!((&stopped["stop_reason"], &stopped["stop_sequence"]), (&json!("stop_sequence"), &json!(" of Hun")));
    assert_eq!(stopped["content"][0]["text"], "The capital");
    body["stream"] = true.into();
    let streamed = events(&server, body);
    let delta = json!({"stop_reason": "stop_sequence", "stop_sequence": " of Hun"});
    assert_eq!(streamed[streamed.len() - 2]["delta"], delta);

    body = question(HUNGARY);
    body["max_tokens"] = 8.into();
    let cut = server.post("/v1/messages", &body);
    assert_eq!((&cut["stop_reason"], &cut["content"]), (&json!("max_tokens"), &json!([])));
    body["thinking"] = json!({"type": "adaptive"});
    let events = events(&server, body);
    assert_eq!(blocks(&events).len(), 1, "a block that was cut is ended, too: {events:?}");

    let refused = |path: &str, body: &str, status: u16, kind: &str, word: &str| {
        let headers = if kind == "permission_error" { "Origin: https://example.org\r\n" } else { "" };
        let (got, head, text) = server.ask("POST", path, headers, body);
        let error: Value = serde_json::from_str(&text).expect("JSON");
        assert_eq!((got, &error["type"], &error["error"]["type"]), (status, &json!("error"), &json!(kind)), "{head}");
        assert!(error["error"]["message"].as_str().expect("a text").contains(word), "{error}");
    };
    let messages = "\"messages\": [{\"role\": \"user\", \"content\": \"Hi\"}]";
    refused("/v1/messages", "{", 400, "invalid_request_error", "cannot be read");
    refused(
        "/v1/messages",
        &format!("{{\"temperature\": 9, {messages}}}"),
        400,
        "invalid_request_error",
        "temperature",
    );
    refused("/v1/messages/count_tokens", "{\"messages\": []}", 400, "invalid_request_error", "messages");
    refused("/v1/messages", &format!("{{\"model\": \"other\", {messages}}}"), 404, "not_found_error", "other");
    refused("/v1/messages", &format!("{{{messages}}}"), 403, "permission_error", "example.org");
}
