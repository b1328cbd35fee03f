//! The secret, and what may be reached from elsewhere.

use gguf_serve::{Limits, Options, ServeError};

use crate::support::{TestServer, folder, start, write};

const SECRET: &str = "open sesame/1";
const IN_QUERY: &str = "token=open%20sesame%2F1";
const MODEL: &str = "/gpt-oss-nano.gguf";

fn with_token() -> TestServer {
    let web = folder();
    write(&web, "index.html", b"<p>page");
    let (token, web) = (Some(SECRET.into()), Some(web.path().into()));
    start(Options { token, web, ..Options::default() }).unwrap()
}

#[test]
fn nothing_is_read_without_it() {
    let server = with_token();
    for target in ["/", "/gptoss", "/models", "/api/models", "/api/health", MODEL, "/none", "/gptoss?token=wrong"] {
        let response = server.get(target, &[("Origin", "http://localhost:1")]);
        assert_eq!(response.status, 401, "{target}");
        assert_eq!(response.header("www-authenticate"), Some("Bearer realm=\"gguf-serve\""));
        assert_eq!(response.header("access-control-allow-origin"), Some("http://localhost:1"), "errors are readable");
        assert_eq!(response.header("set-cookie"), None);
    }
    let bearer = [("Authorization", "Bearer open sesame/1"), ("Range", "bytes=0-3")];
    assert_eq!(server.get(MODEL, &bearer).text(), "GGUF");
    assert_eq!(server.get(MODEL, &[("Authorization", "Bearer open sesame")]).status, 401);
    assert_eq!(server.get(&format!("{MODEL}?{IN_QUERY}"), &[("Range", "bytes=0-3")]).text(), "GGUF");
}

#[test]
fn a_preflight_needs_none() {
    let server = with_token();
    let headers = [("Origin", "http://localhost:1"), ("Access-Control-Request-Method", "GET")];
    let response = server.connect().request("OPTIONS", MODEL, &headers);
    assert_eq!((response.status, response.header("access-control-allow-methods")), (204, Some("GET, HEAD, OPTIONS")));
    assert!(response.header("access-control-allow-headers").unwrap().contains("authorization"));
}

#[test]
fn a_browser_keeps_it_as_a_cookie_and_loses_it_from_the_address() {
    let server = with_token();
    for (target, location) in [
        (format!("/?{IN_QUERY}"), "/gptoss"),
        (format!("/gptoss?{IN_QUERY}"), "/gptoss"),
        (format!("/gptoss?prompt=hi&{IN_QUERY}&top_k=3"), "/gptoss?prompt=hi&top_k=3"),
        (format!("/models?{IN_QUERY}"), "/models"),
        // No way to another server.
        (format!("//models/?{IN_QUERY}"), "/models"),
    ] {
        let response = server.get(&target, &[]);
        assert_eq!((response.status, response.header("location")), (302, Some(location)), "{target}");
        let cookie = response.header("set-cookie").unwrap();
        assert!(cookie.ends_with("; Path=/; HttpOnly; SameSite=Lax"), "{cookie}");
        let pair = cookie.split(';').next().unwrap();
        assert_eq!(server.get(location, &[("Cookie", pair)]).status, 200, "{target}");
        assert_eq!(server.get(MODEL, &[("Cookie", pair), ("Range", "bytes=0-3")]).text(), "GGUF");
    }
}

#[test]
fn it_does_not_get_into_the_log() {
    let server = with_token();
    server.get(&format!("{MODEL}?{IN_QUERY}&x=1"), &[("Range", "bytes=0-3")]);
    let record = server.record_of(&format!("{MODEL}?token=…&x=1"));
    assert_eq!((record.status.as_u16(), record.model.as_deref()), (206, Some("gpt-oss-nano")));
}

#[test]
fn who_can_be_reached_by_others_must_say_how_and_by_whom() {
    let bind = Some("0.0.0.0".parse().unwrap());
    let (token, allow_hosts) = (Some(SECRET.to_owned()), vec!["models.lan".to_owned()]);
    for options in [
        Options { bind, ..Options::default() },
        Options { bind, token: token.clone(), ..Options::default() },
        Options { bind, allow_hosts: allow_hosts.clone(), ..Options::default() },
    ] {
        let fault = start(options).err().unwrap();
        assert!(matches!(fault, ServeError::Exposed { .. }), "{fault}");
        let text = fault.to_string();
        assert!(text.contains("--allow-host") && text.contains("--token"), "{text}");
    }
    let server = start(Options { bind, token, allow_hosts, ..Options::default() }).unwrap();
    let bearer = ("Authorization", "Bearer open sesame/1");
    assert_eq!(server.get(MODEL, &[bearer, ("Range", "bytes=0-3")]).text(), "GGUF");
    assert!(server.server().page_url().starts_with("http://127.0.0.1:"), "{}", server.server().page_url());
    let empty = start(Options { token: Some(String::new()), ..Options::default() }).err();
    assert!(matches!(empty, Some(ServeError::EmptyToken)));
}

#[test]
fn one_address_cannot_have_all_connections() {
    let limits = Limits { connections_per_address: 2, ..Limits::default() };
    let server = start(Options { limits, ..Options::default() }).unwrap();
    let mut held = [server.connect(), server.connect()];
    for client in &mut held {
        assert_eq!(client.request("HEAD", MODEL, &[]).status, 200);
    }
    assert!(server.connect().is_closed());
    drop(held);
    // The server notices that they are gone a moment later.
    let begin = std::time::Instant::now();
    while server.connect().try_request("HEAD", MODEL).is_none() {
        assert!(begin.elapsed() < std::time::Duration::from_secs(10), "no room was made");
    }
}
