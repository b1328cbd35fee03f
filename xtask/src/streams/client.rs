//! A client that asks for a stream and reads it as it comes, and leaves when it likes.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::Value;

/// Nothing that is waited for takes longer, on a machine that does what it is told.
const PATIENCE: Duration = Duration::from_secs(120);

/// An answer under way.
pub struct Answer {
    pub status: u16,
    body: BufReader<Body>,
}

/// The bytes of an answer, without the chunks in which they come (RFC 9112, 7.1).
struct Body {
    connection: BufReader<TcpStream>,
    /// Bytes of the present chunk that are left; `None` where there are no chunks.
    left: Option<u64>,
    is_over: bool,
}

/// Sends a request; ends when the head of its answer is here.
pub fn send(address: &str, method: &str, path: &str, body: Option<&Value>) -> Result<Answer> {
    let body = body.map(Value::to_string).unwrap_or_default();
    let mut stream = TcpStream::connect(address).with_context(|| format!("cannot reach {address}"))?;
    stream.set_read_timeout(Some(PATIENCE)).context("cannot set a limit")?;
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(format!("{head}{body}").as_bytes()).context("the request is not taken")?;
    let mut connection = BufReader::new(stream);
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        if connection.read_line(&mut line).context("no answer")? == 0 {
            bail!("the connection ended before an answer");
        }
        match line.trim_end() {
            "" => break,
            line => lines.push(line.to_ascii_lowercase()),
        }
    }
    let status = lines.first().and_then(|line| line.split(' ').nth(1)).and_then(|status| status.parse().ok());
    let is_chunked = lines.iter().any(|line| line.starts_with("transfer-encoding:") && line.contains("chunked"));
    let body = Body { connection, left: is_chunked.then_some(0), is_over: false };
    Ok(Answer { status: status.context("the answer has no status")?, body: BufReader::new(body) })
}

impl Answer {
    /// The data of the next event; `None` at the end.
    pub fn next_event(&mut self) -> Result<Option<String>> {
        loop {
            let mut line = String::new();
            if self.body.read_line(&mut line).context("the stream broke")? == 0 {
                return Ok(None);
            }
            if let Some(data) = line.trim_end().strip_prefix("data:") {
                return Ok(Some(data.trim_start().to_owned()));
            }
        }
    }

    /// All of the answer.
    pub fn text(mut self) -> Result<String> {
        let mut text = String::new();
        self.body.read_to_string(&mut text).context("the answer broke")?;
        Ok(text)
    }
}

impl Body {
    /// Goes to the next chunk.
    fn next_chunk(&mut self) -> std::io::Result<u64> {
        let mut line = String::new();
        // A chunk ends with an empty line, and the first has none before it.
        while line.trim().is_empty() {
            line.clear();
            if self.connection.read_line(&mut line)? == 0 {
                return Err(std::io::ErrorKind::UnexpectedEof.into());
            }
        }
        let size = line.trim().split(';').next().unwrap_or_default();
        u64::from_str_radix(size, 16).map_err(std::io::Error::other)
    }
}

impl Read for Body {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let Some(mut left) = self.left else { return self.connection.read(buffer) };
        if self.is_over {
            return Ok(0);
        }
        if left == 0 {
            left = self.next_chunk()?;
            self.is_over = left == 0;
        }
        let most = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        let read = self.connection.read(&mut buffer[..most])?;
        self.left = Some(left - read as u64);
        if read == 0 && most > 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn events_are_read_across_chunks_and_a_cut_is_an_error() {
        for (body, events, is_whole) in [
            (
                "Transfer-Encoding: chunked\r\n\r\n7\r\ndata: a\r\n5\r\nb\n\nda\r\n6\r\nta: c\n\r\n0\r\n\r\n",
                &["ab", "c"][..],
                true,
            ),
            ("Content-Length: 10\r\n\r\ndata: one\n", &["one"], true),
            ("Transfer-Encoding: chunked\r\n\r\nff\r\ndata: a\nda", &["a"], false),
        ] {
            let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
            let address = listener.local_addr().expect("an address").to_string();
            let answer = format!("HTTP/1.1 200 OK\r\n{body}");
            let host = std::thread::spawn(move || {
                let (mut stream, _) = listener.accept().expect("a guest");
                let mut head = [0; 1024];
                assert!(stream.read(&mut head).expect("a request") > 0);
                stream.write_all(answer.as_bytes()).expect("taken");
            });
            let mut answer = send(&address, "GET", "/", None).expect("an answer");
            assert_eq!(answer.status, 200);
            for event in events {
                assert_eq!(answer.next_event().expect("an event").as_deref(), Some(*event));
            }
            assert_eq!(answer.next_event().map_err(drop), if is_whole { Ok(None) } else { Err(()) }, "{body}");
            host.join().expect("it went well");
        }
    }
}
