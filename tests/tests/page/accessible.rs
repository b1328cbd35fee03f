//! A walk through the states of the page. Each of them is looked at as `looks.rs` says.
//!
//! States that others have at hand are looked at there: the question whether to page in `main.rs`, a call in `talk.rs`, a
//! recording in `time.rs`.

use std::time::Duration;

use browser_driver::{Browser, PageState, StageLine};
use gguf_serve::Options;
use gptoss_protocol::Event;
use serde_json::json;

use crate::event_log;
use crate::looks::{Look, wrong_in_sheets, wrong_in_tabs};
use crate::refused::page_with;
use crate::session::{Session, assert_answer, case, first_words, follow, load_and_answer};

/// The states of the walk, in their order. A state that is new is a row here and a step below.
const IDLE: Look = Look { state: "idle", button: "#load", fits_desk: true };
const LOADING: Look = Look { state: "loading", button: "#stop", fits_desk: true };
const PREFILL: Look = Look { state: "prefill", button: "#stop", fits_desk: true };
const GENERATING: Look = Look { state: "generating", button: "#stop", fits_desk: true };
const DONE: Look = Look { state: "done", button: "#ask", fits_desk: true };
const ERROR: Look = Look { state: "error", button: "#ask", fits_desk: true };
const PAGING: Look = Look { state: "paging", button: "#ask", fits_desk: true };

/// Lines before the worker's own: a page can stop what its worker waits for, and let it go on. Everything is as it was
/// then, but for the time that it took.
const PAUSES: &str = "
    const channel = new BroadcastChannel('pauses');
    let fetches = Infinity, maps = Infinity, waiting = [];
    channel.onmessage = ({ data }) => {
        ({ fetches, maps } = { fetches: data.fetches ?? Infinity, maps: data.maps ?? Infinity });
        waiting.splice(0).forEach((goOn) => goOn());
        channel.postMessage('told');
    };
    const gate = async (take) => { while (!take()) { await new Promise((goOn) => waiting.push(goOn)); } };
    const { fetch } = self;
    self.fetch = (...asked) => gate(() => fetches-- > 0).then(() => fetch.apply(self, asked));
    const { mapAsync } = GPUBuffer.prototype;
    GPUBuffer.prototype.mapAsync = function (...asked) {
        return gate(() => maps-- > 0).then(() => mapAsync.apply(this, asked));
    };
";

/// Lets the worker do so many more fetches or mappings of GPU buffers; without a number, all.
async fn pause(session: &Session, after: serde_json::Value) {
    let script = "const done = arguments[arguments.length - 1]; \
         const channel = new BroadcastChannel('pauses'); \
         channel.onmessage = () => done(true); \
         channel.postMessage(arguments[0]);";
    session.browser.eval_async(script, vec![after]).await.expect("the worker hears it");
}

async fn runs(session: &Session, stage: &str) {
    let look = async |browser: &Browser| {
        let script = "return [...document.querySelectorAll('#stages > li')].filter((line) => \
             line.dataset.status === arguments[1]).map((line) => line.querySelector('.name').textContent);";
        let running = browser.eval(script, vec![json!(stage), json!(StageLine::RUNNING)]).await?;
        Ok(if running == json!([stage]) { Ok(()) } else { Err(running.to_string()) })
    };
    session.browser.wait_for(stage, Duration::from_secs(60), look).await.expect("the stage is under way");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_state_is_open_to_everyone_and_fits_every_window() {
    let web = page_with(PAUSES);
    let paths = vec![gptoss_tests::nano_model()];
    let session = Session::with(Options { paths, web: Some(web.path().to_owned()), ..Options::default() }).await;
    let case = case("capitals");
    let mut wrong = Vec::new();
    let page = session.open("cache=no&prompt=").await;
    let plays = async |browser: &Browser| {
        let title = browser.text("#core-title").await?;
        Ok(if title.contains("6 layers") { Ok(()) } else { Err(title) })
    };
    session.browser.wait_for("the idle picture", Duration::from_secs(30), plays).await.expect("a recording plays");
    wrong.extend(IDLE.wrong(&session).await);

    // Header and range check come with the first requests.
    pause(&session, json!({ "fetches": 3 })).await;
    page.load().await.expect("LOAD MODEL can be pressed");
    runs(&session, "Weights").await;
    wrong.extend(LOADING.wrong(&session).await);
    pause(&session, json!({})).await;
    follow(&page, &[PageState::Ready]).await;

    pause(&session, json!({ "maps": 0 })).await;
    page.set_prompt(&case.user).await.expect("type");
    for (css, value) in [("#effort", &case.effort), ("#date", &case.date), ("#history", &"no".to_owned())] {
        session.browser.set_value(css, value).await.expect("choose");
    }
    page.ask().await.expect("ASK can be pressed");
    runs(&session, "Prefill").await;
    wrong.extend(PREFILL.wrong(&session).await);
    pause(&session, json!({})).await;
    first_words(&session, &page).await;
    pause(&session, json!({ "maps": 0 })).await;
    wrong.extend(GENERATING.wrong(&session).await);
    pause(&session, json!({})).await;
    assert_answer(&follow(&page, &[PageState::Done]).await, &case);
    wrong.extend(DONE.wrong(&session).await);
    wrong.extend(wrong_in_tabs(&session).await);
    wrong.extend(wrong_in_sheets(&session).await);

    let missing = format!("http://{}/models/nothing.gguf", session.server.addr());
    page.set_gguf_url(&missing).await.expect("type");
    page.load().await.expect("LOAD MODEL can be pressed");
    follow(&page, &[PageState::Error]).await;
    wrong.extend(ERROR.wrong(&session).await);

    // Five of eight experts per layer; four are the least that can work.
    let page = session.open(&format!("expert_memory=1M&{}", case.query())).await;
    assert_answer(&load_and_answer(&page).await, &case);
    wrong.extend(PAGING.wrong(&session).await);
    assert_paged(&session).await;
    assert!(wrong.is_empty(), "{wrong:#?}");
}

async fn assert_paged(session: &Session) {
    let events = event_log::export(&session.browser).await;
    let paged = event_log::all(&events, |event| match event {
        Event::Plan(plan) => Some(plan.paged && plan.expert_slots_per_layer < plan.experts_per_layer),
        _ => None,
    });
    assert_eq!(paged, [true], "the plan is to page");
    let experts = event_log::all(&events, |event| match event {
        Event::Experts(counters) => Some(*counters),
        _ => None,
    });
    let last = experts.last().expect("the expert cache was reported");
    assert!(last.misses > 0 && last.evictions > 0, "{last:?}");
}
