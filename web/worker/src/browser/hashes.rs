//! Asks a model's host for the hashes of its chunks, for as long as it is working them out.

use std::rc::{Rc, Weak};
use std::time::Duration;

use gloo_net::http::Request;
use gptoss_source::store::{CachedFile, CheckedStore, ChunkHashes};
use wasm_bindgen_futures::spawn_local;

use super::timer::within;
use crate::published::{HashesAddress, PublishedFile, hashes_address, parse};

/// A load waits no longer than this to know the hashes from its first byte on. They may come later, too.
const FIRST_ANSWER: Duration = Duration::from_millis(1500);
/// Files that are hashed about as quickly as they are asked for: these are worth waiting for while that goes on.
const QUICKLY_HASHED_BYTES: u64 = 128 << 20;
/// Between the first two questions; twice as long before each further one.
const QUICK_PAUSE: Duration = Duration::from_millis(50);
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// A file whose hashes are wanted.
struct Wanted {
    file: CachedFile,
    name: Option<String>,
    store: Weak<CheckedStore>,
}

/// What asking came to.
enum Outcome {
    /// There is nothing more to be had.
    Settled,
    /// The host is working them out.
    Computing,
}

/// Gives the stores of one model's files the hashes that their host publishes, if it is one that does: before this ends,
/// if the host is quick, and in the background otherwise.
pub async fn ask_for(files: Vec<(CachedFile, &Rc<CheckedStore>)>) {
    let mut url = None;
    let mut wanted = Vec::new();
    for (file, store) in files {
        // The files of one model lie in one folder, so they share one address.
        let Some(HashesAddress { url: address, file_name: name }) = hashes_address(&file.url) else { return };
        url = Some(address);
        wanted.push(Wanted { file, name, store: Rc::downgrade(store) });
    }
    let Some(url) = url else { return };
    let first = within(FIRST_ANSWER, ask_quickly(&url, &wanted)).await;
    if matches!(first, None | Some(Outcome::Computing)) {
        spawn_local(keep_asking(url, wanted));
    }
}

/// Asks once, for what is cached already.
pub async fn ask_once(file: CachedFile, store: &Rc<CheckedStore>) {
    let Some(HashesAddress { url, file_name: name }) = hashes_address(&file.url) else { return };
    ask(&url, &[Wanted { file, name, store: Rc::downgrade(store) }]).await;
}

/// Asks once, and again while an answer may come any moment.
async fn ask_quickly(url: &str, wanted: &[Wanted]) -> Outcome {
    let quick = wanted.iter().map(|wanted| wanted.file.len_bytes).sum::<u64>() <= QUICKLY_HASHED_BYTES;
    let mut pause = QUICK_PAUSE;
    loop {
        let outcome = ask(url, wanted).await;
        if !quick || matches!(outcome, Outcome::Settled) {
            return outcome;
        }
        gptoss_source::pause(pause).await;
        pause *= 2;
    }
}

async fn keep_asking(url: String, wanted: Vec<Wanted>) {
    let mut pause = FIRST_PAUSE;
    loop {
        gptoss_source::pause(pause).await;
        let nobody_cares = wanted.iter().all(|wanted| wanted.store.strong_count() == 0);
        if nobody_cares || matches!(ask(&url, &wanted).await, Outcome::Settled) {
            return;
        }
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// A host that does not answer, or with something else, publishes none: that is no fault.
async fn ask(url: &str, wanted: &[Wanted]) -> Outcome {
    let Some(Some(published)) = within(LONGEST_PAUSE, fetch(url)).await else { return Outcome::Settled };
    for wanted in wanted {
        let is_it =
            |file: &&PublishedFile| file.is_of(wanted.name.as_deref(), wanted.file.len_bytes, &wanted.file.etag);
        let hashes = published.iter().find(is_it).and_then(|file| Some((file.chunk_bytes, file.chunks.clone()?)));
        if let (Some((chunk_bytes, chunks)), Some(store)) = (hashes, wanted.store.upgrade()) {
            store.set_hashes(Rc::new(ChunkHashes { chunk_bytes, chunks }));
        }
    }
    if published.iter().any(|file| file.chunks.is_none()) { Outcome::Computing } else { Outcome::Settled }
}

async fn fetch(url: &str) -> Option<Vec<PublishedFile>> {
    let response = Request::get(url).send().await.ok()?;
    if !response.ok() {
        return None;
    }
    match parse(&response.text().await.ok()?) {
        Ok(files) => Some(files),
        Err(error) => {
            web_sys::console::warn_1(&format!("{url}: {error}").into());
            None
        }
    }
}
