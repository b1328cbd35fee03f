//! One connection: a request, and the answer to it with whatever is to go wrong.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::{Behaviour, Fault, Shared, lock};

/// A request as it came in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    pub method: String,
    /// First and last byte asked for.
    pub range: Option<(u64, u64)>,
}

/// Bodies go out in pieces of this size, so that an outage can break them off.
const PIECE_BYTES: usize = 64 << 10;
/// What was sent before a connection breaks gets this long to arrive: breaking it may take back what is still on the
/// way.
const ARRIVE: Duration = Duration::from_millis(100);

/// What is sent, fault and all.
struct Answer<'f> {
    status: &'static str,
    /// First and last byte, and length of the file.
    content_range: Option<String>,
    etag: &'static str,
    retry_after: Option<u32>,
    body: &'f [u8],
    /// `None` leaves the end of the body to the end of the connection.
    content_length: Option<usize>,
}

pub fn answer(stream: &TcpStream, shared: &Shared) -> std::io::Result<()> {
    let Some((request, path)) = read_request(stream)? else { return Ok(()) };
    let behaviour = *lock(&shared.behaviour);
    let fault = match request.range {
        Some(range) if request.method == "GET" => lock(&shared.schedule).take(range),
        _ => None,
    };
    lock(&shared.requests).push(request.clone());
    std::thread::sleep(behaviour.delay);
    let (fault, after_bytes) = fault.map_or((None, 0), |(fault, after_bytes)| (Some(fault), after_bytes as usize));

    let mut owned = Vec::new();
    let mut answer = good_answer(&request, &path, behaviour, &shared.file);
    if let Some(fault) = fault {
        spoil(&mut answer, fault, after_bytes, &shared.file, &mut owned);
    }
    if fault != Some(Fault::Reset) {
        // Closing a connection with something unread in it resets it.
        (&mut &*stream).read_exact(&mut [0])?;
    }
    let until = match fault {
        Some(Fault::Reset | Fault::Closed | Fault::Short | Fault::Stall | Fault::Drip(..) | Fault::Down(_)) => {
            after_bytes.min(answer.body.len())
        }
        _ => answer.body.len(),
    };
    if let Some(Fault::Down(time)) = fault
        && until == 0
    {
        shared.go_down(time);
        return Ok(());
    }
    let mut writer = stream;
    writer.write_all(head(&answer, behaviour).as_bytes())?;
    if request.method == "HEAD" {
        return writer.flush();
    }
    send(writer, shared, &answer.body[..until])?;
    match fault {
        Some(Fault::Reset | Fault::Closed | Fault::Short) => std::thread::sleep(ARRIVE),
        Some(Fault::Stall) => wait_for_hang_up(stream),
        Some(Fault::Drip(pieces, pause)) => {
            let rest = &answer.body[until..];
            for piece in rest.chunks(rest.len().div_ceil(pieces as usize).max(1)) {
                std::thread::sleep(pause);
                send(writer, shared, piece)?;
            }
        }
        Some(Fault::Down(time)) => {
            std::thread::sleep(ARRIVE);
            shared.go_down(time);
        }
        _ => {}
    }
    Ok(())
}

fn good_answer<'f>(request: &Request, path: &str, behaviour: Behaviour, file: &'f [u8]) -> Answer<'f> {
    let length = file.len() as u64;
    let (status, content_range, body): (_, _, &[u8]) = match (request.method.as_str(), request.range) {
        _ if path.split('?').next() != Some("/model.gguf") => ("404 Not Found", None, &[]),
        ("GET" | "HEAD", Some((first, last))) if behaviour.ranges && first < length => {
            let last = last.min(length - 1);
            let body = &file[first as usize..=last as usize];
            ("206 Partial Content", Some(format!("bytes {first}-{last}/{length}")), body)
        }
        ("GET" | "HEAD", Some(_)) if behaviour.ranges => {
            ("416 Range Not Satisfiable", Some(format!("bytes */{length}")), &[])
        }
        ("GET" | "HEAD", _) => ("200 OK", None, file),
        // A preflight is refused, so that a client that needs one fails here.
        _ => ("405 Method Not Allowed\r\nAllow: GET, HEAD", None, &[]),
    };
    Answer { status, content_range, etag: "\"tiny\"", retry_after: None, body, content_length: Some(body.len()) }
}

