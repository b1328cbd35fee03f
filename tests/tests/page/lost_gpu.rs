//! The GPU process dies under the page: another device is opened, the model is loaded again, the answer goes on.
#![cfg(target_os = "linux")]

use std::time::Duration;

use browser_driver::{AfterGpuCrashes, Browser, GptossPage, LaunchOptions, PageState, StageLine, processes_of};
use gptoss_protocol::{Event, Stage};
use serde_json::json;

use crate::session::{Session, assert_answer, case, first_words, follow, launch_options, load_and_answer, signal};
use crate::tiny_host::{Behaviour, TinyHost};
use crate::{event_log, nano_bytes};

/// So slow that loads, prompts and answers last until the GPU is gone.
const SLOW: Behaviour = Behaviour { delay: Duration::from_millis(300), ..Behaviour::GOOD };

#[tokio::test(flavor = "multi_thread")]
async fn a_gpu_that_is_lost_in_mid_load_mid_prompt_and_mid_answer_changes_nothing() {
    let allow = LaunchOptions { after_gpu_crashes: AfterGpuCrashes::Allow, ..launch_options() };
    let session = Session::start().await.with_own_browser(&allow).await;
    let host = TinyHost::start(nano_bytes(), SLOW).expect("host");
    let case = case("number_words");
    let page = session.open(&paged(&host, &case.query())).await;

    page.load().await.expect("LOAD MODEL can be pressed");
    running(&session, &page, "Weights").await;
    kill_gpu(&session);
    running(&session, &page, "Prefill").await;
    kill_gpu(&session);
    host.behave(Behaviour::GOOD);
    assert_answer(&follow(&page, &[PageState::Done]).await, &case);
    let first = losses(&session.browser).await;
    // Where a GPU is missed depends on what is waited for.
    assert!(matches!(first[..], [stage, Stage::Prefill] if Stage::LOAD.contains(&stage)), "{first:?}");

    page.ask().await.expect("ASK can be pressed");
    first_words(&session, &page).await;
    host.behave(SLOW);
    kill_gpu(&session);
    host.behave(Behaviour::GOOD);
    assert_answer(&follow(&page, &[PageState::Done]).await, &case);
    assert_eq!(losses(&session.browser).await[2..], [Stage::Decode]);
    session.screenshot("gpu-lost-thrice").await;
    assert_answer(&load_and_answer(&page).await, &case);
}

/// Chrome refuses adapters for two minutes then. The page says so, and waits; it can be stopped.
#[tokio::test(flavor = "multi_thread")]
async fn a_browser_that_gives_no_gpu_after_two_crashes_is_waited_for() {
    let session = Session::start().await.with_own_browser(&launch_options()).await;
    let host = TinyHost::start(nano_bytes(), SLOW).expect("host");
    let page = session.open(&paged(&host, &case("number_words").query())).await;
    page.load().await.expect("LOAD MODEL can be pressed");
    running(&session, &page, "Weights").await;
    kill_gpu(&session);
    running(&session, &page, "Prefill").await;
    kill_gpu(&session);
    let waits = async |browser: &Browser| {
        let sentence = browser.text("#status").await?;
        Ok(if sentence.contains("gives no other yet") { Ok(()) } else { Err(sentence) })
    };
    session.browser.wait_for("the page to wait for a GPU", Duration::from_secs(60), waits).await.expect("it waits");
    session.screenshot("gpu-awaited").await;
    // Its own pictures are lost, too, until the browser gives them back; broken ones are not shown.
    let pictures = async |browser: &Browser| {
        let script = "return [...document.querySelectorAll('canvas')].map((canvas) => \
             [canvas.getContext('2d').isContextLost(), getComputedStyle(canvas).visibility]);";
        let seen = browser.eval(script, vec![]).await?;
        assert!(!seen.to_string().contains("[true,\"visible\"]"), "{seen}");
        let all = seen.as_array().expect("a list of canvases");
        let are_back = all.len() > 2 && all.iter().all(|canvas| *canvas == json!([false, "visible"]));
        Ok(if are_back { Ok(()) } else { Err(seen.to_string()) })
    };
    session.browser.wait_for("the pictures to be back", Duration::from_secs(60), pictures).await.expect("they are");
    page.stop().await.expect("STOP can be pressed");
    follow(&page, &[PageState::Stopped]).await;
}

/// Room for few experts: prompt and answer fetch, too.
fn paged(host: &TinyHost, query: &str) -> String {
    format!("gguf={}&cache=no&expert_memory=1.3M&{query}", host.url())
}

/// Stage of every loss.
async fn losses(browser: &Browser) -> Vec<Stage> {
    let events = event_log::export(browser).await;
    let made_good = event_log::all(&events, |event| matches!(event, Event::Recovered { .. }).then_some(()));
    let losses = event_log::all(&events, |event| match event {
        Event::Recovering { stage, .. } => Some(*stage),
        _ => None,
    });
    // A load ends with the model being ready.
    let in_answers = losses.iter().filter(|stage| Stage::ANSWER.contains(stage)).count();
    assert_eq!(made_good.len(), in_answers, "{losses:?}");
    losses
}

/// Waits until the stage of this name is under way.
async fn running(session: &Session, page: &GptossPage<'_>, stage: &str) {
    let look = async |_: &Browser| {
        let seen = page.snapshot().await?;
        let runs = seen.stages.iter().any(|line| line.name == stage && line.status == StageLine::RUNNING);
        Ok(if runs { Ok(()) } else { Err(format!("{seen:?}")) })
    };
    session.browser.wait_for(stage, Duration::from_secs(120), look).await.expect("the stage begins");
}

fn kill_gpu(session: &Session) {
    let mut processes = processes_of(session.browser.profile_folder());
    processes.retain(|process| process.kind == "gpu-process");
    assert_eq!(processes.len(), 1, "{processes:?}");
    signal("-KILL", &processes);
}
