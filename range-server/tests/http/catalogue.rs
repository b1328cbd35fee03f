//! Which files are there, and under which names.

use std::fs;
use std::time::Duration;

use gguf_serve::{CatalogueError, Options, ServeError};
use serde_json::json;

use crate::support::{folder, pattern, serving, start, write};

const NANO: &[u8] = include_bytes!("../../../models/nano/gpt-oss-nano.gguf");

#[test]
fn without_paths_the_demo_model_is_served() {
    let server = serving(&[]);
    let expected = json!({
        "version": 1,
        "models": [{
            "id": "gpt-oss-nano",
            "name": "gpt-oss-nano.gguf",
            "url": "/gpt-oss-nano.gguf",
            "file_url": "/api/models/gpt-oss-nano/file/gpt-oss-nano.gguf",
            "size_bytes": 3_054_208,
            "sha256": null,
            "architecture": "gpt-oss",
            "quantisation": "MXFP4",
            "supported": true,
            "reason": null,
            "files": [{
                "name": "gpt-oss-nano.gguf",
                "url": "/gpt-oss-nano.gguf",
                "file_url": "/api/models/gpt-oss-nano/file/gpt-oss-nano.gguf",
                "size_bytes": 3_054_208,
                "sha256": null,
            }],
            "split": null,
            "hub": null,
        }],
    });
    let response = server.get("/api/models", &[]);
    assert_eq!(response.header("content-type"), Some("application/json"));
    assert_eq!(response.header("cache-control"), Some("no-store"));
    assert_eq!(response.json(), expected);
    assert!(server.get("/gpt-oss-nano.gguf", &[]).body == NANO);
    assert!(server.get("/api/models/gpt-oss-nano/file", &[]).body == NANO);
    assert!(server.get("/api/models/gpt-oss-nano/file/gpt-oss-nano.gguf", &[]).body == NANO);
    assert_eq!(server.get("/api/models/gpt-oss-nano/file/other.gguf", &[]).status, 404);
    let range = [("Range", "bytes=-100")];
    assert!(server.get("/gpt-oss-nano.gguf", &range).body == NANO[NANO.len() - 100..]);
    assert!(server.server().notes().iter().any(|note| note.contains("demo model")));
}

#[test]
fn health() {
    let health = serving(&[]).get("/api/health", &[]).json();
    assert_eq!((&health["version"], &health["status"], &health["models"]), (&json!(1), &json!("ok"), &json!(1)));
}

#[test]
fn files_below_a_folder_keep_their_relative_path() {
    let folder = folder();
    write(&folder, "a.gguf", &pattern(10));
    write(&folder, "deep/er/b é.GGUF", &pattern(20));
    write(&folder, "notes.txt", b"GGUF, but by its name something else");
    write(&folder, "fake.gguf", b"<html>");
    write(&folder, "short.gguf", b"GG");
    write(&folder, "void.gguf", b"");
    write(&folder, ".hidden/c.gguf", &pattern(30));
    write(&folder, ".hidden.gguf", &pattern(30));
    let server = serving(&[folder.path()]);
    let models = server.get("/api/models", &[]).json();
    let listed: Vec<_> = models["models"].as_array().unwrap().iter().collect();
    let names: Vec<_> = listed.iter().map(|m| (&m["name"], &m["url"], &m["id"])).collect();
    let expected = [
        (&json!("a.gguf"), &json!("/a.gguf"), &json!("a")),
        (&json!("deep/er/b é.GGUF"), &json!("/deep/er/b%20%C3%A9.GGUF"), &json!("deep-er-b--.GGUF")),
        (&json!("fake.gguf"), &json!("/fake.gguf"), &json!("fake")),
        (&json!("short.gguf"), &json!("/short.gguf"), &json!("short")),
        (&json!("void.gguf"), &json!("/void.gguf"), &json!("void")),
    ];
    assert_eq!(names, expected);
    assert_eq!(server.get("/a.gguf", &[]).body, pattern(10));
    assert_eq!(server.get("/deep/er/b%20%C3%A9.GGUF", &[]).body, pattern(20));
    assert_eq!(server.get("/api/models/deep-er-b--.GGUF/file", &[]).body, pattern(20));
    // What is no GGUF file says so, and is served all the same.
    for (index, reason) in [(2, "not a GGUF file"), (3, "truncated"), (4, "empty")] {
        assert_eq!(listed[index]["supported"], false);
        assert!(listed[index]["reason"].as_str().unwrap().contains(reason), "{}", listed[index]);
    }
    assert_eq!(server.get("/fake.gguf", &[]).text(), "<html>");
    let void = server.get("/void.gguf", &[]);
    assert_eq!((void.status, void.body), (200, vec![]));
    for hidden in ["/.hidden/c.gguf", "/.hidden.gguf", "/notes.txt"] {
        assert_eq!(server.get(hidden, &[]).status, 404, "{hidden}");
    }
}

