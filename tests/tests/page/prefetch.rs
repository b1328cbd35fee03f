//! Prefetch: experts that nothing has needed so far are read while there is nothing else to do.

use std::time::Duration;

use browser_driver::{Browser, GptossPage, NanoCase, PageState};
use gptoss_protocol::{Event, MemoryPlan};

use crate::session::{Session, assert_answer, case, follow};
use crate::tiny_host::{Behaviour, TinyHost};
use crate::{event_log, nano_bytes};

/// So slow that the rest takes longer than it takes to ask.
const SLOW: Behaviour = Behaviour { delay: Duration::from_millis(300), ..Behaviour::GOOD };
const MEANWHILE: &str = "are read meanwhile";

#[tokio::test(flavor = "multi_thread")]
async fn a_model_that_waits_for_a_question_becomes_whole() {
    let session = Session::start().await;
    let host = TinyHost::start(nano_bytes(), Behaviour::GOOD).expect("host");
    let case = case("add");
    let page = session.open(&without_prompt(&host, &case)).await;
    page.load().await.expect("LOAD MODEL can be pressed");
    follow(&page, &[PageState::Ready]).await;
    // Between the load and the prefetch nothing is said of either.
    let is_whole = async |browser: &Browser| {
        let rests = event_log::all(&event_log::export(browser).await, |event| match event {
            Event::Prefetch(rest) => Some(rest.missing_bytes),
            _ => None,
        });
        Ok(if rests.last() == Some(&0) { Ok(()) } else { Err(format!("{rests:?}")) })
    };
    session.browser.wait_for("all experts", Duration::from_secs(60), is_whole).await.expect("the prefetch ends");
    status(&session, |status| !status.contains(MEANWHILE)).await;

    let events = event_log::export(&session.browser).await;
    let plan = event_log::all(&events, |event| match event {
        Event::Plan(plan) => Some(plan.clone()),
        _ => None,
    });
    let MemoryPlan { load_bytes, all_bytes, paged, .. } = plan.last().expect("a plan").clone();
    assert!(load_bytes < all_bytes && !paged, "{load_bytes} of {all_bytes} bytes with the load");
    let fetched = event_log::all(&events, |event| match event {
        Event::Fetch { fetched_bytes, .. } => Some(*fetched_bytes),
        _ => None,
    });
    assert_eq!(fetched.last(), Some(&load_bytes));
    let rests = event_log::all(&events, |event| match event {
        Event::Prefetch(rest) => Some(*rest),
        _ => None,
    });
    let last = rests.last().expect("the rest was read");
    assert_eq!((last.resident, last.slots, last.missing_bytes), (48, 48, 0));

    // Whatever the question needs is there.
    host.take_down();
    answers(&page, &case).await;
    session.assert_quiet_console().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn questions_and_stop_come_before_the_rest() {
    let session = Session::start().await;
    let host = TinyHost::start(nano_bytes(), SLOW).expect("host");
    let case = case("number_words");
    let page = session.open(&without_prompt(&host, &case)).await;
    page.load().await.expect("LOAD MODEL can be pressed");
    follow(&page, &[PageState::Ready]).await;
    status(&session, |status| status.contains(MEANWHILE)).await;
    session.screenshot("prefetch").await;
    answers(&page, &case).await;
    let events = event_log::export(&session.browser).await;
    let paused = event_log::all(&events, |event| matches!(event, Event::PrefetchPaused).then_some(()));
    assert_eq!(paused.len(), 1, "the question ended it");

    // Without a prompt nothing ends the prefetch but STOP.
    let page = session.open(&without_prompt(&host, &case)).await;
    page.load().await.expect("LOAD MODEL can be pressed");
    follow(&page, &[PageState::Ready]).await;
    status(&session, |status| status.contains(MEANWHILE)).await;
    page.stop().await.expect("STOP can be pressed");
    status(&session, |status| !status.contains(MEANWHILE)).await;
    assert_eq!(page.snapshot().await.expect("snapshot").state, PageState::Ready);
    let events = event_log::export(&session.browser).await;
    let left = event_log::all(&events, |event| match event {
        Event::Prefetch(rest) => Some(Some(rest.missing_bytes)),
        Event::PrefetchPaused => Some(None),
        _ => None,
    });
    assert!(matches!(left[..], [.., Some(1..), None]), "STOP ended it before all was there: {left:?}");
    let sent = host.sent_bytes();
    tokio::time::sleep(2 * SLOW.delay).await;
    assert_eq!(host.sent_bytes(), sent, "nothing is fetched any more");
    host.behave(Behaviour::GOOD);
    answers(&page, &case).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_goes_away_meanwhile_is_no_trouble_before_it_is_needed() {
    let session = Session::start().await;
    let host = TinyHost::start(nano_bytes(), SLOW).expect("host");
    let case = case("number_words");
    let page = session.open(&format!("{}&attempts=2&stall=1", without_prompt(&host, &case))).await;
    page.load().await.expect("LOAD MODEL can be pressed");
    follow(&page, &[PageState::Ready]).await;
    status(&session, |status| status.contains(MEANWHILE)).await;
    host.take_down();
    status(&session, |status| status.contains("come when a question needs them: no response")).await;
    session.screenshot("prefetch-failed").await;
    assert_eq!(page.snapshot().await.expect("snapshot").state, PageState::Ready);
    host.bring_up();
    host.behave(Behaviour::GOOD);
    answers(&page, &case).await;
    status(&session, |status| status.starts_with("The answer is complete") && !status.contains("experts")).await;
}

/// The case's query, without its question.
fn without_prompt(host: &TinyHost, case: &NanoCase) -> String {
    let query = case.query();
    let rest: Vec<&str> = query.split('&').filter(|part| !part.starts_with("prompt=")).collect();
    format!("gguf={}&cache=no&prompt=&{}", host.url(), rest.join("&"))
}

/// Asks the case's question of the model that is loaded.
async fn answers(page: &GptossPage<'_>, case: &NanoCase) {
    page.set_prompt(&case.user).await.expect("the prompt can be typed");
    page.ask().await.expect("ASK can be pressed");
    assert_answer(&follow(page, &[PageState::Done]).await, case);
}

/// Waits until the page's sentence is such.
async fn status(session: &Session, is: impl Fn(&str) -> bool) {
    let look = async |browser: &Browser| {
        let status = browser.text("#status").await?;
        Ok(if is(&status) { Ok(()) } else { Err(status) })
    };
    session.browser.wait_for("the page to say so", Duration::from_secs(60), look).await.expect("it says so");
}
