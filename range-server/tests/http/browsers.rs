//! What protects a browser's user: Host, and which origins may read.

use gguf_serve::{Options, ServeError};

use crate::client::Response;
use crate::support::{TestServer, serving, start};

const MODEL: &str = "/gpt-oss-nano.gguf";

fn with_host_lines(server: &TestServer, lines: &str) -> Response {
    let mut client = server.connect();
    client.send(&format!("GET {MODEL} HTTP/1.1\r\n{lines}Range: bytes=0-3\r\n\r\n"));
    let mut response = client.read_head();
    client.read_body(&mut response);
    response
}

#[test]
fn foreign_hosts_are_refused() {
    let server = serving(&[]);
    let port = server.addr().port();
    for (lines, status) in [
        (format!("Host: localhost:{port}\r\n"), 206),
        (format!("Host: 127.0.0.1:{port}\r\n"), 206),
        ("Host: [::1]:8090\r\n".into(), 206),
        ("Host: LocalHost\r\n".into(), 206),
        ("Host: attacker.example\r\n".into(), 421),
        (format!("Host: attacker.example:{port}\r\n"), 421),
        ("Host: 127.0.0.1.attacker.example\r\n".into(), 421),
        ("Host: 192.168.0.1\r\n".into(), 421),
        ("Host: models.lan\r\n".into(), 421),
        ("Host: localhost\r\nHost: localhost\r\n".into(), 400),
        ("Host: localhost\r\nHost: attacker.example\r\n".into(), 400),
        ("Host:\r\n".into(), 400),
        ("Host: local host\r\n".into(), 400),
        (String::new(), 400),
    ] {
        let response = with_host_lines(&server, &lines);
        assert_eq!(response.status, status, "{lines:?}");
        assert_eq!(response.body == b"GGUF", status == 206, "{lines:?}");
    }
}

#[test]
fn an_absolute_target_is_held_to_the_same_list() {
    let server = serving(&[]);
    for (authority, status) in [("localhost:1", 200), ("attacker.example", 421)] {
        let target = format!("http://{authority}{MODEL}");
        assert_eq!(server.get(&target, &[]).status, status, "{target}");
    }
}

#[test]
fn hosts_can_be_allowed() {
    let server = start(Options { allow_hosts: vec!["models.lan".into()], ..Options::default() }).unwrap();
    assert_eq!(with_host_lines(&server, "Host: models.lan:8090\r\n").status, 206);
    assert_eq!(with_host_lines(&server, "Host: other.lan\r\n").status, 421);
    let bad = start(Options { allow_hosts: vec!["http://models.lan".into()], ..Options::default() });
    assert!(matches!(bad.err(), Some(ServeError::Host { host }) if host == "http://models.lan"));
}

#[test]
fn loopback_origins_may_read_everything_even_errors() {
    let server = serving(&[]);
    for origin in ["http://localhost:8080", "http://127.0.0.1:3000", "http://[::1]:5", "https://localhost"] {
        for (target, range, status) in [
            (MODEL, "bytes=0-3", 206),
            (MODEL, "bytes=99999999-", 416),
            ("/none", "bytes=0-3", 404),
            ("/api/models", "bytes=0-3", 200),
        ] {
            let response = server.get(target, &[("Origin", origin), ("Range", range)]);
            assert_eq!(response.status, status);
            assert_eq!(response.header("access-control-allow-origin"), Some(origin), "{target}");
            let exposed = response.header("access-control-expose-headers").unwrap();
            assert_eq!(exposed, "Accept-Ranges, Content-Range, Content-Length, ETag, Last-Modified");
            assert_eq!(response.header("vary"), Some("Origin"));
            assert_eq!(response.header("access-control-allow-credentials"), None);
        }
        let response = server.connect().request("POST", MODEL, &[("Origin", origin)]);
        assert_eq!((response.status, response.header("access-control-allow-origin")), (405, Some(origin)));
    }
}

#[test]
fn foreign_origins_may_not_read() {
    let server = serving(&[]);
    for origin in ["https://attacker.example", "null", "http://localhost.attacker.example", "http://192.168.0.1"] {
        let response = server.get(MODEL, &[("Origin", origin), ("Range", "bytes=0-3")]);
        assert_eq!(response.header("access-control-allow-origin"), None, "{origin}");
        assert_eq!(response.header("vary"), Some("Origin"), "{origin}");
        let preflight = [("Origin", origin), ("Access-Control-Request-Method", "GET")];
        let response = server.connect().request("OPTIONS", MODEL, &preflight);
        assert_eq!(response.header("access-control-allow-origin"), None, "{origin}");
        assert_eq!(response.header("access-control-allow-methods"), None, "{origin}");
    }
    // Without an Origin nobody needs a permission, but caches must still keep the answers apart.
    let response = server.get(MODEL, &[]);
    assert_eq!((response.header("access-control-allow-origin"), response.header("vary")), (None, Some("Origin")));
}

#[test]
fn origins_can_be_allowed() {
    let options = |origins: &[&str]| Options {
        allow_origins: origins.iter().map(ToString::to_string).collect(),
        ..Options::default()
    };
    let server = start(options(&["https://gptoss.example"])).unwrap();
    for (origin, allowed) in [
        ("https://gptoss.example", true),
        ("http://localhost:1", true),
        ("http://gptoss.example", false),
        ("https://other.example", false),
    ] {
        let response = server.get(MODEL, &[("Origin", origin)]);
        assert_eq!(response.header("access-control-allow-origin"), allowed.then_some(origin));
    }
    let server = start(options(&["*"])).unwrap();
    let response = server.get(MODEL, &[("Origin", "https://anyone.example")]);
    assert_eq!(response.header("access-control-allow-origin"), Some("*"));
    let bad = start(options(&["https://gptoss.example/"]));
    assert!(matches!(bad.err(), Some(ServeError::Origin { origin }) if origin == "https://gptoss.example/"));
}

#[test]
fn preflights() {
    let server = serving(&[]);
    let headers = [
        ("Origin", "http://localhost:8080"),
        ("Access-Control-Request-Method", "GET"),
        ("Access-Control-Request-Headers", "if-range,range"),
        ("Access-Control-Request-Private-Network", "true"),
    ];
    let response = server.connect().request("OPTIONS", MODEL, &headers);
    assert_eq!(response.status, 204);
    assert_eq!(response.header("access-control-allow-origin"), Some("http://localhost:8080"));
    assert_eq!(response.header("access-control-allow-methods"), Some("GET, HEAD, OPTIONS"));
    let allowed: Vec<_> = response.header("access-control-allow-headers").unwrap().split(", ").collect();
    for name in ["range", "if-range", "if-match", "if-none-match"] {
        assert!(allowed.contains(&name), "{name}");
    }
    assert!(response.header("access-control-max-age").unwrap().parse::<u32>().unwrap() > 0);
    assert_eq!(response.header("access-control-allow-private-network"), Some("true"));
    let response = server.connect().request("OPTIONS", MODEL, &headers[..3]);
    assert_eq!(response.header("access-control-allow-private-network"), None, "only where asked for");
}

#[test]
fn models_can_be_used_by_isolated_pages() {
    let server = serving(&[]);
    assert_eq!(server.get(MODEL, &[]).header("cross-origin-resource-policy"), Some("cross-origin"));
}
