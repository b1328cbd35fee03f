//! Hashes of files and chunks, and what they are for.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use gguf_serve::Options;
use gguf_serve::hashes::CHUNK_BYTES;
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::support::{TestServer, folder, pattern, start, write};

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn chunk_hashes(bytes: &[u8]) -> Value {
    bytes.chunks(CHUNK_BYTES as usize).map(sha256).collect()
}

/// Asks until they are complete; fails if that takes long.
fn hashes(server: &TestServer, id: &str) -> Value {
    let begin = Instant::now();
    loop {
        let response = server.get(&format!("/api/models/{id}/hashes"), &[]);
        let body = response.json();
        match response.status {
            200 => return body,
            202 => {
                assert_eq!((&body["status"], response.header("retry-after")), (&"computing".into(), Some("1")));
                assert!(body["files"][0]["sha256"].is_null());
            }
            status => panic!("{status}: {body}"),
        }
        assert!(begin.elapsed() < Duration::from_secs(20), "{body}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn serving_with_cache(path: &Path, cache: &Path) -> TestServer {
    let (paths, hash_cache) = (vec![path.to_owned()], Some(cache.to_owned()));
    start(Options { paths, hash_cache, ..Options::default() }).unwrap()
}

#[test]
fn computed_in_the_background_and_kept_over_restarts() {
    let (folder, cache) = (folder(), folder());
    let bytes = pattern(2 * CHUNK_BYTES as usize + 77);
    let path = write(&folder, "m.gguf", &bytes);
    let server = serving_with_cache(&path, cache.path());
    let before = server.get("/m.gguf", &[("Range", "bytes=0-0")]);
    assert_eq!(
        (before.header("repr-digest"), &server.get("/api/models", &[]).json()["models"][0]["sha256"]),
        (None, &Value::Null)
    );
    let answer = hashes(&server, "m");
    assert_eq!((&answer["version"], &answer["id"], &answer["status"]), (&1.into(), &"m".into(), &"complete".into()));
    let file = &answer["files"][0];
    assert_eq!(
        (&file["name"], &file["size_bytes"], &file["chunk_bytes"]),
        (&"m.gguf".into(), &bytes.len().into(), &CHUNK_BYTES.into())
    );
    assert_eq!((&file["sha256"], &file["chunks"]), (&sha256(&bytes).into(), &chunk_hashes(&bytes)));
    assert_eq!(file["etag"].as_str(), before.header("etag"), "the version they are of");
    // From then on the hash is known wherever it helps, and the file's ETag has not changed.
    let after = server.get("/m.gguf", &[("Range", "bytes=0-0")]);
    assert_eq!(after.header("etag"), before.header("etag"));
    assert!(after.header("repr-digest").unwrap().starts_with("sha-256=:"));
    assert_eq!(server.get("/api/models", &[]).json()["models"][0]["sha256"], sha256(&bytes));
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing is written beside the model");
    drop(server);
    let server = serving_with_cache(&path, cache.path());
    assert_eq!(server.get("/api/models/m/hashes", &[]).json()["files"][0]["chunks"], chunk_hashes(&bytes), "at once");
    // Another version is hashed anew.
    std::thread::sleep(Duration::from_millis(50));
    fs::write(&path, pattern(1000)).unwrap();
    assert_eq!(hashes(&server, "m")["files"][0]["sha256"], sha256(&pattern(1000)));
}

#[test]
fn of_models_that_are_bundled_empty_or_absent() {
    let cache = folder();
    let server = start(Options { hash_cache: Some(cache.path().into()), ..Options::default() }).unwrap();
    let nano = fs::read("../models/nano/gpt-oss-nano.gguf").unwrap();
    assert_eq!(hashes(&server, "gpt-oss-nano")["files"][0]["sha256"], sha256(&nano));
    assert_eq!(server.get("/api/models/none/hashes", &[]).status, 404);
    let folder = folder();
    let server = serving_with_cache(&write(&folder, "void.gguf", b""), cache.path());
    let void = hashes(&server, "void");
    assert_eq!(
        (&void["files"][0]["sha256"], &void["files"][0]["chunks"]),
        (&sha256(b"").into(), &Value::Array(vec![]))
    );
}

#[test]
fn stopping_does_not_wait_for_hashes() {
    let folder = folder();
    let path = folder.path().join("big.gguf");
    fs::File::create(&path).unwrap().set_len(200 << 30).unwrap();
    let server = serving_with_cache(&path, folder.path());
    assert_eq!(server.get("/api/models/big/hashes", &[]).status, 202);
    let begin = Instant::now();
    server.shutdown_while(|| {});
    assert!(begin.elapsed() < Duration::from_secs(5), "{:?}", begin.elapsed());
}

fn hash_command(cache: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_gguf-serve"));
    command.env("XDG_CACHE_HOME", cache).arg("hash").args(arguments).output().unwrap()
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

#[test]
fn the_command_keeps_them_beside_the_file_and_finds_damage() {
    let (folder, cache) = (folder(), folder());
    let bytes = pattern(CHUNK_BYTES as usize + 5);
    let path = write(&folder, "sub/m.gguf", &bytes);
    let argument = folder.path().to_str().unwrap();
    let output = hash_command(cache.path(), &[argument]);
    let expected = format!("{}  sub/m.gguf  kept in m.gguf.hashes.json\n", sha256(&bytes));
    assert_eq!((output.status.code(), text(&output.stdout)), (Some(0), expected.as_str()));
    assert!(
        hash_command(cache.path(), &[argument]).stdout.ends_with(b"kept from before; --verify computes it again\n")
    );
    assert!(hash_command(cache.path(), &[argument, "--verify"]).stdout.ends_with(b"verified: the same as before\n"));
    let server = serving_with_cache(&path, cache.path());
    assert_eq!(server.get("/api/models/m/hashes", &[]).status, 200, "the server finds them");

    // One byte of the second chunk, and the file's time as it was.
    let modified = fs::metadata(&path).unwrap().modified().unwrap();
    let mut damaged = bytes.clone();
    damaged[CHUNK_BYTES as usize + 2] ^= 1;
    fs::write(&path, damaged).unwrap();
    fs::File::options().write(true).open(&path).unwrap().set_modified(modified).unwrap();
    let output = hash_command(cache.path(), &[argument, "--verify"]);
    let message = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{message}");
    assert!(message.contains("sub/m.gguf") && message.contains("from 4194304 on"), "{message}");
    let output = hash_command(cache.path(), &[argument, "--json", "--verify"]);
    let line: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&line["event"], &line["name"]), (&"fault".into(), &"sub/m.gguf".into()));
}
