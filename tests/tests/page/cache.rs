//! The download cache between visits: loads that are resumed, loads without a network, and copies that are damaged or
//! out of date.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use browser_driver::{Browser, End, NanoCase, PageState, Snapshot};
use gptoss_protocol::{CacheNotice, CacheNoticeKind, CacheState, Envelope, Event};
use gptoss_synth::Spec;
use serde_json::{Value, json};

use crate::event_log;
use crate::parts::write_parts;
use crate::relay::{Relay, sum_bytes};
use crate::session::{Session, assert_answer, case, follow, launch_options, load_and_answer};
use crate::{nano_bytes, query_with};

/// What a host is asked first, to see whether it serves ranges.
const PROBE_BYTES: u64 = 64 << 10;
const CHUNK_BYTES: u64 = 4 << 20;

/// Flips the lowest bit of one byte in the middle of every cached file.
const DAMAGE_WHAT_IS_KEPT: &str = "const done = arguments[arguments.length - 1]; \
     (async () => { \
         const root = await (await navigator.storage.getDirectory()).getDirectoryHandle('gptoss-models'); \
         let damaged = 0; \
         for await (const folder of root.values()) { \
             const handle = await folder.getFileHandle('data'); \
             const file = await handle.getFile(); \
             const at = Math.floor(file.size / 2); \
             const byte = new Uint8Array(await file.slice(at, at + 1).arrayBuffer()); \
             const writable = await handle.createWritable({ keepExistingData: true }); \
             await writable.write({ type: 'write', position: at, data: new Uint8Array([byte[0] ^ 1]) }); \
             await writable.close(); \
             damaged += 1; \
         } \
         return damaged; \
     })().then(done, (error) => done(String(error)));";

/// The lines of the storage panel.
const PANEL_LINES: &str = "return [...document.querySelectorAll('#cache-models li')].map((line) => ({ \
     name: line.querySelector('.name').textContent, amount: line.querySelector('.amount').textContent, \
     check: line.querySelector('.check')?.textContent ?? '' }));";

/// A folder with one model, served, and a relay before it.
struct Setup {
    session: Session,
    relay: Relay,
    file: PathBuf,
    _folder: tempfile::TempDir,
}

impl Setup {
    async fn serving(model: &[u8]) -> Self {
        let folder = tempfile::tempdir().expect("temp folder");
        let file = folder.path().join("m.gguf");
        std::fs::write(&file, model).expect("write");
        let session = Session::serving(vec![file.clone()]).await;
        let relay = Relay::before(session.server.addr());
        Self { session, relay, file, _folder: folder }
    }

    /// Address of the model behind the relay. What differs in `query` is cached apart.
    async fn url(&self, query: &str) -> String {
        self.relay.url(&format!("{}{query}", self.session.model_url("m.gguf").await))
    }

    /// Opens the page with `query`, loads, waits for the answer, and says what was reported meanwhile.
    async fn answer(&self, query: &str) -> (Snapshot, Told) {
        let page = self.session.open(query).await;
        let snapshot = load_and_answer(&page).await;
        (snapshot, Told(event_log::export(&self.session.browser).await))
    }

    /// The page with no model loaded, so that nobody holds what is cached.
    async fn damage_what_is_cached(&self) {
        self.session.open("").await;
        // The worker of the page that was left lets go of its files a moment later.
        let damage = async |browser: &Browser| {
            let damaged = browser.eval_async(DAMAGE_WHAT_IS_KEPT, vec![]).await?;
            Ok(if damaged == 1 { Ok(()) } else { Err(damaged.to_string()) })
        };
        let what = "one cached file to be damaged";
        self.session.browser.wait_for(what, Duration::from_secs(20), damage).await.expect("it can be written to");
    }

    async fn panel(&self) -> Value {
        self.session.browser.eval(PANEL_LINES, vec![]).await.expect("script")
    }

    /// Waits until the panel's only line says `words` about its chunks.
    async fn panel_says(&self, words: &str) {
        let look = async |_: &_| {
            let panel = self.panel().await;
            let said = panel[0]["check"].as_str().is_some_and(|check| check.contains(words));
            Ok(if said { Ok(()) } else { Err(panel.to_string()) })
        };
        let what = format!("the storage panel to say {words:?}");
        self.session.browser.wait_for(&what, Duration::from_secs(30), look).await.expect("it says so");
    }
}

