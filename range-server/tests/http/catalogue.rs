//! Which files are there, and under which names.

use std::fs;
#[cfg(unix)]
use std::path::PathBuf;
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
    assert!(server.server().notes().iter().any(|note| note.contains("/dangling.gguf") && note.contains("/nowhere")));
    // Whoever starts the server may allow it.
    let follow =
        |path: PathBuf| start(Options { paths: vec![path], follow_links: true, ..Options::default() }).unwrap();
    let server = follow(folder.path().join("hub"));
    assert_eq!(server.get("/out.gguf", &[]).body, pattern(10));
    assert_eq!(server.get("/api/health", &[]).json()["models"], 2, "the circle leads to nothing new");
    // Named by the person who starts the server, a link may lead anywhere; its own name counts.
    let server = serving(&[&folder.path().join("hub/out.gguf")]);
    assert_eq!(server.get("/out.gguf", &[]).body, pattern(10));
}

/// What was skipped is said also when there is nothing else.
#[cfg(unix)]
#[test]
fn a_folder_of_links_that_lead_out_says_so() {
    use std::os::unix::fs::symlink;
    let folder = folder();
    let model = write(&folder, "elsewhere/m.gguf", &pattern(10));
    write(&folder, "links/n.gguf.crdownload", b"GGUF");
    symlink(model, folder.path().join("links/m.gguf")).unwrap();
    let paths = vec![folder.path().join("links")];
    let error = start(Options { paths: paths.clone(), ..Options::default() }).err().unwrap().to_string();
    for words in [
        "no .gguf file was found in",
        "/m.gguf",
        "leads out",
        "elsewhere/m.gguf",
        "--follow-links",
        "n.gguf.crdownload",
    ] {
        assert!(error.contains(words), "{words}: {error}");
    }
    let server = start(Options { paths, follow_links: true, ..Options::default() }).unwrap();
    assert_eq!(server.get("/m.gguf", &[]).body, pattern(10));
}

