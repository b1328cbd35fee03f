//! Fields of requests: which is wrong, what is refused, forms as other servers have them, tools that are left out.

use serde_json::{Value, json};

use super::api::{HUNGARY, Server, demo, question};
use super::support::nano;
use super::upstream::front;

/// The error of a request that is refused.
#[track_caller]
fn refused(server: &Server, path: &str, body: &Value) -> Value {
    let (status, _, text) = server.ask("POST", path, "", &body.to_string());
    assert_eq!(status, 400, "{body}: {text}");
    serde_json::from_str::<Value>(&text).unwrap()["error"].clone()
}

/// A question in chat with more fields.
fn chat(more: &Value) -> Value {
    let mut body = question(HUNGARY);
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    body
}

#[test]
fn the_field_that_is_wrong_is_named() {
    let server = demo();
    for (path, body, param, word) in [
        ("chat/completions", chat(&json!({"temperature": "hot"})), "temperature", "a number"),
        ("chat/completions", chat(&json!({"seed": 1.5})), "seed", "whole number"),
        ("chat/completions", chat(&json!({"max_tokens": "9"})), "max_tokens", "is \"9\", expected a whole number"),
        ("chat/completions", json!({"model": null}), "messages", "messages is missing, expected"),
        ("completions", json!({"prompt": "a", "top_p": "all"}), "top_p", "a number"),
        ("completions", json!({"max_tokens": 1}), "prompt", "prompt is missing, expected"),
        ("responses", json!({"input": "a", "top_k": []}), "top_k", "a list"),
        ("responses", json!({"input": "a", "repetition_penalty": 1.1}), "repetition_penalty", "presence_penalty"),
        ("chat/completions", chat(&json!({"min_tokens": 5})), "min_tokens", "expected 0"),
        ("chat/completions", chat(&json!({"modalities": ["text", "audio"]})), "modalities", "text only"),
        ("chat/completions", chat(&json!({"grammar": "root ::= \"x\""})), "grammar", "structured_outputs.grammar"),
        ("chat/completions", chat(&json!({"guided_choice": []})), "guided_choice", "list of texts"),
        ("completions", json!({"prompt": "a", "structured_outputs": {"regex": "a"}}), "structured_outputs", "/v1/chat"),
        ("completions", json!({"prompt": "a", "echo": true}), "echo", "expected false"),
        (
            "responses",
            json!({"input": "a", "response_format": {"type": "json_object"}}),
            "response_format",
            "text.format",
        ),
        ("responses", json!({"input": "a", "stop": ["x"]}), "stop", "/v1/chat/completions"),
        ("responses", json!({"input": "a", "max_tokens": 9}), "max_tokens", "max_output_tokens"),
        ("responses", json!({"input": 5}), "input", "a text or a list of items"),
        ("responses", json!({"input": [{"type": "functioncall_output"}]}), "input[0].type", "function_call_output"),
        ("chat/completions", chat(&json!({"messages": [7]})), "messages[0]", "a message"),
        (
            "chat/completions",
            chat(&json!({"messages": [{"role": "user", "content": ["a"]}]})),
            "messages[0].content[0]",
            "a part",
        ),
        ("chat/completions", chat(&json!({"stop": 5})), "stop", "a text or a list of texts"),
        ("chat/completions", chat(&json!({"tools": ["f"]})), "tools[0]", "an object"),
        ("chat/completions", chat(&json!({"logit_bias": {"99999": 1}})), "logit_bias", "99999"),
        ("chat/completions", chat(&json!({"stop_token_ids": [99999]})), "stop_token_ids", "99999"),
        ("completions", json!({"prompt": [99999]}), "prompt", "99999"),
    ] {
        let error = refused(&server, &format!("/v1/{path}"), &body);
        assert_eq!(error["param"], param, "{body}: {error}");
        assert!(error["message"].as_str().unwrap().contains(word), "{error}");
    }
    // Anthropic's dialect has no name for the field but in the words.
    for (more, words) in [
        (
            json!({"messages": [{"role": "user", "content": 5}]}),
            "messages[0].content is 5, expected a text or a list of blocks",
        ),
        (
            json!({"messages": [{"role": "user", "content": [{"type": "text", "text": "a"}, 5]}]}),
            "messages[0].content[1] is 5",
        ),
        (json!({}), "messages is missing"),
        (json!({"messages": [], "stop": "x"}), "stop is \"x\", expected stop_sequences in its place"),
        (json!([]), "the body is a list, expected an object"),
    ] {
        let error = refused(&server, "/v1/messages", &more);
        assert!(error["message"].as_str().unwrap().starts_with(words), "{error}");
    }
}

