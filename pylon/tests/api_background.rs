//! Responses in the background: made while nobody listens, followed from any event on, cancelled by id.

use std::io::{BufRead, BufReader};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::api::{ANSWER, HUNGARY, Server, by_contract, demo, events};

/// A greedy response to a question.
fn asked(question: &str) -> Value {
    json!({"model": "gpt-oss-nano", "input": question, "temperature": 0, "background": true})
}

/// One that takes a while: its text has to be long.
fn asked_for_long() -> Value {
    let schema =
        json!({"type": "object", "properties": {"a": {"type": "string", "minLength": 2000}}, "required": ["a"]});
    let format = json!({"type": "json_schema", "name": "long", "schema": schema});
    json!({"model": "gpt-oss-nano", "input": HUNGARY, "temperature": 0, "background": true, "text": {"format": format}})
}

#[track_caller]
fn get(server: &Server, path: &str) -> Value {
    let (status, _, text) = server.ask("GET", path, "", "");
    assert_eq!(status, 200, "{path}: {text}");
    serde_json::from_str(&text).unwrap()
}

#[track_caller]
fn refused(server: &Server, (method, path): (&str, &str), body: &str, expected: (u16, &str)) {
    let (status, _, text) = server.ask(method, path, "", body);
    assert!(status == expected.0 && text.contains(expected.1), "{method} {path} {body}: {status} {text}");
}

fn path(response: &Value) -> String {
    format!("/v1/responses/{}", response["id"].as_str().expect("an id"))
}

