//! A strict HTTP/1.1 client: what is not exactly a response is an error that says why.

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

/// Longer than any answer takes, much shorter than a hang.
const PATIENCE: Duration = Duration::from_secs(15);

pub struct Wire {
    stream: BufReader<TcpStream>,
}

#[derive(Debug)]
pub struct Response {
    pub version: String,
    pub status: u16,
    /// Names in lower case, in the order received.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Wire {
    pub fn connect(addr: SocketAddr) -> Self {
        let stream = TcpStream::connect(addr).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream: BufReader::new(stream) }
    }

    /// Sends, unless the server has closed the connection: that shows when reading.
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        self.stream.get_mut().write_all(bytes.as_ref()).is_ok()
    }

    pub fn into_stream(self) -> TcpStream {
        self.stream.into_inner()
    }

    pub fn finish_sending(&mut self) {
        self.stream.get_mut().shutdown(Shutdown::Write).unwrap();
    }

    /// One request, and the final response to it.
    pub fn exchange(&mut self, method: &str, request: impl AsRef<[u8]>) -> Result<Response, String> {
        self.send(request);
        loop {
            let response = self.read_response(method)?;
            if response.status >= 200 {
                return Ok(response);
            }
        }
    }

    pub fn read_response(&mut self, method: &str) -> Result<Response, String> {
        let mut response = self.read_head()?;
        let status = response.status;
        if method != "HEAD" && status >= 200 && !matches!(status, 204 | 304) {
            let len = response.content_length()?.ok_or("a body without Content-Length")?;
            response.body = self.read_bytes(len)?;
        }
        Ok(response)
    }

    pub fn read_head(&mut self) -> Result<Response, String> {
        let line = self.read_line()?;
        let parts = line.split_once(' ').and_then(|(version, rest)| Some((version, rest.get(..3)?.parse().ok()?)));
        let Some((version @ ("HTTP/1.1" | "HTTP/1.0"), status @ 100..600)) = parts else {
            return Err(format!("not a status line: {line:?}"));
        };
        let mut headers = Vec::new();
        loop {
            let line = self.read_line()?;
            if line.is_empty() {
                break;
            }
            let (name, value) = line.split_once(':').ok_or_else(|| format!("not a header: {line:?}"))?;
            if name.is_empty() || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b)) {
                return Err(format!("not a header name: {line:?}"));
            }
            headers.push((name.to_ascii_lowercase(), value.trim_matches([' ', '\t']).to_owned()));
        }
        Ok(Response { version: version.into(), status, headers, body: Vec::new() })
    }

    fn read_line(&mut self) -> Result<String, String> {
        let mut line = Vec::new();
        self.stream.read_until(b'\n', &mut line).map_err(|error| format!("no answer: {error}"))?;
        if line.is_empty() {
            return Err("the connection is closed".into());
        }
        let text = line.strip_suffix(b"\r\n").ok_or_else(|| format!("a line without CRLF: {:?}", lossy(&line)))?;
        if text.iter().any(|byte| matches!(byte, b'\r' | 0)) {
            return Err(format!("CR or NUL inside a line: {:?}", lossy(text)));
        }
        Ok(lossy(text))
    }

    /// Exactly so many bytes.
    pub fn read_bytes(&mut self, len: u64) -> Result<Vec<u8>, String> {
        let mut bytes = Vec::new();
        let outcome = self.stream.by_ref().take(len).read_to_end(&mut bytes);
        if bytes.len() as u64 == len {
            return Ok(bytes);
        }
        Err(format!("the body broke off after {} of {len} bytes ({outcome:?})", bytes.len()))
    }

    /// What still comes until the server closes, and whether it does so in time.
    pub fn read_to_close(&mut self) -> (Vec<u8>, bool) {
        let mut bytes = Vec::new();
        let closed = match self.stream.read_to_end(&mut bytes) {
            Ok(_) => true,
            Err(error) => error.kind() == ErrorKind::ConnectionReset,
        };
        (bytes, closed)
    }

    /// Whether the server has closed the connection, and sent nothing more before.
    pub fn is_closed(&mut self) -> bool {
        let (rest, closed) = self.read_to_close();
        closed && rest.is_empty()
    }
}

impl Response {
    pub fn all(&self, name: &str) -> impl Iterator<Item = &str> {
        self.headers.iter().filter(move |(n, _)| n == name).map(|(_, value)| value.as_str())
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.all(name).next()
    }

    /// The members of a header that is a list of tokens, in lower case.
    pub fn members(&self, name: &str) -> Vec<String> {
        self.all(name).flat_map(|line| line.split(',')).map(|member| member.trim().to_ascii_lowercase()).collect()
    }

    pub fn content_length(&self) -> Result<Option<u64>, String> {
        if let Some(coding) = self.header("transfer-encoding") {
            return Err(format!("Transfer-Encoding: {coding}, where the length is known"));
        }
        let Some(value) = self.header("content-length") else { return Ok(None) };
        let digits = !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit());
        let len = value.parse().ok().filter(|_| digits);
        Ok(Some(len.ok_or_else(|| format!("Content-Length: {value}"))?))
    }

    pub fn closes(&self) -> bool {
        let options = self.members("connection");
        options.iter().any(|option| option == "close")
            || self.version == "HTTP/1.0" && !options.iter().any(|option| option == "keep-alive")
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap()
    }
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