/// What the worker said.
struct Told(Vec<Envelope>);

impl Told {
    fn cached(&self) -> CacheState {
        let cached = event_log::all(&self.0, |event| match event {
            Event::Cached(cached) => Some(cached.clone()),
            _ => None,
        });
        cached.last().expect("it was said what is cached").clone()
    }

    fn notices(&self) -> Vec<CacheNotice> {
        event_log::all(&self.0, |event| match event {
            Event::CacheNotice(notice) => Some(notice.clone()),
            _ => None,
        })
    }

    fn kinds(&self) -> Vec<CacheNoticeKind> {
        self.notices().iter().map(|notice| notice.kind).collect()
    }

    /// Chunks of each cached file with `word` in its address, as the last report had them.
    fn stored_chunks(&self, word: &str) -> Vec<u32> {
        let reports = event_log::all(&self.0, |event| match event {
            Event::Cache(report) => Some(report.models.clone()),
            _ => None,
        });
        let models = reports.last().expect("it was reported what is cached");
        let contents = models.iter().filter_map(|model| model.contents.as_ref());
        contents.filter(|contents| contents.url.contains(word)).map(|contents| contents.stored_chunks).collect()
    }

    fn token_ids(&self) -> Vec<u32> {
        event_log::all(&self.0, |event| match event {
            Event::Token(token) => Some(token.id),
            _ => None,
        })
    }
}

fn query(url: &str, case: &NanoCase) -> String {
    query_with(&url.replace('?', "%3F"), case)
}

/// About 40 MB, ten chunks.
fn ten_chunks() -> Vec<u8> {
    let model = Spec::tiny().hidden(512).ff(768).experts(16).to_bytes().expect("a model");
    let chunks = model.len() as u64 / CHUNK_BYTES;
    assert!((8..=12).contains(&chunks), "{} bytes make another number of chunks", model.len());
    model
}

