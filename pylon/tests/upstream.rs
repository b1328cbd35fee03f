//! `pylon api --engine upstream` in front of real servers: `pylon api` itself.

use std::io::Read;
use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::{Map, Value, json};

use super::api::{HUNGARY, Server, demo, question, serve, serve_in, start, weather_schema};
use super::support::{Folder, endless, nano, run};

/// A front that asks these servers.
pub fn front(file: &str, upstreams: &[&str], arguments: &[&str]) -> Server {
    let urls: Vec<String> = upstreams.iter().map(|address| format!("http://{address}/v1")).collect();
    let mut all = vec!["--bind", "127.0.0.1:0", "--engine", "upstream", "--gguf", file];
    urls.iter().for_each(|url| all.extend(["--upstream", url]));
    start(&[&all, arguments].concat(), &[], Stdio::null())
}

pub fn health(server: &Server) -> Value {
    serde_json::from_str(&server.ask("GET", "/health", "", "").2).unwrap()
}

/// Waits until the server's health is as it is to be.
#[track_caller]
fn wait_for(server: &Server, is_right: impl Fn(&Value) -> bool) {
    let begun = Instant::now();
    loop {
        let health = health(server);
        if is_right(&health) {
            return;
        }
        assert!(begun.elapsed() < Duration::from_secs(20), "{health}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// What differs from answer to answer is the same: ids, times, and what some cache had.
fn comparable(value: Value) -> Value {
    let number = |fields: &Map<String, Value>, name: &str| fields.get(name).and_then(Value::as_u64);
    match value {
        Value::Object(mut fields) => {
            if let (Some(read), Some(rest)) =
                (number(&fields, "cache_read_input_tokens"), number(&fields, "input_tokens"))
            {
                fields["input_tokens"] = (read + rest).into();
            }
            let is_own = |name: &str| {
                ["id", "item_id", "call_id", "response_id", "created", "created_at", "completed_at"].contains(&name)
            };
            // Known only where the server tells its usage, which it does not where the front ends an answer.
            let of_cache = ["prompt_tokens_details", "cached_tokens", "cache_read_input_tokens"];
            fields.retain(|name, _| !of_cache.contains(&name.as_str()));
            let field = |(name, value): (String, Value)| {
                let value = if is_own(&name) && !value.is_null() { Value::from("its own") } else { comparable(value) };
                (name, value)
            };
            fields.into_iter().map(field).collect()
        }
        Value::Array(values) => values.into_iter().map(comparable).collect(),
        other => other,
    }
}

fn chat(text: &str, more: Value) -> (&'static str, Value) {
    let mut body = question(text);
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    ("/v1/chat/completions", body)
}

/// Questions of every dialect: plain, with calls, cut, stopped, drawn.
fn questions() -> Vec<(&'static str, Value)> {
    let weather = "What is the weather in Paris?";
    let description = "Get the current weather in a city.";
    let function = json!({"name": "get_weather", "description": description, "parameters": weather_schema()});
    let chat_tools = json!({"tools": [{"type": "function", "function": function}]});
    let mut response_tool = function.clone();
    response_tool["type"] = "function".into();
    let message_tool = json!({"name": "get_weather", "description": description, "input_schema": weather_schema()});
    let message = |text: &str| {
        json!({"model": "gpt-oss-nano", "max_tokens": 300, "temperature": 0, "thinking": {"type": "enabled", "budget_tokens": 200},
               "messages": [{"role": "user", "content": text}]})
    };
    let with = |mut body: Value, name: &str, value: Value| {
        body[name] = value;
        body
    };
    vec![
        chat(HUNGARY, json!({"stream_options": {"include_usage": true}})),
        chat(weather, chat_tools),
        chat(HUNGARY, json!({"max_tokens": 5})),
        chat(HUNGARY, json!({"max_tokens": 1})),
        chat(HUNGARY, json!({"stop": " is", "stream_options": {"include_usage": true}})),
        chat(HUNGARY, json!({"temperature": 1.3, "seed": 7, "top_p": 0.9, "top_k": 40, "min_p": 0.01})),
        chat(HUNGARY, json!({"logit_bias": {"371": -100}, "seed": -3, "temperature": 0.5})),
        ("/v1/responses", json!({"input": HUNGARY, "temperature": 0})),
        ("/v1/responses", json!({"input": weather, "temperature": 0, "tools": [response_tool]})),
        ("/v1/responses", json!({"input": HUNGARY, "temperature": 0, "max_output_tokens": 16})),
        ("/v1/messages", message(HUNGARY)),
        ("/v1/messages", with(message(weather), "tools", json!([message_tool]))),
        ("/v1/messages", with(message(HUNGARY), "stop_sequences", json!(["gary", " is", " of Hun"]))),
        ("/v1/messages", with(message(HUNGARY), "max_tokens", json!(9))),
        ("/v1/completions", json!({"prompt": "Add 12 and", "max_tokens": 9, "temperature": 0})),
        ("/v1/completions", json!({"prompt": [5, 6, 7], "max_tokens": 9, "temperature": 0, "return_token_ids": true})),
        (
            "/v1/completions",
            json!({"prompt": [5, 6, 7], "temperature": 0, "stop_token_ids": [371], "return_token_ids": true}),
        ),
    ]
}

#[test]
fn a_front_answers_as_the_servers_behind_it_do() {
    let backs = [demo(), demo()];
    let front = front(nano(), &[&backs[0].address, &backs[1].address], &[]);
    let (mut calls, mut cuts) = (0, 0);
    for (path, body) in questions() {
        let whole = |server: &Server| comparable(server.post(path, &body));
        let (want, got) = (whole(&backs[0]), whole(&front));
        assert_eq!(got, want, "{path} {body}");
        let text = want.to_string();
        calls += usize::from(text.contains("get_weather") && text.contains("Paris"));
        cuts += usize::from(["length", "incomplete", "max_tokens"].iter().any(|word| text.contains(word)));
        let streamed = |server: &Server| -> Vec<(Option<String>, Value)> {
            let events = server.stream(path, body.clone()).into_iter();
            events.map(|(name, data)| (name, serde_json::from_str(&data).map_or(data.into(), comparable))).collect()
        };
        let (want, got) = (streamed(&backs[0]), streamed(&front));
        assert!(want.len() > 2, "{want:?}");
        assert_eq!(got, want, "{path} {body}");
    }
    assert!(calls == 3 && cuts >= 6, "{calls} calls, {cuts} answers that were cut");
    let count = json!({"model": "gpt-oss-nano", "messages": [{"role": "user", "content": HUNGARY}]});
    let counted = |server: &Server| server.post("/v1/messages/count_tokens", &count);
    assert_eq!(counted(&front), counted(&backs[0]));
    let states = health(&front)["upstreams"].clone();
    let requests = |at: usize| states[at]["requests"].as_u64().unwrap();
    assert!(requests(0) + requests(1) == 2 * questions().len() as u64, "{states}");
    for state in states.as_array().unwrap() {
        let fields = (&state["is_ready"], &state["in_flight"], &state["errors"], &state["models"]);
        assert_eq!(fields, (&json!(true), &json!(0), &json!(0), &json!(["gpt-oss-nano"])), "{state}");
    }
}

#[test]
fn what_no_upstream_can_be_held_to_is_refused_by_name() {
    let back = demo();
    let front = front(nano(), &[&back.address], &["--max-kv", "300"]);
    let schema = json!({"type": "json_schema", "json_schema": {"name": "a", "schema": {"type": "object"}}});
    for (more, word) in [
        (json!({"response_format": schema}), "response_format is not served"),
        (json!({"presence_penalty": 0.5}), "\"param\":\"presence_penalty\""),
        (json!({"frequency_penalty": 0.5}), "\"param\":\"frequency_penalty\""),
        (json!({"logprobs": true}), "logprobs"),
        (json!({"logit_bias": {"99999": 1}}), "99999"),
        (json!({"top_k": -2}), "top_k"),
    ] {
        let (path, body) = chat(HUNGARY, more);
        let (status, _, text) = front.ask("POST", path, "", &body.to_string());
        assert!(status == 400 && text.contains(word), "{word}: {status} {text}");
    }
    let (path, body) = chat(&"word ".repeat(400), json!({}));
    let (status, _, text) = front.ask("POST", path, "", &body.to_string());
    assert!(status == 400 && text.contains("context_length_exceeded"), "{text}");
    for (prompt, word) in [(json!([5, 99_999]), "99999"), (json!([[1], [2]]), "several prompts")] {
        for server in [&front, &back] {
            let body = json!({"prompt": prompt}).to_string();
            let (status, _, text) = server.ask("POST", "/v1/completions", "", &body);
            assert!(status == 400 && text.contains(word), "{text}");
        }
    }
    let (status, _, text) = front.ask("GET", "/tunnel", "", "");
    assert!(status == 404 && text.contains("--engine upstream"), "{text}");
    assert_eq!(health(&front)["upstreams"][0]["requests"], 0, "none of it was sent");
    // A prompt that fills all but the last tokens of the context gets those.
    let tokens = vec![5; 295];
    let body = json!({"prompt": tokens, "temperature": 0, "max_tokens": 50});
    let answer = front.post("/v1/completions", &body);
    let cut = (&answer["choices"][0]["finish_reason"], &answer["usage"]["completion_tokens"]);
    assert_eq!(cut, (&json!("length"), &json!(5)));
}

#[test]
fn a_conversation_stays_with_the_server_that_has_it() {
    let backs = [demo(), demo()];
    let front = front(nano(), &[&backs[0].address, &backs[1].address], &[]);
    let ask = |messages: &Value| {
        let body = json!({"temperature": 0, "max_tokens": 12, "messages": messages});
        front.post("/v1/chat/completions", &body)
    };
    let requests = || {
        let states = health(&front)["upstreams"].clone();
        [0, 1].map(|at| states[at]["requests"].as_u64().unwrap())
    };
    let talks = ["river ", "stone "].map(|word| json!([{"role": "user", "content": word.repeat(200)}]));
    // Another beginning goes to whoever had less to do.
    for (talk, want) in talks.iter().zip([[1, 0], [1, 1]]) {
        ask(talk);
        assert_eq!(requests(), want);
    }
    for (talk, want) in [(&talks[0], [2, 1]), (&talks[0], [3, 1]), (&talks[1], [3, 2])] {
        let mut longer = talk.clone();
        let more = [json!({"role": "assistant", "content": "Yes."}), json!({"role": "user", "content": "Sure?"})];
        longer.as_array_mut().unwrap().extend(more);
        let answer = ask(&longer);
        assert_eq!(requests(), want);
        let cached = answer["usage"]["prompt_tokens_details"]["cached_tokens"].as_u64().unwrap();
        assert!(cached > 200, "the cache of the one that was asked before has it: {answer}");
    }
}

const ENDLESS: &[&str] = &["--sequences", "6", "--max-kv", "65536"];

fn rest(mut stream: impl Read) -> String {
    let mut rest = String::new();
    stream.read_to_string(&mut rest).unwrap();
    rest
}

#[test]
fn a_server_that_dies_ends_its_answers_with_errors_and_others_take_over() {
    let folder = Folder::new();
    let file = endless(&folder, "endless.gguf");
    let back = |bind: &str| {
        let arguments = [&["--bind", bind, "--backend", "cpu", "--gguf", &file], ENDLESS].concat();
        start(&arguments, &[], Stdio::null())
    };
    let (first, second) = (back("127.0.0.1:0"), back("127.0.0.1:0"));
    let other = second.address.clone();
    let front = front(&file, &[&first.address, &other], &[]);
    drop(second);
    let ready = |at: usize, is_ready: bool| {
        wait_for(&front, |health| health["upstreams"][at]["is_ready"] == is_ready);
    };
    ready(1, false);
    let user = json!([{"role": "user", "content": "word"}]);
    let text = json!({"prompt": "word", "max_tokens": 60_000, "temperature": 0});
    let message = json!({"model": "endless", "max_tokens": 60_000, "temperature": 0, "messages": user});
    let streams = [
        front.begin_stream("/v1/completions", text.clone(), "\"text\""),
        front.begin_stream("/v1/chat/completions", json!({"messages": user, "temperature": 0}), "\"role\""),
        front.begin_stream("/v1/responses", json!({"input": "word", "temperature": 0}), "response.in_progress"),
        front.begin_stream("/v1/messages", message.clone(), "message_start"),
    ];
    let whole = front.open("POST", "/v1/completions", "", &text.to_string());
    let whole_message = front.open("POST", "/v1/messages", "", &message.to_string());
    wait_for(&front, |health| health["upstreams"][0]["in_flight"] == 6);
    let second = back(&other);
    ready(1, true);
    drop(first);

    let [completion, chat, response, message_end] = streams.map(rest);
    for (end, words) in [
        (&completion, &["upstream_error", "broke off", "data: [DONE]"][..]),
        (&chat, &["upstream_error", "broke off", "data: [DONE]"]),
        (&response, &["response.failed", "upstream_error", "broke off"]),
        (&message_end, &["event: error", "api_error", "broke off"]),
    ] {
        assert!(words.iter().all(|word| end.contains(word)), "{words:?}: {end}");
        let whole = ["\"stop\"", "\"length\"", "response.completed", "response.incomplete", "message_stop"];
        assert!(!whole.iter().any(|word| end.contains(word)), "an answer that was cut is not whole: {end}");
    }
    let whole = rest(whole);
    assert!(whole.starts_with("HTTP/1.1 502") && whole.contains("upstream_error"), "{whole}");
    let whole_message = rest(whole_message);
    assert!(whole_message.starts_with("HTTP/1.1 502") && whole_message.contains("api_error"), "{whole_message}");

    let short = json!({"prompt": "word", "max_tokens": 3, "temperature": 0});
    assert_eq!(front.post("/v1/completions", &short)["usage"]["completion_tokens"], 3, "the other one answers");
    let states = health(&front)["upstreams"].clone();
    assert_eq!((&states[0]["is_ready"], &states[1]["is_ready"]), (&json!(false), &json!(true)), "{states}");
    assert!(states[0]["errors"].as_u64().unwrap() >= 6 && states[0]["in_flight"] == 0, "{states}");
    let metrics = front.ask("GET", "/metrics", "", "").2;
    assert!(metrics.contains(&format!("pylon_upstream_ready{{upstream=\"http://{other}\"}} 1\n")), "{metrics}");

    drop(second);
    let (status, head, text) = front.ask("POST", "/v1/completions", "", &short.to_string());
    assert!(status == 503 && head.to_lowercase().contains("retry-after: 1"), "{head}\n{text}");
    let (status, head, text) = front.ask("POST", "/v1/messages", "", &message.to_string());
    assert!(status == 503 && head.to_lowercase().contains("retry-after: 1"), "{head}\n{text}");
    assert!(
        text.contains("overloaded_error") && text.contains("no upstream is ready") && text.contains(&other),
        "{text}"
    );
    assert_eq!(front.ask("GET", "/health", "", "").0, 503);
}

#[test]
fn who_goes_away_is_computed_for_no_more() {
    let folder = Folder::new();
    let file = endless(&folder, "endless.gguf");
    let back = serve(&[&["--gguf", &file], ENDLESS].concat());
    let front = front(&file, &[&back.address], &[]);
    let text = json!({"prompt": "word", "max_tokens": 60_000, "temperature": 0});
    let open = |count: u32| wait_for(&back, |health| health["open_requests"] == count);
    let generated = || {
        let metrics = back.ask("GET", "/metrics", "", "").2;
        let line = metrics.lines().find(|line| line.starts_with("pylon_generated_tokens_total{model="));
        line.unwrap().rsplit_once(' ').unwrap().1.parse::<f64>().unwrap()
    };
    let stream = front.begin_stream("/v1/completions", text.clone(), "\"text\"");
    let whole = front.open("POST", "/v1/completions", "", &text.to_string());
    open(2);
    drop(whole);
    open(1);
    drop(stream);
    open(0);
    let after = generated();
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(generated(), after, "nothing is computed any more");
    // A stop sequence is found at the front alone, and ends the answer behind it.
    let mut stopped = text.clone();
    let said = front.post("/v1/completions", &json!({"prompt": "word", "max_tokens": 8, "temperature": 0}));
    let said = said["choices"][0]["text"].as_str().unwrap().trim().to_owned();
    stopped["stop"] = said.chars().rev().take(3).collect::<Vec<_>>().into_iter().rev().collect::<String>().into();
    assert_eq!(front.post("/v1/completions", &stopped)["choices"][0]["finish_reason"], "stop", "{said}");
    open(0);
    assert_eq!(health(&front)["upstreams"][0]["in_flight"], 0);
}

#[test]
fn doctor_and_compute_show_servers_and_the_arguments_are_checked() {
    let back = serve(&["--gguf", nano(), "--max-kv", "2000", "--api-key", "secret"]);
    let url = format!("http://{}", back.address);
    let with = ["--upstream", &url, "--upstream", "http://127.0.0.1:1", "--upstream-key", "secret"];
    let provider = |value: &Value, id: &str| {
        let providers = value["providers"].as_array().unwrap().iter();
        providers.clone().find(|provider| provider["id"] == id).unwrap_or_else(|| panic!("no {id}: {value}")).clone()
    };
    for command in [&["doctor", "--json"][..], &["compute", "list", "--json"]] {
        let shown = run(&[command, &with].concat()).json();
        let here = provider(&shown, "cpu");
        assert!(here["is_ready"] == true && here["models"] == shown["model_ids"], "{here}");
        let there = provider(&shown, &url);
        assert_eq!((&there["is_ready"], &there["models"]), (&json!(true), &json!(["gpt-oss-nano"])), "{there}");
        assert_eq!(there["remark"] == "it gives token ids", command[0] == "doctor", "{there}");
        let nowhere = provider(&shown, "http://127.0.0.1:1");
        assert!(
            nowhere["is_ready"] == false && nowhere["remark"].as_str().unwrap().contains("127.0.0.1:1"),
            "{nowhere}"
        );
        let locked = run(&[command, &["--upstream", &url]].concat()).json();
        let remark = provider(&locked, &url)["remark"].as_str().unwrap().to_owned();
        assert!(remark.contains("401") && remark.contains("API key"), "{remark}");
    }
    for (command, line) in
        [("compute", format!("upstream  {url}: ready: gpt-oss-nano")), ("doctor", format!("{url}: ready, serves"))]
    {
        let shown = run(&[&[command], &with[..]].concat());
        assert!(
            shown.stdout.contains(&line) && shown.stdout.contains("http://127.0.0.1:1: not ready"),
            "{}",
            shown.stdout
        );
    }
    for (arguments, words) in [
        (&["--engine", "upstream"][..], &["--upstream", "missing"][..]),
        (&["--upstream", "http://a:1"], &["--upstream", "--engine upstream"]),
        (
            &["--engine", "upstream", "--upstream", "https://a:1", "--upstream-ca", "/no/ca.pem"],
            &["/no/ca.pem", "--upstream-ca", "PEM"],
        ),
        (
            &["--engine", "upstream", "--upstream", "http://a:1", "--upstream-ca", "ca.pem"],
            &["--upstream-ca", "ca.pem", "https://"],
        ),
        (&["--engine", "upstream", "--upstream", "http://a:1", "--upstream", "http://a:1/v1"], &["http://a:1, twice"]),
        (&["--engine", "upstream", "--upstream", "a:1"], &["a:1", "http://HOST:PORT"]),
        (&["--engine", "cpu", "--backend", "cpu"], &["--engine", "--backend"]),
        (&["--engine", "upstream", "--upstream", "http://a:1", "--gguf", "/no/file.gguf"], &["/no/file.gguf"]),
    ] {
        let refused = run(&[&["api", "--bind", "127.0.0.1:0"], arguments].concat());
        assert!(
            refused.code == 2 && words.iter().all(|word| refused.stderr.contains(word)),
            "{arguments:?}: {}",
            refused.stderr
        );
    }
    // Without a server to be reached it starts all the same, and says so.
    let alone = front(nano(), &["127.0.0.1:1"], &[]);
    let (status, _, text) = alone.ask("POST", "/v1/chat/completions", "", &question(HUNGARY).to_string());
    assert!(status == 503 && text.contains("127.0.0.1:1 cannot be reached"), "{text}");
}

#[test]
fn servers_are_asked_over_tls_once_they_have_shown_who_they_are() {
    let folder = Folder::new();
    let home = folder.path("home");
    let arguments = ["--gguf", nano(), "--max-kv", "2000", "--tls"];
    let back = serve_in(&arguments, &[("XDG_DATA_HOME", &home)], Stdio::null());
    let plain = serve(&["--gguf", nano(), "--max-kv", "2000"]);
    let mut files = std::fs::read_dir(format!("{home}/pylon")).unwrap().map(|file| file.unwrap().path());
    let certificate = files.find(|path| path.to_str().unwrap().contains("certificate-")).unwrap();
    let certificate = certificate.to_str().unwrap();
    let url = format!("https://{}", back.address);
    let arguments = ["--engine", "upstream", "--gguf", nano(), "--upstream", &url, "--upstream-ca", certificate];
    let front = start(&[&["--bind", "127.0.0.1:0"], &arguments[..]].concat(), &[], Stdio::null());
    let said = |server: &Server| {
        let answer = server.post("/v1/chat/completions", &question(HUNGARY));
        answer["choices"][0]["message"]["content"].as_str().unwrap().to_owned()
    };
    assert_eq!(said(&front), said(&plain), "the same answer as without anything between");
    assert_eq!(health(&front)["upstreams"][0]["id"], url);
    // Without its certificate, and where nobody speaks TLS.
    let remark = |url: &str, more: &[&str]| {
        let shown = run(&[&["compute", "list", "--json", "--upstream", url], more].concat()).json();
        let providers = shown["providers"].as_array().unwrap().clone();
        let server = providers.into_iter().find(|provider| provider["id"] == url).unwrap();
        assert_eq!(server["is_ready"], false);
        server["remark"].as_str().unwrap().to_owned()
    };
    let trusts = ["--upstream-ca", certificate];
    for (url, more, words) in [
        (url.clone(), &[][..], &["not trusted", "UnknownIssuer", "--upstream-ca"][..]),
        (format!("https://{}", plain.address), &trusts, &["does not speak TLS", "http://"]),
    ] {
        let remark = remark(&url, more);
        assert!(words.iter().all(|word| remark.contains(word)), "{words:?}: {remark}");
    }
}