#[test]
fn files_come_go_and_change_while_it_runs() {
    let folder = folder();
    let path = write(&folder, "a.gguf", &pattern(10));
    let server = serving(&[folder.path()]);
    let before = server.get("/a.gguf", &[]);
    // Put in its place as download tools do: written elsewhere, then renamed.
    let fresh = write(&folder, "fresh.part", &pattern(20));
    fs::rename(fresh, &path).unwrap();
    let after = server.get("/a.gguf", &[("If-Range", before.header("etag").unwrap()), ("Range", "bytes=5-6")]);
    assert_eq!((after.status, &after.body), (200, &pattern(20)), "the new file, whole");
    assert_ne!(before.header("etag"), after.header("etag"));
    // What is new is found, by its name or in the list.
    write(&folder, "later/b.gguf", &pattern(30));
    std::thread::sleep(Duration::from_millis(1100));
    assert_eq!(server.get("/later/b.gguf", &[]).body, pattern(30));
    assert_eq!(server.get("/api/models/later-b/file/b.gguf", &[]).body, pattern(30));
    fs::remove_file(&path).unwrap();
    assert_eq!(server.get("/a.gguf", &[]).status, 404);
    std::thread::sleep(Duration::from_millis(1100));
    let models = server.get("/api/models", &[]).json();
    assert_eq!(models["models"].as_array().unwrap().len(), 1, "{models}");
    // A link put in a file's place does not lead out.
    #[cfg(unix)]
    {
        let outside = tempfile::tempdir().unwrap();
        let secret = write(&outside, "secret.gguf", &pattern(40));
        fs::remove_file(folder.path().join("later/b.gguf")).unwrap();
        std::os::unix::fs::symlink(secret, folder.path().join("later/b.gguf")).unwrap();
        assert_eq!(server.get("/later/b.gguf", &[]).status, 404);
    }
}

#[test]
fn nothing_else_can_be_reached() {
    let folder = folder();
    let secret = write(&folder, "secret.gguf", &pattern(10));
    write(&folder, "pub/a.gguf", &pattern(20));
    write(&folder, "pub/.env", b"GGUF");
    let server = serving(&[&folder.path().join("pub")]);
    let absolute = format!("/{}", secret.display());
    for target in [
        "/secret.gguf",
        "/../secret.gguf",
        "/%2e%2e/secret.gguf",
        "/..%2fsecret.gguf",
        "/x/../a.gguf",
        "/./a.gguf",
        "//a.gguf",
        "/a.gguf/",
        "/a.gguf%00",
        "/a%2egguf%2f",
        "/%61.gguf%",
        "/.env",
        "/pub/a.gguf",
        "/%252e%252e/secret.gguf",
        "/..%5csecret.gguf",
        "/%ff",
        "/api",
        "/api/",
        "/api/models/",
        "/api/models/a",
        "/api/models/b/file",
        "/api/models/../models",
        "/api/models/a/file/",
        "/api/models//file",
        &absolute,
    ] {
        assert_eq!(server.get(target, &[]).status, 404, "{target}");
    }
    assert_eq!(server.get("/%61.gguf", &[]).status, 200, "escapes are decoded, once");
}

