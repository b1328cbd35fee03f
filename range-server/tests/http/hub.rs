//! Caches of the Hugging Face hub.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use serde_json::json;
use sha2::{Digest, Sha256};
use tempfile::TempDir;

use gguf_serve::Options;

use crate::support::{folder, pattern, serving, start};

const MAIN: &str = "0123456789abcdef0123456789abcdef01234567";
const OLD: &str = "00aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A repository with two revisions: one file is the same in both, one differs, one is being downloaded.
fn cache() -> (TempDir, PathBuf) {
    let cache = folder();
    let repo = cache.path().join("models--some-org--some-model");
    for inner in ["blobs", "refs", &format!("snapshots/{MAIN}/sub"), &format!("snapshots/{OLD}")] {
        fs::create_dir_all(repo.join(inner)).unwrap();
    }
    fs::write(repo.join("refs/main"), MAIN).unwrap();
    let put = |revision: &str, name: &str, bytes: &[u8]| {
        let blob = sha256(bytes);
        fs::write(repo.join("blobs").join(&blob), bytes).unwrap();
        let up = "../".repeat(2 + name.matches('/').count());
        symlink(format!("{up}blobs/{blob}"), repo.join("snapshots").join(revision).join(name)).unwrap();
    };
    put(OLD, "same.gguf", &pattern(100));
    put(MAIN, "same.gguf", &pattern(100));
    put(OLD, "m.gguf", &pattern(200));
    put(MAIN, "m.gguf", &pattern(300));
    put(MAIN, "sub/deep.gguf", &pattern(400));
    fs::write(repo.join("blobs").join(format!("{}.incomplete", "f".repeat(64))), b"GGUF").unwrap();
    (cache, repo)
}

#[test]
fn models_are_called_by_repository_and_file() {
    let (cache, _) = cache();
    let server = serving(&[cache.path()]);
    let models = server.get("/api/models", &[]).json();
    let listed: Vec<_> =
        models["models"].as_array().unwrap().iter().map(|m| (&m["name"], &m["hub"]["revision"])).collect();
    let (main, old) = (json!(MAIN), json!(OLD));
    assert_eq!(
        listed,
        [
            (&json!("some-org/some-model/m.gguf"), &main),
            (&json!("some-org/some-model/same.gguf"), &main),
            (&json!("some-org/some-model/sub/deep.gguf"), &main),
            (&json!("some-org/some-model@00aaaaaa/m.gguf"), &old),
        ]
    );
    assert_eq!(models["models"][0]["hub"]["repo"], "some-org/some-model");
    let below = "/models--some-org--some-model/snapshots";
    for (target, len) in [
        ("/some-org/some-model/m.gguf".to_owned(), 300),
        ("/some-org/some-model@00aaaaaa/m.gguf".to_owned(), 200),
        ("/some-org/some-model@00aaaaaa/same.gguf".to_owned(), 100),
        // The path below the served folder leads to the file as well, as everywhere.
        (format!("{below}/{MAIN}/sub/deep.gguf"), 400),
        (format!("{below}/{OLD}/same.gguf"), 100),
        (format!("{below}/{OLD}/m.gguf"), 200),
    ] {
        assert_eq!(server.get(&target, &[]).body, pattern(len), "{target}");
    }
    assert_eq!(server.get("/models--some-org--some-model/blobs/", &[]).status, 404);
}

#[test]
fn the_name_of_a_blob_is_its_hash() {
    let (cache, repo) = cache();
    let server = serving(&[cache.path()]);
    let hash = sha256(&pattern(300));
    assert_eq!(server.get("/api/models", &[]).json()["models"][0]["sha256"], hash);
    let target = "/some-org/some-model/m.gguf";
    let response = server.get(target, &[("Range", "bytes=4-5")]);
    assert_eq!(response.header("etag"), Some(format!("\"{hash}\"").as_str()));
    assert!(response.header("repr-digest").unwrap().starts_with("sha-256=:"));
    // Whoever writes into the blob does not make it another's.
    std::thread::sleep(std::time::Duration::from_millis(50));
    fs::write(repo.join("blobs").join(&hash), pattern(299)).unwrap();
    let response = server.get(target, &[]);
    assert_eq!((response.status, response.body.len(), response.header("repr-digest")), (200, 299, None));
    assert!(!response.header("etag").unwrap().contains(&hash));
}

#[test]
fn a_repository_or_a_snapshot_alone_reaches_its_blobs() {
    let (_cache, repo) = cache();
    let serve = |path: &Path, target: &str| serving(&[path]).get(target, &[]).body;
    assert_eq!(serve(&repo, &format!("/snapshots/{MAIN}/m.gguf")), pattern(300));
    assert_eq!(serve(&repo.join("snapshots").join(MAIN), "/m.gguf"), pattern(300));
    assert_eq!(serve(&repo.join("snapshots").join(MAIN).join("sub"), "/deep.gguf"), pattern(400));
    assert_eq!(serve(&repo.join("snapshots").join(OLD).join("m.gguf"), "/m.gguf"), pattern(200));
}

#[test]
fn repositories_and_files_that_are_links_are_served_when_that_is_allowed_and_named_otherwise() {
    let (_kept, repo) = cache();
    let shared = folder();
    fs::write(shared.path().join("blob"), pattern(500)).unwrap();
    symlink(shared.path().join("blob"), repo.join("snapshots").join(MAIN).join("shared.gguf")).unwrap();
    let linked = folder();
    symlink(&repo, linked.path().join("models--some-org--some-model")).unwrap();
    let options = |path: &Path, follow_links| Options { paths: vec![path.into()], follow_links, ..Options::default() };

    let error = start(options(linked.path(), false)).err().unwrap().to_string();
    assert!(error.contains("/models--some-org--some-model: it is a link to a folder"), "{error}");
    assert!(error.contains("--follow-links"), "{error}");
    let server = start(options(linked.path(), true)).unwrap();
    assert_eq!(server.get("/some-org/some-model/m.gguf", &[]).body, pattern(300));
    assert_eq!(server.get("/some-org/some-model/shared.gguf", &[]).body, pattern(500));

    let server = start(options(&repo, false)).unwrap();
    assert!(server.server().notes().iter().any(|note| note.contains("shared.gguf") && note.contains("leads out")));
}
