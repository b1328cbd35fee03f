//! The chat: conversations, questions asked anew, and what functions give.

use browser_driver::{Browser, GptossPage, PageState};
use gptoss_protocol::Event;

use crate::event_log;
use crate::looks::{Look, drawn};
use crate::session::{Session, case, follow, load_and_answer};

/// Questions and answers as the page shows them.
async fn turns(browser: &Browser) -> Vec<(String, String)> {
    let script = "return [...document.querySelectorAll('.turn')].map((turn) => [ \
             turn.querySelector('.asked')?.textContent ?? turn.querySelector('.question')?.textContent ?? '', \
             [...turn.querySelectorAll('[data-channel=final] .said')].map((said) => said.textContent).join(''), \
         ]);";
    let turns = browser.eval(script, vec![]).await.expect("script");
    let text = |value: &serde_json::Value| value.as_str().expect("text").to_owned();
    turns.as_array().expect("turns").iter().map(|turn| (text(&turn[0]), text(&turn[1]))).collect()
}

async fn press(browser: &Browser, action: &str) {
    let script = format!("document.querySelector('[data-do=\"{action}\"]').click();");
    browser.eval(&script, vec![]).await.unwrap_or_else(|error| panic!("{action}: {error}"));
}

async fn ask(page: &GptossPage<'_>, question: &str) {
    page.set_prompt(question).await.expect("type");
    page.ask().await.expect("ASK can be pressed");
    follow(page, &[PageState::Done]).await;
}

/// Tokens of each answer's prompt that the KV cache held already, and of those all.
async fn reused(browser: &Browser) -> Vec<(u32, u32)> {
    let mut total = 0;
    event_log::all(&event_log::export(browser).await, |event| match event {
        Event::PromptEncoded { tokens, .. } => Some((None, *tokens)),
        Event::Finished { reused_tokens, .. } => Some((*reused_tokens, 0)),
        _ => None,
    })
    .into_iter()
    .filter_map(|(reused, tokens)| {
        total = if reused.is_none() { tokens } else { total };
        reused.map(|reused| (reused, total))
    })
    .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_conversation_goes_on_is_edited_and_answered_again() {
    let session = Session::start().await;
    let browser = &session.browser;
    let first = case("capitals");
    let page = session.open_talking(&first.query()).await;
    load_and_answer(&page).await;
    // What is being answered is no longer in the prompt, and an arrow brings it back.
    let key = "const prompt = document.querySelector('#prompt'); const before = prompt.value; \
         prompt.dispatchEvent(new KeyboardEvent('keydown', { key: 'ArrowUp', bubbles: true })); return [before, prompt.value];";
    assert_eq!(browser.eval(key, vec![]).await.expect("script"), serde_json::json!(["", first.user]));
    for question in ["Add 17 and 25.", "Reverse the word stone.", "Name the capital of Spain."] {
        ask(&page, question).await;
    }
    let four = turns(browser).await;
    assert_eq!(four.len(), 4, "{four:?}");
    assert_eq!(four[0], (first.user.clone(), first.final_text.clone()));
    assert!(four.iter().all(|(_, answer)| !answer.is_empty()), "{four:?}");
    session.screenshot("conversation").await;
    let read = reused(browser).await;
    for (turn, pair) in read.windows(2).enumerate() {
        let ((_, before), (reused, all)) = (pair[0], pair[1]);
        assert!(reused >= before && reused < all, "turn {}: {reused} of {all} reused, {before} were read", turn + 1);
    }

    // The second question anew: what came after it goes.
    press(browser, "edit 1").await;
    browser.set_value("#edited", "Add 20 and 22.").await.expect("type");
    let before = answered(browser).await;
    press(browser, "ask-edited 1").await;
    wait_for_answer(browser, &page, before).await;
    let edited = turns(browser).await;
    assert_eq!(edited.len(), 2, "{edited:?}");
    assert_eq!((edited[0].clone(), edited[1].0.as_str()), (four[0].clone(), "Add 20 and 22."));
    let (reused_tokens, all) = *reused(browser).await.last().expect("an answer");
    assert!(reused_tokens > 0 && reused_tokens < all, "the first turn is not read again: {reused_tokens} of {all}");

    // The same question again, greedily: the same answer.
    let before = answered(browser).await;
    press(browser, "again 1").await;
    wait_for_answer(browser, &page, before).await;
    assert_eq!(turns(browser).await, edited);

    press(browser, "delete 1").await;
    assert_eq!(wait_for_turns(browser, 1).await, four[..1]);
    press(browser, "new").await;
    assert_eq!(wait_for_turns(browser, 0).await, []);
    ask(&page, &first.user).await;
    assert_eq!(turns(browser).await, four[..1], "as if nothing had been said");

    // Kept in the browser if the user wants it, and forgotten likewise.
    for (kept, after) in [(true, &four[..1]), (false, &[])] {
        press(browser, "keep").await;
        let pressed = browser.eval("return document.querySelector('#keep-talk').ariaPressed;", vec![]).await;
        assert_eq!(pressed.expect("script"), kept.to_string());
        session.open_talking(&first.query()).await;
        assert_eq!(wait_for_turns(browser, after.len()).await, after);
    }
    session.assert_quiet_console().await;
}

fn ends(event: &Event) -> Option<()> {
    matches!(event, Event::Finished { .. }).then_some(())
}

/// Answers that are complete.
async fn answered(browser: &Browser) -> usize {
    event_log::all(&event_log::export(browser).await, ends).len()
}

/// Waits until one more answer than before is complete, and until the page shows it: it draws later than its log is written, and
/// stands at DONE from the answer before.
async fn wait_for_answer(browser: &Browser, page: &GptossPage<'_>, before: usize) {
    let look = async |browser: &Browser| {
        let complete = answered(browser).await;
        Ok(if complete > before { Ok(()) } else { Err(format!("{complete} complete")) })
    };
    let patience = std::time::Duration::from_secs(120);
    browser.wait_for("the answer", patience, look).await.expect("an answer");
    drawn(browser).await;
    let state = page.snapshot().await.expect("a page").state;
    assert_eq!(state, PageState::Done);
}

async fn wait_for_turns(browser: &Browser, count: usize) -> Vec<(String, String)> {
    let look = async |browser: &Browser| {
        let turns = turns(browser).await;
        Ok(if turns.len() == count { Ok(turns) } else { Err(format!("{turns:?}")) })
    };
    browser.wait_for("so many turns", std::time::Duration::from_secs(30), look).await.expect("turns")
}

/// The nano model was trained to call a calculator.
const FUNCTIONS: &str = r#"[
    {"name": "calculator", "description": "Evaluate an expression.", "parameters": {"type": "object", "properties":
        {"expression": {"type": "string", "description": "For example 2+3"}}, "required": ["expression"]}},
    {"name": "get_weather", "description": "Get the current weather in a city.", "parameters": {"type": "object", "properties":
        {"location": {"type": "string", "description": "Name of the city"}}, "required": ["location"]}}
]"#;