#[cfg(unix)]
#[test]
fn links_are_followed_inside_the_folder_only() {
    use std::os::unix::fs::symlink;
    let folder = folder();
    let secret = write(&folder, "secret.gguf", &pattern(10));
    let blob = write(&folder, "hub/blobs/abc", &pattern(20));
    fs::create_dir_all(folder.path().join("hub/snapshots/1")).unwrap();
    symlink(&blob, folder.path().join("hub/snapshots/1/model.gguf")).unwrap();
    symlink(&secret, folder.path().join("hub/out.gguf")).unwrap();
    symlink("/nowhere", folder.path().join("hub/dangling.gguf")).unwrap();
    symlink(folder.path(), folder.path().join("hub/circle")).unwrap();
    let server = serving(&[&folder.path().join("hub")]);
    assert_eq!(server.get("/snapshots/1/model.gguf", &[]).body, pattern(20));
    assert_eq!(server.get("/api/health", &[]).json()["models"], 1);
    assert_eq!(server.get("/out.gguf", &[]).status, 404);
    assert!(server.server().notes().iter().any(|note| note.contains("/out.gguf") && note.contains("leads out")));
    // Named by the person who starts the server, a link may lead anywhere; its own name counts.
    let server = serving(&[&folder.path().join("hub/out.gguf")]);
    assert_eq!(server.get("/out.gguf", &[]).body, pattern(10));
}

#[test]
fn names_that_are_taken_lead_to_the_page_or_the_first_file() {
    let (one, two, web) = (folder(), folder(), folder());
    write(&web, "index.html", b"<p>page");
    write(&web, "asset.gguf", b"an asset");
    write(&one, "m.gguf", &pattern(10));
    write(&one, "gptoss/asset.gguf", &pattern(20));
    write(&one, "gptoss/other.gguf", &pattern(60));
    write(&one, "api/health.gguf", &pattern(30));
    write(&one, "api/models/m.gguf", &pattern(70));
    write(&one, "models/m.gguf", &pattern(80));
    let bare = write(&two, "files/gptoss", &pattern(40));
    write(&two, "m.gguf", &pattern(50));
    let paths = vec![one.path().into(), bare, two.path().into(), one.path().join("m.gguf")];
    let server = start(Options { paths, web: Some(web.path().into()), ..Options::default() }).unwrap();
    assert_eq!(server.get("/m.gguf", &[]).body, pattern(10));
    assert_eq!(server.get("/gptoss/asset.gguf", &[]).text(), "an asset");
    assert_eq!(server.get("/gptoss", &[]).text(), "<p>page");
    assert_eq!(server.get("/api/models/m.gguf", &[]).status, 404);
    let models = server.get("/api/models", &[]).json();
    let urls: Vec<_> = models["models"].as_array().unwrap().iter().map(|m| m["url"].as_str().unwrap()).collect();
    let expected = [
        "/api/health.gguf",
        "/api/models/api-models-m/file/m.gguf",
        "/api/models/gptoss-asset/file/asset.gguf",
        "/gptoss/other.gguf",
        "/m.gguf",
        "/models/m.gguf",
        "/api/models/gptoss/file/gptoss",
        "/api/models/m-2/file/m.gguf",
    ];
    assert_eq!(urls, expected);
    // Whatever the name, every model can be had, at the address the list gives.
    for (url, len) in urls.iter().zip([30, 70, 20, 60, 10, 80, 40, 50]) {
        assert_eq!(server.get(url, &[]).body, pattern(len), "{url}");
    }
    let notes = server.server().notes();
    assert_eq!(notes.len(), 4, "{notes:?}");
}

#[test]
fn paths_that_cannot_be_served() {
    let folder = folder();
    let fault = |paths: &[&str]| {
        let paths = paths.iter().map(|name| folder.path().join(name)).collect();
        match start(Options { paths, ..Options::default() }).err() {
            Some(ServeError::Catalogue(error)) => error,
            other => panic!("{other:?}"),
        }
    };
    write(&folder, "page.html", b"<html>");
    write(&folder, "empty/notes.txt", b"");
    write(&folder, "nothing", b"");
    assert!(matches!(fault(&["none.gguf"]), CatalogueError::Open { .. }));
    assert!(matches!(fault(&["page.html"]), CatalogueError::NotGguf { .. }));
    assert!(matches!(fault(&["nothing"]), CatalogueError::NotGguf { .. }));
    assert!(matches!(fault(&["empty"]), CatalogueError::Empty { .. }));
    assert!(fault(&["empty"]).to_string().contains("empty"));
    assert!(fault(&["none.gguf"]).to_string().contains("none.gguf"));
}