#[test]
fn chunks_of_completions_have_null_before_the_one_that_tells_the_usage() {
    let server = demo();
    let mut body = json!({"prompt": "Add 12 and", "max_tokens": 4, "temperature": 0});
    let usages = |body: &Value| -> Vec<Option<Value>> {
        let chunks = server.stream("/v1/completions", body.clone());
        let told = chunks.iter().filter_map(|(_, data)| serde_json::from_str::<Value>(data).ok());
        told.map(|chunk| chunk.get("usage").cloned()).collect()
    };
    assert!(usages(&body).iter().all(Option::is_none), "nobody asked");
    body["stream_options"] = json!({"include_usage": true});
    let told = usages(&body);
    let (last, others) = told.split_last().expect("chunks");
    assert!(others.len() > 1 && others.iter().all(|usage| *usage == Some(Value::Null)), "{told:?}");
    assert_eq!(last.as_ref().expect("a usage")["completion_tokens"], 4);
}

#[test]
fn items_that_say_nothing_to_the_model_are_named_in_the_metadata() {
    let server = demo();
    let body = json!({"temperature": 0, "max_output_tokens": 16, "metadata": {"a": "b"}, "input": [
        {"role": "user", "content": HUNGARY},
        {"type": "web_search_call", "id": "ws_1", "status": "completed"},
        {"type": "shell_call_output", "call_id": "s", "output": []},
        {"type": "web_search_call", "id": "ws_2", "status": "completed"},
    ]});
    let told = server.post("/v1/responses", &body)["metadata"].clone();
    assert_eq!(told, json!({"a": "b", "pylon.items_left_out": "web_search_call, shell_call_output"}));
}

#[test]
fn answers_have_the_form_that_other_servers_fields_ask_for() {
    let server = demo();
    let said = |more: Value| {
        let answer = server.post("/v1/chat/completions", &chat(&more))["choices"][0].clone();
        assert_eq!(answer["finish_reason"], "stop", "{answer}");
        answer["message"]["content"].as_str().expect("a text").to_owned()
    };
    let neutral =
        json!({"repetition_penalty": 1, "min_tokens": 0, "ignore_eos": false, "modalities": ["text"], "grammar": null});
    assert_eq!(said(neutral), said(json!({})));
    let choices = ["Pécs (south)", "Győr?"];
    for more in [json!({"structured_outputs": {"choice": choices}}), json!({"guided_choice": choices})] {
        assert!(choices.contains(&said(more.clone()).as_str()), "{more}");
    }
    let grammar =
        |syntax: &str, definition: &str| json!({"type": "grammar", "syntax": syntax, "definition": definition});
    assert_eq!(said(json!({"response_format": grammar("regex", "Buda{2}")})), "Budaa");
    assert_eq!(said(json!({"response_format": grammar("lark", "start: \"Bu\" \"da\"\n")})), "Buda");
    let body = json!({"input": HUNGARY, "temperature": 0, "text": {"format": grammar("regex", "[0-9]{3}")}});
    let response = server.post("/v1/responses", &body);
    assert_eq!(response["text"]["format"], body["text"]["format"]);
    let items = response["output"].as_array().unwrap().iter();
    let text = items.rev().find(|item| item["type"] == "message").unwrap()["content"][0]["text"].clone();
    let text = text.as_str().unwrap();
    assert!(text.len() == 3 && text.bytes().all(|byte| byte.is_ascii_digit()), "{text}");
}

