//! Many clients, large files, and a server that dies: the real program in memory that can be counted.

use std::fs::File;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::thread::{sleep, spawn};
use std::time::Duration;

use gguf_serve::hashes::CHUNK_BYTES;
use serde_json::Value;
use sha2::{Digest, Sha256};
use tempfile::TempDir;

use crate::client::Client;
use crate::process::Program;
use crate::support::{folder, pattern, write};

const GIB: u64 = 1 << 30;

/// What the server may use, whatever its clients do.
const MEMORY_LIMIT_BYTES: u64 = 64 << 20;

fn sparse(folder: &TempDir, len: u64) -> PathBuf {
    let path = folder.path().join("big.gguf");
    let mut file = File::create(&path).unwrap();
    file.write_all(b"GGUF").unwrap();
    file.set_len(len).unwrap();
    path
}

/// Reads the server's lines until it ends, so that it never waits for anybody to.
fn drain(program: &mut Program) {
    let mut output = std::mem::replace(&mut program.output, empty_output());
    spawn(move || std::io::copy(&mut output, &mut std::io::sink()));
}

fn empty_output() -> std::io::BufReader<std::process::ChildStdout> {
    let mut child = std::process::Command::new("true").stdout(std::process::Stdio::piped()).spawn().unwrap();
    let output = std::io::BufReader::new(child.stdout.take().unwrap());
    child.wait().unwrap();
    output
}

#[cfg(target_os = "linux")]
#[test]
fn stalled_readers_cost_little() {
    let folder = folder();
    let path = sparse(&folder, 9 * GIB);
    let mut program = Program::start(&[path.to_str().unwrap(), "--port", "0"]);
    drain(&mut program);
    let stalled: Vec<TcpStream> = (0..8)
        .map(|reader| {
            let mut stream = TcpStream::connect(program.addr).unwrap();
            let (first, last) = (reader * GIB, (reader + 1) * GIB - 1);
            let request = format!("GET /big.gguf HTTP/1.1\r\nHost: localhost\r\nRange: bytes={first}-{last}\r\n\r\n");
            stream.write_all(request.as_bytes()).unwrap();
            // Some of it, then nothing more.
            stream.read_exact(&mut [0; 1000]).unwrap();
            stream
        })
        .collect();
    sleep(Duration::from_secs(1));
    let peak = program.memory_bytes("VmHWM");
    assert!(peak < MEMORY_LIMIT_BYTES, "{peak} bytes with 8 stalled readers");
    assert_eq!(Client::connect(program.addr).request("GET", "/big.gguf", &[("Range", "bytes=0-3")]).text(), "GGUF");
    drop(stalled);
}

#[cfg(target_os = "linux")]
#[test]
fn many_downloads_at_once_cost_little() {
    const EACH_BYTES: u64 = 8 << 20;
    let folder = folder();
    // Nothing of it is in the page cache, so every chunk goes through the thread pool at first.
    let path = sparse(&folder, 64 * EACH_BYTES);
    let mut program = Program::start(&[path.to_str().unwrap(), "--port", "0"]);
    drain(&mut program);
    let addr = program.addr;
    let downloads: Vec<_> = (0..64)
        .map(|index| {
            spawn(move || {
                let (first, last) = (index * EACH_BYTES, (index + 1) * EACH_BYTES - 1);
                let response =
                    Client::connect(addr).request("GET", "/big.gguf", &[("Range", &format!("bytes={first}-{last}"))]);
                assert_eq!((response.status, response.body.len() as u64), (206, EACH_BYTES));
                assert_eq!(&response.body[..4], if index == 0 { b"GGUF" } else { &[0; 4] });
            })
        })
        .collect();
    downloads.into_iter().for_each(|download| download.join().unwrap());
    let peak = program.memory_bytes("VmHWM");
    assert!(peak < MEMORY_LIMIT_BYTES, "{peak} bytes with 64 downloads at once");
}

fn get_range(addr: std::net::SocketAddr, first: u64, last: u64) -> (Vec<u8>, String) {
    let range = format!("bytes={first}-{last}");
    let response = Client::connect(addr).request("GET", "/m.gguf", &[("Range", &range)]);
    assert_eq!(response.status, 206);
    (response.body.clone(), response.header("etag").unwrap().to_owned())
}

fn hashes_of(addr: std::net::SocketAddr) -> Value {
    loop {
        let response = Client::connect(addr).request("GET", "/api/models/m/hashes", &[]);
        if response.status == 200 {
            return response.json()["files"][0].clone();
        }
        assert_eq!(response.status, 202);
        sleep(Duration::from_millis(20));
    }
}

fn start(path: &Path, cache: &TempDir, port: u16) -> Program {
    let port = port.to_string();
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_gguf-serve"));
    command.args([path.to_str().unwrap(), "--port", &port]).env("XDG_CACHE_HOME", cache.path());
    Program::from_command(&mut command)
}

/// A client with a manifest keeps every chunk that arrived whole and has the right hash, whatever happens to the
/// server.
#[test]
fn a_download_goes_on_after_the_server_was_killed() {
    let (folder, cache) = (folder(), folder());
    let bytes = pattern(3 * CHUNK_BYTES as usize + 1234);
    let path = write(&folder, "m.gguf", &bytes);
    let mut program = start(&path, &cache, 0);
    let port = program.addr.port();
    let told = hashes_of(program.addr);
    let chunk_is_right = |index: usize, chunk: &[u8]| {
        let hash: String = Sha256::digest(chunk).iter().map(|byte| format!("{byte:02x}")).collect();
        told["chunks"][index] == hash
    };
    let (first, etag) = get_range(program.addr, 0, CHUNK_BYTES - 1);
    assert!(chunk_is_right(0, &first));
    // Killed in the middle of the second chunk: half of it has come, and is worth nothing.
    let mut client = Client::connect(program.addr);
    client.send(&format!(
        "GET /m.gguf HTTP/1.1\r\nHost: localhost\r\nRange: bytes={CHUNK_BYTES}-{}\r\n\r\n",
        2 * CHUNK_BYTES - 1
    ));
    let mut half = client.read_head();
    program.child.kill().unwrap();
    program.child.wait().unwrap();
    client.read_body(&mut half);
    assert!(!chunk_is_right(1, &half.body) || half.complete);

    let program = start(&path, &cache, port);
    assert_eq!(hashes_of(program.addr), told, "the same answer, at once, for the same file");
    let mut have = first;
    for index in 1..4 {
        let begin = index as u64 * CHUNK_BYTES;
        let end = (begin + CHUNK_BYTES).min(bytes.len() as u64);
        let (chunk, now) = get_range(program.addr, begin, end - 1);
        assert_eq!(now, etag, "the same version");
        assert!(chunk_is_right(index, &chunk), "chunk {index}");
        have.extend(chunk);
    }
    assert!(have == bytes);
}
