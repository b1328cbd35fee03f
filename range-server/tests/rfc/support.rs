//! The program under test, or another server in its place.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom};
use std::net::SocketAddr;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use tempfile::TempDir;

use crate::fixtures::{Fixtures, write_plain_files};
use crate::wire::{Response, Wire};

/// A running gguf-serve; killed when dropped.
pub struct Program {
    child: Child,
    pub addr: SocketAddr,
}

impl Program {
    /// Starts it with these arguments, and waits until it says where it is.
    pub fn start(arguments: &[&OsStr], environment: &[(&str, &Path)]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_gguf-serve"));
        command.args(["--port", "0"]).args(arguments).stdin(Stdio::null()).stdout(Stdio::piped());
        for name in ["GGUF_SERVE_TOKEN", "HF_HUB_CACHE", "HF_HOME", "XDG_CACHE_HOME"] {
            command.env_remove(name);
        }
        let mut child = command.envs(environment.iter().copied()).spawn().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let (sender, receiver) = mpsc::channel();
        std::thread::spawn(move || {
            // The output is read to its end, because a full pipe would stop the program.
            for line in output.lines().map_while(Result::ok) {
                let place = line.strip_prefix("Open http://").and_then(|rest| rest.strip_suffix("/gptoss"));
                place.into_iter().for_each(|place| drop(sender.send(place.to_owned())));
            }
        });
        let mut program = Self { child, addr: SocketAddr::from(([127, 0, 0, 1], 0)) };
        let place = receiver.recv_timeout(Duration::from_secs(30)).expect("the program did not say that it is ready");
        program.addr = place.parse().unwrap_or_else(|_| panic!("not an address: {place}"));
        program
    }

    pub fn connect(&self) -> Wire {
        Wire::connect(self.addr)
    }

    pub fn get(&self, target: &str, headers: &[(&str, &str)]) -> Response {
        self.connect().exchange("GET", request("GET", target, headers)).unwrap()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A request with a good Host.
pub fn request(method: &str, target: &str, headers: &[(&str, &str)]) -> String {
    let mut text = format!("{method} {target} HTTP/1.1\r\nHost: localhost\r\n");
    headers.iter().for_each(|(name, value)| text.push_str(&format!("{name}: {value}\r\n")));
    text + "\r\n"
}

/// A server of a folder, which a table of requests is put to.
pub struct Subject {
    pub addr: SocketAddr,
    pub root: PathBuf,
    /// Whether it is another server, which knows only what RFCs ask.
    pub is_peer: bool,
    _program: Option<Program>,
    _files: Option<TempDir>,
}

impl Subject {
    /// All files, and the hub's cache.
    pub fn new() -> Self {
        let Fixtures { folder, root, hub, web } = Fixtures::new();
        let arguments = [root.as_os_str(), "--hf-cache".as_ref(), "--web".as_ref(), web.as_os_str()];
        let program = Program::start(&arguments, &[("HF_HUB_CACHE", &hub)]);
        Self { addr: program.addr, root, is_peer: false, _program: Some(program), _files: Some(folder) }
    }

    /// The server that the environment names, or ours.
    pub fn peer_or_own() -> Self {
        let Ok(peer) = std::env::var("GGUF_SERVE_RFC_PEER") else { return Self::new() };
        let root = PathBuf::from(std::env::var_os("GGUF_SERVE_RFC_ROOT").expect("GGUF_SERVE_RFC_ROOT is not set"));
        static ONCE: std::sync::Once = std::sync::Once::new();
        ONCE.call_once(|| write_plain_files(&root));
        let addr = peer.strip_prefix("http://").and_then(|addr| addr.trim_end_matches('/').parse().ok());
        let addr = addr.expect("GGUF_SERVE_RFC_PEER is http://ADDRESS:PORT");
        Self { addr, root, is_peer: true, _program: None, _files: None }
    }

    pub fn connect(&self) -> Wire {
        Wire::connect(self.addr)
    }

    pub fn get(&self, target: &str, headers: &[(&str, &str)]) -> Response {
        self.connect().exchange("GET", request("GET", target, headers)).unwrap()
    }

    pub fn len(&self, file: &str) -> u64 {
        self.root.join(file).metadata().unwrap().len()
    }

    pub fn slice(&self, file: &str, range: &Range<u64>) -> Vec<u8> {
        let mut file = File::open(self.root.join(file)).unwrap();
        file.seek(SeekFrom::Start(range.start)).unwrap();
        let mut bytes = Vec::new();
        file.take(range.end - range.start).read_to_end(&mut bytes).unwrap();
        bytes
    }
}