fn spoil<'f>(answer: &mut Answer<'f>, fault: Fault, after_bytes: usize, file: &'f [u8], owned: &'f mut Vec<u8>) {
    match fault {
        Fault::Reset | Fault::Closed | Fault::Stall | Fault::Drip(..) | Fault::Down(_) => {}
        Fault::Short => answer.content_length = None,
        Fault::Long => {
            owned.extend_from_slice(answer.body);
            owned.push(0);
            answer.body = owned;
            answer.content_length = Some(answer.body.len());
        }
        Fault::FlippedBit => {
            owned.extend_from_slice(answer.body);
            if let Some(byte) = owned.get_mut(after_bytes) {
                *byte ^= 1;
            }
            answer.body = owned;
        }
        Fault::Shifted(bytes) => {
            let (before, after) = answer.body.split_at(after_bytes.min(answer.body.len()));
            owned.extend_from_slice(before);
            owned.extend(after.iter().cycle().skip(bytes).take(after.len()));
            answer.body = owned;
        }
        Fault::WrongContentRange => rewrite_range(answer, 1, 0),
        Fault::OtherLength => rewrite_range(answer, 0, 1),
        Fault::OtherEtag => answer.etag = "\"another\"",
        Fault::Status(status, retry_after) => {
            answer.status = match status {
                200 => "200 OK",
                403 => "403 Forbidden",
                404 => "404 Not Found",
                429 => "429 Too Many Requests",
                500 => "500 Internal Server Error",
                503 => "503 Service Unavailable",
                _ => panic!("no words for status {status}"),
            };
            answer.content_range = None;
            answer.retry_after = retry_after;
            answer.body = if status == 200 { file } else { b"" };
            answer.content_length = Some(answer.body.len());
        }
    }
}

fn rewrite_range(answer: &mut Answer<'_>, first_more: u64, length_more: u64) {
    let numbers = answer.content_range.as_deref().and_then(|text| {
        let (range, length) = text.strip_prefix("bytes ")?.split_once('/')?;
        let (first, last) = range.split_once('-')?;
        Some((first.parse::<u64>().ok()?, last.parse::<u64>().ok()?, length.parse::<u64>().ok()?))
    });
    if let Some((first, last, length)) = numbers {
        answer.content_range = Some(format!("bytes {}-{last}/{}", first + first_more, length + length_more));
    }
}

fn head(answer: &Answer<'_>, behaviour: Behaviour) -> String {
    let mut head = format!("HTTP/1.1 {}\r\nETag: {}\r\n", answer.status, answer.etag);
    if let Some(range) = &answer.content_range {
        head.push_str(&format!("Content-Range: {range}\r\n"));
    }
    if let Some(seconds) = answer.retry_after {
        head.push_str(&format!("Retry-After: {seconds}\r\n"));
    }
    if let Some(length) = answer.content_length {
        head.push_str(&format!("Content-Length: {length}\r\n"));
    }
    if behaviour.cors {
        let exposed = "Accept-Ranges, Content-Range, Content-Length, ETag, Retry-After";
        head.push_str("Access-Control-Allow-Origin: *\r\n");
        head.push_str(&format!("Access-Control-Expose-Headers: {exposed}\r\n"));
    }
    head.push_str("Content-Type: application/octet-stream\r\nConnection: close\r\n\r\n");
    head
}

fn send(mut stream: &TcpStream, shared: &Shared, body: &[u8]) -> std::io::Result<()> {
    for piece in body.chunks(PIECE_BYTES) {
        if shared.is_down() {
            return Err(std::io::ErrorKind::ConnectionAborted.into());
        }
        stream.write_all(piece)?;
        shared.sent_bytes.fetch_add(piece.len() as u64, Ordering::SeqCst);
    }
    stream.flush()
}

/// Ends when the other side closes the connection, or after a minute.
fn wait_for_hang_up(mut stream: &TcpStream) {
    if stream.set_read_timeout(Some(Duration::from_secs(60))).is_ok() {
        let _ = stream.read(&mut [0]);
    }
}

/// Reads a request's head up to its last byte; `None` when the connection was opened for nothing, as browsers do.
fn read_request(mut stream: &TcpStream) -> std::io::Result<Option<(Request, String)>> {
    stream.set_read_timeout(Some(Duration::from_secs(30)))?;
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r") {
        if stream.read(&mut byte)? == 0 {
            return Ok(None);
        }
        head.push(byte[0]);
    }
    let head = String::from_utf8_lossy(&head);
    let mut lines = head.lines();
    let mut words = lines.next().unwrap_or_default().split(' ').map(str::to_owned);
    let (Some(method), Some(path)) = (words.next(), words.next()) else { return Ok(None) };
    let range = lines.filter_map(|line| line.split_once(':')).find(|(name, _)| name.eq_ignore_ascii_case("range"));
    Ok(Some((Request { method, range: range.and_then(|(_, value)| parse_range(value.trim())) }, path)))
}

/// `bytes=0-4095`, the only form that the page should ever send.
fn parse_range(value: &str) -> Option<(u64, u64)> {
    let (first, last) = value.strip_prefix("bytes=")?.split_once('-')?;
    Some((first.parse().ok()?, last.parse().ok()?))
}
