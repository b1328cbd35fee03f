//! `pylon api` as a server: who may ask, what is too much, TLS, lines, counters, and how it ends. Each server is asked once
//! more after whatever was done to it.

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use serde_json::{Value, json};

use super::api::{ANSWER, HUNGARY, Server, demo, question, serve, serve_in};
use super::support::{Folder, endless, nano, run};

const KEY: &str = "Authorization: Bearer secret\r\n";

#[track_caller]
fn is_alive(server: &Server, headers: &str) {
    let (status, _, text) = server.ask("GET", "/v1/models", headers, "");
    assert_eq!(status, 200, "{text}");
}

/// The value of a header of an answer.
fn header<'h>(head: &'h str, name: &str) -> Option<&'h str> {
    head.lines().find_map(|line| {
        let (key, value) = line.split_once(": ")?;
        key.eq_ignore_ascii_case(name).then_some(value)
    })
}

#[test]
fn pages_of_allowed_origins_may_ask_and_no_others() {
    let rules = ["--allow-origin", "https://app.example", "--allow-host", "models.example", "--api-key", "secret"];
    let server = serve(&[&["--gguf", nano(), "--max-kv", "2000"], &rules[..]].concat());
    let chat = "/v1/chat/completions";
    let preflight = |origin: &str| {
        let asks = "Access-Control-Request-Method: POST\r\nAccess-Control-Request-Headers: authorization,content-type\r\n\
                    Access-Control-Request-Private-Network: true\r\n";
        server.ask("OPTIONS", chat, &format!("Origin: {origin}\r\n{asks}"), "")
    };
    for origin in ["https://app.example", "http://localhost:3000", "https://models.example:8443"] {
        let (status, head, _) = preflight(origin);
        assert_eq!((status, header(&head, "access-control-allow-origin")), (204, Some(origin)), "{head}");
        assert!(header(&head, "access-control-allow-methods").unwrap().contains("POST"), "{head}");
        let headers = header(&head, "access-control-allow-headers").unwrap();
        assert!(headers.contains('*') && headers.contains("authorization"), "{head}");
        assert_eq!(header(&head, "access-control-allow-private-network"), Some("true"));
        let (status, head, _) = server.ask("GET", "/v1/models", &format!("{KEY}Origin: {origin}\r\n"), "");
        assert_eq!((status, header(&head, "access-control-allow-origin")), (200, Some(origin)), "{head}");
        // An error can be read, too.
        let (status, head, _) = server.ask("POST", chat, &format!("Origin: {origin}\r\n"), "{}");
        assert_eq!((status, header(&head, "access-control-allow-origin")), (401, Some(origin)), "{head}");
    }
    for origin in ["https://attacker.example", "http://app.example", "null", "https://app.example.attacker.example"] {
        for (status, head, text) in [
            preflight(origin),
            server.ask("POST", chat, &format!("{KEY}Origin: {origin}\r\n"), &question(HUNGARY).to_string()),
        ] {
            assert!(status == 403 && text.contains(origin) && text.contains("--allow-origin"), "{head}\n{text}");
            assert!(!head.contains("access-control-allow"), "{head}");
        }
    }
    for (headers, status, word) in [
        ("Host: models.example:9899\r\n", 200, "gpt-oss-nano"),
        ("Host: attacker.example\r\n", 421, "--allow-host"),
        ("Host: localhost\r\nHost: localhost\r\n", 400, "Host"),
        ("Host: a b\r\n", 400, "Host"),
    ] {
        let (got, _, text) = server.ask("GET", "/v1/models", &format!("{KEY}{headers}"), "");
        assert!(got == status && text.contains(word), "{headers}: {got} {text}");
    }
    for (headers, path, status) in [
        ("", "/v1/models", 401),
        ("", "/metrics", 401),
        ("Authorization: Bearer secreT\r\n", "/v1/models", 401),
        ("Authorization: Basic secret\r\n", "/v1/models", 401),
        ("x-api-key: secret\r\n", "/v1/models", 200),
        ("authorization: bearer secret\r\n", "/metrics", 200),
        ("", "/health", 200),
        ("", "/healthz", 200),
        ("", "/healthz/../v1/models", 401),
    ] {
        let (got, head, _) = server.ask("GET", path, headers, "");
        assert_eq!(got, status, "{path} {headers}");
        assert_eq!(header(&head, "www-authenticate").is_some(), status == 401, "{head}");
    }
    // Without a question of a browser's, it is about the path, and not secret.
    for (path, methods) in [("/v1/chat/completions", "POST"), ("/v1/responses/a", "GET,HEAD,DELETE")] {
        let (status, head, _) = server.ask("OPTIONS", path, "", "");
        assert_eq!((status, header(&head, "allow")), (204, Some(methods)), "{head}");
        assert_eq!(server.ask("PUT", path, KEY, "").0, 405);
    }
    assert_eq!(server.ask("OPTIONS", "/v1/nowhere", "", "").0, 404);
    is_alive(&server, KEY);
}

