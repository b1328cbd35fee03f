//! Bytes on the wire: RFC 9112, and clients that are slow, broken or hostile.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::fixtures::{BIG_LEN, MB, MB_LEN, MODIFIED, TINY_BYTES};
use crate::support::{Subject, request};
use crate::wire::{Response, Wire};

const PART: &str = "GET /tiny.gguf HTTP/1.1\r\nHost: localhost\r\nRange: bytes=4-7\r\n\r\n";

#[track_caller]
fn assert_part(response: &Response) {
    assert_eq!((response.status, &*response.body), (206, &b"0123"[..]));
}

/// The next request on another connection is answered as ever.
#[track_caller]
fn assert_well(addr: SocketAddr) {
    assert_part(&Wire::connect(addr).exchange("GET", PART).unwrap());
}

/// The answer to bytes that are no good request: one of these statuses, then the end of the connection.
#[track_caller]
fn assert_refused(addr: SocketAddr, bytes: impl AsRef<[u8]>, statuses: &[u16]) {
    let mut wire = Wire::connect(addr);
    wire.send(&bytes);
    let shown = String::from_utf8_lossy(&bytes.as_ref()[..bytes.as_ref().len().min(120)]).into_owned();
    let response = wire.read_response("GET").unwrap_or_else(|fault| panic!("{fault}: {shown:?}"));
    assert!(statuses.contains(&response.status), "expected {statuses:?}, got {}: {shown:?}", response.status);
    assert!(wire.is_closed(), "the connection is still open: {shown:?}");
}

/// The same, where what is refused need not end the connection.
#[track_caller]
fn assert_status(addr: SocketAddr, bytes: impl AsRef<[u8]>, statuses: &[u16]) -> Response {
    let shown = String::from_utf8_lossy(bytes.as_ref()).into_owned();
    let response = Wire::connect(addr).exchange("GET", bytes).unwrap_or_else(|fault| panic!("{fault}: {shown:?}"));
    assert!(statuses.contains(&response.status), "expected {statuses:?}, got {}: {shown:?}", response.status);
    response
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let subject = Subject::new();
    let mut wire = subject.connect();
    let part = |range: &str| request("GET", "/tiny.gguf", &[("Range", range)]);
    let script = [
        ("GET", part("bytes=4-7")),
        ("HEAD", request("HEAD", "/mb.gguf", &[])),
        ("GET", request("GET", "/none.gguf", &[])),
        ("GET", request("GET", "/mb.gguf", &[])),
        ("GET", part("bytes=24-")),
        ("GET", request("GET", "/tiny.gguf", &[("If-Modified-Since", MODIFIED)])),
        ("POST", request("POST", "/tiny.gguf", &[])),
        ("OPTIONS", request("OPTIONS", "/tiny.gguf", &[])),
        ("GET", part("bytes=0-0,-1")),
        ("GET", part("bytes=-3")),
    ];
    // Twice, since what is left over from one round would show in the next.
    for _ in 0..2 {
        assert!(wire.send(script.each_ref().map(|(_, text)| text.as_str()).concat()));
        let answers = script.each_ref().map(|(method, _)| wire.read_response(method).unwrap());
        let statuses = answers.each_ref().map(|answer| answer.status);
        assert_eq!(statuses, [206, 200, 404, 200, 416, 304, 405, 204, 206, 206]);
        assert_part(&answers[0]);
        assert!(answers[3].body == subject.slice(MB, &(0..MB_LEN)));
        assert_eq!(answers[9].body, b"hij");
    }
}

#[test]
fn a_request_may_come_in_pieces() {
    let subject = Subject::new();
    let mut wire = subject.connect();
    for byte in PART.bytes().chain(PART.bytes()) {
        wire.send([byte]);
    }
    assert_part(&wire.read_response("GET").unwrap());
    assert_part(&wire.read_response("GET").unwrap());
    // Cut inside the line breaks, with pauses so that the pieces really arrive one by one.
    for at in [PART.find('\r').unwrap() + 1, PART.len() - 3, PART.len() - 2, PART.len() - 1] {
        wire.send(&PART[..at]);
        sleep(Duration::from_millis(30));
        wire.send(&PART[at..]);
        assert_part(&wire.read_response("GET").unwrap());
    }
    // The end of one together with the beginning of the next.
    wire.send(PART);
    wire.send(&PART[..20]);
    assert_part(&wire.read_response("GET").unwrap());
    wire.send(&PART[20..]);
    assert_part(&wire.read_response("GET").unwrap());
}

