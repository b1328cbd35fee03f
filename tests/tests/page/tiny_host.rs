//! A file host in a few lines, for what gguf-serve rightly cannot do: ignore ranges, forget CORS, be slow. It keeps a
//! record of every request.

use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

/// Serves one file at `/model.gguf` from threads of its own until it is dropped.
#[derive(Debug)]
pub struct TinyHost {
    address: SocketAddr,
    shared: Arc<Shared>,
    acceptor: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    file: Vec<u8>,
    behaviour: Mutex<Behaviour>,
    requests: Mutex<Vec<Request>>,
    stopping: AtomicBool,
}

/// How the host treats its guests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Behaviour {
    /// Answers ranges with 206; otherwise every answer is 200 with the whole file.
    pub ranges: bool,
    /// Lets pages of other origins read answers and their range headers.
    pub cors: bool,
    /// Before each answer.
    pub delay: Duration,
}

impl Behaviour {
    /// As a file host for web pages should be.
    pub const GOOD: Self = Self { ranges: true, cors: true, delay: Duration::ZERO };
}

/// A request as it came in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    pub method: String,
    /// First and last byte asked for.
    pub range: Option<(u64, u64)>,
}

impl TinyHost {
    pub fn start(file: Vec<u8>, behaviour: Behaviour) -> std::io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            file,
            behaviour: Mutex::new(behaviour),
            requests: Mutex::default(),
            stopping: AtomicBool::new(false),
        });
        let acceptor = std::thread::spawn({
            let shared = Arc::clone(&shared);
            move || accept(&listener, &shared)
        });
        Ok(Self { address, shared, acceptor: Some(acceptor) })
    }

    pub fn url(&self) -> String {
        format!("http://{}/model.gguf", self.address)
    }

    pub fn behave(&self, behaviour: Behaviour) {
        *self.shared.behaviour.lock().unwrap_or_else(PoisonError::into_inner) = behaviour;
    }

    /// Every request so far.
    pub fn requests(&self) -> Vec<Request> {
        self.shared.requests.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for TinyHost {
    fn drop(&mut self) {
        self.shared.stopping.store(true, Ordering::SeqCst);
        // Wakes the acceptor, which sees the flag. If that fails it has ended already.
        let _ = TcpStream::connect(self.address);
        if let Some(acceptor) = self.acceptor.take() {
            let _ = acceptor.join();
        }
    }
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    for stream in listener.incoming() {
        if shared.stopping.load(Ordering::SeqCst) {
            return;
        }
        let Ok(stream) = stream else { continue };
        let shared = Arc::clone(shared);
        // A browser that goes away in the middle of an answer is no fault of ours.
        std::thread::spawn(move || drop(answer(&stream, &shared)));
    }
}

fn answer(stream: &TcpStream, shared: &Shared) -> std::io::Result<()> {
    let Some((request, path)) = read_request(stream)? else { return Ok(()) };
    let behaviour = *shared.behaviour.lock().unwrap_or_else(PoisonError::into_inner);
    shared.requests.lock().unwrap_or_else(PoisonError::into_inner).push(request.clone());
    std::thread::sleep(behaviour.delay);

    let mut head = String::new();
    let mut body: &[u8] = &[];
    let length = shared.file.len() as u64;
    match (request.method.as_str(), request.range) {
        _ if path != "/model.gguf" => head.push_str("HTTP/1.1 404 Not Found\r\n"),
        ("GET" | "HEAD", Some((first, last))) if behaviour.ranges && first < length => {
            let last = last.min(length - 1);
            body = &shared.file[first as usize..=last as usize];
            head.push_str(&format!("HTTP/1.1 206 Partial Content\r\nContent-Range: bytes {first}-{last}/{length}\r\n"));
        }
        ("GET" | "HEAD", Some(_)) if behaviour.ranges => {
            head.push_str(&format!("HTTP/1.1 416 Range Not Satisfiable\r\nContent-Range: bytes */{length}\r\n"));
        }
        ("GET" | "HEAD", _) => {
            body = &shared.file;
            head.push_str("HTTP/1.1 200 OK\r\n");
        }
        // A preflight is refused, so that a client that needs one fails here.
        _ => head.push_str("HTTP/1.1 405 Method Not Allowed\r\nAllow: GET, HEAD\r\n"),
    }
    if behaviour.cors {
        head.push_str("Access-Control-Allow-Origin: *\r\n");
        head.push_str("Access-Control-Expose-Headers: Accept-Ranges, Content-Range, Content-Length, ETag\r\n");
    }
    head.push_str(&format!(
        "Content-Type: application/octet-stream\r\nETag: \"tiny\"\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    ));
    let mut stream = stream;
    stream.write_all(head.as_bytes())?;
    if request.method != "HEAD" {
        stream.write_all(body)?;
    }
    stream.flush()
}

/// Reads a request's head; `None` when the connection was opened for nothing, as browsers do.
fn read_request(stream: &TcpStream) -> std::io::Result<Option<(Request, String)>> {
    stream.set_read_timeout(Some(Duration::from_secs(30)))?;
    let mut lines = BufReader::new(stream).lines();
    let Some(first) = lines.next().transpose()? else { return Ok(None) };
    let mut words = first.split(' ').map(str::to_owned);
    let (Some(method), Some(path)) = (words.next(), words.next()) else { return Ok(None) };
    let mut range = None;
    for line in lines {
        let line = line?;
        if line.is_empty() {
            break;
        }
        if let Some((name, value)) = line.split_once(':')
            && name.eq_ignore_ascii_case("range")
        {
            range = parse_range(value.trim());
        }
    }
    Ok(Some((Request { method, range }, path)))
}

/// `bytes=0-4095`, the only form that the page should ever send.
fn parse_range(value: &str) -> Option<(u64, u64)> {
    let (first, last) = value.strip_prefix("bytes=")?.split_once('-')?;
    Some((first.parse().ok()?, last.parse().ok()?))
}