#[test]
fn the_models_of_ollama_are_served_under_its_names() {
    let folder = folder();
    let manifest = r#"{"layers":[{"mediaType":"application/vnd.ollama.image.model","digest":"sha256:abc","size":1}]}"#;
    write(&folder, "manifests/registry.ollama.ai/library/gpt-oss/20b", manifest.as_bytes());
    write(&folder, "blobs/sha256-abc", &pattern(40));
    write(&folder, "blobs/sha256-def", b"a template");
    let server = serving(&[folder.path()]);
    let models = server.get("/api/models", &[]).json();
    assert_eq!(models["models"].as_array().unwrap().len(), 1, "{models}");
    assert_eq!(models["models"][0]["name"], "gpt-oss:20b");
    for target in [models["models"][0]["url"].as_str().unwrap(), "/blobs/sha256-abc"] {
        assert_eq!(server.get(target, &[]).body, pattern(40), "{target}");
    }
    assert_eq!(server.get("/blobs/sha256-def", &[]).status, 404);
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

fn text(text: &str) -> Vec<u8> {
    [&(text.len() as u64).to_le_bytes()[..], text.as_bytes()].concat()
}

/// A key with a value of a type.
fn pair(key: &str, kind: u32, value: &[u8]) -> Vec<u8> {
    [&text(key)[..], &kind.to_le_bytes(), value].concat()
}

fn text_pair(key: &str, value: &str) -> Vec<u8> {
    pair(key, 8, &text(value))
}

/// ggml's types, and the bytes of 32 weights in them.
const F32: u32 = 0;
const Q8_0: u32 = 8;
const Q8_1: u32 = 9;
const MXFP4: u32 = 39;

fn weights_len(tensor_type: u32) -> usize {
    match tensor_type {
        F32 => 128,
        Q8_0 => 34,
        Q8_1 => 40,
        _ => 17,
    }
}

/// A file of such keys, and of tensors of 32 weights each.
fn gguf(pairs: &[Vec<u8>], tensors: &[(&str, u32)]) -> Vec<u8> {
    let mut file = b"GGUF\x03\0\0\0".to_vec();
    file.extend([tensors.len() as u64, pairs.len() as u64].map(u64::to_le_bytes).concat());
    file.extend(pairs.concat());
    let (mut offset, mut end) = (0, 0);
    for (name, tensor_type) in tensors {
        file.extend([text(name), 1u32.to_le_bytes().to_vec(), 32u64.to_le_bytes().to_vec()].concat());
        file.extend([&tensor_type.to_le_bytes()[..], &(offset as u64).to_le_bytes()].concat());
        end = offset + weights_len(*tensor_type);
        offset = end.next_multiple_of(32);
    }
    file.resize(file.len().next_multiple_of(32) + end, 0);
    file
}

/// A file with one tensor.
fn small_gguf(architecture: &str) -> Vec<u8> {
    gguf(&[text_pair("general.architecture", architecture)], &[("t", MXFP4)])
}

/// What a model of one layer cannot do without, by name.
fn model_pairs(architecture: &str) -> Vec<Vec<u8>> {
    let one_text = |value: &str| [&8u32.to_le_bytes()[..], &1u64.to_le_bytes(), &text(value)].concat();
    vec![
        text_pair("general.architecture", architecture),
        pair(&format!("{architecture}.block_count"), 4, &1u32.to_le_bytes()),
        text_pair("tokenizer.ggml.model", "gpt2"),
        pair("tokenizer.ggml.tokens", 9, &one_text("a")),
        pair("tokenizer.ggml.merges", 9, &one_text("a a")),
    ]
}

/// Those of a model of one layer; matrices of this type.
fn model_tensors(matrices: u32) -> Vec<(&'static str, u32)> {
    vec![
        ("token_embd.weight", matrices),
        ("output_norm.weight", F32),
        ("output.weight", matrices),
        ("blk.0.attn_norm.weight", F32),
        ("blk.0.attn_q.weight", matrices),
        ("blk.0.attn_q.bias", F32),
        ("blk.0.attn_k.weight", matrices),
        ("blk.0.attn_k.bias", F32),
        ("blk.0.attn_v.weight", matrices),
        ("blk.0.attn_v.bias", F32),
        ("blk.0.attn_output.weight", matrices),
        ("blk.0.attn_output.bias", F32),
        ("blk.0.attn_sinks.weight", F32),
        ("blk.0.post_attention_norm.weight", F32),
        ("blk.0.ffn_gate_inp.weight", F32),
        ("blk.0.ffn_gate_inp.bias", F32),
        ("blk.0.ffn_gate_exps.weight", matrices),
        ("blk.0.ffn_gate_exps.bias", F32),
        ("blk.0.ffn_up_exps.weight", matrices),
        ("blk.0.ffn_up_exps.bias", F32),
        ("blk.0.ffn_down_exps.weight", matrices),
        ("blk.0.ffn_down_exps.bias", F32),
    ]
}

#[test]
fn what_the_page_can_run_and_why_not() {
    let folder = folder();
    let pairs = || model_pairs("gpt-oss");
    let whole = gguf(&pairs(), &model_tensors(MXFP4));
    let without_tokens: Vec<_> = [&pairs()[..1], &pairs()[2..3], &pairs()[4..]].concat();
    write(&folder, "1.gguf", &whole);
    write(&folder, "2.gguf", &gguf(&model_pairs("gptoss"), &model_tensors(Q8_0)));
    write(&folder, "3.gguf", &small_gguf("llama"));
    write(&folder, "4.gguf", &gguf(&pairs(), &model_tensors(Q8_1)));
    write(&folder, "5.gguf", &gguf(&pairs(), &[("output.weight", 777), ("other", 778)]));
    write(&folder, "6.gguf", &whole[..whole.len() - 1]);
    write(&folder, "7.gguf", &pattern(100));
    write(&folder, "8.gguf", &gguf(&pairs(), &model_tensors(MXFP4)[1..]));
    write(&folder, "9.gguf", &gguf(&without_tokens, &[("t", MXFP4)]));
    let mut foreign = pairs();
    foreign.push(text_pair("tokenizer.ggml.pre", "llama-bpe"));
    write(&folder, "a.gguf", &gguf(&foreign, &model_tensors(MXFP4)));
    let models = serving(&[folder.path()]).get("/api/models", &[]).json();
    let expected = [
        (Some("gpt-oss"), None),
        (Some("gptoss"), None),
        (Some("llama"), Some("\"llama\"")),
        (Some("gpt-oss"), Some("and 8 more are Q8_1")),
        (Some("gpt-oss"), Some("tensor \"output.weight\" is unknown type 777")),
        (None, Some("truncated")),
        (None, Some("version")),
        (Some("gpt-oss"), Some("tensor token_embd.weight missing")),
        (Some("gpt-oss"), Some("key tokenizer.ggml.tokens and 4 more missing")),
        (Some("gpt-oss"), Some("tokenizer.ggml.pre is llama-bpe")),
    ];
    assert_eq!(models["models"].as_array().unwrap().len(), expected.len());
    for (model, (architecture, reason)) in models["models"].as_array().unwrap().iter().zip(expected) {
        assert_eq!(model["architecture"].as_str(), architecture, "{model}");
        assert_eq!(model["supported"].as_bool(), Some(reason.is_none()), "{model}");
        match reason {
            Some(part) => assert!(model["reason"].as_str().is_some_and(|text| text.contains(part)), "{model}"),
            None => assert!(model["reason"].is_null(), "{model}"),
        }
    }
}

#[test]
fn what_is_no_model_is_not_listed_as_one() {
    let folder = folder();
    let with_type =
        |kind: &str| gguf(&[text_pair("general.architecture", "gpt-oss"), text_pair("general.type", kind)], &[]);
    write(&folder, "1.gguf", &with_type("adapter"));
    write(&folder, "2.gguf", &with_type("imatrix"));
    write(&folder, "3.gguf", &with_type("model"));
    write(&folder, "4.gguf", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n");
    write(&folder, "5.gguf", b"PK\x03\x04");
    write(&folder, "6.gguf", &gguf(&model_pairs("gpt-oss"), &[]));
    let models = serving(&[folder.path()]).get("/api/models", &[]).json();
    let words = ["adapter", "importance matrix", "metadata only", "git lfs pull", "ZIP archive", "a vocabulary only"];
    for (model, words) in models["models"].as_array().unwrap().iter().zip(words) {
        assert_eq!(model["supported"], false, "{model}");
        assert!(model["reason"].as_str().unwrap().contains(words), "{words}: {model}");
    }
}

/// A part with half of the tensors. Only the first has the model's keys.
fn small_part(no: u16, count: u16) -> Vec<u8> {
    let tensors = model_tensors(MXFP4);
    let (first, rest) = tensors.split_at(tensors.len() / 2);
    let mut pairs = vec![
        pair("split.no", 2, &no.to_le_bytes()),
        pair("split.count", 2, &count.to_le_bytes()),
        pair("split.tensors.count", 5, &(tensors.len() as i32).to_le_bytes()),
    ];
    if no == 0 {
        pairs.extend(model_pairs("gpt-oss"));
    }
    gguf(&pairs, if no == 0 { first } else { rest })
}

#[test]
fn files_of_a_split_model_are_one_model() {
    let folder = folder();
    let [one, two] = ["d/m é-00001-of-00002.gguf", "d/m é-00002-of-00002.gguf"];
    write(&folder, one, &small_part(0, 2));
    write(&folder, two, &small_part(1, 2));
    // Files of the same name in another folder, of another number of parts, and incomplete ones are separate models.
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
    let path = write(&folder, "m.gguf", &small_gguf("llama"));
    let server = serving(&[&path]);
    let listed = || server.get("/api/models", &[]).json()["models"][0]["architecture"].clone();
    assert_eq!(listed(), "llama");
    let etag = |response: crate::client::Response| response.header("etag").unwrap().to_owned();
    let before = etag(server.get("/m.gguf", &[]));
    assert_eq!(etag(server.get("/m.gguf", &[])), before);
    // File times move in steps of a few milliseconds.
    std::thread::sleep(std::time::Duration::from_millis(50));
    fs::write(&path, small_gguf("gpt-oss")).unwrap();
    assert_eq!(listed(), "gpt-oss");
    assert_ne!(etag(server.get("/m.gguf", &[])), before);
    // What was read of the old version must not be continued with bytes of the new one.
    let response = server.get("/m.gguf", &[("Range", "bytes=5-6"), ("If-Range", &before)]);
    assert_eq!(response.status, 200);
}
