//! Several models in one `pylon api`: each answers as it does alone, under its own names, with its own counters.

use std::io::Read;
use std::time::{Duration, Instant};

use gptoss_synth::{Spec, Vocabulary};
use serde_json::{Value, json};

use super::api::{ANSWER, HUNGARY, Server, question, serve};
use super::support::{Folder, endless, nano, run};

/// A model of other weights and another vocabulary than the demo model's, which says nothing that means something.
pub fn write_other(folder: &Folder) -> String {
    let spec = Spec::nano().layers(3).vocabulary(Vocabulary::Tiny { tokens: 700 });
    folder.write("other.gguf", &spec.to_bytes().unwrap())
}

const SETUP: [&str; 4] = ["--sequences", "2", "--max-kv", "6000"];

/// The demo model first, and then the other one.
fn both(other: &str, arguments: &[&str]) -> Server {
    serve(&[&["--gguf", nano(), "--gguf", other], &SETUP[..], arguments].concat())
}

fn alone(file: &str) -> Server {
    serve(&[&["--gguf", file], &SETUP[..]].concat())
}

fn get(server: &Server, path: &str) -> Value {
    let (status, _, text) = server.ask("GET", path, "", "");
    assert_eq!(status, 200, "{path}: {text}");
    serde_json::from_str(&text).unwrap()
}

/// A chat of one model; `said` has what was said by turns.
fn chat(model: &str, said: &[&str]) -> Value {
    let role = |at: usize| if at.is_multiple_of(2) { "user" } else { "assistant" };
    let messages = said.iter().enumerate().map(|(at, text)| json!({"role": role(at), "content": text}));
    json!({"model": model, "temperature": 0, "max_tokens": 60, "messages": messages.collect::<Vec<_>>()})
}

/// What the model said, and how many tokens it read for that.
fn answer(server: &Server, body: &Value) -> (Value, Value) {
    let answer = server.post("/v1/chat/completions", body);
    assert_eq!(answer["model"], body["model"], "it names the model that answered");
    (answer["choices"].clone(), answer["usage"]["prompt_tokens"].clone())
}

fn continued(model: &str) -> Value {
    json!({"model": model, "prompt": "word", "max_tokens": 24, "temperature": 0, "return_token_ids": true})
}

#[test]
fn each_model_answers_as_it_does_alone_whoever_else_is_asked() {
    let folder = Folder::new();
    let other = write_other(&folder);
    // The demo model's answer stands in the other's history, too: as text, since its tokens mean something else there.
    let turns = [&[HUNGARY][..], &[HUNGARY, ANSWER, "Name the capital of France."]];
    let models = [("gpt-oss-nano", nano()), ("other", &*other)];
    let expected = models.map(|(id, file)| {
        let server = alone(file);
        let chats = turns.map(|said| answer(&server, &chat(id, said)));
        (chats, server.post("/v1/completions", &continued(id))["choices"].clone())
    });
    let (nanos, others) = (&expected[0], &expected[1]);
    assert!(nanos.0[0].0[0]["message"]["content"] == ANSWER && nanos.1 != others.1, "{expected:?}");

    let server = both(&other, &[]);
    for (at, said) in turns.iter().enumerate() {
        for ((id, _), (chats, _)) in models.iter().zip(&expected) {
            assert_eq!(answer(&server, &chat(id, said)), chats[at], "turn {at} of {id}");
        }
    }
    // Eight ask at the same time, four of each model.
    std::thread::scope(|scope| {
        let asking = models.iter().zip(&expected).cycle().take(8).map(|((id, _), (chats, text))| {
            let server = &server;
            scope.spawn(move || {
                assert_eq!(answer(server, &chat(id, turns[0])), chats[0], "{id}");
                assert_eq!(server.post("/v1/completions", &continued(id))["choices"], *text, "{id}");
            })
        });
        asking.collect::<Vec<_>>().into_iter().for_each(|asked| asked.join().expect("it is as alone"));
    });
}

#[test]
fn a_response_goes_on_with_another_model() {
    let folder = Folder::new();
    let other = write_other(&folder);
    let server = both(&other, &[]);
    let first = server.post("/v1/responses", &json!({"input": HUNGARY, "temperature": 0}));
    assert_eq!(first["model"], "gpt-oss-nano", "the first is meant where nothing says which");
    let goes_on = json!({
        "model": "other", "previous_response_id": first["id"], "input": "And of France?", "temperature": 0, "max_output_tokens": 20,
    });
    let second = server.post("/v1/responses", &goes_on);
    let said = |role: &str, text: &str| json!({"type": "message", "role": role, "content": text});
    let whole = json!({
        "input": [said("user", HUNGARY), said("assistant", ANSWER), said("user", "And of France?")],
        "temperature": 0, "max_output_tokens": 20,
    });
    let expected = alone(&other).post("/v1/responses", &whole);
    let texts = |response: &Value| {
        let items = response["output"].as_array().unwrap();
        items.iter().map(|item| item["content"][0]["text"].clone()).collect::<Vec<_>>()
    };
    assert_eq!(second["model"], "other");
    assert_eq!(second["usage"]["input_tokens"], expected["usage"]["input_tokens"]);
    assert_eq!(texts(&second), texts(&expected));
    // And back again, where the cache still has the conversation's beginning.
    let back = json!({"previous_response_id": second["id"], "input": HUNGARY, "temperature": 0});
    let third = server.post("/v1/responses", &back);
    assert_eq!((&third["model"], &third["status"]), (&json!("gpt-oss-nano"), &json!("completed")), "{third}");
}

