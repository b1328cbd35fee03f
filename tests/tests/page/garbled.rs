//! A host whose bytes are shifted, without any error: what the page says, what it caches, and how it gets out of it.

use browser_driver::{GptossPage, PageState, Snapshot};
use gptoss_protocol::{CacheState, Event};

use crate::session::{Session, assert_answer, case, follow};
use crate::tiny_host::{Behaviour, Fault, TinyHost, When};
use crate::{event_log, nano_bytes};

/// Presses `button`, fails, and looks at what is said and cached.
async fn fails(session: &Session, host: &TinyHost, page: &GptossPage<'_>, button: &str) -> Snapshot {
    page.press(button).await.expect("the button can be pressed");
    let end = follow(page, &[PageState::Done, PageState::Error]).await;
    assert_eq!(end.state, PageState::Error, "{end:?}");
    assert_eq!(host.faults_left(), 0, "no request met the fault, nothing was tested");
    let title = session.browser.text("#error-title").await.expect("a title");
    assert_eq!(title, "The file is damaged", "{end:?}");
    let address = host.url().trim_start_matches("http://").trim_end_matches("/model.gguf").to_owned();
    for word in ["model.gguf", &address, ".weight", "at byte", "expected", "got"] {
        assert!(end.error.contains(word), "{word:?} is not in {:?}", end.error);
    }
    assert!(end.error_advice.contains("fetch it again"), "{}", end.error_advice);
    assert_eq!(cached(session).await.stored_bytes, 0, "nothing suspicious is cached");
    end
}

async fn cached(session: &Session) -> CacheState {
    let events = event_log::export(&session.browser).await;
    let cached = event_log::all(&events, |event| match event {
        Event::Cached(cached) => Some(cached.clone()),
        _ => None,
    });
    cached.last().expect("it was said what is cached").clone()
}

async fn recovers(host: &TinyHost, session: &Session, when: When) {
    let case = case("planets");
    let page = session.open(&format!("gguf={}&{}", host.url(), case.query())).await;
    host.fail(when, Fault::Shifted(4));
    fails(session, host, &page, "#load").await;
    // The host is sound again.
    page.press("#refetch").await.expect("it is offered to delete and fetch again");
    let end = follow(&page, &[PageState::Done, PageState::Error]).await;
    assert_answer(&end, &case);
    let cached = cached(session).await;
    assert_eq!((cached.stored_bytes, cached.resumed_bytes), (nano_bytes().len() as u64, 0));
}

/// Browser trial 27: all bytes from the second range on. The first has the header.
#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_is_shifted_is_a_damaged_file_and_can_be_fetched_again() {
    let session = Session::start().await;
    let host = TinyHost::start(nano_bytes(), Behaviour::GOOD).expect("a host");
    recovers(&host, &session, When::Byte(65_536)).await;
}

/// Browser trial 27b: only from within the last tensor on. And LOAD MODEL, too, fetches what was not cached.
#[tokio::test(flavor = "multi_thread")]
async fn a_shift_of_the_last_bytes_is_found_by_loads_and_downloads() {
    let session = Session::start().await;
    let host = TinyHost::start(nano_bytes(), Behaviour::GOOD).expect("a host");
    recovers(&host, &session, When::Byte(2_900_000)).await;

    let other = TinyHost::start(nano_bytes(), Behaviour::GOOD).expect("a host");
    let case = case("planets");
    let page = session.open(&format!("gguf={}&{}", other.url(), case.query())).await;
    other.fail(When::Byte(2_900_000), Fault::Shifted(4));
    fails(&session, &other, &page, "#download").await;
    page.load().await.expect("LOAD MODEL can be pressed");
    assert_answer(&follow(&page, &[PageState::Done, PageState::Error]).await, &case);
}
