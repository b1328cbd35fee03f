//! Files that change while they are sent, clients that stall, and stopping.

use std::fs::OpenOptions;
use std::io::{Seek, SeekFrom, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use gguf_serve::{Limits, Options, ServeError, Stopped};
use tempfile::TempDir;

use crate::client::{Client, Response};
use crate::support::{TestServer, folder, start};

/// More than all the buffers between server and client hold, so that an unread answer stays unfinished.
const BIG_BYTES: u64 = 64 << 20;

fn big_file() -> (TempDir, PathBuf) {
    let folder = folder();
    let path = folder.path().join("big.gguf");
    let mut file = std::fs::File::create(&path).unwrap();
    file.write_all(b"GGUF").unwrap();
    file.set_len(BIG_BYTES).unwrap();
    (folder, path)
}

fn limited(path: &Path, limits: Limits) -> TestServer {
    start(Options { paths: vec![path.into()], limits, ..Options::default() }).unwrap()
}

/// Asks for the big file and reads no more than the headers.
fn begin(server: &TestServer) -> (Client, Response) {
    let mut client = server.connect();
    client.send("GET /big.gguf HTTP/1.1\r\nHost: localhost\r\n\r\n");
    let response = client.read_head();
    assert_eq!((response.status, response.header("content-length")), (200, Some("67108864")));
    (client, response)
}

#[test]
fn a_file_that_shrinks_breaks_the_body_off() {
    let (_folder, path) = big_file();
    let server = limited(&path, Limits::default());
    let (mut client, mut response) = begin(&server);
    OpenOptions::new().write(true).open(&path).unwrap().set_len(1 << 20).unwrap();
    client.read_body(&mut response);
    assert!(!response.complete, "{} bytes of a file that has no more than 1 MiB", response.body.len());
    let record = server.record_of("/big.gguf");
    assert!(record.aborted() && record.fault.is_some(), "{record}");
    // The next request gets the file as it is now.
    assert_eq!(server.get("/big.gguf", &[]).body.len(), 1 << 20);
}

#[test]
fn a_file_that_changes_breaks_the_body_off() {
    let (_folder, path) = big_file();
    let server = limited(&path, Limits::default());
    let (mut client, mut response) = begin(&server);
    // File times move in steps of a few milliseconds.
    sleep(Duration::from_millis(50));
    let mut file = OpenOptions::new().write(true).open(&path).unwrap();
    file.seek(SeekFrom::Start(BIG_BYTES - 4)).unwrap();
    file.write_all(b"new!").unwrap();
    drop(file);
    client.read_body(&mut response);
    assert!(!response.complete);
    let fault = server.record_of("/big.gguf").fault;
    assert_eq!(fault.as_deref(), Some("the file changed while it was being sent"));
}

/// A file as large as the big one, of one letter but for how it begins.
fn file_of(letter: u8, name: &str, folder: &TempDir) -> PathBuf {
    let path = folder.path().join(name);
    let mut file = std::fs::File::create(&path).unwrap();
    write_letters(&mut file, letter);
    path
}

fn write_letters(file: &mut std::fs::File, letter: u8) {
    file.write_all(b"GGUF").unwrap();
    let letters = vec![letter; 1 << 20];
    let mut rest = BIG_BYTES as usize - 4;
    while rest > 0 {
        let some = rest.min(letters.len());
        file.write_all(&letters[..some]).unwrap();
        rest -= some;
    }
}

/// Whether this is the beginning of a file of that letter.
fn is_of(letter: u8, bytes: &[u8]) -> bool {
    bytes.starts_with(b"GGUF") && bytes[4..].iter().all(|&byte| byte == letter)
}

#[test]
fn nothing_of_the_new_version_comes_before_the_body_breaks_off() {
    let folder = folder();
    let path = file_of(b'o', "big.gguf", &folder);
    let server = limited(&path, Limits::default());
    let (mut client, mut response) = begin(&server);
    sleep(Duration::from_millis(50));
    // All of it, in place, while megabytes of it wait in the buffers between server and client.
    write_letters(&mut OpenOptions::new().write(true).open(&path).unwrap(), b'n');
    client.read_body(&mut response);
    let taken = response.body.len();
    assert!(!response.complete && taken > 1 << 20, "{taken} bytes");
    assert!(is_of(b'o', &response.body), "{taken} bytes, some of them of the new version");
    assert!(is_of(b'n', &server.get("/big.gguf", &[]).body), "the next request gets the new version");
}

#[test]
fn a_file_that_another_takes_the_place_of_is_sent_to_its_end() {
    let folder = folder();
    let path = file_of(b'o', "big.gguf", &folder);
    let server = limited(&path, Limits::default());
    let (mut client, mut response) = begin(&server);
    std::fs::rename(file_of(b'n', "new.gguf", &folder), &path).unwrap();
    client.read_body(&mut response);
    assert!(response.complete && is_of(b'o', &response.body), "{} bytes", response.body.len());
    assert!(is_of(b'n', &server.get("/big.gguf", &[]).body), "the next request gets the new file");
}

#[test]
fn slow_and_silent_clients_are_closed() {
    let (_folder, path) = big_file();
    let server = limited(
        &path,
        Limits { header_read: Duration::from_millis(400), idle: Duration::from_millis(900), ..Limits::default() },
    );
    let mut silent = server.connect();
    let mut slow = server.connect();
    slow.send("GET /big.gguf HTTP/1.1\r\nHost: localhost\r\nX-Slow: ");
    let mut idle = server.connect();
    assert_eq!(idle.request("HEAD", "/big.gguf", &[]).status, 200);
    let started = Instant::now();
    assert!(silent.is_closed(), "said nothing");
    assert!(slow.is_closed(), "did not finish its headers");
    assert!(started.elapsed() < Duration::from_millis(900), "took {:?}", started.elapsed());
    assert_eq!(idle.request("HEAD", "/big.gguf", &[]).status, 200, "an idle connection may wait longer");
    assert!(idle.is_closed(), "said nothing more");
    assert!(started.elapsed() < Duration::from_secs(5), "took {:?}", started.elapsed());
}

#[test]
fn drip_fed_headers_do_not_extend_the_time() {
    let (_folder, path) = big_file();
    let server = limited(&path, Limits { header_read: Duration::from_millis(500), ..Limits::default() });
    let mut stream = TcpStream::connect(server.addr()).unwrap();
    let started = Instant::now();
    for byte in
        b"GET /big.gguf HTTP/1.1\r\nHost: localhost\r\nX-Slow: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
    {
        sleep(Duration::from_millis(50));
        if stream.write_all(&[*byte]).is_err() {
            break;
        }
    }
    assert!(started.elapsed() < Duration::from_secs(4), "took {:?}", started.elapsed());
}

#[test]
fn a_client_that_takes_nothing_is_cut() {
    let (_folder, path) = big_file();
    let server = limited(&path, Limits { write_stall: Duration::from_millis(300), ..Limits::default() });
    let (mut client, mut response) = begin(&server);
    // The record is written when the server gives up, before anything is read.
    assert!(server.record_of("/big.gguf").aborted());
    client.read_body(&mut response);
    assert!(!response.complete);
    // One that takes a little now and then is not.
    let (mut client, mut response) = begin(&server);
    let mut taken = 0;
    while taken < BIG_BYTES {
        let take = (16 << 20).min(BIG_BYTES - taken);
        response.headers = vec![("content-length".into(), take.to_string())];
        response.body.clear();
        client.read_body(&mut response);
        assert_eq!(response.body.len() as u64, take);
        taken += take;
        sleep(Duration::from_millis(100));
    }
}

#[test]
fn connections_beyond_the_limit_wait() {
    let (_folder, path) = big_file();
    let server = limited(&path, Limits { connections: 1, ..Limits::default() });
    let mut first = server.connect();
    assert_eq!(first.request("HEAD", "/big.gguf", &[]).status, 200);
    let mut second = server.connect();
    second.send("HEAD /big.gguf?second HTTP/1.1\r\nHost: localhost\r\n\r\n");
    sleep(Duration::from_millis(200));
    assert_eq!(first.request("HEAD", "/big.gguf", &[]).status, 200, "the first is served meanwhile");
    drop(first);
    assert_eq!(second.read_head().status, 200);
}

#[test]
fn stopping_finishes_what_is_under_way() {
    let (_folder, path) = big_file();
    let server = limited(&path, Limits::default());
    let addr = server.addr();
    let mut idle = server.connect();
    assert_eq!(idle.request("HEAD", "/big.gguf?idle", &[]).status, 200);
    let (mut client, mut response) = begin(&server);
    let (stopped, records) = server.shutdown_while(|| {
        assert!(idle.is_closed(), "an idle connection is closed at once");
        assert!(TcpStream::connect(addr).is_err(), "and no new one is accepted");
        client.read_body(&mut response);
    });
    assert_eq!(stopped, Stopped::Drained);
    assert!(response.complete && response.body.starts_with(b"GGUF"));
    assert!(records.iter().all(|record| !record.aborted()));
}

#[test]
fn stopping_cuts_what_takes_too_long() {
    let (_folder, path) = big_file();
    let server = limited(&path, Limits { drain: Duration::from_millis(300), ..Limits::default() });
    let (mut client, mut response) = begin(&server);
    let started = Instant::now();
    let (stopped, records) = server.shutdown_while(|| {});
    assert_eq!(stopped, Stopped::Cut);
    assert!(started.elapsed() < Duration::from_secs(5));
    assert!(records.iter().any(|record| record.target == "/big.gguf" && record.aborted()));
    client.read_body(&mut response);
    assert!(!response.complete);
}

#[test]
fn a_port_in_use_is_reported_with_advice() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let outcome = runtime.block_on(gguf_serve::serve(Options { port, ..Options::default() }));
    let Err(fault @ ServeError::Bind { .. }) = outcome else { panic!("the port is taken") };
    assert!(fault.to_string().contains("--port"), "{fault}");
}