#[tokio::test(flavor = "multi_thread")]
async fn what_a_function_gives_goes_back_to_the_model() {
    let session = Session::start().await;
    let browser = &session.browser;
    let page = session
        .open_talking("prompt=Calculate+532%2B38+with+the+calculator.&date=2024-06-26&instructions=Be+concise.")
        .await;
    browser.set_value("#functions", FUNCTIONS).await.expect("type");
    load_and_answer(&page).await;
    let call = browser.text("[data-channel=tool]").await.expect("a call");
    assert!(call.contains("calculator") && call.contains("{\"expression\":\"532+38\"}"), "{call}");
    Look { state: "call", button: "#ask", fits_desk: true }.check(&session).await;
    browser.set_value(".calls textarea", "{\"result\": 570}").await.expect("type");
    let before = answered(browser).await;
    press(browser, "send-results 0").await;
    wait_for_answer(browser, &page, before).await;
    let turns = turns(browser).await;
    assert_eq!(turns.len(), 2, "{turns:?}");
    assert!(turns[1].0.contains("calculator gave {\"result\": 570}"), "{turns:?}");
    assert!(turns[1].1.contains("570"), "{turns:?}");
    let (reused_tokens, all) = *reused(browser).await.last().expect("an answer");
    assert!(reused_tokens * 2 > all, "the call is not read again: {reused_tokens} of {all}");

    browser.set_value("#functions", "[{\"nome\": 1}]").await.expect("type");
    page.set_prompt("And 1+1?").await.expect("type");
    page.ask().await.expect("ASK can be pressed");
    let failed = follow(&page, &[PageState::Error]).await;
    assert!(failed.error.contains("JSON list"), "{failed:?}");
    assert_eq!(wait_for_turns(browser, 2).await, turns, "nothing was asked");
    session.assert_quiet_console().await;
}