#[test]
fn models_are_listed_named_counted_and_measured_one_by_one() {
    let folder = Folder::new();
    let other = write_other(&folder);
    let server = both(&other, &["--alias", "small=other", "--alias", "demo=gpt-oss-nano"]);
    let list = get(&server, "/v1/models");
    let ids: Vec<&Value> = list["data"].as_array().unwrap().iter().map(|model| &model["id"]).collect();
    assert_eq!(ids, ["gpt-oss-nano", "other"]);
    let (mut others_tokens, mut nanos_tokens) = (0, 0);
    for (name, id) in [("OTHER", "other"), ("small", "other"), ("Demo", "gpt-oss-nano")] {
        assert_eq!(get(&server, &format!("/v1/models/{name}"))["id"], id);
        let answer = server.post("/v1/completions", &continued(name));
        assert_eq!(answer["model"], id);
        let tokens = if id == "other" { &mut others_tokens } else { &mut nanos_tokens };
        *tokens += answer["usage"]["completion_tokens"].as_u64().unwrap();
    }
    let message = json!({"model": "small", "max_tokens": 5, "messages": [{"role": "user", "content": "word"}]});
    let (status, _, text) = server.ask("POST", "/v1/messages/count_tokens", "", &message.to_string());
    let counted: Value = serde_json::from_str(&text).unwrap();
    assert_eq!((status, &counted), (200, &json!({"input_tokens": counted["input_tokens"]})));
    let mut nanos = message;
    nanos["model"] = "demo".into();
    let (_, _, text) = server.ask("POST", "/v1/messages/count_tokens", "", &nanos.to_string());
    assert_ne!(serde_json::from_str::<Value>(&text).unwrap(), counted, "their vocabularies differ");
    for (method, path, body) in [
        ("POST", "/v1/chat/completions", question(HUNGARY).to_string().replace("gpt-oss-nano", "another")),
        ("GET", "/v1/models/another", String::new()),
        ("GET", "/bench?model=another", String::new()),
        ("GET", "/tunnel?model=another", String::new()),
    ] {
        let (status, _, text) = server.ask(method, path, "", &body);
        let names_them =
            ["\\\"another\\\"", "\\\"gpt-oss-nano\\\"", "\\\"other\\\""].iter().all(|id| text.contains(id));
        assert!(status == 404 && names_them, "{path}: {status} {text}");
    }
    let report = get(&server, "/bench?n=2&max_new_tokens=4&model=small");
    assert_eq!((&report["model"], &report["new_tokens"]), (&json!("other"), &json!(8)));

    let text = server.ask("GET", "/metrics", "", "").2;
    let value = |name: &str| value(&text, name);
    assert_eq!(value("pylon_generated_tokens_total{model=\"gpt-oss-nano\"}"), nanos_tokens);
    assert_eq!(value("pylon_generated_tokens_total{model=\"other\"}"), others_tokens + 8);
    let endpoint = "endpoint=\"/v1/completions\",status=\"200\"";
    assert_eq!(value(&format!("pylon_requests_total{{{endpoint},model=\"other\"}}")), 2);
    assert_eq!(value("pylon_requests_total{endpoint=\"/v1/models/{id}\",status=\"404\",model=\"\"}"), 1);
}

/// The number of a line of `/metrics`.
#[track_caller]
fn value(text: &str, name: &str) -> u64 {
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("no {name} in\n{text}")).parse().unwrap()
}

#[test]
fn blocks_of_each_cache_are_counted() {
    let folder = Folder::new();
    let other = write_other(&folder);
    let server = both(&other, &[]);
    for id in ["gpt-oss-nano", "other"] {
        server.post("/v1/completions", &continued(id));
    }
    let begun = Instant::now();
    // The node tells of it a moment after the answer.
    let text = loop {
        let text = server.ask("GET", "/metrics", "", "").2;
        if !text.lines().any(|line| line.contains("state=\"busy\"") && !line.ends_with(" 0")) {
            break text;
        }
        assert!(begun.elapsed() < Duration::from_secs(10), "something is busy for nobody\n{text}");
    };
    for id in ["gpt-oss-nano", "other"] {
        for reach in ["full", "sliding"] {
            let of = format!("{{model=\"{id}\",reach=\"{reach}\"");
            let state = |state: &str| value(&text, &format!("pylon_kv_blocks{of},state=\"{state}\"}}"));
            let all = value(&text, &format!("pylon_kv_capacity_blocks{of}}}"));
            assert!(state("idle") > 0 && state("idle") + state("free") == all, "{id}, {reach}\n{text}");
        }
        assert_eq!(value(&text, &format!("pylon_kv_block_tokens{{model=\"{id}\"}}")), 64);
        let sequences = |state: &str| value(&text, &format!("pylon_kv_sequences{{model=\"{id}\",state=\"{state}\"}}"));
        assert_eq!((sequences("idle"), sequences("free")), (1, 1));
    }
    // 6000 positions are 94 blocks, and a second sequence has one of its own for what it forks.
    assert_eq!(value(&text, "pylon_kv_capacity_blocks{model=\"other\",reach=\"full\"}"), 95);
}