#[test]
fn chats_say_which_tools_were_left_out() {
    let server = demo();
    let tools = json!([{"type": "web_search"}, {"type": "mcp", "name": "files"}, {"type": "function", "function": {"name": "f"}}]);
    let want = json!({"tools_left_out": ["web_search", "mcp files"]});
    let body = chat(&json!({"tools": tools}));
    assert_eq!(server.post("/v1/chat/completions", &body)["choices"][0]["pylon"], want);
    let chunks = server.stream("/v1/chat/completions", body);
    let told: Vec<Value> = chunks.iter().filter_map(|(_, data)| serde_json::from_str(data).ok()).collect();
    let (last, others) = told.split_last().expect("chunks");
    assert_eq!((&last["choices"][0]["pylon"], &last["choices"][0]["finish_reason"].is_null()), (&want, &false));
    assert!(others.iter().all(|chunk| chunk["choices"][0].get("pylon").is_none()), "it is told with the end");
    let plain = server.post("/v1/chat/completions", &chat(&json!({})));
    assert_eq!(plain["choices"][0].get("pylon"), None);
}

#[test]
fn behind_a_front_tools_are_served_without_their_grammars_and_forms_are_refused() {
    let back = demo();
    let front = front(nano(), &[&back.address], &[]);
    let grammar = json!({"type": "grammar", "syntax": "regex", "definition": "[a-z]+"});
    let custom = json!({"type": "custom", "name": "patch", "format": grammar});
    let strict =
        json!({"type": "function", "name": "s", "strict": true, "parameters": {"type": "object", "properties": {}}});
    let (free, tools) = (json!({"type": "function", "name": "f"}), json!([custom, strict]));
    let body = json!({"input": HUNGARY, "temperature": 0, "tools": [custom, strict, free]});
    let metadata = |server: &Server| server.post("/v1/responses", &body)["metadata"].clone();
    assert_eq!((metadata(&front), metadata(&back)), (json!({"pylon.tools_not_enforced": "patch, s"}), json!({})));
    let told = front.post("/v1/chat/completions", &chat(&json!({"tools": tools})))["choices"][0]["pylon"].clone();
    assert_eq!(told, json!({"tools_not_enforced": ["patch", "s"]}));
    let mut message = json!({"max_tokens": 300, "temperature": 0, "messages": [{"role": "user", "content": HUNGARY}],
        "tools": [{"name": "s", "strict": true, "input_schema": strict["parameters"]}, {"name": "f", "input_schema": {}}]});
    let pylon = |server: &Server, body: &Value| server.post("/v1/messages", body).get("pylon").cloned();
    let told = (pylon(&front, &message), pylon(&back, &message));
    assert_eq!(told, (Some(json!({"tools_not_enforced": ["s"]})), None));
    message["output_config"] = json!({"format": {"type": "json_schema", "schema": strict["parameters"]}});
    let words = refused(&front, "/v1/messages", &message)["message"].as_str().unwrap().to_owned();
    assert!(words.starts_with("output_config.format is not served with --engine upstream"), "{words}");

    let (one, some) = (json!({"type": "custom", "name": "patch"}), json!([{"type": "custom", "name": "patch"}]));
    let allowed = json!({"type": "allowed_tools", "mode": "auto", "tools": some});
    for (path, body, param) in [
        ("chat/completions", chat(&json!({"response_format": {"type": "json_object"}})), "response_format"),
        ("chat/completions", chat(&json!({"structured_outputs": {"regex": "a"}})), "structured_outputs.regex"),
        ("chat/completions", chat(&json!({"tools": tools, "tool_choice": "required"})), "tool_choice"),
        ("responses", json!({"input": "a", "text": {"format": grammar}}), "text.format"),
        ("responses", json!({"input": "a", "tools": tools, "tool_choice": one}), "tool_choice"),
        ("responses", json!({"input": "a", "tools": tools, "tool_choice": allowed}), "tool_choice"),
    ] {
        let error = refused(&front, &format!("/v1/{path}"), &body);
        assert_eq!(error["param"], param, "{body}: {error}");
        assert!(error["message"].as_str().unwrap().contains("--engine upstream"), "{error}");
    }
}
