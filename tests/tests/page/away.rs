//! The user is away: the tab is hidden or frozen, or the machine sleeps. Loads and answers go on, at once or on return.

use std::time::Duration;

use browser_driver::{Browser, PageState, processes_of};
use serde_json::{Value, json};

use crate::nano_bytes;
use crate::session::{self, Session, assert_answer, case, first_words, follow, load_and_answer};
#[cfg(target_os = "linux")]
use crate::session::{launch_options, signal};
use crate::tiny_host::{Behaviour, TinyHost};

/// Longer than the silence that these pages allow a host.
const AWAY: Duration = Duration::from_secs(2);
const PATIENCE: &str = "attempts=4&stall=1";

/// So slow that a load takes longer than it takes to go away.
const SLOW: Behaviour = Behaviour { delay: Duration::from_millis(300), ..Behaviour::GOOD };

#[tokio::test(flavor = "multi_thread")]
async fn a_hidden_tab_loads_and_answers() {
    let session = Session::start().await;
    let browser = &session.browser;
    let case = case("number_words");
    let page = session.open(&case.query()).await;
    page.load().await.expect("LOAD MODEL can be pressed");
    browser.hide().await.expect("the window is minimised");
    assert_eq!(visibility(&session).await, "hidden");
    // Hidden pages draw nothing; their title goes on, and the answer is there when they are looked at.
    let ready = async |browser: &Browser| {
        let title = browser.eval("return document.title;", vec![]).await?;
        Ok(if title.as_str().is_some_and(|title| title.starts_with("answered")) {
            Ok(())
        } else {
            Err(title.to_string())
        })
    };
    browser.wait_for("the title to say that it is done", session::PATIENCE, ready).await.expect("it goes on");
    assert_eq!(visibility(&session).await, "hidden", "still");
    browser.show().await.expect("the window is back");
    assert_answer(&follow(&page, &[PageState::Done]).await, &case);
    session.assert_quiet_console().await;
}

/// Browsers freeze tabs that were not looked at for a while: nothing of them runs any more.
#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_tab_goes_on_when_it_is_looked_at_again() {
    let session = Session::start().await;
    let browser = &session.browser;
    let away = async || {
        let state = async |state: &str| {
            browser.devtools("Page.setWebLifecycleState", json!({ "state": state })).await.expect("a state");
        };
        browser.hide().await.expect("the window is minimised");
        state("frozen").await;
        tokio::time::sleep(AWAY).await;
        state("active").await;
        browser.show().await.expect("the window is back");
    };
    goes_on(&session, away).await;
}

/// All of the browser stops, and wakes up to clocks that have leapt and hosts that have not waited.
#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread")]
async fn a_machine_that_slept_goes_on() {
    let session = Session::start().await.with_own_browser(&launch_options()).await;
    let away = async || {
        let processes = processes_of(session.browser.profile_folder());
        for kind in ["browser", "renderer", "gpu-process"] {
            assert!(processes.iter().any(|process| process.kind == kind), "no {kind}: {processes:?}");
        }
        signal("-STOP", &processes);
        tokio::time::sleep(AWAY).await;
        signal("-CONT", &processes);
    };
    goes_on(&session, away).await;
}

/// Leaves in the middle of a load, and in the middle of an answer that needs experts of a host.
async fn goes_on(session: &Session, away: impl AsyncFn()) {
    let host = TinyHost::start(nano_bytes(), SLOW).expect("host");
    let case = case("number_words");
    let query = format!("gguf={}&cache=no&expert_memory=1.3M&{PATIENCE}&{}", host.url(), case.query());
    let page = session.open(&query).await;

    page.load().await.expect("LOAD MODEL can be pressed");
    away().await;
    host.behave(Behaviour::GOOD);
    assert_answer(&follow(&page, &[PageState::Done]).await, &case);

    page.ask().await.expect("ASK can be pressed");
    first_words(session, &page).await;
    away().await;
    let done = follow(&page, &[PageState::Done]).await;
    assert_answer(&done, &case);
    assert_answer(&load_and_answer(&page).await, &case);
}

async fn visibility(session: &Session) -> Value {
    session.browser.eval("return document.visibilityState;", vec![]).await.expect("script")
}
