//! STOP on the real page: while a long prompt is read, with a GPU that does not answer, with a worker that hangs, and
//! after the browser's "Clear site data". It takes effect within seconds, or the page offers to end the engine; then
//! everything works again.

use std::time::{Duration, Instant};

use browser_driver::{Browser, GptossPage, PageState};
use gguf_serve::Options;
use gptoss_protocol::Event;
use gptoss_tests::workspace_root;
use serde_json::json;
use tempfile::TempDir;

use crate::event_log;
use crate::session::{Session, assert_answer, case, first_words, follow, load_and_answer};

/// STOP takes effect in a moment; this machine may be busy.
const SOON: Duration = Duration::from_secs(15);

/// What the worker does wrong, when the page's tests tell it to: every mapping of a buffer waits for ever or is refused
/// without a word of a loss, or the worker itself hangs.
const FAULTS: &str = "
    let fault = 'none';
    const channel = new BroadcastChannel('faults');
    channel.onmessage = ({ data }) => {
        fault = data;
        channel.postMessage(`has ${data}`);
        while (fault === 'hangs') {}
    };
    Object.defineProperty(GPUDevice.prototype, 'lost', { get: () => new Promise(() => {}) });
    const mapAsync = GPUBuffer.prototype.mapAsync;
    GPUBuffer.prototype.mapAsync = function (...asked) {
        if (fault === 'never maps') { return new Promise(() => {}); }
        if (fault === 'refuses once') {
            fault = 'none';
            return Promise.reject(new DOMException('no reason', 'OperationError'));
        }
        return mapAsync.apply(this, asked);
    };
";

/// The page with a worker that can be told to fail.
async fn session_with_faults() -> (Session, TempDir) {
    let built = workspace_root().join("web/dist");
    let folder = TempDir::new().expect("a folder");
    for entry in std::fs::read_dir(&built).expect("the page is built: `cargo xtask page`") {
        let entry = entry.expect("an entry");
        let name = entry.file_name();
        if name == "worker_loader.js" {
            let loader = std::fs::read_to_string(entry.path()).expect("text");
            std::fs::write(folder.path().join(name), format!("{FAULTS}{loader}")).expect("written");
        } else if entry.file_type().expect("its type").is_file() {
            std::fs::copy(entry.path(), folder.path().join(name)).expect("copied");
        }
    }
    let models = vec![gptoss_tests::nano_model()];
    let options = Options { paths: models, web: Some(folder.path().to_owned()), ..Options::default() };
    (Session::with(options).await, folder)
}

/// Tells the worker what to do wrong from now on, and waits until it knows.
async fn set_fault(session: &Session, fault: &str) {
    let script = "const done = arguments[arguments.length - 1]; \
         const channel = new BroadcastChannel('faults'); \
         channel.onmessage = ({ data }) => done(data); \
         channel.postMessage(arguments[0]);";
    let answer = session.browser.eval_async(script, vec![json!(fault)]).await.expect("script");
    assert_eq!(answer, json!(format!("has {fault}")));
}

/// Presses STOP; it has to take effect soon.
async fn stops_soon(session: &Session, page: &GptossPage<'_>) {
    let begin = Instant::now();
    page.stop().await.expect("STOP can be pressed");
    let stopped = follow(page, &[PageState::Stopped]).await;
    assert!(begin.elapsed() < SOON, "STOP took {:?}", begin.elapsed());
    assert_eq!(stopped.error, "");
    assert!(hidden(&session.browser, "stuck-panel").await, "nothing hangs");
}

async fn hidden(browser: &Browser, id: &str) -> bool {
    browser.eval("return document.getElementById(arguments[0]).hidden;", vec![json!(id)]).await.expect("script") == true
}

async fn status(session: &Session, what: &str, holds: impl Fn(&str) -> bool) {
    let look = async |browser: &Browser| {
        let status = browser.text("#status").await?;
        Ok(if holds(&status) { Ok(()) } else { Err(status) })
    };
    session.browser.wait_for(what, Duration::from_secs(120), look).await.expect("the status says so");
}