#[test]
fn too_much_of_everything() {
    let addr_of = Subject::new();
    let addr = addr_of.addr;
    let with = |headers: &str| format!("GET /tiny.gguf HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n");
    let many = |count: usize| (0..count).map(|i| format!("X-{i}: y\r\n")).collect::<String>();
    // Within the limits, which are 64 headers and 32 KiB (of buffers: some more may be read at once); and RFC 9112, 3,
    // recommends request lines of 8000 octets.
    assert_status(addr, with(&many(63)), &[200]);
    assert_status(addr, with(&format!("X: {}\r\n", "y".repeat(16_000))), &[200]);
    assert_status(addr, format!("GET /tiny.gguf?{} HTTP/1.1\r\nHost: localhost\r\n\r\n", "x".repeat(8000)), &[200]);
    assert_status(addr, format!("GET /{} HTTP/1.1\r\nHost: localhost\r\n\r\n", "x".repeat(8000)), &[404]);
    // Beyond.
    assert_refused(addr, with(&many(64)), &[400, 431]);
    assert_refused(addr, with(&many(1000)), &[400, 431]);
    assert_refused(addr, with(&format!("X: {}\r\n", "y".repeat(70_000))), &[400, 431]);
    assert_refused(addr, with(&format!("{}: y\r\n", "X".repeat(70_000))), &[400, 431]);
    let long = |target: String| format!("GET {target} HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert_refused(addr, long(format!("/{}", "x".repeat(70_000))), &[414, 431]);
    assert_refused(addr, long(format!("/tiny.gguf?{}", "x".repeat(70_000))), &[414, 431]);
    // The request has no end.
    let mut wire = Wire::connect(addr);
    let started = Instant::now();
    while wire.send([b'x'; 4096]) {
        assert!(started.elapsed() < Duration::from_secs(8), "it reads on and on");
    }
    assert_well(addr);
}

#[test]
fn malformed_messages() {
    let subject = Subject::new();
    let addr = subject.addr;
    let with = |line: &str| format!("GET /tiny.gguf HTTP/1.1\r\nHost: localhost\r\n{line}\r\n\r\n");
    let refused = |line: &str| assert_refused(addr, with(line), &[400]);
    // RFC 9112, 5.1: no white space before the colon.
    refused("Range : bytes=4-7");
    refused("Range\t: bytes=4-7");
    refused("no colon");
    refused(": empty name");
    refused("na me: x");
    refused("na\u{e9}me: x");
    refused("X: a\0b");
    assert_refused(addr, "GET /tiny.gguf\r\n\r\n", &[400, 505]);
    assert_refused(addr, "GET\r\n\r\n", &[400]);
    assert_refused(addr, "GET /tiny.gguf HTTP/1.1 x\r\nHost: localhost\r\n\r\n", &[400]);
    assert_refused(addr, "GET /tiny .gguf HTTP/1.1\r\nHost: localhost\r\n\r\n", &[400]);
    assert_refused(addr, "GET /tiny.gguf http/1.1\r\nHost: localhost\r\n\r\n", &[400, 505]);
    assert_refused(addr, "GET /tiny.gguf HTTP/9.9\r\nHost: localhost\r\n\r\n", &[400, 505]);
    assert_refused(addr, "G\u{e9}T /tiny.gguf HTTP/1.1\r\nHost: localhost\r\n\r\n", &[400]);
    assert_refused(addr, "G(T /tiny.gguf HTTP/1.1\r\nHost: localhost\r\n\r\n", &[400]);
    assert_refused(addr, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 a TLS client hello\r\n\r\n", &[400]);
    assert_refused(addr, "\0\0\0\0\r\n\r\n", &[400]);
    assert_refused(addr, "SSH-2.0-OpenSSH_9.6\r\n\r\n", &[400]);
    assert_well(addr);
}

#[test]
fn what_servers_may_read_in_two_ways() {
    let subject = Subject::new();
    let addr = subject.addr;
    // RFC 9112, 5.2: reject a folded line, or read the fold as a space. Here the space is between elements of a list.
    let folded = "GET /tiny.gguf HTTP/1.1\r\nHost: localhost\r\nRange: bytes=4-5,\r\n 6-7\r\n\r\n";
    let response = assert_status(addr, folded, &[400, 206]);
    if response.status == 206 {
        assert_part(&response);
    }
    // RFC 9112, 2.2: a line before the first header that begins with white space is rejected, or not read.
    let text = "GET /tiny.gguf HTTP/1.1\r\n Range: bytes=4-7\r\nHost: localhost\r\n\r\n";
    assert_status(addr, text, &[400, 200]);
    // RFC 9112, 2.2: a bare LF may end a line.
    let response = assert_status(addr, PART.replace("\r\n", "\n"), &[400, 206]);
    if response.status == 206 {
        assert_part(&response);
    }
    // RFC 9112, 2.2: a bare CR is invalid, or a space.
    assert_status(addr, PART.replace("4-7\r\n", "4-7\rX: y\r\n"), &[400, 200]);
    assert_status(addr, PART.replace("localhost\r\n", "localhost\rX: y\r\n"), &[400]);
    // RFC 9112, 2.2: "SHOULD ignore at least one empty line (CRLF) received prior to the request-line".
    assert_part(&assert_status(addr, format!("\r\n{PART}"), &[206]));
    // RFC 9112, 3: "MAY instead parse on whitespace-delimited word boundaries".
    assert_status(addr, PART.replace("GET /", "GET  /"), &[400, 206]);
}

#[test]
fn bodies_of_requests_are_not_the_next_request() {
    let subject = Subject::new();
    let smuggled = "GET /mb.gguf HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let len = smuggled.len();
    let sized = format!("GET /tiny.gguf HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len}\r\n\r\n{smuggled}");
    let chunked = format!(
        "GET /tiny.gguf HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n{len:x}\r\n{smuggled}\r\n0\r\n\r\n"
    );
    let missing = sized.replacen("tiny", "none", 1);
    let head = sized.replacen("GET", "HEAD", 1);
    for (method, status, text) in
        [("GET", 200, sized), ("GET", 200, chunked), ("GET", 404, missing), ("HEAD", 200, head)]
    {
        let mut wire = subject.connect();
        wire.send(text + PART);
        let response = wire.read_response(method).unwrap();
        assert_eq!(response.status, status);
        // RFC 9112, 9.3: "MUST read the entire request message body or close the connection".
        if !response.closes() {
            assert_part(&wire.read_response("GET").unwrap());
        } else {
            assert!(wire.is_closed());
        }
    }
}

#[test]
fn lengths_that_contradict() {
    let subject = Subject::new();
    let addr = subject.addr;
    for headers in [
        "Content-Length: 5\r\nContent-Length: 6",
        "Content-Length: 5, 6",
        "Content-Length: x",
        "Content-Length: -5",
        "Content-Length: +5",
        "Content-Length: 5 5",
        "Content-Length: ",
        "Content-Length: 99999999999999999999999",
        "Transfer-Encoding: x",
        "Transfer-Encoding: chunked, identity",
    ] {
        for method in ["GET", "POST"] {
            let text = format!("{method} /tiny.gguf HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n\r\nhello{PART}");
            assert_refused(addr, text, &[400, 501]);
        }
    }
    // The same length twice is one, or an error.
    let twice = "GET /tiny.gguf HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\nhello";
    assert_status(addr, twice, &[200, 400]);
    // RFC 9112, 6.1: with both, the request may be refused or be read as chunked, but the connection ends.
    let both = "Content-Length: 5\r\nTransfer-Encoding: chunked";
    for headers in
        [both, "Transfer-Encoding: chunked\r\nContent-Length: 5", "Content-Length: 5\r\ntransfer-encoding: CHUNKED"]
    {
        let text = format!("GET /tiny.gguf HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n\r\n0\r\n\r\n{PART}");
        assert_refused(addr, text, &[200, 400]);
    }
}

#[test]
fn http_1_0() {
    let subject = Subject::new();
    let ask = |headers: &str| format!("GET /tiny.gguf HTTP/1.0\r\nHost: localhost\r\n{headers}\r\n");
    // RFC 9112, 9.3: without keep-alive the connection ends with the response.
    let mut wire = subject.connect();
    wire.send(ask("Range: bytes=4-7\r\n"));
    assert_part(&wire.read_response("GET").unwrap());
    assert!(wire.is_closed());
    let mut wire = subject.connect();
    let response = wire.exchange("GET", ask("Connection: keep-alive\r\n")).unwrap();
    assert_eq!(response.body, TINY_BYTES);
    if response.members("connection").iter().any(|option| option == "keep-alive") {
        assert_part(&wire.exchange("GET", PART).unwrap());
    } else {
        assert!(wire.is_closed());
    }
    // Exactly one Host, of them too (project).
    assert_status(subject.addr, "GET /tiny.gguf HTTP/1.0\r\n\r\n", &[400]);
    assert_status(subject.addr, "GET /tiny.gguf HTTP/1.0\r\nHost: attacker.example\r\n\r\n", &[421]);
    // 10.1.1: "a 100-continue expectation in an HTTP/1.0 request MUST [be ignored]".
    let mut wire = subject.connect();
    wire.send("GET /tiny.gguf HTTP/1.0\r\nHost: localhost\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\nhello");
    assert_eq!(wire.read_response("GET").unwrap().status, 200);
    // RFC 9112, 6.1: framing of that version cannot be chunked.
    let mut wire = subject.connect();
    wire.send(ask("Transfer-Encoding: chunked\r\nConnection: keep-alive\r\n") + "0\r\n\r\n" + PART);
    let response = wire.read_response("GET").unwrap();
    assert!(matches!(response.status, 200 | 400), "{}", response.status);
    assert!(wire.is_closed());
}

#[test]
fn http_2_is_not_spoken_without_tls() {
    let subject = Subject::new();
    let mut wire = subject.connect();
    wire.send("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0");
    let (answer, closed) = wire.read_to_close();
    assert!(closed);
    let text = String::from_utf8_lossy(&answer);
    let refused = ["HTTP/1.1 400", "HTTP/1.1 505"].iter().any(|start| text.starts_with(start));
    assert!(answer.is_empty() || refused, "{text}");
    // Nor after Upgrade, which is ignored.
    let upgrade = "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n";
    let text = PART.replacen("\r\n\r\n", &format!("\r\n{upgrade}"), 1);
    assert_part(&subject.connect().exchange("GET", text).unwrap());
    assert_well(subject.addr);
}

#[test]
fn a_client_that_has_finished_sending_gets_everything() {
    let subject = Subject::new();
    // RFC 9112, 9.6: a half-close does not "imply that the client is no longer interested in a response".
    let mut wire = subject.connect();
    wire.send(request("GET", "/mb.gguf", &[]) + PART);
    wire.finish_sending();
    assert!(wire.read_response("GET").unwrap().body == subject.slice(MB, &(0..MB_LEN)));
    assert_part(&wire.read_response("GET").unwrap());
    assert!(wire.is_closed());
    // A connection that ends in the middle of a request gets no answer, or an error.
    let mut wire = subject.connect();
    wire.send(&PART[..PART.len() - 2]);
    wire.finish_sending();
    let (answer, closed) = wire.read_to_close();
    assert!(closed && (answer.is_empty() || answer.starts_with(b"HTTP/1.1 4")), "{}", String::from_utf8_lossy(&answer));
}

#[test]
fn clients_that_leave_hurt_nobody() {
    let subject = Subject::new();
    // More than may be connected at once, should any of them be kept.
    for round in 0..100 {
        let mut stream = TcpStream::connect(subject.addr).unwrap();
        stream.write_all(request("GET", "/big.gguf", &[]).as_bytes()).unwrap();
        if round % 2 == 0 {
            stream.read_exact(&mut [0; 1000]).unwrap();
        }
    }
    for _ in 0..100 {
        Wire::connect(subject.addr).send(&PART[..30]);
    }
    assert_well(subject.addr);
    // Some that do not read hold up no others.
    let idle: Vec<_> = (0..8)
        .map(|_| {
            let mut wire = subject.connect();
            wire.send(request("GET", "/big.gguf", &[]));
            assert_eq!(wire.read_head().unwrap().content_length().unwrap(), Some(BIG_LEN));
            wire
        })
        .collect();
    assert_well(subject.addr);
    drop(idle);
}

#[test]
fn expect_100_continue() {
    let subject = Subject::new();
    for method in ["GET", "PUT"] {
        let mut wire = subject.connect();
        let text = format!(
            "{method} /tiny.gguf HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n"
        );
        wire.send(text);
        // 10.1.1: an answer at once, final or not, without waiting for the content.
        let mut response = wire.read_response(method).unwrap();
        let mut is_sent = false;
        if response.status == 100 {
            wire.send("hello");
            is_sent = true;
            response = wire.read_response(method).unwrap();
        }
        assert_eq!(response.status, if method == "GET" { 200 } else { 405 });
        // Then it reads on or ends, and does not take the content for a request.
        if response.closes() {
            assert!(wire.is_closed());
        } else {
            wire.send(if is_sent { PART.to_owned() } else { format!("hello{PART}") });
            if let Ok(next) = wire.read_response("GET") {
                assert_part(&next);
            }
        }
    }
    assert_status(subject.addr, PART.replacen("Range", "Expect: 200-ok\r\nRange", 1), &[206, 417]);
}

#[test]
fn connection_close_is_obeyed() {
    let subject = Subject::new();
    for options in ["close", "Close", "keep-alive, close", "close, x"] {
        let mut wire = subject.connect();
        // RFC 9112, 9.6: "MUST NOT process any further requests received on that connection".
        wire.send(PART.replacen("Range", &format!("Connection: {options}\r\nRange"), 1) + PART);
        let response = wire.read_response("GET").unwrap();
        assert_part(&response);
        assert!(response.closes(), "it SHOULD say so: {options}");
        assert!(wire.is_closed(), "{options}");
    }
    // Without that header, the connection stays open: 9.3.
    let mut wire = subject.connect();
    for _ in 0..200 {
        let response = wire.exchange("GET", PART).unwrap();
        assert_part(&response);
        assert!(!response.closes());
    }
}

#[test]
fn slow_headers_are_cut_after_10_seconds() {
    let subject = Subject::new();
    let addr = subject.addr;
    // One that never sends, one that sends its first request slowly, and one its second.
    let silent = std::thread::spawn(move || closed_after(Wire::connect(addr), ""));
    let first = std::thread::spawn(move || closed_after(Wire::connect(addr), PART));
    let second = std::thread::spawn(move || {
        let mut wire = Wire::connect(addr);
        assert_part(&wire.exchange("GET", PART).unwrap());
        closed_after(wire, PART)
    });
    for (name, thread) in [("silent", silent), ("first", first), ("second", second)] {
        let after = thread.join().unwrap().as_secs_f32();
        assert!((9.0..12.5).contains(&after), "{name}: after {after} s");
    }
    assert_well(addr);
}

/// How long it takes until the server gives up on a client that sends a byte now and then.
fn closed_after(wire: Wire, text: &str) -> Duration {
    let mut stream = wire.into_stream();
    stream.set_read_timeout(Some(Duration::from_millis(400))).unwrap();
    let started = Instant::now();
    let mut bytes = text.bytes();
    let mut answer = Vec::new();
    while started.elapsed() < Duration::from_secs(14) {
        let mut chunk = [0; 1000];
        match stream.read(&mut chunk) {
            Ok(0) => break,
            Ok(read) => answer.extend_from_slice(&chunk[..read]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                let _ = bytes.next().map(|byte| stream.write_all(&[byte]));
            }
            Err(_) => break,
        }
    }
    let text = String::from_utf8_lossy(&answer);
    assert!(text.is_empty() || text.starts_with("HTTP/1.1 408"), "{text}");
    started.elapsed()
}
