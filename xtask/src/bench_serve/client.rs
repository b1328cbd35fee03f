//! An HTTP/1.1 client that does what the measurement needs and as little else as possible: range requests over a
//! connection that stays open, every answer checked, bodies thrown away.

use std::fmt::Write as _;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use super::target::Target;

const BUFFER_BYTES: usize = 256 << 10;

/// A server that says nothing for so long will not say anything any more.
const TIMEOUT: Duration = Duration::from_secs(30);

/// A connection to a target, for one request after the other.
#[derive(Debug)]
pub struct Connection<'a> {
    target: &'a Target,
    stream: TcpStream,
    /// The same one for every answer.
    buffer: Vec<u8>,
    request: String,
}

impl<'a> Connection<'a> {
    pub fn open(target: &'a Target) -> Result<Self> {
        let stream = TcpStream::connect_timeout(&target.address, TIMEOUT)
            .with_context(|| format!("cannot connect to {} at {}", target.name, target.address))?;
        stream.set_nodelay(true).context("cannot set TCP_NODELAY")?;
        stream.set_read_timeout(Some(TIMEOUT)).context("cannot set a timeout")?;
        Ok(Self { target, stream, buffer: vec![0; BUFFER_BYTES], request: String::new() })
    }

    /// Gets `length` bytes of the file from `offset` on and shows them to `body` piece by piece.
    pub fn get(&mut self, offset: u64, length: u64, body: impl FnMut(&[u8])) -> Result<()> {
        let wanted = ContentRange { first: offset, last: offset + length - 1, total: self.target.file_bytes };
        self.send_and_receive(&wanted, body).with_context(|| {
            let Target { name, address, path, .. } = self.target;
            format!("{name}: bytes {}-{} of http://{address}{path}", wanted.first, wanted.last)
        })
    }

    fn send_and_receive(&mut self, wanted: &ContentRange, mut body: impl FnMut(&[u8])) -> Result<()> {
        let Target { address, path, .. } = self.target;
        let ContentRange { first, last, .. } = wanted;
        self.request.clear();
        write!(
            self.request,
            "GET {path} HTTP/1.1\r\nHost: {address}\r\nAccept: */*\r\nRange: bytes={first}-{last}\r\n\r\n"
        )?;
        self.stream.write_all(self.request.as_bytes()).context("cannot send the request")?;

        let (head, rest) = self.read_head()?;
        let mut remaining = head.check(wanted)?;
        let early = (rest.end - rest.start) as u64;
        ensure!(early <= remaining, "more bytes than the head announces");
        body(&self.buffer[rest]);
        remaining -= early;
        while remaining > 0 {
            let most = usize::try_from(remaining).unwrap_or(BUFFER_BYTES).min(BUFFER_BYTES);
            let count = self.stream.read(&mut self.buffer[..most]).context("cannot read the body")?;
            ensure!(count > 0, "the connection was closed {remaining} bytes before the end of the body");
            body(&self.buffer[..count]);
            remaining -= count as u64;
        }
        Ok(())
    }

    /// Reads up to the end of the head; also says where in the buffer the bytes are that came behind it.
    fn read_head(&mut self) -> Result<(Head, std::ops::Range<usize>)> {
        const END: &[u8] = b"\r\n\r\n";
        let mut filled = 0;
        loop {
            let count = self.stream.read(&mut self.buffer[filled..]).context("cannot read the head")?;
            ensure!(count > 0, "the connection was closed before the end of the head");
            // The end may have come in two pieces.
            let searched = filled.saturating_sub(END.len() - 1);
            filled += count;
            let found = self.buffer[searched..filled].windows(END.len()).position(|window| window == END);
            if let Some(position) = found {
                let end = searched + position;
                let text = std::str::from_utf8(&self.buffer[..end]).context("the head is not text")?;
                return Ok((Head::parse(text)?, end + END.len()..filled));
            }
            ensure!(filled < self.buffer.len(), "the head does not end within {filled} bytes");
        }
    }
}

