//! `pylon api --engine upstream` in front of a server that does what no server should: whatever comes is an error of each dialect,
//! and never a shortened answer that looks whole.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::api::{HUNGARY, Server, question, weather_schema};
use super::support::{nano, o200k};
use super::upstream::{front, health};

/// "We think" on the analysis channel, in the demo model's vocabulary.
const BEGUN: &[u32] = &[1274, 280, 1277, 372, 956, 267, 74];
/// What makes an answer of it: "Hi é." on the final channel.
const ENDED: &[u32] = &[13, 1276, 1275, 266, 1274, 276, 1277, 689, 220, 127, 102, 13];
const RETURN: u32 = 1272;
const CALL: u32 = 1278;
/// A call of get_weather without its last token.
const CALLS: &[u32] = &[1274, 329, 286, 378, 351, 382, 220, 1273, 379, 1277, 330, 470, 358, 47, 883, 651];

/// What the server does when it is asked for a completion.
#[derive(Clone, Default)]
struct Script {
    /// What it sends, all of HTTP included.
    sends: String,
    /// It waits for so long before it closes the connection.
    then_waits: Duration,
}

/// A server by hand. It says that it is well, and that it has a model.
struct ByHand {
    address: String,
    script: Arc<Mutex<Script>>,
    asked: Arc<Mutex<Vec<Value>>>,
}

const MODELS: &str = r#"{"object": "list", "data": [{"id": "by-hand", "max_model_len": 4000}]}"#;

impl ByHand {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (script, asked) = (Arc::<Mutex<Script>>::default(), Arc::<Mutex<Vec<Value>>>::default());
        let (own_script, own_asked) = (Arc::clone(&script), Arc::clone(&asked));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (script, asked) = (own_script.lock().unwrap().clone(), Arc::clone(&own_asked));
                std::thread::spawn(move || serve(stream.unwrap(), &script, &asked));
            }
        });
        Self { address, script, asked }
    }

    fn does(&self, sends: &str, then_waits: Duration) {
        *self.script.lock().unwrap() = Script { sends: sends.to_owned(), then_waits };
    }

    fn last_asked(&self) -> Value {
        self.asked.lock().unwrap().last().cloned().expect("it was asked")
    }
}