/// What comes on a connection until it is closed, and how long that took.
fn until_closed(mut stream: TcpStream) -> (String, Duration) {
    let (begun, mut answer) = (Instant::now(), Vec::new());
    match stream.read_to_end(&mut answer) {
        Ok(_) => {}
        Err(error) if error.kind() == ErrorKind::ConnectionReset => {}
        Err(error) => panic!("{error}"),
    }
    (String::from_utf8_lossy(&answer).into_owned(), begun.elapsed())
}

/// Also by clients that hear nothing until they have sent everything, of which most are.
#[test]
fn a_refusal_is_heard_however_long_the_body_is() {
    let server = serve(&["--gguf", nano(), "--max-kv", "2000", "--api-key", "secret", "--max-body-mib", "4"]);
    let long = " ".repeat(6 << 20);
    let key = "Authorization: Bearer secret\r\n";
    for (path, headers, want) in [
        ("/v1/chat/completions", "", 401),
        ("/v1/chat/completions", "Host: attacker.example\r\n", 421),
        ("/v1/chat/completions", "Origin: https://attacker.example\r\n", 403),
        ("/v1/chat/completions", key, 413),
        ("/chat/completions", key, 404),
        ("/v1/models", key, 405),
    ] {
        let body = if want == 413 { &long } else { &long[..3 << 20] };
        let (status, _, text) = server.ask("POST", path, headers, body);
        assert!(status == want && text.contains("error"), "{path} {headers}: {status} {text}");
    }
}

