//! Run in a dedicated worker of a real browser, where the sources are used.

mod fake_host;
mod faults;

use js_sys::{Array, Reflect};
use wasm_bindgen_test::{wasm_bindgen_test, wasm_bindgen_test_configure};
use web_sys::{AbortController, Blob, File, FilePropertyBag, Url};

use super::http_source::PROBE_BYTES;
use super::transfer::AbortOnDrop;
use super::*;
use crate::retry::RetryPolicy;
use crate::{HttpOptions, Source};

wasm_bindgen_test_configure!(run_in_dedicated_worker);

fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|index| (index % 251) as u8).collect()
}

fn parts(bytes: &[u8]) -> Array {
    Array::of1(&Uint8Array::from(bytes))
}

fn blob(bytes: &[u8]) -> Blob {
    Blob::new_with_u8_array_sequence(&parts(bytes)).expect("blob")
}

async fn read(source: &dyn Source, offset_bytes: usize, len_bytes: usize) -> Result<Vec<u8>, SourceError> {
    let bytes = source.read(offset_bytes as u64, len_bytes as u64).await?;
    Ok(bytes.to_vec(0..bytes.len()))
}

/// Options that give up at once.
fn impatient() -> HttpOptions {
    HttpOptions { retry: RetryPolicy { attempts: 1, ..RetryPolicy::default() }, observer: None }
}

/// An address on the test runner's own server, which knows nothing of ranges.
fn runner_url(path: &str) -> String {
    let origin = Reflect::get(&js_sys::global(), &"origin".into()).expect("a global").as_string();
    format!("{}{path}", origin.expect("an origin"))
}

#[wasm_bindgen_test]
fn bytes_stay_in_javascript_until_asked_for() {
    let bytes = crate::Bytes::from_vec(pattern(50));
    assert_eq!(bytes.len(), 50);
    assert_eq!(bytes.to_vec(7..11), [7, 8, 9, 10]);
    let mut target = [0; 3];
    bytes.copy_to(47, &mut target);
    assert_eq!(target, [47, 48, 49]);
    let part = bytes.slice(10..20);
    assert_eq!(part.to_vec(2..4), [12, 13]);
    assert_eq!(part.as_uint8_array().byte_offset(), 10, "a part is a view, not a copy");
}

#[wasm_bindgen_test]
async fn a_picked_file_is_read_at_positions() {
    let options = FilePropertyBag::new();
    options.set_last_modified(1234.0);
    let file = File::new_with_u8_array_sequence_and_options(&parts(&pattern(5000)), "m.gguf", &options).expect("file");
    let source = BlobSource::from_file(&file);
    assert_eq!((source.name(), source.len_bytes()), ("m.gguf", 5000));
    assert_eq!(source.identity(), "file m.gguf 5000 bytes modified 1234");
    assert_eq!(read(&source, 251, 3000).await.expect("inside"), pattern(3000));
    assert!(read(&source, 5000, 0).await.expect("empty").is_empty());
    assert_eq!(source.requests(), 1, "an empty read costs nothing");
    let error = read(&source, 4000, 1001).await.expect_err("outside");
    assert!(matches!(error, SourceError::OutOfBounds { file_bytes: 5000, .. }), "{error}");
}

/// Blob URLs answer range requests as a host does, so the whole path from request to bytes runs without a server.
#[wasm_bindgen_test]
async fn ranges_are_joined_with_what_the_probe_brought() {
    let probe = PROBE_BYTES as usize;
    let all = pattern(probe + 1000);
    let url = Url::create_object_url_with_blob(&blob(&all)).expect("blob URL");
    let source = HttpSource::probe(&url, &impatient()).await.expect("blob URLs honour ranges");
    assert_eq!((source.len_bytes(), source.requests()), (all.len() as u64, 1));
    for (at, len, requests) in
        [(0, probe, 1), (100, 7, 1), (probe - 10, 20, 2), (probe, 1000, 3), (0, probe + 1000, 4), (9, 0, 4)]
    {
        assert_eq!(read(&source, at, len).await.expect("inside"), all[at..at + len], "{at}+{len}");
        assert_eq!(source.requests(), requests, "{at}+{len}");
    }
    Url::revoke_object_url(&url).expect("revoked");
    assert_eq!(read(&source, 5, 5).await.expect("cached"), all[5..10]);
    let error = read(&source, probe, 5).await.expect_err("gone");
    assert!(matches!(error, SourceError::Network { .. }), "{error}");
}

#[wasm_bindgen_test]
async fn a_file_smaller_than_the_probe_is_whole_after_it() {
    let url = Url::create_object_url_with_blob(&blob(b"GGUF")).expect("blob URL");
    let source = HttpSource::probe(&url, &impatient()).await.expect("opens");
    assert_eq!(read(&source, 1, 3).await.expect("inside"), b"GUF");
    assert_eq!((source.len_bytes(), source.requests()), (4, 1));
}

#[wasm_bindgen_test]
async fn hosts_that_cannot_serve_ranges_are_told_apart() {
    let open = async |url: &str| HttpSource::open(url, &impatient()).await.map(drop);
    let ignoring = open(&runner_url("/wasm-bindgen-test_bg.wasm")).await.expect_err("the runner sends whole files");
    assert!(matches!(ignoring, SourceError::RangesIgnored { .. }), "{ignoring}");
    let page = open(&runner_url("/")).await.expect_err("the runner's page");
    assert!(matches!(page, SourceError::WebPage { .. }), "{page}");
    let missing = open(&runner_url("/no-such-file.gguf")).await.expect_err("not there");
    assert!(matches!(missing, SourceError::NotFound { status: 404, .. }), "{missing}");
    // Port 9 is on the Fetch standard's list of bad ports: the browser refuses before anything is sent.
    let unreachable = open("http://127.0.0.1:9/m.gguf").await.expect_err("bad port");
    assert!(matches!(unreachable, SourceError::Network { .. }), "{unreachable}");
    let relative = open("m.gguf").await.expect_err("relative");
    assert!(matches!(relative, SourceError::NotHttpUrl { .. }), "{relative}");
}

#[wasm_bindgen_test]
fn giving_up_aborts_the_request() {
    let controller = AbortController::new().expect("controller");
    let guard = AbortOnDrop(controller.clone());
    assert!(!controller.signal().aborted());
    drop(guard);
    assert!(controller.signal().aborted());
}
