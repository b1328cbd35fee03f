//! What clients of each dialect read beside the answers, and what pages and watchers may not set off, over real sockets.

use serde_json::{Value, json};

use super::api::{HUNGARY, Server, demo, serve};
use super::support::nano;

/// The value of a header of an answer.
fn header<'h>(head: &'h str, name: &str) -> Option<&'h str> {
    head.lines().find_map(|line| {
        let (key, value) = line.split_once(": ")?;
        key.eq_ignore_ascii_case(name).then_some(value)
    })
}

#[track_caller]
fn object(server: &Server, method: &str, path: &str, headers: &str, body: &str) -> (u16, String, Value) {
    let (status, head, text) = server.ask(method, path, headers, body);
    let object = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{method} {path}: {error}: {head}\n{text}"));
    (status, head, object)
}

fn message(content: Value) -> Value {
    json!({"max_tokens": 8, "temperature": 0, "messages": content})
}

#[test]
fn what_is_of_other_servers_is_left_out_and_said() {
    let server = demo();
    let mut body = message(json!([
        {"role": "user", "content": HUNGARY},
        {"role": "assistant", "content": [
            {"type": "server_tool_use", "id": "s", "name": "web_search", "input": {"query": "q"}},
            {"type": "web_search_tool_result", "tool_use_id": "s", "content": {"type": "error", "error_code": "x"}},
            {"type": "container_upload", "file_id": "f"}, {"type": "text", "text": "Budapest."}]},
        {"role": "user", "content": "And of France?"},
    ]));
    body["tools"] = json!([{"type": "mcp_toolset", "mcp_server_name": "x"}]);
    let with = server.post("/v1/messages", &body);
    let blocks = ["server_tool_use", "web_search_tool_result", "container_upload"];
    assert_eq!(with["pylon"], json!({"tools_left_out": ["mcp_toolset x"], "blocks_left_out": blocks}));
    body["tools"] = json!([]);
    body["messages"][1]["content"] = json!("Budapest.");
    let count = |body: &Value| server.post("/v1/messages/count_tokens", body)["input_tokens"].clone();
    let tokens =
        |usage: &Value| usage["input_tokens"].as_u64().unwrap() + usage["cache_read_input_tokens"].as_u64().unwrap();
    assert_eq!(count(&body), tokens(&with["usage"]), "the model reads the same");

    // All of the prompt but its last token is in the cache the second time, and a stream says so at its start.
    body["stream"] = true.into();
    let events = server.stream("/v1/messages", body);
    let usage = |name: &str, place: &str| -> Value {
        let data = &events.iter().find(|(event, _)| event.as_deref() == Some(name)).unwrap().1;
        serde_json::from_str::<Value>(data).unwrap().pointer(place).unwrap().clone()
    };
    let (start, end) = (usage("message_start", "/message/usage"), usage("message_delta", "/usage"));
    for name in ["input_tokens", "cache_read_input_tokens"] {
        assert_eq!(start[name], end[name], "{start} {end}");
    }
    assert!(start["cache_read_input_tokens"].as_u64().unwrap() > 0, "{start}");
}

#[test]
fn errors_are_those_of_the_dialect_and_name_the_request() {
    let server = serve(&["--gguf", nano(), "--max-kv", "2000", "--api-key", "secret"]);
    const KEY: &str = "x-api-key: secret\r\n";
    for (method, path, headers, status, kind) in [
        ("GET", "/v1/messages", KEY, 405, "invalid_request_error"),
        ("POST", "/v1/messages/unknown", KEY, 404, "not_found_error"),
        ("POST", "/v1/messages", KEY, 400, "invalid_request_error"),
        ("POST", "/v1/messages", "", 401, "authentication_error"),
    ] {
        let (got, head, error) = object(&server, method, path, headers, "{}");
        assert_eq!((got, &error["type"], &error["error"]["type"]), (status, &json!("error"), &json!(kind)), "{error}");
        let id = error["request_id"].as_str().unwrap();
        assert_eq!((header(&head, "request-id"), header(&head, "x-request-id")), (Some(id), Some(id)), "{head}");
    }
    for (method, path, headers, status, code) in [
        ("GET", "/v1/models", "", 401, json!("invalid_api_key")),
        ("GET", "/v1/models/%ff", KEY, 400, json!("invalid_value")),
        ("GET", "/v1/responses/%ff", KEY, 400, json!("invalid_value")),
        ("POST", "/v1/responses/compact", KEY, 404, json!("not_found")),
        ("GET", "/v1/models/openai/gpt-oss-20b", KEY, 404, json!("model_not_found")),
    ] {
        let (got, head, error) = object(&server, method, path, headers, "");
        assert_eq!((got, &error["error"]["code"]), (status, &code), "{path}: {error}");
        assert_eq!(header(&head, "request-id"), None);
    }
    // A prompt that is refused is not read.
    let long = message(json!([{"role": "user", "content": "word ".repeat(3000)}])).to_string();
    assert_eq!(server.ask("POST", "/v1/messages", KEY, &long).0, 400);
    let metrics = server.ask("GET", "/metrics", KEY, "").2;
    assert!(metrics.contains("pylon_prompt_tokens_total{model=\"gpt-oss-nano\"} 0\n"), "{metrics}");
}