/// A header with one key and one tensor of 32 weights.
fn small_gguf(architecture: &str, tensor_type: u32, data_len: usize) -> Vec<u8> {
    let string = |text: &str| [&(text.len() as u64).to_le_bytes()[..], text.as_bytes()].concat();
    let mut file = b"GGUF\x03\0\0\0\x01\0\0\0\0\0\0\0\x01\0\0\0\0\0\0\0".to_vec();
    file.extend([string("general.architecture"), 8u32.to_le_bytes().to_vec(), string(architecture)].concat());
    file.extend([string("t"), 1u32.to_le_bytes().to_vec(), 32u64.to_le_bytes().to_vec()].concat());
    file.extend([&tensor_type.to_le_bytes()[..], &0u64.to_le_bytes()].concat());
    file.resize(file.len().next_multiple_of(32) + data_len, 0);
    file
}

#[test]
fn what_the_page_can_run_and_why_not() {
    let folder = folder();
    write(&folder, "1.gguf", &small_gguf("gpt-oss", 39, 17));
    write(&folder, "2.gguf", &small_gguf("gptoss", 8, 34));
    write(&folder, "3.gguf", &small_gguf("llama", 39, 17));
    write(&folder, "4.gguf", &small_gguf("gpt-oss", 9, 40));
    write(&folder, "5.gguf", &small_gguf("gpt-oss", 777, 17));
    write(&folder, "6.gguf", &small_gguf("gpt-oss", 39, 16));
    write(&folder, "7.gguf", &pattern(100));
    let models = serving(&[folder.path()]).get("/api/models", &[]).json();
    let expected = [
        (Some("gpt-oss"), None),
        (Some("gptoss"), None),
        (Some("llama"), Some("\"llama\"")),
        (Some("gpt-oss"), Some("Q8_1")),
        (Some("gpt-oss"), Some("unknown type 777")),
        (None, Some("truncated")),
        (None, Some("version")),
    ];
    for (model, (architecture, reason)) in models["models"].as_array().unwrap().iter().zip(expected) {
        assert_eq!(model["architecture"].as_str(), architecture, "{model}");
        assert_eq!(model["supported"].as_bool(), Some(reason.is_none()), "{model}");
        match reason {
            Some(part) => assert!(model["reason"].as_str().is_some_and(|text| text.contains(part)), "{model}"),
            None => assert!(model["reason"].is_null(), "{model}"),
        }
    }
}

/// A part without tensors. Only the first has an architecture.
fn small_part(no: u16, count: u16) -> Vec<u8> {
    let key =
        |text: &str, kind: u32| [&(text.len() as u64).to_le_bytes()[..], text.as_bytes(), &kind.to_le_bytes()].concat();
    let mut pairs = vec![
        [key("split.no", 2), no.to_le_bytes().to_vec()].concat(),
        [key("split.count", 2), count.to_le_bytes().to_vec()].concat(),
        [key("split.tensors.count", 5), 0i32.to_le_bytes().to_vec()].concat(),
    ];
    if no == 0 {
        pairs.push([&key("general.architecture", 8)[..], &7u64.to_le_bytes(), b"gpt-oss"].concat());
    }
    let mut file = b"GGUF\x03\0\0\0\0\0\0\0\0\0\0\0".to_vec();
    file.extend((pairs.len() as u64).to_le_bytes());
    file.extend(pairs.concat());
    file.resize(file.len().next_multiple_of(32), 0);
    file
}