#[test]
fn all_of_them_share_the_room_and_end_together() {
    let folder = Folder::new();
    let files = ["first.gguf", "second.gguf"].map(|name| endless(&folder, name));
    let setup = ["--sequences", "1", "--max-kv", "65536", "--max-requests", "3", "--grace-seconds", "0"];
    let mut server = serve(&[&["--gguf", &files[0], "--gguf", &files[1]], &setup[..]].concat());
    let text = |model: &str| json!({"model": model, "prompt": "word", "max_tokens": 60_000, "temperature": 0});
    let mut streams = ["first", "second"].map(|id| server.begin_stream("/v1/completions", text(id), "\"text\""));
    let mut waits = server.open("POST", "/v1/completions", "", &text("second").to_string());
    let begun = Instant::now();
    let health = loop {
        let health = get(&server, "/health");
        if health["open_requests"] == 3 {
            break health;
        }
        assert!(begun.elapsed() < Duration::from_secs(20), "not all are open: {health}");
        std::thread::sleep(Duration::from_millis(10));
    };
    let numbers = |of: &Value| json!([of["id"], of["engine"], of["open_requests"], of["waiting_requests"]]);
    let models: Vec<Value> = health["models"].as_array().unwrap().iter().map(numbers).collect();
    assert_eq!(models, [json!(["first", "CPU", 1, 0]), json!(["second", "CPU", 2, 1])]);
    let bytes = |of: &Value| of["memory"]["kv_cache_bytes"].as_u64().unwrap();
    assert!(bytes(&health["models"][0]) > 0 && bytes(&health) == 2 * bytes(&health["models"][1]), "{health}");
    assert_eq!((&health["model"], &health["waiting_requests"]), (&json!("first"), &json!(1)));
    let busy = |model: &str| {
        let text = server.ask("GET", "/metrics", "", "").2;
        text.contains(&format!("pylon_kv_sequences{{model=\"{model}\",state=\"busy\"}} 1\n"))
    };
    assert!(busy("first") && busy("second"), "each answers one");
    // The third of them is the other model's, and there is no room for a fourth of whichever.
    assert_eq!(server.ask("POST", "/v1/completions", "", &text("first").to_string()).0, 429);
    server.terminate();
    for stream in &mut streams {
        let mut rest = String::new();
        stream.read_to_string(&mut rest).unwrap();
        assert!(rest.contains("\"length\"") && rest.contains("data: [DONE]"), "{rest}");
    }
    let mut refused = String::new();
    waits.read_to_string(&mut refused).unwrap();
    assert!(refused.starts_with("HTTP/1.1 503") && refused.contains("server_shutting_down"), "{refused}");
    assert_eq!(server.exit_code(), Some(0));
}

#[test]
fn what_cannot_be_served_together_is_named_at_the_start() {
    let folder = Folder::new();
    let other = write_other(&folder);
    let twin = folder.write("twin/other.gguf", &std::fs::read(&other).unwrap());
    let cut = folder.write("cut.gguf", &std::fs::read(&other).unwrap()[..3000]);
    let missing = folder.path("missing.gguf");
    let gguf = |file: &'static str| ["--gguf", file];
    let nano = gguf(nano());
    let upstream = ["--engine", "upstream", "--upstream", "http://127.0.0.1:9"];
    let bind = ["api", "--bind", "127.0.0.1:0"];
    let cpu = ["--backend", "cpu"];
    for (arguments, words) in [
        (&["--gguf", &other, "--gguf", &twin, "--backend", "cpu"][..], &["\"other\"", &other, &twin][..]),
        (&["--gguf", &other, "--alias", "a", "--alias", "b=a", "--backend", "cpu"], &["--alias", "\"b=a\"", "other"]),
        (&[&nano[..], &["--gguf", &other, "--alias", "a"], &cpu].concat(), &["--alias", "\"a\"", "NAME=ID"]),
        (&[&nano[..], &["--gguf", &other], &upstream].concat(), &["--gguf", "2 models", "--engine upstream"]),
        (&[&nano[..], &["--gguf", &cut], &cpu].concat(), &[&cut]),
        (&[&nano[..], &["--gguf", &missing], &cpu].concat(), &[&missing]),
    ] {
        let ended = run(&[&bind, arguments].concat());
        assert!(ended.code != 0 && words.iter().all(|word| ended.stderr.contains(word)), "{}", ended.stderr);
        assert!(!ended.stderr.contains(" at http"), "it does not serve: {}", ended.stderr);
    }
}