#[test]
fn models_are_listed_for_every_client() {
    let server = serve(&["--gguf", nano(), "--max-kv", "2000", "--alias", "openai/gpt-oss-20b"]);
    let (_, _, list) = object(&server, "GET", "/v1/models", "", "");
    let id = json!("gpt-oss-nano");
    assert_eq!((&list["first_id"], &list["last_id"], &list["has_more"]), (&id, &id, &json!(false)));
    let (status, _, model) = object(&server, "GET", "/v1/models/openai/gpt-oss-20b", "", "");
    assert_eq!((status, &model), (200, &list["data"][0]));
    assert_eq!((&model["type"], &model["display_name"]), (&json!("model"), &id));
    let created = model["created_at"].as_str().unwrap();
    let shape: String = created.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect();
    assert_eq!(shape, "0000-00-00T00:00:00Z");

    let asked = json!({"input": HUNGARY, "temperature": 0});
    let counted = server.post("/v1/responses/input_tokens", &asked);
    let answered = server.post("/v1/responses", &asked);
    let expected = json!({"object": "response.input_tokens", "input_tokens": answered["usage"]["input_tokens"]});
    assert_eq!(counted, expected);
}

#[test]
fn a_bench_is_begun_by_those_who_may_and_who_hear_of_it() {
    let server = serve(&["--gguf", nano(), "--max-kv", "2000", "--max-requests", "2"]);
    let site = |site: &str, mode: &str| format!("Sec-Fetch-Site: {site}\r\nSec-Fetch-Mode: {mode}\r\n");
    for path in ["/bench?max_new_tokens=1", "/v1/models", "/health"] {
        let (status, _, error) = object(&server, "GET", path, &site("cross-site", "no-cors"), "");
        assert_eq!((status, &error["error"]["type"]), (403, &json!("permission_error")), "{error}");
    }
    assert_eq!(server.ask("HEAD", "/bench?max_new_tokens=1", "", "").0, 405);
    let (status, head, error) = object(&server, "GET", "/bench?n=3", "", "");
    assert_eq!((status, &error["error"]["param"], header(&head, "retry-after")), (400, &json!("n"), None));
    assert!(error["error"]["message"].as_str().unwrap().contains("--max-requests"), "{error}");
    let generated = || server.ask("GET", "/metrics", "", "").2;
    assert!(generated().contains("pylon_generated_tokens_total{model=\"gpt-oss-nano\"} 0\n"), "nothing was computed");
    // A link that somebody follows, and a page of this machine.
    for headers in [site("cross-site", "navigate"), site("same-site", "no-cors"), String::new()] {
        assert_eq!(server.ask("GET", "/bench?n=2&max_new_tokens=1", &headers, "").0, 200, "{headers}");
    }
}

#[test]
fn a_base_url_without_its_version_and_a_model_of_another_name_are_helped() {
    let server = serve(&["--gguf", nano(), "--max-kv", "2000", "--alias", "fast"]);
    let (status, _, text) = server.ask("POST", "/chat/completions", "", "{}");
    assert!(status == 404 && text.contains("/v1/chat/completions is what is meant"), "{text}");
    let (status, _, text) = server.ask("GET", "/v1/models/other", "", "");
    assert!(status == 404 && text.contains("fast") && text.contains("gpt-oss-nano"), "{text}");
}
