//! What the server says that it has.

use std::path::Path;

use serde_json::Value;

use crate::fixtures::{BIG_LEN, EMPTY, HTML, HUB_BLOB, HUB_BYTES, HUB_COMMIT, TINY};
use crate::support::{Program, Subject};
use crate::table::{Must, Project, ask, run};

fn models(list: &Value) -> &[Value] {
    list["models"].as_array().map_or(&[], Vec::as_slice)
}

/// The model that has a file at this address.
fn model_of<'a>(list: &'a Value, url: &str) -> &'a Value {
    let has = |model: &&Value| model["files"].as_array().unwrap().iter().any(|file| file["url"] == url);
    models(list).iter().find(has).unwrap_or_else(|| {
        let urls = models(list).iter().map(|model| model["url"].as_str().unwrap_or("null"));
        panic!("no model has {url}; there are {}", urls.collect::<Vec<_>>().join(" "))
    })
}

#[test]
fn answers_of_the_interface() {
    let subject = Subject::new();
    let json = |target: &str| {
        ask(Project, "project", "GET", target).is("content-type", "application/json").is("cache-control", "no-store")
    };
    let rows = vec![
        json("/api/models").contains("\"version\":1").lacks("etag").lacks("last-modified"),
        json("/api/models?x"),
        json("/api/health").contains("\"status\":\"ok\""),
        json("/api/models").with("Range", "bytes=0-3").lacks("content-range"),
        json("/api/models").with("If-None-Match", "*").gives(&[200, 304]),
        json("/api/models").with("Accept", "text/html"),
        ask(Project, "project", "HEAD", "/api/models").is("content-type", "application/json").has("content-length"),
        ask(Project, "project", "GET", "/models").is("content-type", "text/html; charset=utf-8").contains("/tiny.gguf"),
        ask(Project, "project", "GET", "/models").contains("angle&lt;i&gt;&amp;quot.gguf"),
        ask(Must, "15.5.5", "GET", "/api/models/").gives(&[404]),
        ask(Must, "15.5.5", "GET", "/api/Models").gives(&[404]),
        ask(Must, "15.5.5", "GET", "/api/models/none").gives(&[404]),
        ask(Must, "15.5.5", "GET", "/api/models/../health").gives(&[400, 404]),
    ];
    run(&subject, rows);
}

#[test]
fn every_model_says_what_it_is() {
    let subject = Subject::new();
    let list = subject.get("/api/models", &[]).json();
    assert_eq!(list["version"], 1);
    let mut ids: Vec<_> = models(&list).iter().map(|model| model["id"].as_str().unwrap()).collect();
    let count = ids.len();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), count, "an id occurs twice");
    for model in models(&list) {
        for key in [
            "id",
            "name",
            "files",
            "size_bytes",
            "sha256",
            "quantisation",
            "architecture",
            "split",
            "supported",
            "reason",
        ] {
            assert!(model.get(key).is_some(), "{key} is missing: {model:#}");
        }
        assert_eq!(model["supported"] == true, model["reason"].is_null(), "{model:#}");
        let files = model["files"].as_array().unwrap();
        let sizes: u64 = files.iter().map(|file| file["size_bytes"].as_u64().unwrap()).sum();
        assert_eq!(model["size_bytes"], sizes, "{model:#}");
        // What is listed is there, with this size.
        for file in files {
            let url = file["url"].as_str().unwrap();
            let text = crate::support::request("HEAD", url, &[]);
            let response = subject.connect().exchange("HEAD", text).unwrap();
            assert_eq!(
                (response.status, response.content_length().unwrap()),
                (200, file["size_bytes"].as_u64()),
                "{url}"
            );
        }
    }
    assert_eq!(subject.get("/api/health", &[]).json()["models"], count);
    assert_eq!(model_of(&list, "/big.gguf")["size_bytes"], BIG_LEN);
    assert_eq!(model_of(&list, "/with%20space%20%C3%A9.gguf")["name"], "with space \u{e9}.gguf");
    for name in ["notes", "outside", "dangling", "circle", "fifo"] {
        assert!(!list.to_string().contains(name), "{name} is listed");
    }
}

#[test]
fn what_is_no_gguf_file_is_listed_with_the_reason_and_served() {
    let subject = Subject::new();
    let list = subject.get("/api/models", &[]).json();
    for file in [EMPTY, HTML, TINY] {
        let model = model_of(&list, &format!("/{file}"));
        assert_eq!(model["supported"], false, "{model:#}");
        assert!(model["reason"].as_str().unwrap().len() > 5, "{model:#}");
    }
    assert!(model_of(&list, "/empty.gguf")["reason"].as_str().unwrap().contains("empty"));
    assert!(model_of(&list, "/html.gguf")["reason"].as_str().unwrap().contains("GGUF"));
    assert_eq!(subject.get("/html.gguf", &[]).body, b"<html>not a model</html>");
    // With another type a browser would show it as a page.
    assert_eq!(subject.get("/html.gguf", &[]).header("content-type"), Some("application/octet-stream"));
}

