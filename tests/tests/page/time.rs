//! Looking back, and recordings of other times.

use std::time::Duration;

use browser_driver::Browser;
use gptoss_page::describe::event_line;
use gptoss_page::state::State;
use gptoss_protocol::Envelope;

use crate::event_log;
use crate::looks::Look;
use crate::session::{Session, assert_answer, case, load_and_answer};

/// Numbers and texts of the instruments.
const READ: &str = "const text = (id) => document.getElementById(id).textContent; \
     return ['decode-rate', 'prefill-rate', 'ttft', 'gpu-allocated', 'context-used', 'core-title', 'core-line', 'entropy-last', \
             'entropy-mean', 'token-time', 'top-tokens', 'probabilities-line', 'plan-all', 'experts-hits', 'kv-summary', \
             'work-dispatches', 'weights-summary', 'model-facts', 'device-facts', 'turns', 'stages'] \
         .map((id) => [id, text(id)]);";

async fn instruments(browser: &Browser) -> Vec<(String, String)> {
    let read = browser.eval(READ, vec![]).await.expect("script");
    let text = |value: &serde_json::Value| value.as_str().expect("text").to_owned();
    read.as_array().expect("a list").iter().map(|pair| (text(&pair[0]), text(&pair[1]))).collect()
}

async fn press(browser: &Browser, action: &str) {
    let script = format!("document.querySelector('[data-do=\"{action}\"]').click();");
    browser.eval(&script, vec![]).await.expect("script");
    // Drawn at most 15 times a second.
    tokio::time::sleep(Duration::from_millis(300)).await;
}

async fn label(browser: &Browser) -> String {
    browser.text("#recording-label").await.expect("the label")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recording_shows_the_picture_of_its_run_panel_by_panel() {
    let session = Session::start().await;
    let browser = &session.browser;
    let case = case("capitals");
    let page = session.open(&format!("cache=no&{}", case.query())).await;
    assert_answer(&load_and_answer(&page).await, &case);
    tokio::time::sleep(Duration::from_millis(500)).await;
    let live = instruments(browser).await;
    assert_eq!(label(browser).await, "LIVE");
    let recording = event_log::recording(browser).await;

    // Of all that happened, what is looked for; copy says that it takes no more than that.
    let line = |envelope: &Envelope| {
        let (kind, text) = event_line(&envelope.event);
        format!("{kind} {text}").to_lowercase()
    };
    let matching = recording.events().iter().filter(|envelope| line(envelope).contains("self-check")).count();
    assert!(matching >= 2, "the stage began and ended");
    session.open_tab("events").await;
    browser.fill("#log-filter", "Self-Check").await.expect("type");
    let expected = (format!("{matching} of "), format!("copy {matching} lines"));
    let found = async |browser: &Browser| {
        let (said, copies) = (browser.text("#log-summary").await?, browser.text("#log-copy").await?);
        let is_found = said.starts_with(&expected.0) && copies == expected.1;
        Ok(if is_found { Ok(()) } else { Err(format!("{said}, {copies}")) })
    };
    browser.wait_for("the filtered log", Duration::from_secs(30), found).await.expect("all that match");
    session.screenshot("log-filtered").await;
    browser.click("[data-do='tab events']").await.expect("the drawer can be closed");

    // Back by three tokens: an earlier moment, and then the present again.
    for _ in 0..3 {
        press(browser, "back").await;
    }
    assert_eq!(label(browser).await, "LOOKING BACK");
    let back = instruments(browser).await;
    assert_ne!(back, live);
    session.screenshot("looking-back").await;
    press(browser, "live").await;
    assert_eq!(instruments(browser).await, live);

    // The same recording is opened as a file, on a page that has loaded nothing.
    let folder = tempfile::tempdir().expect("temp folder");
    let file = folder.path().join("run.jsonl");
    std::fs::write(&file, recording.to_json_lines().expect("JSON")).expect("write");
    session.open_as_it_is("history=no").await.wait_until_enabled("#load").await.expect("the page is there");
    browser.pick_files("#recording-file", &[&file]).await.expect("pick");
    tokio::time::sleep(Duration::from_millis(500)).await;
    let shown = label(browser).await;
    assert!(shown.starts_with("RECORDING · run.jsonl"), "{shown}");
    let to_the_end = "const slider = document.getElementById('moment'); slider.value = slider.max; \
         slider.dispatchEvent(new Event('input', { bubbles: true }));";
    browser.eval(to_the_end, vec![]).await.expect("script");
    tokio::time::sleep(Duration::from_millis(500)).await;
    for (replayed, seen) in instruments(browser).await.into_iter().zip(live) {
        assert_eq!(replayed, seen);
    }
    Look { state: "replay", button: "#load", fits_desk: true }.check(&session).await;

    // What is no recording is named.
    std::fs::write(&file, "{}").expect("write");
    browser.pick_files("#recording-file", &[&file]).await.expect("pick");
    let look = async |browser: &Browser| {
        let error = browser.text("#error").await?;
        Ok(if error.contains("run.jsonl cannot be opened: line 1") { Ok(()) } else { Err(error) })
    };
    browser.wait_for("the error", Duration::from_secs(30), look).await.expect("an error");
    session.assert_quiet_console().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_page_plays_a_recording_and_says_so_until_something_happens() {
    let session = Session::start().await;
    let browser = &session.browser;
    let case = case("number_words");
    let page = session.open(&case.query()).await;
    let look = async |browser: &Browser| {
        let shown = label(browser).await;
        Ok(if shown.starts_with("RECORDING · 2026-11-30") { Ok(()) } else { Err(shown) })
    };
    browser.wait_for("the idle picture", Duration::from_secs(30), look).await.expect("a recording plays");
    let title = async |browser: &Browser| {
        let title = browser.text("#core-title").await?;
        Ok(if title.contains("6 layers") { Ok(()) } else { Err(title) })
    };
    browser.wait_for("the recorded model", Duration::from_secs(30), title).await.expect("it plays");
    session.screenshot("idle-recording").await;
    let status = browser.text("#status").await.expect("the status");
    assert_eq!(status, "No model is loaded. What you see is a recording.");
    assert_eq!(browser.text("#chip-model").await.expect("the model"), "recording of Gpt Oss Nano");
    let shown = label(browser).await;
    assert!(shown.contains(" · Gpt Oss Nano · "), "the model and its adapter: {shown}");
    let own: State = event_log::recording(browser).await.replay();
    assert!(own.model.is_none() && own.answer.tokens.is_empty(), "the page itself knows of no model");
    assert_answer(&load_and_answer(&page).await, &case);
    assert_eq!(label(browser).await, "LIVE");
    session.assert_quiet_console().await;
}
