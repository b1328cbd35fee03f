//! What the page records of itself replays to the picture that it shows.

use browser_driver::{GptossPage, PageState};
use gptoss_page::{describe, state};

use crate::event_log;
use crate::session::{Session, assert_answer, case, follow, load_and_answer};

/// Compares what the recording replays to with what the page shows.
async fn assert_replays(session: &Session, page: &GptossPage<'_>, when: &str) {
    let recording = event_log::recording(&session.browser).await;
    let state: state::State = recording.replay();
    let shown = page.snapshot().await.expect("the page");
    let title = session.browser.eval("return document.title;", vec![]).await.expect("script");
    assert_eq!(describe::sentence(&state), session.browser.text("#status").await.expect("the status"), "{when}");
    assert_eq!(describe::page_title(&state), title.as_str().expect("text"), "{when}");
    assert_eq!(state.answer.final_text, shown.final_text, "{when}");
    assert_eq!(state.answer.analysis_text, shown.analysis_text, "{when}");
    let failure = state.failure.as_ref().map(|failure| failure.message.clone()).unwrap_or_default();
    assert_eq!(failure, session.browser.text("#error").await.expect("the error"), "{when}");
    let statuses: Vec<_> = shown.stages.iter().map(|line| line.status.clone()).collect();
    let replayed = state::all_stages().map(|stage| describe::status_word(state.stage(stage).status).to_owned());
    let replayed: Vec<_> = replayed.collect();
    assert_eq!(replayed, statuses, "{when}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recording_replays_to_the_picture_that_the_page_shows() {
    let session = Session::start().await;
    let (first, second) = (case("number_words"), case("reverse"));
    let page = session.open(&first.query()).await;
    assert_answer(&load_and_answer(&page).await, &first);
    assert_replays(&session, &page, "after an answer").await;

    // STOP in the middle of the next one.
    page.set_prompt(&second.user).await.expect("type");
    page.ask().await.expect("ASK can be pressed");
    session.browser.click("#stop").await.expect("STOP can be pressed");
    follow(&page, &[PageState::Stopped, PageState::Done]).await;
    assert_replays(&session, &page, "after STOP").await;

    // Inputs that are refused, and a model that is not there.
    session.browser.set_value("#top-p", "7").await.expect("type");
    page.ask().await.expect("ASK can be pressed");
    follow(&page, &[PageState::Error]).await;
    assert_replays(&session, &page, "after a refusal").await;
    session.browser.set_value("#top-p", "").await.expect("type");
    session.browser.set_value("#gguf", "/api/models/nothing-of-this-name.gguf").await.expect("type");
    page.load().await.expect("LOAD MODEL can be pressed");
    follow(&page, &[PageState::Error]).await;
    assert_replays(&session, &page, "after a load that failed").await;
}