fn serve(stream: TcpStream, script: &Script, asked: &Mutex<Vec<Value>>) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let (mut first, mut length, mut line) = (String::new(), 0, String::new());
    reader.read_line(&mut first).unwrap();
    while reader.read_line(&mut line).unwrap() > 2 {
        if let Some(value) = line.to_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
        line.clear();
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    let mut stream = stream;
    // Whoever asked may be gone.
    if first.contains("/v1/completions") {
        asked.lock().unwrap().push(serde_json::from_slice(&body).unwrap());
        stream.write_all(script.sends.as_bytes()).ok();
        std::thread::sleep(script.then_waits);
    } else {
        let body = if first.contains("/v1/models") { MODELS } else { "{}" };
        let length = body.len();
        stream.write_all(format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{body}").as_bytes()).ok();
    }
}

const HEAD: &str = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n";

/// A stream of these chunks, whose end is that of the connection.
fn stream(chunks: &[Value]) -> String {
    let events: String = chunks.iter().map(|chunk| format!("data: {chunk}\n\n")).collect();
    format!("{HEAD}{events}")
}

fn ids(ids: &[u32], finish: Option<&str>) -> Value {
    json!({"choices": [{"index": 0, "text": "", "token_ids": ids, "finish_reason": finish}]})
}

fn text(text: &str, finish: Option<&str>) -> Value {
    json!({"choices": [{"index": 0, "text": text, "finish_reason": finish}]})
}

fn status(line: &str, body: &str) -> String {
    format!("HTTP/1.1 {line}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

/// The beginning of an answer: a header, and two tokens of its text.
fn begun() -> Value {
    ids(BEGUN, None)
}

/// What a server sends, the status that comes of it where nothing was said before, and a word of the error.
fn hostile() -> Vec<(String, u16, &'static str)> {
    vec![
        (stream(&[begun()]), 502, "broke off"),
        (HEAD.to_owned(), 502, "broke off"),
        (String::new(), 503, "cannot be reached"),
        ("SSH-2.0-OpenSSH_9.6\r\n".to_owned(), 503, "cannot be reached"),
        (status("200 OK", "<html>hello</html>"), 502, "broke off"),
        (format!("{HEAD}data: hello\n\n"), 502, "hello"),
        (format!("{HEAD}data: {{\"choices\": 5}}\n\n"), 502, "choices"),
        (stream(&[begun(), json!({"error": {"message": "out of memory"}})]), 502, "out of memory"),
        (stream(&[begun(), ids(&[999_999], None)]), 502, "999999"),
        (stream(&[begun(), json!({"choices": [{"token_ids": [-5]}]})]), 502, "-5"),
        (stream(&[begun(), ids(&[], Some("length"))]), 502, "as if those were all"),
        (stream(&[begun(), ids(&[], Some("abort"))]), 502, "abort"),
        (format!("{}data: [DONE]\n\n", stream(&[begun()])), 502, "broke off"),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\ndata:\r\n".to_owned(), 502, "broke off"),
        (status("500 Internal Server Error", r#"{"error": {"message": "boom"}}"#), 502, "boom"),
        (status("404 Not Found", "{}"), 502, "404"),
        (status("429 Too Many Requests", r#"{"detail": "later"}"#), 503, "later"),
        (status("400 Bad Request", r#"{"object": "error", "message": "too long"}"#), 400, "too long"),
    ]
}

#[test]
fn whatever_comes_is_an_error_in_each_dialect() {
    let server = ByHand::start();
    let front = front(nano(), &[&server.address], &["--upstream-stall-seconds", "1"]);
    let message =
        json!({"model": "gpt-oss-nano", "max_tokens": 90, "messages": [{"role": "user", "content": HUNGARY}]});
    let asked = [
        ("/v1/chat/completions", question(HUNGARY)),
        ("/v1/responses", json!({"input": HUNGARY, "max_output_tokens": 90})),
        ("/v1/messages", message),
    ];
    let silent = [(stream(&[begun()]), 502, "said nothing for 1 s"), (HEAD.to_owned(), 502, "said nothing for 1 s")];
    let waits = [(hostile(), Duration::ZERO), (silent.to_vec(), Duration::from_secs(3))];
    let cases = waits.into_iter().flat_map(|(cases, waits)| cases.into_iter().map(move |case| (case, waits)));
    for (number, ((sends, want, word), waits)) in cases.enumerate() {
        server.does(&sends, waits);
        // The first in all dialects; the others in one after the other, since what comes of them is the same.
        for (path, body) in
            asked.iter().enumerate().filter(|(at, _)| number == 0 || number % 3 == *at).map(|(_, it)| it)
        {
            ready(&front);
            let (status, _, answer) = front.ask("POST", path, "", &body.to_string());
            let is_error = status == want && answer.contains("error") && answer.contains(word);
            assert!(is_error, "{sends}\n{path}: {status} {answer}");
            ready(&front);
            let mut streamed = body.clone();
            streamed["stream"] = true.into();
            let (status, _, answer) = front.ask("POST", path, "", &streamed.to_string());
            let has_begun = sends.contains("token_ids") && status == 200;
            let is_error = (has_begun || status == want) && answer.contains("error") && answer.contains(word);
            assert!(is_error, "{sends}\n{path}: {status} {answer}");
            let ends = ["\"stop\"", "\"length\"", "response.completed", "response.incomplete", "message_stop"];
            assert!(!ends.iter().any(|end| answer.contains(end)), "{sends}\n{path}: {answer}");
        }
    }
    // None of it has done any harm.
    server.does(&stream(&[begun(), ids(&[ENDED, &[RETURN]].concat(), Some("stop"))]), Duration::ZERO);
    ready(&front);
    assert_eq!(front.post("/v1/chat/completions", &question(HUNGARY))["choices"][0]["message"]["content"], "Hi é.");
}

/// Servers differ in what they tell of the last token, and in whether they tell ids at all.
#[test]
fn an_answer_is_the_same_however_its_server_writes_it() {
    let server = ByHand::start();
    let front = front(nano(), &[&server.address], &[]);
    let (whole, call) = ([BEGUN, ENDED].concat(), [CALLS, &[CALL]].concat());
    let stopped = |reason: u32| json!({"choices": [{"text": "", "token_ids": [], "finish_reason": "stop", "stop_reason": reason}]});
    let usage =
        json!({"choices": [], "usage": {"completion_tokens": 20, "prompt_tokens_details": {"cached_tokens": 64}}});
    let written = "<|channel|>analysis<|message|>We think.<|end|><|start|>assistant<|channel|>final<|message|>Hi é.";
    let cut = |at: usize| [text(&written[..at], None), text(&written[at..], None)];
    let [before, after] = cut(written.find("nal<").unwrap());
    let [in_name, rest] = cut(written.find("end|>").unwrap());
    let answers = [
        // pylon, vLLM with the end among its ids: whole, and in two chunks.
        stream(&[ids(&[&whole[..], &[RETURN]].concat(), Some("stop")), usage.clone()]),
        stream(&[begun(), ids(ENDED, None), ids(&[RETURN], None), ids(&[], Some("stop")), usage.clone()]),
        // The end is told beside the ids, or not at all.
        stream(&[ids(&whole, None), stopped(RETURN), usage.clone()]),
        stream(&[ids(&whole, None), ids(&[], Some("stop")), usage.clone()]),
        // Texts, with and without the end, cut where it hurts.
        stream(&[text(written, None), text("<|return|>", None), text("", Some("stop")), usage.clone()]),
        stream(&[before, after, text("", Some("stop")), usage.clone()]),
        stream(&[in_name, rest, text("", Some("stop")), usage.clone()]),
    ];
    for sends in &answers {
        server.does(&format!("{sends}data: [DONE]\n\n"), Duration::ZERO);
        let answer = front.post("/v1/chat/completions", &question(HUNGARY));
        let (message, used) = (&answer["choices"][0]["message"], &answer["usage"]);
        assert_eq!((&message["content"], &message["reasoning"]), (&json!("Hi é."), &json!("We think.")), "{sends}");
        assert_eq!(answer["choices"][0]["finish_reason"], "stop");
        assert_eq!(
            (&used["completion_tokens"], &used["prompt_tokens_details"]["cached_tokens"]),
            (&json!(20), &json!(64))
        );
    }
    let function = json!({"name": "get_weather", "parameters": weather_schema()});
    let mut asks = question(HUNGARY);
    asks["tools"] = json!([{"type": "function", "function": function}]);
    let written = "<|channel|>commentary to=functions.get_weather <|constrain|>json<|message|>{\"city\":\"Paris\"}";
    for sends in [
        stream(&[ids(&call, Some("stop"))]),
        stream(&[ids(CALLS, None), stopped(CALL)]),
        stream(&[ids(CALLS, None), ids(&[], Some("stop"))]),
        stream(&[text(written, None), text("<|call|>", Some("stop"))]),
        stream(&[text(written, None), text("", Some("stop"))]),
    ] {
        server.does(&sends, Duration::ZERO);
        let choice = front.post("/v1/chat/completions", &asks)["choices"][0].clone();
        let called = &choice["message"]["tool_calls"][0]["function"];
        let want = json!({"name": "get_weather", "arguments": "{\"city\":\"Paris\"}"});
        assert_eq!((called, &choice["finish_reason"]), (&want, &json!("tool_calls")), "{sends}");
    }
}

/// gpt-oss-20b's own vocabulary, from a file that has nothing else.
#[test]
fn a_file_without_weights_has_all_that_a_front_needs() {
    let server = ByHand::start();
    let front = front(o200k(), &[&server.address], &[]);
    // <|channel|>final<|message|>Hi<|return|>
    server.does(&stream(&[ids(&[200_005, 17_196, 200_008, 12_194, 200_002], Some("stop"))]), Duration::ZERO);
    let mut asks = question(HUNGARY);
    asks["model"] = "gpt-oss-20b".into();
    assert_eq!(front.post("/v1/chat/completions", &asks)["choices"][0]["message"]["content"], "Hi");
    let asked = server.last_asked();
    assert_eq!(asked["prompt"][0], 200_006, "<|start|>");
    assert_eq!(
        (&asked["stop_token_ids"], &asked["max_tokens"].as_u64().is_some_and(|most| most < 4000)),
        (&json!([200_002, 200_012, 199_999]), &true)
    );
}

#[test]
fn a_server_is_asked_for_ids_and_held_to_what_it_was_asked_for() {
    let server = ByHand::start();
    let front = front(nano(), &[&server.address], &["--upstream-key", "secret"]);
    // It goes on as if nobody had said how many tokens were wanted, and does not stop at the end.
    let endless: Vec<Value> = (0..200).map(|_| ids(&[956], None)).collect();
    server.does(&stream(&[&[begun()], &endless[..]].concat()), Duration::from_secs(20));
    let mut asks = question(HUNGARY);
    for (name, value) in
        [("max_tokens", json!(12)), ("temperature", json!(0.5)), ("seed", json!(-1)), ("logit_bias", json!({"371": 2}))]
    {
        asks[name] = value;
    }
    let begun_at = Instant::now();
    let answer = front.post("/v1/chat/completions", &asks);
    let choice = (&answer["choices"][0]["finish_reason"], &answer["usage"]["completion_tokens"]);
    assert_eq!(choice, (&json!("length"), &json!(12)));
    assert!(begun_at.elapsed() < Duration::from_secs(10), "its connection is closed: {:?}", begun_at.elapsed());
    let asked = server.last_asked();
    let prompt = asked["prompt"].as_array().unwrap();
    assert!(prompt.len() > 60 && prompt[0] == 1275, "{asked}");
    let own: Vec<(&str, Value)> = vec![
        ("model", json!("by-hand")),
        ("stream", json!(true)),
        ("max_tokens", json!(12)),
        ("temperature", json!(0.5)),
        ("top_k", json!(-1)),
        ("seed", json!(-1)),
        ("return_token_ids", json!(true)),
        ("stop_token_ids", json!([RETURN, CALL, 1271])),
        ("skip_special_tokens", json!(false)),
        ("logit_bias", json!({"371": 2.0})),
    ];
    for (name, value) in own {
        assert_eq!(asked[name], value, "{name}");
    }
    server.does(&stream(&[begun(), ids(&[ENDED, &[RETURN], BEGUN].concat(), None)]), Duration::from_secs(20));
    assert_eq!(front.post("/v1/chat/completions", &question(HUNGARY))["choices"][0]["message"]["content"], "Hi é.");
}

#[test]
fn before_the_first_token_another_server_is_asked_and_after_it_none() {
    let (bad, good) = (ByHand::start(), ByHand::start());
    let whole = stream(&[begun(), ids(&[ENDED, &[RETURN]].concat(), Some("stop"))]);
    let in_stream = json!({"error": {"message": "no min_p", "type": "BadRequestError", "code": 400}});
    for (sends, want) in [
        (status("503 Service Unavailable", "{}"), 200),
        (format!("{HEAD}data: hello\n\n"), 200),
        (String::new(), 200),
        (stream(&[begun()]), 502),
        // What another one takes, this one was wrong to refuse: it may have another model.
        (status("400 Bad Request", "{}"), 200),
        (stream(std::slice::from_ref(&in_stream)), 200),
    ] {
        // Of two that are as idle the first is asked, until it fails: then the other one, also for what the first was sent.
        let front = front(nano(), &[&bad.address, &good.address], &[]);
        bad.does(&sends, Duration::ZERO);
        good.does(&whole, Duration::ZERO);
        let ask = || front.ask("POST", "/v1/chat/completions", "", &question(HUNGARY).to_string()).0;
        assert_eq!((ask(), ask(), ask()), (want, 200, 200), "{sends}");
        let of = |field: &str| [0, 1].map(|at| health(&front)["upstreams"][at][field].as_u64().unwrap());
        assert_eq!((of("requests")[0], of("errors")), (1, [1, 0]), "{sends}");
        // What all refuse is the client's to change.
        good.does(&sends, Duration::ZERO);
        if sends.contains("400") {
            let (status, _, text) = front.ask("POST", "/v1/chat/completions", "", &question(HUNGARY).to_string());
            assert!(status == 400 && text.contains("refused the request"), "{sends}: {status} {text}");
            assert_eq!(of("errors"), [1, 0], "nobody failed");
        }
    }
}

#[test]
fn fields_that_a_server_does_not_know_are_left_out_from_then_on() {
    let server = ByHand::start();
    let front = front(nano(), &[&server.address], &[]);
    let refusal = r#"{"detail": "2 validation errors: skip_special_tokens Extra inputs are not permitted, preserved_tokens Extra inputs are not permitted"}"#;
    let whole = stream(&[begun(), ids(&[ENDED, &[RETURN]].concat(), Some("stop"))]);
    server.does(&status("400 Bad Request", refusal), Duration::ZERO);
    let ask = || front.ask("POST", "/v1/chat/completions", "", &question(HUNGARY).to_string());
    let (code, _, text) = ask();
    assert!(code == 400 && text.contains("not permitted"), "asked twice, it says the same: {text}");
    let asked = server.asked.lock().unwrap().clone();
    let knows = |body: &Value| body.get("skip_special_tokens").is_some() && body.get("preserved_tokens").is_some();
    assert_eq!(asked.iter().map(knows).collect::<Vec<_>>(), [true, false]);
    server.does(&whole, Duration::ZERO);
    let (_, _, text) = ask();
    let usage = serde_json::from_str::<Value>(&text).unwrap()["usage"].clone();
    assert!(usage["completion_tokens"] == 20 && usage.get("prompt_tokens_details").is_none(), "not told: {usage}");
    let last = server.last_asked();
    assert!(!knows(&last) && last["return_token_ids"] == true && last["reasoning_split"] == false, "{last}");
}

/// A server that tells text does not know ids to end at.
#[test]
fn what_a_server_says_beyond_the_end_is_not_counted() {
    let server = ByHand::start();
    let front = front(nano(), &[&server.address], &[]);
    let usage = json!({"choices": [], "usage": {"completion_tokens": 30}});
    server.does(&stream(&[text(" the capital of", None), text(" Hungary", Some("stop")), usage]), Duration::ZERO);
    let answer = front.post("/v1/completions", &json!({"prompt": "a", "max_tokens": 30, "stop_token_ids": [371]}));
    let choice = &answer["choices"][0];
    assert!(choice["finish_reason"] == "stop" && choice["stop_reason"] == 371, "{answer}");
    assert!(answer["usage"]["completion_tokens"].as_u64().unwrap() < 10, "{answer}");
}

/// A server that failed is asked nothing until it says that it is well.
fn ready(front: &Server) {
    let begun = Instant::now();
    while health(front)["upstreams"][0]["is_ready"] != true {
        assert!(begun.elapsed() < Duration::from_secs(20), "{}", health(front));
        std::thread::sleep(Duration::from_millis(20));
    }
}
