//! Host and Origin: what keeps foreign pages away from the files.

use crate::fixtures::TINY;
use crate::support::{Program, Subject};
use crate::table::{Level, Must, Project, Row, Should, ask, get, run};

/// A request with these lines for Host.
fn hosted(level: Level, section: &'static str, lines: &str, statuses: &[u16]) -> Row {
    let text = format!("GET /tiny.gguf HTTP/1.1\r\n{lines}\r\n");
    get(level, section, TINY).verbatim(text).gives(statuses)
}

fn host(level: Level, section: &'static str, value: &str, statuses: &[u16]) -> Row {
    hosted(level, section, &format!("Host: {value}\r\n"), statuses)
}

#[test]
fn hosts() {
    let subject = Subject::new();
    let port = subject.addr.port();
    let lines = |lines: &str, status| hosted(Must, "RFC 9112, 3.2", lines, &[status]);
    let bad = |value: &str| host(Must, "RFC 9112, 3.2", value, &[400]);
    let foreign = |value: &str| host(Project, "project", value, &[421]);
    let own = |value: &str| host(Project, "project", value, &[200]);
    let rows = vec![
        own("localhost"),
        own(&format!("localhost:{port}")),
        own("LocalHost"),
        own("127.0.0.1"),
        own(&format!("127.0.0.1:{port}")),
        own("[::1]"),
        own(&format!("[::1]:{port}")),
        // RFC 3986, 3.2.3: a port may be empty.
        own("localhost:"),
        lines("host:localhost\r\n", 200),
        lines("HOST: \t localhost \t \r\n", 200),
        lines("", 400),
        lines("Host: localhost\r\nHost: localhost\r\n", 400),
        lines("Host: localhost\r\nhost: attacker.example\r\n", 400),
        lines("Host: attacker.example\r\nHost: localhost\r\n", 400),
        // An empty one is for targets without an authority, and such an http target is invalid (4.2.1).
        host(Project, "project", "", &[400]),
        bad("local host"),
        bad("localhost, localhost"),
        bad("localhost localhost"),
        bad("localhost/"),
        bad("localhost?x"),
        bad("localhost#x"),
        bad("http://localhost"),
        bad("user@localhost"),
        bad("localhost:port"),
        bad("localhost:-1"),
        bad("localhost:80:80"),
        bad("[::1"),
        bad("::1"),
        bad("[]"),
        bad("[localhost]"),
        bad("[::1]x"),
        bad("local<host"),
        bad("local\\host"),
        bad("localhost%"),
        host(Project, "project", ":80", &[400, 421]),
        foreign("attacker.example"),
        foreign(&format!("attacker.example:{port}")),
        foreign("localhost.attacker.example"),
        foreign("127.0.0.1.attacker.example"),
        foreign("localhostx"),
        foreign("xlocalhost"),
        foreign("192.168.0.1"),
        foreign("10.0.0.1"),
        foreign("[::2]"),
        foreign("[fe80::1]"),
        // Ways to write loopback that browsers normalise, so that these are no browser's.
        foreign("2130706433"),
        foreign("0x7f000001"),
        foreign("127.1"),
        host(Project, "project", "0.0.0.0", &[421]),
        host(Project, "project", "localhost.", &[200, 421]),
        host(Project, "project", "%6cocalhost", &[200, 400, 421]),
        host(Project, "project", "127.0.0.1:99999", &[200, 400, 421]),
        host(Project, "project", "l\u{f6}calhost", &[400, 421]),
        // First the host, then everything else.
        ask(Project, "project", "GET", "/none").verbatim("GET /none HTTP/1.1\r\nHost: a.example\r\n\r\n").gives(&[421]),
        ask(Project, "project", "GET", "/")
            .verbatim("GET /api/models HTTP/1.1\r\nHost: a.example\r\n\r\n")
            .gives(&[421]),
        ask(Project, "project", "GET", "/").verbatim("GET /gptoss HTTP/1.1\r\nHost: a.example\r\n\r\n").gives(&[421]),
        ask(Project, "project", "POST", "/").verbatim("POST / HTTP/1.1\r\nHost: a.example\r\n\r\n").gives(&[421]),
        ask(Project, "project", "OPTIONS", "*").verbatim("OPTIONS * HTTP/1.1\r\nHost: a.example\r\n\r\n").gives(&[421]),
    ];
    run(&subject, rows);
}