#[test]
fn files_of_a_split_model_are_one_model() {
    let folder = folder();
    let [one, two] = ["d/m é-00001-of-00002.gguf", "d/m é-00002-of-00002.gguf"];
    write(&folder, one, &small_part(0, 2));
    write(&folder, two, &small_part(1, 2));
    // Of the same name in another folder, of another number of parts, and incomplete.
    write(&folder, "e/m é-00001-of-00002.gguf", &small_part(0, 2));
    write(&folder, "d/m é-00003-of-00003.gguf", &small_part(2, 3));
    // Whole, and not what its name says.
    write(&folder, "f/x-00001-of-00002.gguf", &small_part(0, 2));
    write(&folder, "f/x-00002-of-00002.gguf", &small_part(0, 2));
    write(&folder, "g/renamed.gguf", &small_part(1, 2));
    let server = serving(&[folder.path()]);
    let models = server.get("/api/models", &[]).json();
    let models: Vec<_> = models["models"].as_array().unwrap().iter().collect();
    let ids: Vec<_> = models.iter().map(|model| model["id"].as_str().unwrap()).collect();
    assert_eq!(ids, ["d-m--", "d-m---2", "e-m--", "f-x", "g-renamed"]);
    let whole = models[0];
    assert_eq!((&whole["name"], &whole["supported"]), (&json!(one), &json!(true)), "{whole}");
    assert_eq!(whole["split"], json!({ "count": 2, "missing": [] }));
    assert_eq!(whole["size_bytes"], small_part(0, 2).len() + small_part(1, 2).len());
    for (index, (name, bytes)) in [(one, small_part(0, 2)), (two, small_part(1, 2))].into_iter().enumerate() {
        let file = &whole["files"][index];
        assert_eq!(file["name"], name);
        for address in ["url", "file_url"] {
            assert_eq!(server.get(file[address].as_str().unwrap(), &[]).body, bytes, "{name} at its {address}");
        }
    }
    // Whoever has the address of one part changes its file name to reach the other, on both ways to a file.
    for address in ["file_url", "url"] {
        let first = whole[address].as_str().unwrap();
        let file = server.get(&first.replacen("-00001-of-00002.gguf", "-00002-of-00002.gguf", 1), &[]);
        assert_eq!((file.status, file.body), (200, small_part(1, 2)), "{address}");
    }
    for (index, missing, words) in [
        (1, json!(["m é-00001-of-00003.gguf", "m é-00002-of-00003.gguf"]), "missing: m é-00001-of-00003.gguf"),
        (2, json!(["m é-00002-of-00002.gguf"]), "missing: m é-00002-of-00002.gguf"),
        (3, json!([]), "says that it is part 1 of 2, expected part 2 of 2"),
    ] {
        let model = models[index];
        assert_eq!((&model["supported"], &model["split"]["missing"]), (&json!(false), &missing), "{model}");
        assert!(model["reason"].as_str().unwrap().contains(words), "{model}");
    }
    assert!(models[4]["reason"].as_str().unwrap().contains("not named like one"), "{}", models[4]);
    for target in ["/api/models/d-m--/file/other.gguf", "/api/models/d-m--/file/m%20%C3%A9-00003-of-00003.gguf"] {
        assert_eq!(server.get(target, &[]).status, 404, "{target}");
    }
}

#[test]
fn a_file_changed_in_place_is_described_anew() {
    let folder = folder();
    let path = write(&folder, "m.gguf", &small_gguf("llama", 39, 17));
    let server = serving(&[&path]);
    let listed = || server.get("/api/models", &[]).json()["models"][0]["architecture"].clone();
    assert_eq!(listed(), "llama");
    let etag = |response: crate::client::Response| response.header("etag").unwrap().to_owned();
    let before = etag(server.get("/m.gguf", &[]));
    assert_eq!(etag(server.get("/m.gguf", &[])), before);
    // File times move in steps of a few milliseconds.
    std::thread::sleep(std::time::Duration::from_millis(50));
    fs::write(&path, small_gguf("gpt-oss", 39, 17)).unwrap();
    assert_eq!(listed(), "gpt-oss");
    assert_ne!(etag(server.get("/m.gguf", &[])), before);
    // What was read of the old version must not be continued with bytes of the new one.
    let response = server.get("/m.gguf", &[("Range", "bytes=5-6"), ("If-Range", &before)]);
    assert_eq!(response.status, 200);
}