#[test]
fn parts_of_a_model_are_one_model() {
    let subject = Subject::new();
    let list = subject.get("/api/models", &[]).json();
    let split = model_of(&list, "/split-00002-of-00003.gguf");
    let urls: Vec<_> = split["files"].as_array().unwrap().iter().map(|file| file["url"].as_str().unwrap()).collect();
    let expected = ["/split-00001-of-00003.gguf", "/split-00002-of-00003.gguf", "/split-00003-of-00003.gguf"];
    assert_eq!(urls, expected);
    for (number, url) in (0..).zip(urls) {
        assert_eq!(subject.get(url, &[]).body, crate::fixtures::split_part(number, 3), "{url}");
    }
    let lone = model_of(&list, "/lone-00001-of-00002.gguf");
    assert_eq!(lone["supported"], false);
    assert!(lone["reason"].as_str().unwrap().contains("lone-00002-of-00002.gguf"), "{lone:#}");
    assert_eq!(subject.get("/lone-00002-of-00002.gguf", &[]).status, 404);
}

#[test]
fn the_cache_of_the_hub_is_served() {
    let subject = Subject::new();
    let list = subject.get("/api/models", &[]).json();
    let from_hub: Vec<_> = models(&list).iter().filter(|model| !model["hub"].is_null()).collect();
    let [model] = from_hub[..] else { panic!("expected one model, got {from_hub:#?}") };
    assert_eq!((&model["hub"]["repo"], &model["hub"]["revision"]), (&"org/name".into(), &HUB_COMMIT.into()));
    assert_eq!(model["sha256"], HUB_BLOB);
    let url = model["files"][0]["url"].as_str().unwrap();
    let response = subject.get(url, &[]);
    assert_eq!((response.status, &*response.body), (200, HUB_BYTES));
    // The blob's name says what is in it: the best entity tag that there is.
    let etag = format!("\"{HUB_BLOB}\"");
    assert_eq!(response.header("etag"), Some(etag.as_str()));
    assert_eq!(subject.get(url, &[("If-None-Match", &etag)]).status, 304);
    let part = subject.get(url, &[("Range", "bytes=-3"), ("If-Range", &etag)]);
    assert_eq!((part.status, &*part.body), (206, &b"hub"[..]));
    let text = list.to_string();
    assert!(!text.contains("unfinished") && !text.contains("incomplete") && !text.contains("stolen"), "{text}");
    for name in ["unfinished.gguf", "stolen.gguf"] {
        assert_eq!(subject.get(&url.replace("f.gguf", name), &[]).status, 404, "{name}");
    }
    for path in ["blobs", "refs/main", "../blobs"] {
        let target = format!("/models--org--name/{path}/{HUB_BLOB}");
        assert!(matches!(subject.get(&target, &[]).status, 400 | 404), "{target}");
    }
}

#[test]
fn the_hub_is_asked_for() {
    let fixtures = crate::fixtures::Fixtures::new();
    let program = Program::start(&[fixtures.root.as_os_str()], &[("HF_HUB_CACHE", &fixtures.hub)]);
    let list = program.get("/api/models", &[]).json();
    assert!(models(&list).iter().all(|model| model["hub"].is_null()), "{list:#}");
}

#[test]
fn without_a_path_the_bundled_model_is_served() {
    let program = Program::start(&[], &[]);
    let list = program.get("/api/models", &[]).json();
    let [model] = models(&list) else { panic!("expected one model: {list:#}") };
    assert_eq!((&model["supported"], &model["architecture"]), (&true.into(), &"gpt-oss".into()), "{model:#}");
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/nano/gpt-oss-nano.gguf");
    assert!(program.get(model["files"][0]["url"].as_str().unwrap(), &[]).body == std::fs::read(path).unwrap());
}

#[test]
fn paths_can_be_files() {
    let fixtures = crate::fixtures::Fixtures::new();
    let paths = [fixtures.root.join(TINY), fixtures.root.join("sub/deep.gguf"), fixtures.root.join(HTML)];
    let program = Program::start(&paths.each_ref().map(|path| path.as_os_str()), &[]);
    assert_eq!(program.get("/tiny.gguf", &[]).body, crate::fixtures::TINY_BYTES);
    assert_eq!(program.get("/deep.gguf", &[]).body, b"GGUF deep");
    assert_eq!(program.get("/html.gguf", &[]).status, 200);
    // Files beside them are not served.
    for target in ["/mb.gguf", "/sub/deep.gguf", "/empty.gguf"] {
        assert_eq!(program.get(target, &[]).status, 404, "{target}");
    }
}