/// Thousands of tokens take minutes here. STOP does not; and it ends an answer. The model stays.
#[tokio::test(flavor = "multi_thread")]
async fn a_long_prompt_and_an_answer_can_be_stopped() {
    let session = Session::start().await;
    let case = case("add");
    let page = session.open(&case.query()).await;
    session.browser.set_value("#prompt", &"How much is 12 and 30? ".repeat(500)).await.expect("a long prompt");
    page.load().await.expect("LOAD MODEL can be pressed");
    status(&session, "the first batch", |status| status.starts_with("Reading the prompt: ")).await;
    stops_soon(&session, &page).await;
    let events = event_log::export(&session.browser).await;
    let read = event_log::all(&events, |event| match event {
        Event::Prefill { done_tokens, total_tokens, .. } => Some((*done_tokens, *total_tokens)),
        _ => None,
    });
    let (done, total) = *read.last().expect("a batch was read");
    assert!(total > 3000 && done < total / 2, "{done} of {total} tokens were read");

    let requests = session.requests().len();
    session.browser.set_value("#prompt", &case.user).await.expect("the question");
    page.ask().await.expect("ASK can be pressed: the model is loaded");
    first_words(&session, &page).await;
    page.stop().await.expect("STOP can be pressed");
    let stopped = follow(&page, &[PageState::Stopped]).await;
    assert_ne!(stopped.final_text, case.final_text, "the answer was complete before STOP: nothing was tested");
    page.ask().await.expect("ASK can be pressed: the model is loaded");
    assert_answer(&follow(&page, &[PageState::Done]).await, &case);
    assert_eq!(session.requests().len(), requests, "the model was fetched again");
    session.assert_quiet_console().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gpu_that_does_not_answer_and_a_worker_that_hangs_are_no_end() {
    let (session, _folder) = session_with_faults().await;
    let case = case("number_words");
    let page = session.open(&case.query()).await;
    page.load().await.expect("LOAD MODEL can be pressed");
    first_words(&session, &page).await;

    // Nothing comes any more. STOP works, and the next question as well.
    set_fault(&session, "never maps").await;
    stops_soon(&session, &page).await;
    set_fault(&session, "none").await;

    // A refusal that nobody explains is a lost GPU: another one is taken.
    page.ask().await.expect("ASK can be pressed: the model is loaded");
    first_words(&session, &page).await;
    set_fault(&session, "refuses once").await;
    assert_answer(&follow(&page, &[PageState::Done]).await, &case);
    let events = event_log::export(&session.browser).await;
    let losses = event_log::all(&events, |event| match event {
        Event::Recovering { reason, .. } => Some(reason.clone()),
        _ => None,
    });
    assert!(matches!(&losses[..], [loss] if loss.contains("refused")), "{losses:?}");

    // Nothing helps a worker that hangs but its end; also while it is to take another model.
    for loading in [false, true] {
        if loading {
            set_fault(&session, "hangs").await;
            page.load().await.expect("LOAD MODEL can be pressed");
        } else {
            page.ask().await.expect("ASK can be pressed");
            first_words(&session, &page).await;
            set_fault(&session, "hangs").await;
        }
        page.stop().await.expect("STOP can be pressed");
        let offered = async |browser: &Browser| {
            let stopping = browser.text("#status").await?;
            Ok(if hidden(browser, "stuck-panel").await { Err(stopping) } else { Ok(()) })
        };
        session.browser.wait_for("the offer to end the engine", SOON, offered).await.expect("it is offered");
        session.screenshot("stuck").await;
        // STOP is pressed by keyboard alone.
        let focus = "document.getElementById('end-engine').focus(); return document.activeElement.id;";
        assert_eq!(session.browser.eval(focus, vec![]).await.expect("script"), json!("end-engine"));
        for kind in ["keyDown", "keyUp"] {
            let enter =
                json!({ "type": kind, "key": "Enter", "code": "Enter", "windowsVirtualKeyCode": 13, "text": "\r" });
            session.browser.devtools("Input.dispatchKeyEvent", enter).await.expect("a key");
        }
        follow(&page, &[PageState::Stopped]).await;
        status(&session, "the end", |status| status == "Stopped. No model is loaded.").await;
        assert!(hidden(&session.browser, "stuck-panel").await);
        assert_answer(&load_and_answer(&page).await, &case);
    }
}

/// What was cached is gone under the open model, and with it what the browser promised.
#[tokio::test(flavor = "multi_thread")]
async fn cleared_site_data_is_no_end() {
    let session = Session::start().await;
    let case = case("add");
    let page = session.open(&case.query()).await;
    assert_answer(&load_and_answer(&page).await, &case);
    let origin = session.browser.eval("return location.origin;", vec![]).await.expect("script");
    let everything = json!({ "origin": origin, "storageTypes": "all" });
    session.browser.devtools("Storage.clearDataForOrigin", everything).await.expect("it is cleared");
    page.load().await.expect("LOAD MODEL can be pressed");
    assert_answer(&follow(&page, &[PageState::Done]).await, &case);
    page.load().await.expect("LOAD MODEL can be pressed");
    assert_answer(&follow(&page, &[PageState::Done]).await, &case);
}