#[test]
fn what_is_too_much_or_too_slow_is_refused_and_harms_nobody() {
    let limits = "--header-seconds 1 --body-seconds 1 --idle-seconds 1 --stall-seconds 1 --max-body-mib 12";
    let limits: Vec<&str> = limits.split(' ').chain(["--connections", "8"]).collect();
    let server = serve(&[&["--gguf", nano(), "--max-kv", "2000"], &limits[..]].concat());
    let chat = "/v1/chat/completions";
    let long = question(&"word ".repeat(2 << 20)).to_string();
    // Where lists of lists have no other fault.
    let deep = format!("{{\"messages\":[],\"tools\":{}{}}}", "[".repeat(10_000), "]".repeat(10_000));
    for (body, word) in [
        ("{\"messages\": [{\"role\": \"user\", \"content\": \"\\ud800\"}]}", "surrogate"),
        (&deep, "128 levels"),
        (&long, "tokens"),
    ] {
        let (status, _, text) = server.ask("POST", chat, "", body);
        assert!(status == 400 && text.contains(word), "{body:.40}: {status} {text}");
        is_alive(&server, "");
    }
    let connect = |text: &str| {
        let mut stream = TcpStream::connect(&server.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        stream.write_all(text.as_bytes()).unwrap();
        stream
    };
    let head = format!("POST {chat} HTTP/1.1\r\nHost: localhost\r\n");
    let (answer, _) = until_closed(connect(&format!("{head}Content-Length: 12582913\r\n\r\n{{")));
    assert!(answer.starts_with("HTTP/1.1 413") && answer.contains("--max-body-mib"), "{answer}");
    // Without a length it is counted as it comes; whether all of it can be sent before the answer comes does not matter.
    let mut stream = connect(&format!("{head}Transfer-Encoding: chunked\r\n\r\nC00001\r\n"));
    let mut writer = stream.try_clone().unwrap();
    let sender = std::thread::spawn(move || writer.write_all(&vec![b' '; 0xC0_0001]).ok());
    let mut begin = [0; 12];
    stream.read_exact(&mut begin).unwrap();
    assert_eq!(&begin, b"HTTP/1.1 413");
    drop(stream);
    sender.join().unwrap();

    // All of them at the same time: as many as there may be connections.
    let slow_headers = connect("GET /v1/models HTT");
    let slow_body = connect(&format!("{head}Content-Length: 1000\r\n\r\n{{\"messages\": ["));
    let idle = connect("GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n");
    // Takes nothing of thousands of answers that it asked for.
    let mut deaf = connect("");
    deaf.set_nonblocking(true).unwrap();
    let requests = "GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n".repeat(200_000);
    let mut left = requests.as_bytes();
    let begun = Instant::now();
    let closed = loop {
        match deaf.write(left) {
            Ok(sent) => left = &left[sent..],
            Err(error) if error.kind() == ErrorKind::WouldBlock => std::thread::sleep(Duration::from_millis(50)),
            Err(error) => break error.kind(),
        }
        assert!(!left.is_empty(), "the server took all requests although nobody took its answers");
        assert!(begun.elapsed() < Duration::from_secs(20), "who takes nothing is not cut off");
    };
    assert!(matches!(closed, ErrorKind::ConnectionReset | ErrorKind::BrokenPipe), "{closed}");
    let (answer, _) = until_closed(slow_headers);
    assert_eq!(answer, "");
    let (answer, _) = until_closed(slow_body);
    assert!(answer.starts_with("HTTP/1.1 408") && answer.contains("--body-seconds"), "{answer}");
    let (answer, _) = until_closed(idle);
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    is_alive(&server, "");

    // Eight connections are taken, so the ninth waits until one of them has ended.
    let taken: Vec<TcpStream> = (0..8).map(|_| connect("GET")).collect();
    let begun = Instant::now();
    is_alive(&server, "");
    assert!(begun.elapsed() > Duration::from_millis(500), "it did not wait: {:?}", begun.elapsed());
    drop(taken);
}

#[test]
fn https_is_served_with_a_certificate_of_its_own_or_a_given_one() {
    let folder = Folder::new();
    let home = folder.path("home");
    let ask = |server: &Server, certificate: &str| {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(certificate).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let config = config.with_root_certificates(roots).with_no_client_auth();
        let name = ServerName::try_from("localhost").unwrap();
        let connection = ClientConnection::new(Arc::new(config), name).unwrap();
        let mut stream = StreamOwned::new(connection, TcpStream::connect(&server.address).unwrap());
        let request = "GET /v1/models HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("gpt-oss-nano"), "{answer}");
    };
    let arguments = ["--gguf", nano(), "--max-kv", "2000", "--tls"];
    let made = serve_in(&arguments, &[("XDG_DATA_HOME", &home)], Stdio::null());
    let file = |what: &str| {
        let files = std::fs::read_dir(format!("{home}/pylon")).unwrap();
        let mut files = files.map(|file| file.unwrap().path().to_str().unwrap().to_owned());
        files.find(|file| file.contains(what)).unwrap()
    };
    let (certificate, key) = (file("certificate-"), file("key-"));
    ask(&made, &certificate);
    // Somebody who does not speak TLS gets nothing, and harms nobody.
    let mut plain = TcpStream::connect(&made.address).unwrap();
    plain.write_all(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    let (answer, _) = until_closed(plain);
    assert!(!answer.contains("200 OK"), "{answer}");
    ask(&made, &certificate);
    drop(made);
    let given = serve(&[&arguments[..], &["--tls-cert", &certificate, "--tls-key", &key]].concat());
    ask(&given, &certificate);
}

#[test]
fn what_cannot_be_served_is_said_before_the_model_is_loaded() {
    let api = |arguments: &[&str]| run(&[&["api", "--gguf", nano(), "--backend", "cpu"], arguments].concat());
    for (arguments, words) in [
        (&["--bind", "0.0.0.0:0"][..], &["--allow-host NAME", "--api-key KEY"][..]),
        (&["--bind", "127.0.0.1:0", "--allow-host", "http://models.lan"], &["http://models.lan", "a name"]),
        (&["--bind", "127.0.0.1:0", "--allow-origin", "models.lan"], &["models.lan", "scheme://host"]),
        (&["--bind", "127.0.0.1:0", "--api-key", ""], &["--api-key", "empty"]),
        (&["--bind", "127.0.0.1:0", "--tls-cert", "c.pem"], &["--tls"]),
        (&["--bind", "127.0.0.1:0", "--tls", "--tls-cert", "/no/c.pem", "--tls-key", "/no/k.pem"], &["/no/c.pem"]),
    ] {
        let refused = api(arguments);
        assert!(refused.code == 2 && words.iter().all(|word| refused.stderr.contains(word)), "{}", refused.stderr);
    }
}

#[test]
fn each_request_has_an_id_and_a_line_and_is_counted() {
    let arguments = ["--gguf", nano(), "--max-kv", "2000", "--log-format", "json"];
    let mut server = serve_in(&arguments, &[], Stdio::piped());
    let body = question(HUNGARY).to_string();
    let (_, head, text) = server.ask("POST", "/v1/chat/completions", "X-Request-Id: mine-1.a\r\n", &body);
    assert_eq!(header(&head, "x-request-id"), Some("mine-1.a"));
    let usage = serde_json::from_str::<Value>(&text).unwrap()["usage"].clone();
    let (_, head, _) = server.ask("GET", "/nowhere", "X-Request-Id: not \"sane\"\r\n", "");
    let made = header(&head, "x-request-id").unwrap().to_owned();
    assert!(made.starts_with("req_") && made.len() == 28, "{made}");
    let again = server.stream("/v1/chat/completions", question(HUNGARY));
    assert_eq!(again.last().unwrap().1, "[DONE]");

    let mut lines = BufReader::new(server.process.0.stdout.take().unwrap()).lines();
    let mut next = || {
        let line = lines.next().unwrap().unwrap();
        assert!(!line.contains("Hungary") && !line.contains("Budapest"), "{line}");
        serde_json::from_str::<Value>(&line).unwrap()
    };
    let first = next();
    assert_eq!(
        (&first["id"], &first["method"], &first["path"], &first["status"], &first["aborted"]),
        (&json!("mine-1.a"), &json!("POST"), &json!("/v1/chat/completions"), &json!(200), &json!(false))
    );
    assert_eq!(
        (&first["model"], &first["prompt_tokens"], &first["new_tokens"], &first["cached_tokens"]),
        (&json!("gpt-oss-nano"), &usage["prompt_tokens"], &usage["completion_tokens"], &json!(0))
    );
    let second = next();
    assert_eq!((&second["id"], &second["status"], &second["prompt_tokens"]), (&json!(made), &json!(404), &Value::Null));
    assert_eq!(second["model"], Value::Null);
    let third = next();
    assert_eq!(third["new_tokens"], usage["completion_tokens"]);
    assert!(third["cached_tokens"].as_u64().unwrap() > 0, "{third}");

    let (_, head, text) = server.ask("GET", "/metrics", "", "");
    assert!(header(&head, "content-type").unwrap().starts_with("text/plain; version=0.0.4"), "{head}");
    let value = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("no {name} in\n{text}")).parse::<f64>().unwrap()
    };
    let number = |name: &str| usage[name].as_f64().unwrap();
    let of_model = |name: &str| value(&format!("{name}{{model=\"gpt-oss-nano\"}}"));
    assert_eq!(
        value("pylon_requests_total{endpoint=\"/v1/chat/completions\",status=\"200\",model=\"gpt-oss-nano\"}"),
        2.0
    );
    assert_eq!(value("pylon_requests_total{endpoint=\"none\",status=\"404\",model=\"\"}"), 1.0);
    assert_eq!(of_model("pylon_generated_tokens_total"), 2.0 * number("completion_tokens"));
    assert_eq!(of_model("pylon_prompt_tokens_total"), 2.0 * number("prompt_tokens"));
    assert_eq!(of_model("pylon_cached_tokens_total"), third["cached_tokens"].as_f64().unwrap());
    assert_eq!(of_model("pylon_time_to_first_token_seconds_count"), 2.0);
    assert_eq!(of_model("pylon_time_per_token_seconds_count"), 2.0 * number("completion_tokens") - 2.0);
    assert_eq!((of_model("pylon_open_requests"), of_model("pylon_kv_used_tokens")), (0.0, 0.0));
    assert!(of_model("pylon_kv_cache_bytes") > 0.0 && value("pylon_uptime_seconds") > 0.0);
    assert_eq!(value("pylon_model_info{model=\"gpt-oss-nano\",device=\"CPU\"}"), 1.0);
    // Every line is a comment, or a name with or without labels and a number.
    for line in text.lines().filter(|line| !line.starts_with("# HELP ") && !line.starts_with("# TYPE ")) {
        let (name, number) = line.rsplit_once(' ').unwrap();
        assert!(name.starts_with("pylon_") && number.parse::<f64>().is_ok(), "{line}");
    }
    let health: Value = serde_json::from_str(&server.ask("GET", "/health", "", "").2).unwrap();
    assert_eq!(
        (&health["status"], &health["model"], &health["engine"], &health["waiting_requests"]),
        (&json!("ok"), &json!("gpt-oss-nano"), &json!("CPU"), &json!(0))
    );
    assert!(health["memory"]["kv_cache_bytes"].as_u64().unwrap() > 0, "{health}");
}

