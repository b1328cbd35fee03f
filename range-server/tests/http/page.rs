//! The page.

use gguf_serve::{Options, PageSource, ServeError};

use crate::support::{TestServer, folder, serving, start, write};

fn with_page() -> TestServer {
    let web = folder();
    write(&web, "index.html", b"<!DOCTYPE html><title>page</title>");
    write(&web, "web-1a2b_bg.wasm", b"\0asm\x01\0\0\0");
    write(&web, "web-1a2b.js", b"export default 1");
    write(&web, "snippets/dom-1/inline0.js", b"export const a = 1");
    write(&web, "style-9.css", b"body{}");
    write(&web, ".stage/half.js", b"unfinished");
    start(Options { web: Some(web.path().into()), ..Options::default() }).unwrap()
}

#[test]
fn files_of_the_page_with_their_types() {
    let server = with_page();
    for (target, content_type, body) in [
        ("/gptoss", "text/html; charset=utf-8", "<!DOCTYPE html><title>page</title>"),
        ("/gptoss/", "text/html; charset=utf-8", "<!DOCTYPE html><title>page</title>"),
        ("/gptoss?gguf=/m.gguf&prompt=hi", "text/html; charset=utf-8", "<!DOCTYPE html><title>page</title>"),
        ("/gptoss/web-1a2b_bg.wasm", "application/wasm", "\0asm\x01\0\0\0"),
        ("/gptoss/web-1a2b.js", "text/javascript; charset=utf-8", "export default 1"),
        ("/gptoss/snippets/dom-1/inline0.js", "text/javascript; charset=utf-8", "export const a = 1"),
        ("/gptoss/style-9.css", "text/css; charset=utf-8", "body{}"),
    ] {
        let response = server.get(target, &[]);
        assert_eq!((response.status, response.header("content-type")), (200, Some(content_type)), "{target}");
        assert_eq!(response.text(), body, "{target}");
        assert_eq!(response.header("cache-control"), Some("no-cache"), "{target}");
        assert_eq!(response.header("x-content-type-options"), Some("nosniff"), "{target}");
    }
    assert_eq!(server.get("/gptoss/.stage/half.js", &[]).status, 404);
    assert_eq!(server.get("/web-1a2b.js", &[]).status, 404, "the root belongs to the models");
    assert!(matches!(server.server().page_source(), PageSource::Folder(_)));
    assert_eq!(server.get("/api/health", &[]).json()["page"], "folder");
    assert_eq!(server.server().page_url(), format!("http://127.0.0.1:{}/gptoss", server.addr().port()));
}

#[test]
fn only_an_isolated_page_has_the_headers_for_it() {
    let headers = |server: &TestServer, target: &str| {
        let response = server.get(target, &[]);
        let header = |name| response.header(name).map(str::to_owned);
        (header("cross-origin-opener-policy"), header("cross-origin-embedder-policy"))
    };
    let web = folder();
    for (name, bytes) in [("index.html", "<p>"), ("a.js", "1"), ("a.css", "b{}"), ("a.wasm", "\0asm")] {
        write(&web, name, bytes.as_bytes());
    }
    let server = |isolate| start(Options { web: Some(web.path().into()), isolate, ..Options::default() }).unwrap();
    let (isolated, plain) = (server(true), server(false));
    let policies = (Some("same-origin".to_owned()), Some("require-corp".to_owned()));
    for target in ["/gptoss", "/gptoss/a.js"] {
        assert_eq!(headers(&isolated, target), policies, "{target}");
        assert_eq!(headers(&plain, target), (None, None), "{target}");
    }
    for target in ["/gptoss/a.css", "/gptoss/a.wasm", "/gpt-oss-nano.gguf", "/api/models"] {
        assert_eq!(headers(&isolated, target), (None, None), "{target}");
    }
}

#[test]
fn the_list_for_people_needs_no_scripts() {
    let server = with_page();
    let response = server.get("/models", &[]);
    assert_eq!((response.status, response.header("content-type")), (200, Some("text/html; charset=utf-8")));
    let page = response.text();
    assert!(page.contains("href=\"/gptoss?gguf=%2Fapi%2Fmodels%2Fgpt%2Doss%2Dnano"), "{page}");
    assert!(page.contains("3.05 MB") && page.contains("gpt-oss MXFP4") && !page.contains("<script"), "{page}");
}

#[test]
fn an_unchanged_file_is_not_sent_again() {
    let server = with_page();
    let etag = server.get("/gptoss/web-1a2b.js", &[]).header("etag").unwrap().to_owned();
    assert!(etag.starts_with('"') && etag.ends_with('"'), "strong: {etag}");
    assert_ne!(server.get("/gptoss/style-9.css", &[]).header("etag"), Some(etag.as_str()));
    let response = server.get("/gptoss/web-1a2b.js", &[("If-None-Match", &etag)]);
    assert_eq!((response.status, response.header("etag")), (304, Some(etag.as_str())));
    assert_eq!(response.header("content-length"), None);
}

#[test]
fn the_root_leads_to_the_page_and_keeps_the_query() {
    let server = with_page();
    for (target, location) in [
        ("/", "/gptoss"),
        ("/?gguf=%2Fm.gguf&top_k=3", "/gptoss?gguf=%2Fm.gguf&top_k=3"),
        ("/?prompt=hä", "/gptoss?prompt=hä"),
    ] {
        let response = server.get(target, &[]);
        assert_eq!((response.status, response.header("location")), (302, Some(location)), "{target}");
    }
}

#[test]
fn the_compiled_in_page_or_how_to_get_it() {
    // Which of the two depends on whether the page had been built when this was compiled; the unit tests of the
    // service have the other case.
    let server = serving(&[]);
    let response = server.get("/gptoss", &[]);
    assert_eq!(response.header("content-type"), Some("text/html; charset=utf-8"));
    match server.server().page_source() {
        PageSource::Embedded => assert_eq!(response.status, 200),
        PageSource::Missing => {
            assert_eq!(response.status, 503);
            assert!(response.text().contains("cargo xtask demo"));
        }
        other @ PageSource::Folder(_) => panic!("{other:?}"),
    }
}

#[test]
fn a_folder_without_a_page_is_refused() {
    let empty = folder();
    for web in [empty.path().to_owned(), empty.path().join("none")] {
        let fault = start(Options { web: Some(web.clone()), ..Options::default() }).err();
        assert!(matches!(fault, Some(ServeError::Page { folder, .. }) if folder == web));
    }
}
