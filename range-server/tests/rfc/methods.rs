//! Methods other than GET: RFC 9110, 9.

use crate::fixtures::{BIG, EMPTY, MB, MODIFIED, TINY};
use crate::support::{Subject, request};
use crate::table::{Level, Must, Project, Row, Should, ask, run};

fn head(level: Level, section: &'static str, file: &str) -> Row {
    ask(level, section, "HEAD", &format!("/{file}")).of(file)
}

#[test]
fn plain_head() {
    let subject = Subject::peer_or_own();
    let rows = vec![
        head(Must, "9.3.2", TINY),
        head(Must, "9.3.2", MB),
        head(Must, "9.3.2", BIG),
        head(Must, "9.3.2", EMPTY),
        // "GET is the only method for which range handling is defined"
        head(Must, "14.2", TINY).with("Range", "bytes=4-5"),
        head(Must, "14.2", TINY).with("Range", "bytes=24-"),
        head(Must, "14.2", MB).with("Range", "bytes=0-9,1000-1009"),
        head(Must, "14.2", TINY).with("Range", "bytes=4-5").with("If-Range", "{etag}"),
        head(Must, "14.2", TINY).with("Range", "bytes=4-5").with("If-Range", "\"other\""),
        head(Must, "13.1.2", TINY).with("If-None-Match", "{etag}").gives(&[304]),
        head(Must, "13.1.2", TINY).with("If-None-Match", "\"other\""),
        head(Must, "13.1.1", TINY).with("If-Match", "\"other\"").gives(&[412]),
        head(Must, "13.1.3", TINY).with("If-Modified-Since", MODIFIED).gives(&[304]),
        head(Must, "13.1.4", TINY).with("If-Unmodified-Since", "Sun, 06 Nov 1994 08:49:37 GMT").gives(&[412]),
        ask(Must, "15.5.5", "HEAD", "/none.gguf").gives(&[404]),
        ask(Must, "13.2.1", "HEAD", "/none.gguf").with("If-Match", "*").gives(&[404]),
    ];
    run(&subject, rows);
}

#[test]
fn head_has_the_fields_of_get() {
    let subject = Subject::new();
    // "The server SHOULD send the same header fields in response to a HEAD request as [...] GET."
    for target in ["/tiny.gguf", "/empty.gguf", "/none.gguf", "/api/models", "/api/health", "/gptoss", "/sub"] {
        let headers = [("Origin", "http://localhost:3000")];
        let get = subject.connect().exchange("GET", request("GET", target, &headers)).unwrap();
        let head = subject.connect().exchange("HEAD", request("HEAD", target, &headers)).unwrap();
        let fields = |response: &crate::wire::Response| {
            let mut fields = response.headers.clone();
            fields.retain(|(name, _)| name != "date");
            fields.sort();
            (response.status, fields)
        };
        assert_eq!(fields(&get), fields(&head), "{target}");
    }
}

#[test]
fn plain_methods_that_are_not_allowed() {
    let subject = Subject::peer_or_own();
    let mut rows = Vec::new();
    for method in ["POST", "PUT", "DELETE", "PATCH"] {
        rows.push(ask(Must, "15.5.6", method, "/tiny.gguf").gives(&[405]));
    }
    run(&subject, rows);
}

#[test]
fn other_methods() {
    let subject = Subject::new();
    let mut rows = Vec::new();
    let not_allowed = |method, target: &str| {
        ask(Project, "project", method, target)
            .gives(&[405])
            .lists("allow", "get")
            .lists("allow", "head")
            .lists("allow", "options")
    };
    for method in
        ["POST", "PUT", "DELETE", "PATCH", "TRACE", "PROPFIND", "MKCOL", "QUERY", "BREW", "get", "Get", "HEAD2", "X"]
    {
        rows.push(not_allowed(method, "/tiny.gguf"));
    }
    for target in ["/none.gguf", "/api/models", "/api/health", "/gptoss", "/"] {
        rows.push(not_allowed("POST", target));
        rows.push(not_allowed("DELETE", target));
    }
    // The request has a body, whose end must not be lost.
    for method in ["POST", "PUT", "PATCH"] {
        let text = format!("{method} /tiny.gguf HTTP/1.1\r\nHost: localhost\r\nContent-Length: 11\r\n\r\nhello world");
        rows.push(not_allowed(method, "/tiny.gguf").verbatim(text));
        let text = format!(
            "{method} /tiny.gguf HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n\
             5\r\nhello\r\n6;x=y\r\n world\r\n0\r\nTrailer: x\r\n\r\n"
        );
        rows.push(not_allowed(method, "/tiny.gguf").verbatim(text));
    }
    let text = "POST /tiny.gguf HTTP/1.1\r\nHost: localhost\r\nContent-Length: 200000\r\n\r\n".to_owned();
    rows.push(not_allowed("POST", "/tiny.gguf").verbatim(text + &"x".repeat(200_000)));
    // No tunnels: authority-form is for CONNECT alone.
    let connect = "CONNECT localhost:80 HTTP/1.1\r\nHost: localhost:80\r\n\r\n";
    rows.push(ask(Must, "9.3.6", "CONNECT", "localhost:80").verbatim(connect).gives(&[400, 405, 501]));
    // Conditions are for what would have been done.
    rows.push(ask(Must, "13.2.1", "POST", "/tiny.gguf").of(TINY).with("If-Match", "\"other\"").gives(&[405]));
    rows.push(ask(Must, "13.2.1", "PUT", "/tiny.gguf").of(TINY).with("If-None-Match", "*").gives(&[405]));
    run(&subject, rows);
}

#[test]
fn options() {
    let subject = Subject::new();
    let options = |level, section, target: &str| {
        ask(level, section, "OPTIONS", target).gives(&[200, 204]).lists("allow", "get").lists("allow", "head")
    };
    let rows = vec![
        options(Should, "9.3.7", "/tiny.gguf").lists("allow", "options"),
        options(Project, "project", "/tiny.gguf").gives(&[204]),
        options(Project, "9.3.7", "/api/models"),
        options(Project, "9.3.7", "/gptoss"),
        ask(Must, "9.3.7", "OPTIONS", "*").gives(&[200, 204]),
        // "MUST ignore the conditional request header fields [...] such as CONNECT, OPTIONS, or TRACE"
        options(Must, "13.2.1", "/tiny.gguf").of(TINY).with("If-Match", "\"other\""),
        options(Must, "13.2.1", "/tiny.gguf").of(TINY).with("If-None-Match", "*"),
        options(Must, "14.2", "/tiny.gguf").with("Range", "bytes=4-5"),
        options(Must, "9.3.7", "/tiny.gguf").with("Max-Forwards", "0"),
        // "*" is for OPTIONS alone.
        ask(Must, "RFC 9112, 3.2.4", "GET", "*").gives(&[400, 404]),
    ];
    run(&subject, rows);
}