#[cfg(unix)]
impl Server {
    pub fn terminate(&self) {
        let id = self.process.0.id().to_string();
        assert!(std::process::Command::new("kill").args(["-TERM", &id]).status().unwrap().success());
    }

    pub fn exit_code(&mut self) -> Option<i32> {
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_secs(30) {
            if let Some(status) = self.process.0.try_wait().unwrap() {
                return status.code();
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        panic!("it does not end");
    }
}

#[cfg(unix)]
#[test]
fn told_to_end_it_lets_answers_finish() {
    let mut server = demo();
    let mut stream = server.begin_stream("/v1/chat/completions", question(HUNGARY), "\"role\"");
    server.terminate();
    let mut rest = String::new();
    stream.read_to_string(&mut rest).unwrap();
    let said: String = rest
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line.strip_prefix("data: ")?).ok())
        .filter_map(|chunk| Some(chunk["choices"][0]["delta"]["content"].as_str()?.to_owned()))
        .collect();
    assert!(said == ANSWER && rest.contains("\"stop\"") && rest.contains("[DONE]"), "{rest}");
    assert_eq!(server.exit_code(), Some(0));
}

#[cfg(unix)]
#[test]
fn answers_that_take_too_long_are_ended_as_their_dialect_has_it() {
    let folder = Folder::new();
    let file = endless(&folder, "endless.gguf");
    let start = |grace| serve(&["--gguf", &file, "--sequences", "5", "--max-kv", "65536", "--grace-seconds", grace]);
    let mut server = start("1");
    let text = json!({"prompt": "word", "max_tokens": 60_000, "temperature": 0});
    let chat = json!({"messages": [{"role": "user", "content": "word"}], "temperature": 0, "stream_options": {"include_usage": true}});
    let mut streams = [
        server.begin_stream("/v1/completions", text.clone(), "\"text\""),
        server.begin_stream("/v1/chat/completions", chat, "\"role\""),
        server.begin_stream("/v1/responses", json!({"input": "word", "temperature": 0}), "response.in_progress"),
    ];
    let mut whole = server.open("POST", "/v1/completions", "", &text.to_string());
    let message = json!({"messages": [{"role": "user", "content": "word"}], "max_tokens": 60_000, "temperature": 0});
    let mut whole_message = server.open("POST", "/v1/messages", "", &message.to_string());
    let begun = Instant::now();
    while !server.ask("GET", "/health", "", "").2.contains("\"open_requests\":5") {
        assert!(begun.elapsed() < Duration::from_secs(20), "not all requests are under way");
    }
    server.terminate();
    let ends = streams.each_mut().map(|stream| {
        let mut rest = String::new();
        stream.read_to_string(&mut rest).unwrap();
        assert!(rest.contains("data: [DONE]"), "{rest}");
        let events = rest.lines().filter_map(|line| serde_json::from_str::<Value>(line.strip_prefix("data: ")?).ok());
        events.collect::<Vec<_>>()
    });
    let last = |events: &[Value], behind: usize| events[events.len() - 1 - behind].clone();
    assert_eq!(last(&ends[0], 0)["choices"][0]["finish_reason"], "length");
    assert_eq!(last(&ends[1], 1)["choices"][0]["finish_reason"], "length");
    assert!(last(&ends[1], 0)["usage"]["completion_tokens"].as_u64().unwrap() > 0, "{}", last(&ends[1], 0));
    let response = last(&ends[2], 0);
    assert_eq!(response["type"], "response.failed");
    assert_eq!(response["response"]["error"]["code"], "server_shutting_down", "{response}");
    let mut answer = String::new();
    whole.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 503") && answer.contains("server_shutting_down"), "{answer}");
    answer.clear();
    whole_message.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 503") && answer.contains("overloaded_error"), "{answer}");
    assert_eq!(server.exit_code(), Some(0));

    let mut server = start("600");
    let open = |count: u32| {
        let begun = Instant::now();
        while !server.ask("GET", "/health", "", "").2.contains(&format!("\"open_requests\":{count}")) {
            assert!(begun.elapsed() < Duration::from_secs(20), "there are not {count} open requests");
        }
    };
    // Nothing is sent of an answer that is not streamed, and who goes away ends it all the same.
    let gone = server.open("POST", "/v1/completions", "", &text.to_string());
    open(1);
    drop(gone);
    open(0);
    let _stream = server.begin_stream("/v1/completions", text, "\"text\"");
    server.terminate();
    let begun = Instant::now();
    while TcpStream::connect(&server.address).is_ok() {
        assert!(begun.elapsed() < Duration::from_secs(20), "it still accepts connections");
        std::thread::sleep(Duration::from_millis(10));
    }
    server.terminate();
    assert_eq!(server.exit_code(), Some(130));
}
