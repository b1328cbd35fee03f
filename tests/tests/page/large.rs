//! A model of half a gigabyte: how much memory of its own the page takes for it, and how fast it comes.

use std::io::BufWriter;
use std::path::Path;

use browser_driver::{Browser, PageState};
use gptoss_protocol::{Envelope, Event, Stage, StageStatus};
use gptoss_synth::Spec;
use serde_json::json;

use crate::event_log;
use crate::session::{PATIENCE, Session, follow};

/// A load is at least this fast, as a share of a bare fetch that throws the bytes away.
const LEAST_SHARE_OF_FETCH: f64 = 0.7;
/// A load of what is cached is at least so much faster than the same over loopback HTTP.
const LEAST_GAIN_OF_CACHING: f64 = 2.0;
/// The engine's wasm heap may grow to this while it loads a file of 0.5 GB.
const MOST_HEAP_BYTES: u64 = 64 << 20;

/// Gets a whole file as the loader does, in ranges of 8 MiB of which four are under way, and throws the bytes away.
const BARE_FETCH: &str = "const [url, size, done] = arguments; \
     const RANGE = 8 << 20; let next = 0; \
     const lane = async () => { \
         while (next < size) { \
             const first = next; next += RANGE; \
             const range = `bytes=${first}-${Math.min(first + RANGE, size) - 1}`; \
             const response = await fetch(url, { headers: { Range: range }, cache: 'no-store' }); \
             if (response.status !== 206) throw new Error(`status ${response.status}`); \
             const reader = response.body.getReader(); \
             while (!(await reader.read()).done) {} \
         } \
     }; \
     const begin = performance.now(); \
     Promise.all([lane(), lane(), lane(), lane()]) \
         .then(() => done(performance.now() - begin), (error) => done(String(error)));";

/// Two layers of gpt-oss-20b's own width with a small vocabulary, about 0.5 GB.
fn write_model(path: &Path) -> u64 {
    let model = Spec::tiny().layers(2).hidden(2880).ff(2880).experts(18).build().expect("a model");
    let mut file = BufWriter::new(std::fs::File::create(path).expect("a file"));
    model.write(&mut file).expect("written");
    model.file_bytes()
}

/// Milliseconds that the weights took.
fn weights_ms(events: &[Envelope]) -> f64 {
    let done = event_log::all(events, |event| match event {
        Event::Stage { stage: Stage::WeightsFetch, status: StageStatus::Completed, elapsed_ms } => *elapsed_ms,
        _ => None,
    });
    *done.last().expect("the weights came")
}

fn largest_heap(events: &[Envelope]) -> u64 {
    let heaps = event_log::all(events, |event| match event {
        Event::WasmHeap { bytes } => Some(*bytes),
        _ => None,
    });
    heaps.into_iter().max().expect("the heap was measured")
}

#[tokio::test(flavor = "multi_thread")]
async fn half_a_gigabyte_passes_through_a_small_heap() {
    let folder = tempfile::tempdir().expect("temp folder");
    let file = folder.path().join("m.gguf");
    let file_bytes = write_model(&file);
    assert!((450 << 20..600 << 20).contains(&file_bytes), "{file_bytes} bytes");
    let session = Session::serving(vec![file]).await;
    let url = session.model_url("m.gguf").await;
    session.open("").await;
    let bare = session.browser.eval_async(BARE_FETCH, vec![json!(url), json!(file_bytes)]).await.expect("script");
    let bare_ms = bare.as_f64().unwrap_or_else(|| panic!("a bare fetch: {bare}"));

    // As long as it is cached under an address of its own, nothing else finds it there.
    session.open(&format!("gguf={url}%3Fdownload&prompt=")).await;
    session.browser.click("#download").await.expect("it can be pressed");
    let cached = async |browser: &Browser| {
        let status = browser.text("#status").await?;
        Ok(if status.starts_with("All ") { Ok(()) } else { Err(status) })
    };
    session.browser.wait_for("the model to be cached", PATIENCE, cached).await.expect("it is cached");
    let downloads = event_log::all(&event_log::export(&session.browser).await, |event| match event {
        Event::Downloaded { elapsed_ms, .. } => Some(*elapsed_ms),
        _ => None,
    });

    let (mut took, mut adapters) = (Vec::new(), Vec::new());
    for query in ["cache=no", "", ""] {
        // An answer of a model of this width would take a software adapter minutes.
        let page = session.open(&format!("{query}&experts=ahead&prompt=")).await;
        page.load().await.expect("LOAD MODEL can be pressed");
        follow(&page, &[PageState::Ready]).await;
        let events = event_log::export(&session.browser).await;
        let heap = largest_heap(&events);
        assert!(heap <= MOST_HEAP_BYTES, "the wasm heap grew to {heap} bytes");
        took.push((weights_ms(&events), heap));
        adapters.extend(event_log::all(&events, |event| match event {
            Event::Adapter(adapter) => Some(adapter.clone()),
            _ => None,
        }));
        let long_tasks = session.browser.text("#long-tasks-busy").await.expect("long tasks are shown");
        println!("tasks over 50 ms on the page's own thread while it loaded: {long_tasks}");
    }
    session.screenshot("large").await;
    println!(
        "{file_bytes} bytes: bare fetch {bare_ms:.0} ms; cached without a GPU {downloads:.0?} ms; weights and heap without keeping, cached, from what is cached: {took:?}"
    );
    let [(plain_ms, _), (caching_ms, _), (cached_ms, _)] = took[..] else { panic!("three loads: {took:?}") };
    let (share, gain) = (bare_ms / plain_ms, caching_ms / cached_ms);
    println!("{share:.2} of the rate of a bare fetch; what is cached comes {gain:.1} times as fast");
    // A software adapter puts every byte where it belongs on the same cores that fetch it.
    if adapters.iter().all(|adapter| !adapter.software) {
        assert!(share >= LEAST_SHARE_OF_FETCH, "{share:.2} of the rate of a bare fetch");
        assert!(gain >= LEAST_GAIN_OF_CACHING, "what is cached comes only {gain:.1} times as fast");
    }
}
