//! The page in headless Chromium, end to end: gguf-serve, the page it embeds, the worker, the GPU (a software one), and
//! the nano model, whose answers are recorded. Run by `cargo xtask test`, or after `cargo xtask page` with
//! `cargo test -p gptoss-tests --features e2e --test page`. Screenshots go to target/screenshots/.

mod accessible;
mod away;
mod cache;
mod event_log;
mod faults;
mod garbled;
mod gate;
mod inside;
mod large;
mod lease;
mod looks;
mod lost_gpu;
mod parts;
mod prefetch;
mod recording;
mod refused;
mod relay;
mod session;
mod stopping;
mod talk;
mod time;
mod tiny_host;
mod tunnel;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use browser_driver::{Browser, NanoCase, PageState, StageLine, nano_cases};
use gguf_serve::{AccessLog, AccessRecord, Options, serve};
use gptoss_protocol::Event;
use serde_json::json;

use looks::Look;
use session::{Session, assert_answer, case, follow, load_and_answer};
use tiny_host::{Behaviour, TinyHost};

/// Slow enough that a press on STOP comes in time, fast enough that waiting is bearable.
const SLOW: Behaviour = Behaviour { delay: Duration::from_millis(400), ..Behaviour::GOOD };

/// Every `data-state` that the page goes through, also those between two looks.
const RECORD_STATES: &str = "window.seenStates = []; \
     new MutationObserver(() => window.seenStates.push(document.body.dataset.state)) \
         .observe(document.body, { attributes: true, attributeFilter: ['data-state'] });";

fn nano_bytes() -> Vec<u8> {
    std::fs::read(gptoss_tests::nano_model()).expect("the nano model")
}

/// `gguf=<url>` and the question.
fn query_with(url: &str, case: &NanoCase) -> String {
    format!("gguf={url}&{}", case.query())
}