/// What matters of the head of an answer.
#[derive(Debug, PartialEq, Eq)]
struct Head {
    status: u16,
    content_length: Option<u64>,
    content_range: Option<ContentRange>,
    /// Anything that makes the body something else than `content_length` bytes followed by the next answer.
    unusual: Option<String>,
}

impl Head {
    /// Reads a head without the empty line at its end.
    fn parse(text: &str) -> Result<Self> {
        let mut lines = text.split("\r\n");
        let status_line = lines.next().unwrap_or_default();
        let status = status_line.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.split(' ').next()?.parse().ok());
        let status = status.with_context(|| format!("{status_line:?} is not the status line of HTTP/1.1"))?;
        let mut head = Self { status, content_length: None, content_range: None, unusual: None };
        for line in lines {
            let (name, value) = line.split_once(':').with_context(|| format!("{line:?} is not a header"))?;
            head.take(name, value.trim()).with_context(|| format!("cannot understand {line:?}"))?;
        }
        Ok(head)
    }

    fn take(&mut self, name: &str, value: &str) -> Result<()> {
        let is = |wanted: &str| name.eq_ignore_ascii_case(wanted);
        if is("content-length") {
            self.content_length = Some(value.parse()?);
        } else if is("content-range") {
            self.content_range = Some(ContentRange::parse(value)?);
        } else if is("transfer-encoding")
            || is("content-encoding")
            || is("connection") && !value.eq_ignore_ascii_case("keep-alive")
        {
            self.unusual = Some(format!("{name}: {value}"));
        }
        Ok(())
    }

    /// Length of the body, if it is `wanted` and the connection can be used again.
    fn check(&self, wanted: &ContentRange) -> Result<u64> {
        let Self { status, content_length, content_range, unusual } = self;
        ensure!(*status == 206, "status {status} instead of 206");
        match content_range {
            None => bail!("no Content-Range"),
            Some(range) => ensure!(range == wanted, "Content-Range is {range:?} instead of {wanted:?}"),
        }
        let length = wanted.last - wanted.first + 1;
        ensure!(*content_length == Some(length), "Content-Length is {content_length:?} instead of {length}");
        if let Some(header) = unusual {
            bail!("unexpected header {header:?}");
        }
        Ok(length)
    }
}

/// `bytes 0-99/1000`
#[derive(Debug, PartialEq, Eq)]
struct ContentRange {
    first: u64,
    last: u64,
    total: u64,
}

impl ContentRange {
    fn parse(value: &str) -> Result<Self> {
        let parts = value.strip_prefix("bytes ").and_then(|rest| {
            let (range, total) = rest.split_once('/')?;
            let (first, last) = range.split_once('-')?;
            Some((first, last, total))
        });
        let (first, last, total) = parts.context("not of the form bytes FIRST-LAST/TOTAL")?;
        Ok(Self { first: first.parse()?, last: last.parse()?, total: total.parse()? })
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader};
    use std::net::TcpListener;

    use super::*;

    const HEAD: &str =
        "HTTP/1.1 206 Partial Content\r\ncontent-length: 4\r\nContent-Range: bytes 8-11/100\r\nETag: \"x:y\"";

