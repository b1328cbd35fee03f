//! A server in this process, with files of its own.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use gguf_serve::{AccessRecord, Options, RunningServer, ServeError, Stopped, serve};
use tempfile::TempDir;
use tokio::runtime::Runtime;

use crate::client::{Client, Response};

pub struct TestServer {
    // Declared before the runtime, so that it is dropped first.
    server: RunningServer,
    runtime: Runtime,
    records: Arc<Mutex<Vec<AccessRecord>>>,
}

pub fn start(options: Options) -> Result<TestServer, ServeError> {
    let runtime = Runtime::new().unwrap();
    let records = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&records);
    let log: gguf_serve::AccessLog = Arc::new(move |record| log.lock().unwrap().push(record.clone()));
    let server = runtime.block_on(serve(Options { port: 0, log: Some(log), ..options }))?;
    Ok(TestServer { server, runtime, records })
}

/// A server of these paths.
pub fn serving(paths: &[&Path]) -> TestServer {
    start(Options { paths: paths.iter().map(|path| path.to_path_buf()).collect(), ..Options::default() }).unwrap()
}

impl TestServer {
    pub fn addr(&self) -> SocketAddr {
        self.server.addr()
    }

    pub fn server(&self) -> &RunningServer {
        &self.server
    }

    pub fn connect(&self) -> Client {
        Client::connect(self.addr())
    }

    pub fn get(&self, target: &str, headers: &[(&str, &str)]) -> Response {
        self.connect().request("GET", target, headers)
    }

    /// Stops it while `meanwhile` runs.
    pub fn shutdown_while(self, meanwhile: impl FnOnce()) -> (Stopped, Vec<AccessRecord>) {
        let Self { server, runtime, records } = self;
        let stopping = runtime.spawn(server.shutdown());
        meanwhile();
        let stopped = runtime.block_on(stopping).unwrap();
        let records = records.lock().unwrap().clone();
        (stopped, records)
    }

    /// Waits for the record of a request, which is written a moment after the client has its answer.
    pub fn record_of(&self, target: &str) -> AccessRecord {
        let started = Instant::now();
        loop {
            if let Some(record) = self.records.lock().unwrap().iter().find(|record| record.target == target) {
                return record.clone();
            }
            assert!(started.elapsed() < Duration::from_secs(10), "no record of {target}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

/// Bytes that begin like a GGUF file and differ from place to place.
pub fn pattern(len: usize) -> Vec<u8> {
    let mut bytes: Vec<u8> = (0..len).map(|i| (i % 251) as u8 ^ (i >> 8) as u8).collect();
    bytes[..4].copy_from_slice(b"GGUF");
    bytes
}

pub fn folder() -> TempDir {
    tempfile::tempdir().unwrap()
}

/// Writes a file below a folder, making folders on the way.
pub fn write(folder: &TempDir, name: &str, bytes: &[u8]) -> PathBuf {
    let path = folder.path().join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, bytes).unwrap();
    path
}