#[tokio::test(flavor = "multi_thread")]
async fn one_click_loads_the_model_and_answers() {
    let session = Session::start().await;
    let case = case("add");
    let page = session.open(&case.query()).await;
    assert_eq!(page.snapshot().await.expect("snapshot").state, PageState::Idle);
    session.screenshot("idle").await;
    session.browser.eval(RECORD_STATES, vec![]).await.expect("script");

    page.load().await.expect("LOAD MODEL can be pressed");
    follow(&page, &[PageState::Generating]).await;
    session
        .browser
        .wait_for("the first words of the analysis", Duration::from_secs(120), async |_| {
            let seen = page.snapshot().await?;
            Ok(if seen.analysis_text.is_empty() { Err(format!("{:?}", seen.state)) } else { Ok(()) })
        })
        .await
        .expect("the model thinks before it answers");
    session.screenshot("generating").await;
    let done = follow(&page, &[PageState::Done]).await;
    session.screenshot("done").await;

    assert_answer(&done, &case);
    for line in &done.stages {
        assert_eq!(line.status, StageLine::DONE, "stage {} after an answer", line.name);
    }
    let states = session.browser.eval("return [...new Set(window.seenStates)];", vec![]).await.expect("script");
    let ready = json!(["loading", "ready", "generating", "done"]);
    assert!(states == ready || states == json!(["loading", "generating", "done"]), "states in turn: {states}");
    session.assert_quiet_console().await;
    let preflights: Vec<_> = session.requests().into_iter().filter(|request| request.method == "OPTIONS").collect();
    assert!(preflights.is_empty(), "{preflights:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_recorded_question_gets_its_recorded_answer() {
    let session = Session::start().await;
    let cases = nano_cases(&gptoss_tests::nano_cases()).expect("recorded cases");
    let page = session.open(&cases[0].query()).await;
    let mut done = load_and_answer(&page).await;
    // An empty prompt is drawn, and with it an ASK that cannot be pressed; typing must bring it back.
    page.set_prompt("").await.expect("clear");
    session.browser.eval("window.dispatchEvent(new Event('resize'));", vec![]).await.expect("script");
    let disabled = async |browser: &Browser| {
        let disabled = browser.eval("return document.getElementById('ask').disabled;", vec![]).await?;
        Ok(if disabled == true { Ok(()) } else { Err(disabled.to_string()) })
    };
    session.browser.wait_for("ASK to be disabled", Duration::from_secs(30), disabled).await.expect("it is drawn");
    for (index, case) in cases.iter().enumerate() {
        if index > 0 {
            page.set_prompt(&case.user).await.expect("type");
            for (css, value) in [("#effort", &case.effort), ("#date", &case.date)] {
                session.browser.set_value(css, value).await.expect("choose");
            }
            page.ask().await.expect("ASK can be pressed");
            done = follow(&page, &[PageState::Done]).await;
        }
        assert_answer(&done, case);
    }
    session.assert_quiet_console().await;
}

/// On a device that has no more than every WebGPU device has.
#[tokio::test(flavor = "multi_thread")]
async fn counters_say_that_nothing_was_wasted_at_default_limits() {
    let session = Session::start().await;
    let case = case("capitals");
    let page = session.open(&format!("limits=default&experts=ahead&{}", case.query())).await;
    assert_answer(&load_and_answer(&page).await, &case);
    let events = event_log::export(&session.browser).await;
    let granted = event_log::all(&events, |event| match event {
        Event::Adapter(adapter) => Some((adapter.max_binding_bytes, adapter.max_buffer_bytes)),
        _ => None,
    });
    assert_eq!(granted, [(128 << 20, 256 << 20)]);

    let fetches = event_log::all(&events, |event| match event {
        Event::Fetch { fetched_bytes, needed_bytes, .. } => Some((*fetched_bytes, *needed_bytes)),
        _ => None,
    });
    let (fetched_bytes, needed_bytes) = *fetches.last().expect("fetching was reported");
    assert_eq!(fetched_bytes, needed_bytes, "bytes fetched, of those the load needed");

    // The first report is that of the load, the second comes after prefill, then one for each decoded token.
    let work = event_log::all(&events, event_log::work);
    assert!(work.len() > 5, "{} reports of work show little", work.len());
    for pair in work[1..].windows(2) {
        let (before, after) = (pair[0], pair[1]);
        assert_eq!(after.submits - before.submits, 1, "submits per token");
        assert_eq!(after.buffers_created, before.buffers_created);
        assert_eq!(after.bind_groups_created, before.bind_groups_created);
        assert_eq!(after.pipelines_created, before.pipelines_created);
        assert!(after.status_readback_bytes - before.status_readback_bytes <= 64, "{before:?} {after:?}");
    }
    let last = work[work.len() - 1];
    assert!(last.weights_used_bytes > 0);
    assert_eq!(last.weights_fetched_bytes, last.weights_used_bytes, "weight bytes fetched and used");

    let long_tasks = session.browser.text("#long-tasks-busy").await.expect("long tasks are shown");
    println!("tasks over 50 ms on the page's own thread while it was busy: {long_tasks}");
    // How many there are depends on what else the machine does; that they are counted does not.
    assert!(long_tasks.parse::<u32>().is_ok(), "long tasks while busy: {long_tasks:?}");
}

/// A model that does not fit whole is not begun before the user says so.
#[tokio::test(flavor = "multi_thread")]
async fn the_page_asks_before_it_pages() {
    let session = Session::start().await;
    let case = case("capitals");
    assert_answer(&load_and_answer(&session.open(&format!("cache=no&{}", case.query())).await).await, &case);
    let events = event_log::export(&session.browser).await;
    let plans = event_log::all(&events, |event| match event {
        Event::Plan(plan) => Some(plan.clone()),
        _ => None,
    });
    let whole = plans.last().expect("the plan was reported");
    let waits = event_log::all(&events, |event| match event {
        Event::Preflight { waits, .. } => Some(*waits),
        _ => None,
    });
    assert_eq!(waits, [false], "what fits is not asked about");

    let given = whole.gpu_total_bytes - whole.expert_bytes / 4;
    let page = session.open(&format!("cache=no&gpu_memory={given}&{}", case.query())).await;
    let sent_bytes = || session.requests().iter().map(|record| record.sent_bytes).sum::<u64>();
    for declined in [true, false] {
        let before = sent_bytes();
        page.load().await.expect("LOAD MODEL can be pressed");
        let asked = async |browser: &Browser| {
            let hidden = browser.eval("return document.getElementById('question-panel').hidden;", vec![]).await?;
            Ok(if hidden == json!(false) { Ok(()) } else { Err("no question".to_owned()) })
        };
        session.browser.wait_for("the question", Duration::from_secs(60), asked).await.expect("it asks");
        let question = session.browser.text("#question").await.expect("the question");
        assert!(question.contains("of 8 experts at a time fit"), "{question}");
        tokio::time::sleep(Duration::from_millis(500)).await;
        let fetched = sent_bytes() - before;
        assert!(fetched < 1 << 20, "{fetched} bytes were sent before the user said so");
        if declined {
            Look { state: "asks", button: "#approve", fits_desk: true }.check(&session).await;
            session.browser.click("#decline").await.expect("STOP can be pressed");
            let stopped = follow(&page, &[PageState::Stopped]).await;
            assert_eq!(stopped.error, "", "no is an answer");
        } else {
            session.browser.click("#approve").await.expect("APPROVE can be pressed");
            assert_answer(&follow(&page, &[PageState::Done]).await, &case);
        }
    }
    let events = event_log::export(&session.browser).await;
    let last = event_log::all(&events, |event| match event {
        Event::Experts(counters) => Some(*counters),
        _ => None,
    });
    let last = last.last().expect("the expert cache was reported");
    assert!(last.misses > 0 && last.evictions > 0, "{last:?}");
    session.assert_quiet_console().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_origin_needs_no_preflight_and_sends_nothing_twice() {
    let session = Session::start().await;
    let host = TinyHost::start(nano_bytes(), Behaviour::GOOD).expect("host");
    let case = case("reverse");
    // What is cached is fetched in whole chunks; `cached.rs` looks at those.
    let page = session.open(&format!("cache=no&{}", query_with(&host.url(), &case))).await;
    assert_answer(&load_and_answer(&page).await, &case);
    session.assert_quiet_console().await;

    let requests = host.requests();
    let methods: std::collections::BTreeSet<_> = requests.iter().map(|request| request.method.as_str()).collect();
    assert!(methods.contains("GET") && !methods.contains("OPTIONS"), "{requests:?}");
    let ranges = requests.iter().filter(|request| request.method == "GET").map(|request| request.range);
    let ranges = ranges.collect::<Option<Vec<_>>>().expect("every request asks for a range");
    let (header_bytes, mut weights) = split_at_header(ranges);
    assert!(header_bytes <= 1 << 20, "{header_bytes} bytes were asked for before it was known what they are");
    weights.sort_unstable();
    assert!(!weights.is_empty());
    for pair in weights.windows(2) {
        assert!(pair[0].1 < pair[1].0, "ranges overlap: {pair:?}");
    }
}

/// The header is read from the front, piece after piece, before anything else. Gives its bytes, and the ranges after
/// it.
fn split_at_header(ranges: Vec<(u64, u64)>) -> (u64, Vec<(u64, u64)>) {
    let mut end = 0;
    let mut rest = ranges.into_iter().peekable();
    while let Some((_, last)) = rest.next_if(|(first, _)| *first == end) {
        end = last + 1;
    }
    (end, rest.collect())
}

/// Page and model from two servers, that is two origins, as when a hosted page uses the weights of somebody's own
/// gguf-serve. A preflight would cost every range a second request.
#[tokio::test(flavor = "multi_thread")]
async fn the_model_of_another_gguf_serve_needs_no_preflight() {
    let session = Session::start().await;
    let records = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&records);
    let log: AccessLog =
        Arc::new(move |record: &AccessRecord| log.lock().expect("no test panicked").push(record.clone()));
    let paths = vec![gptoss_tests::nano_model()];
    let other = serve(Options { paths, port: 0, log: Some(log), ..Options::default() }).await.expect("it starts");
    let case = case("reverse");
    let url = format!("http://{}/gpt-oss-nano.gguf", other.addr());
    let page = session.open(&query_with(&url, &case)).await;
    assert_answer(&load_and_answer(&page).await, &case);
    session.assert_quiet_console().await;
    let records = records.lock().expect("no test panicked");
    let of_the_file: Vec<_> = records.iter().filter(|record| record.target == "/gpt-oss-nano.gguf").collect();
    assert!(of_the_file.len() > 1 && of_the_file.iter().all(|record| record.status == 206), "{records:?}");
    assert!(records.iter().all(|record| record.method == "GET"), "{records:?}");
}

/// Opened with the token in its address once, by a person; everything after that works with the cookie, in the worker
/// too. Isolated, because both are about what requests carry.
#[tokio::test(flavor = "multi_thread")]
async fn a_page_with_a_token_and_isolation_loads_and_answers() {
    let paths = vec![gptoss_tests::nano_model()];
    let session =
        Session::with(Options { paths, token: Some("s3cret".into()), isolate: true, ..Options::default() }).await;
    let case = case("add");
    let page = session.open(&format!("token=s3cret&{}", case.query())).await;
    let seen = "return [String(window.crossOriginIsolated), window.location.search.includes('token')];";
    assert_eq!(session.browser.eval(seen, vec![]).await.expect("script"), json!(["true", false]));
    assert_answer(&load_and_answer(&page).await, &case);
    session.assert_quiet_console().await;
    assert!(session.requests().iter().all(|record| !record.target.contains("s3cret")));
}

#[tokio::test(flavor = "multi_thread")]
async fn stop_ends_loading_and_the_page_can_load_again() {
    let session = Session::start().await;
    let host = TinyHost::start(nano_bytes(), SLOW).expect("host");
    let case = case("sort");
    let page = session.open(&query_with(&host.url(), &case)).await;
    page.load().await.expect("LOAD MODEL can be pressed");
    follow(&page, &[PageState::Loading]).await;
    session.screenshot("loading").await;
    page.stop().await.expect("STOP can be pressed");
    let stopped = follow(&page, &[PageState::Stopped]).await;
    assert_eq!(stopped.error, "", "stopping is not an error");
    let before = host.requests().len();
    tokio::time::sleep(SLOW.delay * 4).await;
    assert_eq!(host.requests().len(), before, "requests went on after STOP");

    host.behave(Behaviour::GOOD);
    assert_answer(&load_and_answer(&page).await, &case);
    session.assert_quiet_console().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_without_ranges_is_named_and_the_next_one_works() {
    let session = Session::start().await;
    let host = TinyHost::start(nano_bytes(), Behaviour { ranges: false, ..Behaviour::GOOD }).expect("host");
    let case = case("occurrences");
    let page = session.open(&query_with(&host.url(), &case)).await;
    page.load().await.expect("LOAD MODEL can be pressed");
    let failed = follow(&page, &[PageState::Error]).await;
    session.screenshot("error-no-ranges").await;
    assert!(failed.error.to_lowercase().contains("range"), "{failed:?}");
    assert_ne!(failed.error_advice, "", "an error comes with advice");
    assert_eq!(failed.final_text, "");

    host.behave(Behaviour::GOOD);
    assert_answer(&load_and_answer(&page).await, &case);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_without_cors_is_named() {
    let session = Session::start().await;
    let host = TinyHost::start(nano_bytes(), Behaviour { cors: false, ..Behaviour::GOOD }).expect("host");
    let page = session.open(&query_with(&host.url(), &case("add"))).await;
    page.load().await.expect("LOAD MODEL can be pressed");
    let failed = follow(&page, &[PageState::Error]).await;
    let words = format!("{} {}", failed.error, failed.error_advice);
    assert!(words.contains("CORS") || words.contains("origin"), "{failed:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn files_that_are_cut_or_foreign_are_refused_by_name() {
    let folder = tempfile::tempdir().expect("temp folder");
    let cut = folder.path().join("cut.gguf");
    let whole = nano_bytes();
    std::fs::write(&cut, &whole[..whole.len() - 1000]).expect("write");
    let session = Session::serving(vec![gptoss_tests::nano_model(), cut]).await;
    let page = session.open(&query_with(&session.model_url("cut.gguf").await, &case("add"))).await;
    page.load().await.expect("LOAD MODEL can be pressed");
    let failed = follow(&page, &[PageState::Error]).await;
    session.screenshot("error-truncated").await;
    assert!(failed.error.contains("truncated"), "{failed:?}");
    assert_ne!(failed.error_advice, "", "an error comes with advice");
    session.assert_quiet_console().await;

    let foreign =
        TinyHost::start(b"<!doctype html><title>Not found</title>".repeat(100), Behaviour::GOOD).expect("host");
    page.set_gguf_url(&foreign.url()).await.expect("type");
    page.load().await.expect("LOAD MODEL can be pressed");
    let failed = follow(&page, &[PageState::Error]).await;
    assert!(failed.error.contains("GGUF"), "{failed:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_picked_file_is_read_in_place() {
    let session = Session::start().await;
    let case = case("number_words");
    let page = session.open(&case.query()).await;
    session.browser.pick_files("#file", &[gptoss_tests::nano_model()]).await.expect("pick");
    let before = session.requests().len();
    assert_answer(&load_and_answer(&page).await, &case);
    let fetched: Vec<_> =
        session.requests().into_iter().skip(before).filter(|request| request.target.contains("gguf")).collect();
    assert!(fetched.is_empty(), "the server was asked for a model: {fetched:?}");
    session.assert_quiet_console().await;
}

/// The page offers the model by itself, and takes the address of any of its parts.
#[tokio::test(flavor = "multi_thread")]
async fn a_model_in_several_files_is_loaded_from_the_address_of_one() {
    let folder = tempfile::tempdir().expect("temp folder");
    let parts = parts::write_parts(&nano_bytes(), 3, folder.path());
    let session = Session::serving(vec![folder.path().to_owned()]).await;
    let case = case("add");
    let page = session.open(&case.query()).await;
    assert_answer(&load_and_answer(&page).await, &case);
    let file_url = session.model_url("nano-00001-of-00003.gguf").await;
    for url in [
        file_url.replace("nano-00001-of", "nano-00002-of"),
        format!("http://{}/nano-00003-of-00003.gguf", session.server.addr()),
    ] {
        let page = session.open(&query_with(&url, &case)).await;
        assert_answer(&load_and_answer(&page).await, &case);
    }
    session.assert_quiet_console().await;

    // Files beside each other on a host that does not have all of them.
    std::fs::remove_file(&parts[1]).expect("it was there");
    drop(session);
    let session = Session::serving(vec![folder.path().to_owned()]).await;
    let models = session.server.models().await.expect("models");
    assert!(models[0].reason.as_ref().is_some_and(|reason| reason.contains("nano-00002-of-00003.gguf")), "{models:?}");
    let url = session.model_url("nano-00001-of-00003.gguf").await;
    let page = session.open(&query_with(&url, &case)).await;
    page.load().await.expect("LOAD MODEL can be pressed");
    let failed = follow(&page, &[PageState::Error]).await;
    assert!(failed.error.contains("missing") && failed.error.contains("nano-00002-of-00003.gguf"), "{failed:?}");
    assert_ne!(failed.error_advice, "", "an error comes with advice");
}

#[tokio::test(flavor = "multi_thread")]
async fn picked_parts_are_put_in_order_and_missing_ones_are_named() {
    let folder = tempfile::tempdir().expect("temp folder");
    let mut parts = parts::write_parts(&nano_bytes(), 3, folder.path());
    parts.reverse();
    let session = Session::start().await;
    let case = case("capitals");
    let page = session.open(&case.query()).await;
    for (picked, words) in [
        (&parts[..2], &["missing", "nano-00001-of-00003.gguf"][..]),
        (&parts[2..], &["missing", "nano-00002-of-00003.gguf", "nano-00003-of-00003.gguf"]),
        (&[parts[0].clone(), gptoss_tests::nano_model()], &["gpt-oss-nano.gguf", "not named like a part"]),
    ] {
        session.browser.pick_files("#file", picked).await.expect("pick");
        page.load().await.expect("LOAD MODEL can be pressed");
        let failed = follow(&page, &[PageState::Error]).await;
        assert!(words.iter().all(|word| failed.error.contains(word)), "{words:?}: {failed:?}");
    }
    session.browser.pick_files("#file", &parts).await.expect("pick");
    let picked = session.browser.text("#picked-name").await.expect("what was picked is shown");
    assert!(picked.contains(" and 2 more · 3.0"), "{picked:?}");
    assert_answer(&load_and_answer(&page).await, &case);
    session.assert_quiet_console().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_parameter_that_cannot_be_used_is_an_error_on_the_page() {
    let session = Session::start().await;
    for (query, word) in [("max_new=lots", "max_new"), ("colour=blue", "colour"), ("temp=-1", "temp")] {
        let page = session.open_as_it_is(query).await;
        // The page is there before its program, which reads the query.
        let error = session
            .browser
            .wait_for(&format!("an error about {query}"), Duration::from_secs(60), async |_| {
                let error = page.snapshot().await?.error;
                Ok(if error.is_empty() { Err("no error".to_owned()) } else { Ok(error) })
            })
            .await
            .expect("an error");
        assert!(error.contains(word) || error.to_lowercase().contains("temperature"), "{query}: {error:?}");
    }
}
