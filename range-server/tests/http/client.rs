//! A small HTTP/1.1 client that hides nothing: it sends what it is told and shows what came, whole or not.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

pub struct Client {
    stream: BufReader<TcpStream>,
}

#[derive(Debug)]
pub struct Response {
    pub status: u16,
    /// Names in lower case, in the order received.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    /// Whether all of Content-Length came.
    pub complete: bool,
}

impl Client {
    pub fn connect(addr: SocketAddr) -> Self {
        let stream = TcpStream::connect(addr).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        Self { stream: BufReader::new(stream) }
    }

    pub fn send(&mut self, text: &str) {
        self.stream.get_mut().write_all(text.as_bytes()).unwrap();
    }

    /// Status and headers; the body is still to be read.
    pub fn read_head(&mut self) -> Response {
        let mut line = String::new();
        self.stream.read_line(&mut line).unwrap();
        let status = line.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3)?.parse().ok());
        let status = status.unwrap_or_else(|| panic!("expected a status line, got {line:?}"));
        let mut headers = Vec::new();
        loop {
            line.clear();
            self.stream.read_line(&mut line).unwrap();
            let Some((name, value)) = line.trim_end().split_once(':') else { break };
            headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
        assert_eq!(line, "\r\n", "the end of the headers");
        Response { status, headers, body: Vec::new(), complete: false }
    }

    pub fn read_body(&mut self, response: &mut Response) {
        let len: usize = response.header("content-length").map_or(0, |len| len.parse().unwrap());
        let mut chunk = vec![0; 1 << 16];
        while response.body.len() < len {
            let want = chunk.len().min(len - response.body.len());
            match self.stream.read(&mut chunk[..want]) {
                Ok(0) | Err(_) => return,
                Ok(read) => response.body.extend_from_slice(&chunk[..read]),
            }
        }
        response.complete = true;
    }

    /// Sends a request with a good Host and reads its whole answer; the connection stays open.
    pub fn request(&mut self, method: &str, target: &str, headers: &[(&str, &str)]) -> Response {
        let mut text = format!("{method} {target} HTTP/1.1\r\nHost: localhost\r\n");
        headers.iter().for_each(|(name, value)| text.push_str(&format!("{name}: {value}\r\n")));
        self.send(&(text + "\r\n"));
        let mut response = self.read_head();
        if method != "HEAD" && !matches!(response.status, 204 | 304) {
            self.read_body(&mut response);
            assert!(response.complete, "{method} {target}: the body broke off");
        }
        response
    }

    /// The status of an answer without a body; `None` if the server closed the connection instead.
    pub fn try_request(&mut self, method: &str, target: &str) -> Option<u16> {
        let text = format!("{method} {target} HTTP/1.1\r\nHost: localhost\r\n\r\n");
        self.stream.get_mut().write_all(text.as_bytes()).ok()?;
        let mut line = String::new();
        self.stream.read_line(&mut line).ok()?;
        line.get(9..12)?.parse().ok()
    }

    /// Whether the server has closed the connection, waiting for that as long as reads wait.
    pub fn is_closed(&mut self) -> bool {
        match self.stream.read(&mut [0; 1]) {
            Ok(read) => read == 0,
            Err(error) => error.kind() == std::io::ErrorKind::ConnectionReset,
        }
    }
}

impl Response {
    /// The value of a header that must not occur twice.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut values = self.headers.iter().filter(|(n, _)| n == name).map(|(_, value)| value.as_str());
        let value = values.next();
        assert_eq!(values.next(), None, "{name} occurs twice");
        value
    }

    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap()
    }
}