/// All that is cached is read, the end of the header twice: it is read in steps, the last of which reaches into the
/// weights.
#[track_caller]
fn assert_read_about_once(storage_bytes: u64, cached_bytes: u64) {
    assert!(
        (cached_bytes..cached_bytes + PROBE_BYTES).contains(&storage_bytes),
        "{storage_bytes} bytes of {cached_bytes} read"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_load_that_broke_off_goes_on_where_it_was() {
    let model = ten_chunks();
    let file_bytes = model.len() as u64;
    let mut setup = Setup::serving(&model).await;
    setup.session = setup.session.with_own_browser(&launch_options()).await;
    // As plain text: a message has some 70 tokens more, which take a software adapter seconds in a model of this size.
    let ask = |url: &str, more: &str| {
        format!("gguf={}&experts=ahead&format=text&prompt=Hi&max_new=5{more}", url.replace('?', "%3F"))
    };
    let (_, told) = setup.answer(&ask(&setup.url("").await, "&cache=no")).await;
    let right = told.token_ids();
    assert_eq!(right.len(), 5);
    setup.relay.take_passed();

    for end in [End::Closed, End::Killed] {
        let url = setup.url(&format!("?{end:?}")).await;
        // The probe and the first chunks; the rest of the answers wait on the line.
        setup.relay.let_through(Some(1 + 8));
        {
            let page = setup.session.open(&ask(&url, "")).await;
            page.load().await.expect("LOAD MODEL can be pressed");
            follow(&page, &[PageState::Loading]).await;
            wait_until(|| setup.relay.passed() == 9).await;
            // The last answers reach the worker.
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
        setup.session.browser.restart(end).await.expect("the browser starts again");
        setup.relay.let_through(None);
        // What waited goes nowhere: those connections are gone.
        tokio::time::sleep(Duration::from_millis(200)).await;
        setup.relay.take_passed();

        let (_, told) = setup.answer(&ask(&url, "")).await;
        assert_eq!(told.token_ids(), right, "{end:?}: the answer after going on");
        let cached = told.cached();
        assert!((4..=8).contains(&(cached.resumed_bytes / CHUNK_BYTES)), "{end:?}: {cached:?}");
        assert_eq!(
            (cached.stored_bytes, cached.stored_chunks),
            (file_bytes, cached.chunks),
            "{end:?}: all of it is cached now"
        );
        let missing = file_bytes - cached.resumed_bytes;
        assert_eq!(cached.network_bytes, missing, "{end:?}: {cached:?}");
        assert_read_about_once(cached.storage_bytes, cached.resumed_bytes);
        assert_eq!(sum_bytes(&setup.relay.take_passed()), PROBE_BYTES + missing, "{end:?}: bytes on the wire");
        assert_eq!(told.kinds(), [], "{end:?}: {:?}", told.notices());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_next_load_fetches_nothing_and_damage_on_disk_is_mended() {
    let setup = Setup::serving(&nano_bytes()).await;
    let case = case("add");
    let file_bytes = nano_bytes().len() as u64;
    let query = format!("{}&experts=ahead", query(&setup.url("").await, &case));
    let (first, told) = setup.answer(&query).await;
    assert_answer(&first, &case);
    let cached = told.cached();
    assert_eq!((cached.resumed_bytes, cached.network_bytes, cached.stored_bytes), (0, file_bytes, file_bytes));
    assert_eq!((cached.verified_chunks, cached.chunks), (1, 1), "by the SHA-256 that gguf-serve published: {cached:?}");
    assert_eq!(sum_bytes(&setup.relay.take_passed()), file_bytes, "nothing is fetched twice");

    let (again, told) = setup.answer(&query).await;
    assert_answer(&again, &case);
    let cached = told.cached();
    assert_eq!((cached.resumed_bytes, cached.network_bytes), (file_bytes, 0));
    assert_read_about_once(cached.storage_bytes, file_bytes);
    assert_eq!(setup.relay.take_passed(), [(0, PROBE_BYTES - 1)], "the probe and nothing else");
    assert_eq!(told.kinds(), []);
    let remembered = event_log::all(&told.0, |event| match event {
        Event::SelfCheck(check) => Some(check.remembered),
        _ => None,
    });
    assert_eq!(remembered, [true], "the kernels passed on this adapter before");
    // The page says the same: the probe is all that came over the network.
    let received = setup.session.browser.text("#weights-wire").await.expect("what was received is shown");
    assert_eq!(received, "65.5 kB", "shown as received");
    setup.session.screenshot("cached").await;
    setup.session.assert_quiet_console().await;

    setup.damage_what_is_cached().await;
    let (mended, told) = setup.answer(&query).await;
    assert_answer(&mended, &case);
    assert_eq!(told.kinds(), [CacheNoticeKind::Damaged]);
    let cached = told.cached();
    assert_eq!((cached.network_bytes, cached.stored_bytes), (file_bytes, file_bytes));
    // The flipped bit is in the middle. Blocks before it are what they were, and are used.
    assert!(cached.storage_bytes <= file_bytes / 2, "{cached:?}");
    setup.session.screenshot("cached-damaged").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_download_needs_no_gpu_and_is_all_that_a_load_needs() {
    let setup = Setup::serving(&nano_bytes()).await;
    let case = case("add");
    let file_bytes = nano_bytes().len() as u64;
    let query = query(&setup.url("").await, &case);
    setup.session.open(&query).await;
    let browser = &setup.session.browser;
    browser.eval("delete Navigator.prototype.gpu;", vec![]).await.expect("script");
    browser.click("#download").await.expect("it can be pressed");
    let cached = async |browser: &Browser| {
        let status = browser.text("#status").await?;
        Ok(if status == "All 3.05 MB are cached in this browser. No model is loaded." { Ok(()) } else { Err(status) })
    };
    browser.wait_for("the model to be cached", Duration::from_secs(60), cached).await.expect("it is cached");
    setup.session.screenshot("downloaded").await;
    let told = Told(event_log::export(browser).await);
    let adapters = event_log::all(&told.0, |event| matches!(event, Event::Adapter(_)).then_some(()));
    assert_eq!((adapters.len(), told.cached().stored_bytes), (0, file_bytes));
    assert_eq!(sum_bytes(&setup.relay.take_passed()), file_bytes, "nothing is fetched twice");

    let (snapshot, told) = setup.answer(&query).await;
    assert_answer(&snapshot, &case);
    assert_eq!(told.cached().network_bytes, 0);
    assert_eq!(setup.relay.take_passed(), [(0, PROBE_BYTES - 1)], "the probe and nothing else");
}

/// Picked once, cached, and used without the file; by its name in the address, or from the storage panel.
#[tokio::test(flavor = "multi_thread")]
async fn a_picked_file_can_be_cached_and_is_not_picked_again() {
    let setup = Setup::serving(&nano_bytes()).await;
    let browser = &setup.session.browser;
    let case = case("add");
    setup.session.open("").await;
    let picked = setup.file.with_file_name("picked.gguf");
    std::fs::copy(&setup.file, &picked).expect("a copy");
    browser.pick_files("#file", &[&picked]).await.expect("pick");
    assert_eq!(browser.text("#download").await.expect("a button"), "Cache in browser");
    browser.click("#download").await.expect("it can be pressed");
    let cached = async |browser: &Browser| {
        let status = browser.text("#status").await?;
        Ok(if status == "All 3.05 MB are cached in this browser. No model is loaded." { Ok(()) } else { Err(status) })
    };
    browser.wait_for("the model to be cached", Duration::from_secs(60), cached).await.expect("it is cached");
    std::fs::remove_file(&picked).expect("it was there");
    setup.panel_says("from a file that was picked").await;
    setup.session.open_tab("network").await;
    browser.click("#cache-models [data-action=use]").await.expect("it can be pressed");
    let address = browser.eval("return document.querySelector('#gguf').value;", vec![]).await.expect("script");
    assert_eq!(address, "cached:picked.gguf");
    setup.session.screenshot("cached-picked").await;

    let before = setup.session.requests().len();
    let (snapshot, told) = setup.answer(&query("cached:picked.gguf", &case)).await;
    assert_answer(&snapshot, &case);
    assert_eq!((told.cached().network_bytes, told.kinds()), (0, vec![]));
    let asked: Vec<_> = setup.session.requests().split_off(before);
    assert!(asked.iter().all(|request| request.range.is_none()), "the server was asked for a model: {asked:?}");

    let fails = async |name: &str, words: &str| {
        let page = setup.session.open(&query(&format!("cached:{name}"), &case)).await;
        page.load().await.expect("LOAD MODEL can be pressed");
        let failed = follow(&page, &[PageState::Error]).await;
        assert!(failed.error.contains(words) && failed.error.contains(name), "{failed:?}");
        assert!(failed.error_advice.to_lowercase().contains("pick the file"), "{failed:?}");
    };
    fails("another.gguf", "nothing is cached").await;
    // A tab that reads it has it for itself.
    let (one, two) = (browser.tab().await.expect("a tab"), browser.new_tab().await.expect("another"));
    setup.answer(&query("cached:picked.gguf", &case)).await;
    browser.switch_to(&two).await.expect("the other tab");
    fails("picked.gguf", "in use by another tab").await;
    browser.switch_to(&one).await.expect("the first tab");
    setup.damage_what_is_cached().await;
    fails("picked.gguf", "damaged").await;
    let notices = browser.text("#cache-notices").await.expect("notices");
    assert!(notices.contains("it was deleted") && notices.contains("cache it again"), "{notices:?}");
    setup.session.screenshot("error-cached-damaged").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn picked_parts_are_cached_and_any_of_them_names_them_all() {
    let setup = Setup::serving(&nano_bytes()).await;
    let browser = &setup.session.browser;
    let case = case("add");
    let folder = tempfile::tempdir().expect("temp folder");
    let parts = write_parts(&nano_bytes(), 3, folder.path());
    setup.session.open("").await;
    browser.pick_files("#file", &parts).await.expect("pick");
    browser.click("#download").await.expect("it can be pressed");
    let cached = async |browser: &Browser| {
        let status = browser.text("#status").await?;
        Ok(if status.starts_with("All ") { Ok(()) } else { Err(status) })
    };
    browser.wait_for("the parts to be cached", Duration::from_secs(60), cached).await.expect("they are cached");
    drop(folder);
    let (snapshot, _) = setup.answer(&query("cached:nano-00002-of-00003.gguf", &case)).await;
    assert_answer(&snapshot, &case);
    // If one part was deleted the others are of no use, and the missing one is named.
    setup.session.open("").await;
    let delete = "const line = [...document.querySelectorAll('#cache-models li')].find((line) =>          line.querySelector('.name').textContent.includes('00003-of')); const button = line?.querySelector('[data-action=delete]');          button?.click(); button?.click(); return document.querySelectorAll('#cache-models li').length;";
    let gone = async |browser: &Browser| {
        let lines = browser.eval(delete, vec![]).await?;
        Ok(if lines == 2 { Ok(()) } else { Err(lines.to_string()) })
    };
    browser.wait_for("one part to be deleted", Duration::from_secs(30), gone).await.expect("it is deleted");
    let page = setup.session.open(&query("cached:nano-00001-of-00003.gguf", &case)).await;
    page.load().await.expect("LOAD MODEL can be pressed");
    let failed = follow(&page, &[PageState::Error]).await;
    assert!(failed.error.contains("missing") && failed.error.contains("nano-00003-of-00003.gguf"), "{failed:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_file_is_fetched_anew() {
    // The wrong file is as long as the right one, and its weights are numbers, too: only the ETag tells the two apart.
    let mut wrong = nano_bytes();
    let from = wrong.len() / 2;
    wrong[from..].iter_mut().step_by(7).for_each(|byte| *byte ^= 1);
    let setup = Setup::serving(&wrong).await;
    let case = case("capitals");
    let url = setup.url("").await;
    let (_, told) = setup.answer(&format!("{}&max_new=3", query(&url, &case))).await;
    assert_eq!(told.cached().stored_bytes, wrong.len() as u64);
    replace(&setup.file, &nano_bytes());
    setup.relay.take_passed();

    let (snapshot, told) = setup.answer(&query(&url, &case)).await;
    assert_answer(&snapshot, &case);
    let notices = told.notices();
    assert_eq!(told.kinds(), [CacheNoticeKind::Discarded], "{notices:?}");
    assert!(notices[0].message.contains("its ETag was"), "{notices:?}");
    assert_eq!((told.cached().resumed_bytes, told.cached().network_bytes), (0, nano_bytes().len() as u64));
    let (again, told) = setup.answer(&query(&url, &case)).await;
    assert_answer(&again, &case);
    assert_eq!((told.cached().network_bytes, told.kinds()), (0, vec![]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bit_that_flips_on_the_wire_is_noticed() {
    let setup = Setup::serving(&nano_bytes()).await;
    let case = case("sort");
    let at = 2_000_000;
    setup.relay.flip(at, 1);
    let (snapshot, told) = setup.answer(&query(&setup.url("?once").await, &case)).await;
    assert_answer(&snapshot, &case);
    assert_eq!(told.kinds(), [CacheNoticeKind::WrongOnTheWay]);
    assert_eq!((told.cached().verified_chunks, told.cached().stored_chunks), (1, 1));

    setup.relay.flip(at, u32::MAX);
    let page = setup.session.open(&query(&setup.url("?always").await, &case)).await;
    page.load().await.expect("LOAD MODEL can be pressed");
    let failed = follow(&page, &[PageState::Error]).await;
    assert!(failed.error.contains("chunk 0") && failed.error.contains("SHA-256"), "{failed:?}");
    assert_ne!(failed.error_advice, "", "an error comes with advice");
    assert_eq!((failed.final_text.as_str(), failed.analysis_text.as_str()), ("", ""));
    setup.session.screenshot("error-wrong-on-the-way").await;
    let told = Told(event_log::export(&setup.session.browser).await);
    let cached = told.stored_chunks("always");
    assert!(cached.iter().all(|&chunks| chunks == 0), "what is wrong is not cached: {cached:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_tab_reads_over_the_network_and_says_so() {
    let setup = Setup::serving(&nano_bytes()).await;
    let case = case("reverse");
    let query = query(&setup.url("").await, &case);
    let browser = &setup.session.browser;
    let (first, _) = setup.answer(&query).await;
    assert_answer(&first, &case);
    let (one, two) = (browser.tab().await.expect("a tab"), browser.new_tab().await.expect("another"));

    browser.switch_to(&two).await.expect("switch");
    let (second, told) = setup.answer(&query).await;
    assert_answer(&second, &case);
    let notices = told.notices();
    assert_eq!(told.kinds(), [CacheNoticeKind::InUse], "{notices:?}");
    assert_eq!(told.cached().stored_bytes, 0);
    assert_eq!(told.cached().verified_chunks, 1, "what is not cached is checked all the same");

    browser.switch_to(&one).await.expect("switch");
    browser.goto("about:blank").await.expect("the first tab lets go");
    browser.switch_to(&two).await.expect("switch");
    let (third, told) = setup.answer(&query).await;
    assert_answer(&third, &case);
    assert_eq!((told.cached().network_bytes, told.kinds()), (0, vec![]));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_storage_panel_tells_verifies_and_deletes() {
    let setup = Setup::serving(&nano_bytes()).await;
    let browser = &setup.session.browser;
    let case = case("planets");
    let query = query(&setup.url("").await, &case);
    // Less room than the model needs: it answers, and says that nothing is cached.
    let origin = format!("http://{}", setup.session.server.addr());
    setup.session.open("").await;
    let quota = json!({ "origin": origin, "quotaSize": 1_000_000 });
    browser.devtools("Storage.overrideQuotaForOrigin", quota).await.expect("a small quota");
    let (snapshot, told) = setup.answer(&query).await;
    assert_answer(&snapshot, &case);
    let notices = told.notices();
    assert_eq!(told.kinds(), [CacheNoticeKind::NotCached], "{notices:?}");
    assert!(notices[0].message.contains("no room") && notices[0].advice.contains("Free disk space"), "{notices:?}");
    assert!(!notices[0].advice.contains("elete"), "there is no other model to be deleted: {notices:?}");
    assert_eq!(told.cached().stored_bytes, 0);
    browser.devtools("Storage.overrideQuotaForOrigin", json!({ "origin": origin })).await.expect("the usual quota");

    let (snapshot, _) = setup.answer(&query).await;
    assert_answer(&snapshot, &case);
    setup.panel_says("1 of 1 chunk verified").await;
    let panel = setup.panel().await;
    assert_eq!(panel[0]["name"], "m.gguf");
    assert!(panel[0]["amount"].as_str().is_some_and(|amount| amount.starts_with("3.05 MB, complete")), "{panel}");
    setup.session.open_tab("network").await;
    browser.click("#cache-models [data-action=verify]").await.expect("verify can be pressed");
    setup.panel_says("sound").await;

    setup.damage_what_is_cached().await;
    setup.panel_says("1 of 1 chunk verified").await;
    setup.session.open_tab("network").await;
    browser.click("#cache-models [data-action=verify]").await.expect("verify can be pressed");
    setup.panel_says("1 chunk damaged and deleted").await;
    setup.session.screenshot("storage-damaged").await;
    for _ in 0..2 {
        browser.click("#cache-models [data-action=delete]").await.expect("delete can be pressed");
    }
    let gone = async |_: &_| {
        let panel = setup.panel().await;
        Ok(if panel == json!([]) { Ok(()) } else { Err(panel.to_string()) })
    };
    browser.wait_for("the model to be deleted", Duration::from_secs(30), gone).await.expect("it is deleted");
    let cached = "const done = arguments[arguments.length - 1]; \
         (async () => { const root = await navigator.storage.getDirectory(); let names = []; \
         for await (const name of (await root.getDirectoryHandle('gptoss-models')).keys()) { names.push(name); } \
         return names; })().then(done, (error) => done(String(error)));";
    assert_eq!(browser.eval_async(cached, vec![]).await.expect("script"), json!([]), "folders that are left");
}

/// Writes other contents into a served file. Its time is another, too, however coarse the file system's clock.
fn replace(file: &Path, contents: &[u8]) {
    std::fs::write(file, contents).expect("write");
    let handle = std::fs::OpenOptions::new().write(true).open(file).expect("open");
    handle.set_modified(std::time::SystemTime::now() + Duration::from_secs(5)).expect("touch");
}

async fn wait_until(reached: impl Fn() -> bool) {
    let begin = Instant::now();
    while !reached() {
        assert!(begin.elapsed() < Duration::from_secs(60), "waited in vain");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