#[test]
fn absolute_targets() {
    let subject = Subject::new();
    let port = subject.addr.port();
    let absolute = |level, target: &str, host: &str, statuses: &[u16]| {
        let text = format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n");
        get(level, "RFC 9112, 3.2.2", TINY).verbatim(text).gives(statuses)
    };
    let misdirected = |target: &str| {
        let text = format!("GET {target} HTTP/1.1\r\nHost: localhost\r\n\r\n");
        get(Must, "7.4", TINY).verbatim(text).gives(&[400, 421])
    };
    let rows = vec![
        absolute(Must, "http://localhost/tiny.gguf", "localhost", &[200]),
        absolute(Must, &format!("http://127.0.0.1:{port}/tiny.gguf"), "localhost", &[200]),
        absolute(Must, "http://[::1]/tiny.gguf?x", "localhost", &[200]),
        absolute(Must, "HTTP://LOCALHOST/tiny.gguf", "localhost", &[200]),
        // The target decides, and not what else is said.
        absolute(Project, "http://attacker.example/tiny.gguf", "localhost", &[421]),
        absolute(Project, "http://attacker.example/tiny.gguf", "attacker.example", &[421]),
        absolute(Project, "http://localhost.attacker.example/tiny.gguf", "localhost", &[421]),
        absolute(Must, "http://localhost/tiny.gguf", "attacker.example", &[200]),
        // One valid Host is there, or it is a bad request.
        absolute(Must, "http://localhost/tiny.gguf", "", &[400]),
        absolute(Must, "http://localhost/tiny.gguf", "local host", &[400]),
        absolute(Must, "http://localhost/tiny.gguf", "localhost\r\nHost: localhost", &[400]),
        get(Must, "RFC 9112, 3.2", TINY).verbatim("GET http://localhost/tiny.gguf HTTP/1.1\r\n\r\n").gives(&[400]),
        // "A request for an `https` resource MUST be rejected unless it has been received over a connection that has
        // been secured"; nor are we the origin of other schemes.
        misdirected("https://localhost/tiny.gguf"),
        misdirected(&format!("https://127.0.0.1:{port}/tiny.gguf")),
        misdirected("ftp://localhost/tiny.gguf"),
        absolute(Project, "http://user:pass@localhost/tiny.gguf", "localhost", &[200, 400, 421]),
        // No form at all; the first looks like the name of a host.
        absolute(Project, "tiny.gguf", "localhost", &[400, 404, 421]),
        absolute(Project, "localhost/tiny.gguf", "localhost", &[400, 404]),
    ];
    run(&subject, rows);
}

const CORS: [&str; 6] = [
    "access-control-allow-origin",
    "access-control-expose-headers",
    "access-control-allow-methods",
    "access-control-allow-headers",
    "access-control-max-age",
    "access-control-allow-private-network",
];

fn readable(row: Row, origin: &str) -> Row {
    ["accept-ranges", "content-range", "content-length", "etag", "last-modified"]
        .into_iter()
        .fold(row.with("Origin", origin).is("access-control-allow-origin", origin), |row, name| {
            row.lists("access-control-expose-headers", name)
        })
}

fn unreadable(row: Row, origin: &str) -> Row {
    CORS.into_iter().fold(row.with("Origin", origin), |row, name| row.lacks(name))
}

#[test]
fn origins() {
    let subject = Subject::new();
    let tiny = || get(Project, "project", TINY);
    let part = || tiny().with("Range", "bytes=4-5").slice(4..6);
    let own = "http://localhost:3000";
    let mut rows = vec![
        readable(tiny(), own),
        readable(part(), own),
        readable(tiny().with("Range", "bytes=24-").gives(&[416]), own),
        readable(tiny().with("If-None-Match", "{etag}").gives(&[304]), own),
        readable(tiny().with("If-Match", "\"other\"").gives(&[412]), own),
        readable(ask(Project, "project", "GET", "/none.gguf").gives(&[404]), own),
        readable(ask(Project, "project", "POST", "/tiny.gguf").gives(&[405]), own),
        readable(ask(Project, "project", "HEAD", "/tiny.gguf"), own),
        readable(ask(Project, "project", "GET", "/api/models"), own),
        readable(ask(Project, "project", "GET", "/api/health"), own),
        readable(
            get(Project, "project", crate::fixtures::MB)
                .with("Range", "bytes=0-9,1000-1009")
                .parts(&[0..10, 1000..1010]),
            own,
        ),
        // No origin, no CORS; but the answer depends on it all the same.
        CORS.into_iter().fold(tiny().is("vary", "Origin"), |row, name| row.lacks(name)),
    ];
    for origin in ["http://localhost", "http://127.0.0.1:8080", "http://[::1]:5", "https://localhost:8443"] {
        rows.push(readable(part(), origin));
    }
    for origin in [
        "http://attacker.example",
        "https://attacker.example",
        "http://localhost.attacker.example",
        "http://127.0.0.1.attacker.example",
        "http://attacker.example:3000",
        "http://localhost@attacker.example",
        "http://attacker.example/http://localhost",
        "http://localhost, http://attacker.example",
        "http://localhost:3000/",
        "http://notlocalhost",
        "http://192.168.0.1",
        "file://",
        "null",
        "localhost",
        "*",
        "",
    ] {
        rows.push(unreadable(part(), origin));
        rows.push(unreadable(ask(Project, "project", "GET", "/api/models"), origin));
    }
    rows.push(unreadable(ask(Project, "project", "GET", "/none").gives(&[404]), "http://attacker.example"));
    run(&subject, rows);
}