    /// The error of a request for bytes 8 to 11 of 100 that is answered with `answer`; the body when there is none.
    fn ask(answer: &[&str], times: usize) -> Result<String> {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("its address");
        let target = Target { name: "test", address, path: "/f".to_owned(), file_bytes: 100, process_id: 0 };
        std::thread::scope(|scope| {
            scope.spawn(move || {
                let (mut stream, _) = listener.accept().expect("a connection");
                for _ in 0..times {
                    let mut lines = BufReader::new(&stream).lines().map_while(Result::ok);
                    let request: Vec<_> = lines.by_ref().take_while(|line| !line.is_empty()).collect();
                    if request.is_empty() {
                        return;
                    }
                    assert_eq!(request[0], "GET /f HTTP/1.1");
                    assert!(request.contains(&"Range: bytes=8-11".to_owned()), "{request:?}");
                    for part in answer {
                        stream.write_all(part.as_bytes()).expect("written");
                        // So that the parts arrive one by one, most of the time; the test passes either way.
                        std::thread::sleep(Duration::from_millis(5));
                    }
                }
            });
            let mut connection = Connection::open(&target)?;
            let mut body = String::new();
            for _ in 0..times {
                connection.get(8, 4, |bytes| body.push_str(&String::from_utf8_lossy(bytes)))?;
            }
            Ok(body)
        })
    }

    #[test]
    fn a_head_is_read_whatever_the_case_of_its_names() {
        let head = Head::parse(HEAD).expect("a head");
        let range = ContentRange { first: 8, last: 11, total: 100 };
        assert_eq!(head.check(&range).expect("as wanted"), 4);
        assert_eq!(head, Head { status: 206, content_length: Some(4), content_range: Some(range), unusual: None });
        let head = Head::parse("HTTP/1.1 404 Not Found\r\nConnection: keep-alive").expect("a head");
        assert_eq!(head, Head { status: 404, content_length: None, content_range: None, unusual: None });
    }

    #[test]
    fn what_is_no_head_is_refused() {
        for (text, reason) in [
            ("", "status line"),
            ("HTTP/1.0 206 Partial Content", "status line"),
            ("HTTP/1.1 ok", "status line"),
            ("HTTP/1.1 206 Partial Content\r\nnonsense", "not a header"),
            ("HTTP/1.1 206 Partial Content\r\nContent-Length: -1", "cannot understand"),
            ("HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 0-1", "cannot understand"),
            ("HTTP/1.1 206 Partial Content\r\nContent-Range: lines 0-1/2", "cannot understand"),
        ] {
            let error = format!("{:#}", Head::parse(text).expect_err(text));
            assert!(error.contains(reason), "{text}: {error}");
        }
    }

    #[test]
    fn answers_are_read_one_after_the_other() {
        for parts in [
            vec![HEAD, "\r\n\r\nbody"],
            vec![HEAD, "\r\n", "\r\n", "bo", "dy"],
            vec![&HEAD[..20], &HEAD[20..], "\r", "\n\r\nb", "ody"],
        ] {
            assert_eq!(ask(&parts, 3).expect("three answers"), "bodybodybody");
        }
    }

    #[test]
    fn wrong_answers_are_errors_that_say_what_is_wrong() {
        for (from, to, reason) in [
            ("206 Partial", "200 Partial", "status 200"),
            ("length: 4", "length: 5", "Content-Length is Some(5)"),
            ("bytes 8-11/100", "bytes 9-12/100", "first: 9"),
            ("bytes 8-11/100", "bytes 8-11/101", "total: 101"),
            ("Content-Range", "X-Range", "no Content-Range"),
            ("ETag", "Transfer-Encoding", "unexpected header"),
            ("ETag: \"x:y\"", "Connection: close", "unexpected header"),
        ] {
            let error = format!("{:#}", ask(&[&HEAD.replace(from, to), "\r\n\r\nbody"], 1).expect_err(reason));
            assert!(error.contains(reason) && error.contains("bytes 8-11"), "{reason}: {error}");
        }
        let error = format!("{:#}", ask(&[&format!("{HEAD}\r\n\r\nbod")], 1).expect_err("a short body"));
        assert!(error.contains("1 bytes before the end"), "{error}");
        let error = format!("{:#}", ask(&[&format!("{HEAD}\r\n\r\nbody and more")], 1).expect_err("a long body"));
        assert!(error.contains("more bytes"), "{error}");
        let error = format!("{:#}", ask(&[HEAD], 1).expect_err("no end of the head"));
        assert!(error.contains("end of the head"), "{error}");
    }
}