/// The response once it has ended.
fn ended(server: &Server, response: &Value) -> Value {
    let begun = Instant::now();
    loop {
        let now = get(server, &path(response));
        if now["status"] != "in_progress" {
            return now;
        }
        assert!(begun.elapsed() < Duration::from_secs(30), "{now}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Nothing is computed any more, within a moment.
fn is_idle(server: &Server) {
    let begun = Instant::now();
    while get(server, "/health")["open_requests"] != 0 {
        assert!(begun.elapsed() < Duration::from_secs(5), "it computes on");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn text(response: &Value) -> &Value {
    let items = response["output"].as_array().expect("items");
    let message = items.iter().find(|item| item["type"] == "message").expect("a message");
    &message["content"][0]["text"]
}

#[test]
fn it_is_made_while_nobody_listens_and_gone_on_from() {
    let server = demo();
    let begun = server.post("/v1/responses", &asked(HUNGARY));
    assert_eq!((&begun["status"], &begun["background"]), (&json!("in_progress"), &json!(true)), "{begun}");
    let whole = ended(&server, &begun);
    assert_eq!((&whole["status"], text(&whole), &whole["id"]), (&json!("completed"), &json!(ANSWER), &begun["id"]));
    let mut alone = asked(HUNGARY);
    alone["background"] = false.into();
    let alone = server.post("/v1/responses", &alone);
    assert_eq!((text(&alone), &alone["background"]), (text(&whole), &json!(false)));
    assert_eq!(alone["usage"]["output_tokens"], whole["usage"]["output_tokens"]);
    assert_eq!(get(&server, &format!("{}/input_items", path(&begun)))["data"][0]["content"][0]["text"], HUNGARY);
    // Its cache is the next one's.
    let next = json!({"input": "Name the capital of France.", "temperature": 0, "previous_response_id": begun["id"]});
    let next = server.post("/v1/responses", &next);
    assert!(next["usage"]["input_tokens_details"]["cached_tokens"].as_u64() > Some(20), "{next}");
    // What has ended stays as it is.
    assert_eq!(server.post(&format!("{}/cancel", path(&begun)), &json!({})), whole);
    assert_eq!(get(&server, &path(&begun)), whole);
}

#[test]
fn it_is_followed_from_any_event_on() {
    let server = demo();
    let all = server.stream("/v1/responses", asked(HUNGARY));
    let response = by_contract(&all)[0]["response"].clone();
    let texts = |events: &[(Option<String>, String)]| events.iter().map(|(_, data)| data.clone()).collect::<Vec<_>>();
    assert!(all.len() > 8 && all.last().is_some_and(|(_, data)| data == "[DONE]"));
    for after in [0, 5, all.len() - 3] {
        let (status, head, text) =
            server.ask("GET", &format!("{}?stream=true&starting_after={after}", path(&response)), "", "");
        assert!(status == 200 && head.contains("text/event-stream"), "{head}");
        assert_eq!(texts(&events(&text)), texts(&all)[after + 1..]);
    }
    let (_, _, again) = server.ask("GET", &format!("{}?stream=true", path(&response)), "", "");
    by_contract(&events(&again));
    assert_eq!(ended(&server, &response)["status"], "completed");
    is_idle(&server);
}

/// What comes of a stream, line by line: the data of its events, up to the first one of this name.
fn until(stream: &mut BufReader<TcpStream>, name: &str) -> Vec<Value> {
    let mut heard: Vec<Value> = Vec::new();
    while heard.last().is_none_or(|event| event["type"] != name) {
        let mut line = String::new();
        assert!(stream.read_line(&mut line).unwrap() > 0, "it ended before {name}");
        heard.extend(line.strip_prefix("data:").map(|data| serde_json::from_str(data).expect("an event")));
    }
    heard
}

/// A response that is under way, the number of its last event that was heard, and its stream, which is open.
fn under_way(server: &Server) -> (Value, u64, BufReader<TcpStream>) {
    let mut asked = asked_for_long();
    asked["stream"] = true.into();
    let mut stream = BufReader::new(server.open("POST", "/v1/responses", "", &asked.to_string()));
    let heard = until(&mut stream, "response.output_text.delta");
    let number = heard.last().and_then(|event| event["sequence_number"].as_u64()).expect("a number");
    (heard[0]["response"].clone(), number, stream)
}

#[test]
fn a_client_that_went_away_comes_back_to_the_rest_and_cancels_it() {
    let server = demo();
    let (response, seen, stream) = under_way(&server);
    drop(stream);
    let rest = format!("{}?stream=true&starting_after={seen}", path(&response));
    let mut follower = BufReader::new(server.open("GET", &rest, "", ""));
    let next = until(&mut follower, "response.output_text.delta");
    assert_eq!((next.len(), &next[0]["sequence_number"]), (1, &json!(seen + 1)), "it goes on where the other ended");
    let goes_on = json!({"input": "And?", "previous_response_id": response["id"]}).to_string();
    refused(&server, ("POST", "/v1/responses"), &goes_on, (400, "under way"));

    let cancelled = server.post(&format!("{}/cancel", path(&response)), &json!({}));
    assert_eq!((&cancelled["status"], &cancelled["error"]), (&json!("cancelled"), &Value::Null));
    assert!(cancelled["usage"]["output_tokens"].as_u64() > Some(3), "{cancelled}");
    let end = until(&mut follower, "response.incomplete");
    assert_eq!(end.last().expect("an event")["response"], cancelled);
    is_idle(&server);
    assert_eq!(get(&server, &path(&response)), cancelled);
    assert_eq!(server.post(&format!("{}/cancel", path(&response)), &json!({})), cancelled, "once more changes nothing");
    refused(&server, ("POST", "/v1/responses"), &goes_on, (400, "cancelled"));
}

#[test]
fn one_that_is_deleted_ends() {
    let server = demo();
    let (response, _, _stream) = under_way(&server);
    assert_eq!(get(&server, "/health")["open_requests"], 1);
    assert_eq!(server.ask("DELETE", &path(&response), "", "").0, 200);
    is_idle(&server);
    refused(&server, ("GET", &path(&response)), "", (404, "deleted"));
    refused(&server, ("POST", &format!("{}/cancel", path(&response))), "", (404, "deleted"));
}

#[test]
fn what_cannot_be_is_refused_by_name() {
    let server = demo();
    let mut forgetful = asked(HUNGARY);
    forgetful["store"] = false.into();
    refused(&server, ("POST", "/v1/responses"), &forgetful.to_string(), (400, "store is false"));
    let response = server.post("/v1/responses", &asked(HUNGARY));
    let at = path(&response);
    for (query, words) in [
        ("stream=true", "its events are gone"),
        ("stream=maybe", "expected true or false"),
        ("starting_after=3", "ask with stream=true"),
        ("stream=true&starting_after=-1", "from 0 to"),
    ] {
        refused(&server, ("GET", &format!("{at}?{query}")), "", (400, words));
    }
    assert_eq!(get(&server, &format!("{at}?stream=false"))["id"], response["id"]);
    let mut waited_for = asked(HUNGARY);
    waited_for["background"] = Value::Null;
    let waited_for = server.post("/v1/responses", &waited_for);
    refused(&server, ("POST", &format!("{}/cancel", path(&waited_for))), "", (400, "asked for with background"));
    refused(&server, ("POST", "/v1/responses/resp_none/cancel"), "", (404, "resp_none"));
}