#[test]
fn preflights() {
    let subject = Subject::new();
    let own = "http://localhost:3000";
    let preflight = |target: &str, origin: &str| {
        ask(Project, "project", "OPTIONS", target).with("Origin", origin).with("Access-Control-Request-Method", "GET")
    };
    let allowed = |target: &str, headers: &str| {
        let row = preflight(target, own).with("Access-Control-Request-Headers", headers).gives(&[204]);
        let row = row.is("access-control-allow-origin", own).has("access-control-max-age");
        let row = row.lists("access-control-allow-methods", "get").lists("access-control-allow-methods", "head");
        ["range", "if-range", "if-match", "if-none-match"]
            .into_iter()
            .fold(row, |row, name| row.lists("access-control-allow-headers", name))
    };
    let refused = |row: Row| CORS.into_iter().fold(row, |row, name| row.lacks(name)).gives(&[200, 204, 403]);
    let private = "Access-Control-Request-Private-Network";
    let rows = vec![
        allowed("/tiny.gguf", "range"),
        allowed("/tiny.gguf", "if-none-match,if-range,range"),
        allowed("/api/models", "if-match"),
        allowed("/tiny.gguf", "range").with(private, "true").is("access-control-allow-private-network", "true"),
        allowed("/tiny.gguf", "range").lacks("access-control-allow-private-network"),
        // A preflight is answered before it is known whether the file exists.
        allowed("/none.gguf", "range"),
        allowed("/tiny.gguf", "range").with("Range", "bytes=24-").with("If-Match", "\"other\""),
        refused(preflight("/tiny.gguf", "http://attacker.example").with("Access-Control-Request-Headers", "range")),
        refused(preflight("/tiny.gguf", "http://attacker.example").with(private, "true")),
        refused(preflight("/tiny.gguf", "null").with(private, "true")),
        ask(Should, "9.3.7", "OPTIONS", "/tiny.gguf").with("Origin", own).gives(&[200, 204]).lists("allow", "get"),
    ];
    run(&subject, rows);
}

#[test]
fn hosts_and_origins_can_be_allowed() {
    let program = |arguments: &[&str]| {
        let arguments: Vec<_> = arguments.iter().map(|argument| argument.as_ref()).collect();
        Program::start(&arguments, &[])
    };
    let origin_of = |program: &Program, origin: &str| {
        let response = program.get("/gpt-oss-nano.gguf", &[("Origin", origin), ("Range", "bytes=0-3")]);
        assert_eq!((response.status, &*response.body), (206, &b"GGUF"[..]));
        assert_eq!(response.header("access-control-allow-credentials"), None);
        response.header("access-control-allow-origin").map(str::to_owned)
    };
    let host = |program: &Program, host: &str| {
        let text = format!("HEAD /gpt-oss-nano.gguf HTTP/1.1\r\nHost: {host}\r\n\r\n");
        program.connect().exchange("HEAD", text).unwrap().status
    };
    let some = program(&["--allow-origin", "https://models.example:8443", "--allow-host", "models.lan"]);
    let allowed = "https://models.example:8443";
    assert_eq!(origin_of(&some, allowed).as_deref(), Some(allowed));
    assert_eq!(origin_of(&some, "http://localhost:5").as_deref(), Some("http://localhost:5"));
    for origin in ["https://models.example", "http://models.example:8443", "https://x.models.example:8443"] {
        assert_eq!(origin_of(&some, origin), None, "{origin}");
    }
    assert_eq!(["models.lan", "models.lan:80", "MODELS.LAN", "localhost"].map(|name| host(&some, name)), [200; 4]);
    assert_eq!(["x.models.lan", "models.lan.example", "models"].map(|name| host(&some, name)), [421; 3]);
    let any = program(&["--allow-origin", "*"]);
    let echoed = origin_of(&any, "https://attacker.example");
    assert!(matches!(echoed.as_deref(), Some("*" | "https://attacker.example")), "{echoed:?}");
    assert_eq!(host(&any, "attacker.example"), 421, "origins are not hosts");
}
