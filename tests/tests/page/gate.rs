//! The gate page: slices of the demo model go from gguf-serve through the real worker to the GPU and back, and what the page
//! shows is what it hands out as JSON, what the file has, and what the server sent.

use std::time::Duration;

use browser_driver::Browser;
use gptoss_gguf::{Gguf, Progress, parse};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::nano_bytes;
use crate::session::{PATIENCE, Session};
use crate::tiny_host::{Behaviour, TinyHost};

const EXPERTS: &str = "blk.2.ffn_gate_exps.weight";

fn sha256_hex(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn header(bytes: &[u8]) -> Gguf {
    match parse(bytes, bytes.len() as u64) {
        Ok(Progress::Ready(gguf)) => *gguf,
        other => panic!("the demo model: {other:?}"),
    }
}

/// Presses a button of the page once it can be pressed.
async fn press(browser: &Browser, name: &str) {
    let css = format!("#gate-{name}");
    let script = "const button = document.querySelector(arguments[0]); return button !== null && !button.disabled;";
    let enabled = async |browser: &Browser| {
        let enabled = browser.eval(script, vec![json!(css)]).await?;
        Ok(if enabled == true { Ok(()) } else { Err(browser.text("#gate").await?) })
    };
    browser.wait_for(&css, PATIENCE, enabled).await.expect("it can be pressed");
    browser.click(&css).await.expect("a press");
}

/// Waits until nothing is under way, and gives the word of the verdict and what stands beside it.
async fn verdict(browser: &Browser) -> (String, String) {
    let script = "if (document.body.dataset.state === 'loading') return null; \
         const read = (css) => document.querySelector(css)?.textContent; \
         return [read('#gate-verdict'), read('#gate-end')];";
    let ended = async |browser: &Browser| {
        let seen = browser.eval(script, vec![]).await?;
        Ok(match (seen[0].as_str(), seen[1].as_str()) {
            (Some(word), Some(all)) => Ok((word.to_owned(), all.to_owned())),
            _ => Err(browser.text("#gate-status").await?),
        })
    };
    browser.wait_for("a verdict", PATIENCE, ended).await.expect("gates end")
}

/// Runs what stands in the form.
async fn run(browser: &Browser) -> (String, String) {
    press(browser, "run-slice").await;
    // The verdict of the run before stands there until the press is drawn.
    tokio::time::sleep(Duration::from_millis(200)).await;
    verdict(browser).await
}

/// What `copy as JSON` copies.
async fn copied(browser: &Browser) -> Value {
    let catch = "window.copied = null; navigator.clipboard.writeText = async (text) => { window.copied = text; };";
    browser.eval(catch, vec![]).await.expect("script");
    press(browser, "copy").await;
    let look = async |browser: &Browser| {
        let text = browser.eval("return window.copied;", vec![]).await?;
        Ok(text.as_str().map(str::to_owned).ok_or_else(|| "nothing was copied".to_owned()))
    };
    let text = browser.wait_for("a copy", Duration::from_secs(10), look).await.expect("it was copied");
    serde_json::from_str(&text).expect("JSON")
}

fn gate<'a>(json: &'a Value, letter: &str) -> &'a Value {
    let gates = json["gates"].as_array().expect("reports");
    gates.iter().find(|gate| gate["gate"] == letter).unwrap_or_else(|| panic!("no gate {letter} in {json}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn slices_go_to_the_gpu_and_back_with_all_their_figures() {
    let session = Session::start().await;
    let browser = &session.browser;
    let (bytes, origin) = (nano_bytes(), format!("http://{}", session.server.addr()));
    let model = session.model_url("gpt-oss-nano.gguf").await;
    let gates = format!("{origin}/ml-inference?gguf={model}&tensor=output.weight&n=64");
    browser.goto(&gates).await.expect("the page opens");
    let get = "return [...document.querySelectorAll('.gate-form input:not([type=file])')].map((input) => input.value);";
    press_waits(browser).await;
    let fields = browser.eval(get, vec![]).await.expect("script");
    assert_eq!(fields, json!([model, "output.weight", "", "", "64", "", "", ""]));
    let of_model = |session: &Session| session.requests().iter().filter(|it| it.range.is_some()).count();
    assert_eq!(of_model(&session), 0, "nothing is fetched before a press");

    // Q8_0, dense.
    let (word, why) = run(browser).await;
    assert_eq!(word, "PASS", "{why}");
    let (shown, json) = (shown(browser).await, copied(browser).await);
    let tensor = header(&bytes).tensor("output.weight").expect("an output matrix").clone();
    let row_bytes = tensor.size_bytes / tensor.shape[1];
    check_slice(&session, &bytes, gate(&json, "c"), &shown, tensor.offset, 64 * row_bytes);
    for letter in ["a", "e"] {
        assert_eq!(gate(&json, letter)["verdict"], "pass", "{json}");
    }

    // MXFP4, rows of the last expert, half of each.
    let tensor = header(&bytes).tensor(EXPERTS).expect("experts").clone();
    let (rows, last) = (tensor.shape[1], tensor.shape[2] - 1);
    for (field, value) in
        [("tensor", EXPERTS.to_owned()), ("expert", last.to_string()), ("k", "96".into()), ("n", "".into())]
    {
        browser.set_value(&format!("#gate-{field}"), &value).await.expect("type");
    }
    let (word, why) = run(browser).await;
    assert_eq!(word, "PASS", "{why}");
    session.screenshot("gate").await;
    let (shown, json) = (self::shown(browser).await, copied(browser).await);
    let row_bytes = tensor.size_bytes / rows / tensor.shape[2];
    check_slice(&session, &bytes, gate(&json, "c"), &shown, tensor.offset + last * rows * row_bytes, rows * row_bytes);
    assert_eq!(gate(&json, "c")["slice"]["multiplied_bytes"], rows * 96 / 32 * 17);
    let decoded = gate(&json, "f");
    assert_eq!(
        (&decoded["verdict"], &decoded["facts"]["blocks decoded"]),
        (&json!("pass"), &json!(rows * row_bytes / 17))
    );
    let address = browser.eval("return location.search;", vec![]).await.expect("script");
    assert!(
        address.as_str().is_some_and(|it| it.contains("k=96") && it.contains(EXPERTS)),
        "to be passed on: {address}"
    );
    session.assert_quiet_console().await;
}

/// Waits until the page's program is up.
async fn press_waits(browser: &Browser) {
    let script = "return document.querySelector('#gate-run-slice')?.disabled === false;";
    let up = async |browser: &Browser| {
        let up = browser.eval(script, vec![]).await?;
        Ok(if up == true { Ok(()) } else { Err("not up".to_owned()) })
    };
    browser.wait_for("the gate page", PATIENCE, up).await.expect("the program is up");
}

/// What the card of gate c shows: the range, its hash, the first line of the table.
async fn shown(browser: &Browser) -> Vec<String> {
    let script = "const card = document.querySelector('[data-gate=c]'); \
         const cells = [...card.querySelectorAll('tr.product td')].map((cell) => cell.textContent); \
         return [card.querySelector('.range span').textContent, card.querySelector('.sha256').textContent, ...cells];";
    let seen = browser.eval(script, vec![]).await.expect("a card");
    serde_json::from_value(seen).expect("texts")
}

/// Compares what is shown with the report, the report with the file, and both with what the server sent.
#[track_caller]
fn check_slice(session: &Session, file: &[u8], report: &Value, shown: &[String], offset: u64, length: u64) {
    let (slice, compared) = (&report["slice"], &report["comparisons"][0]);
    assert_eq!((&slice["offset_bytes"], &slice["fetched_bytes"]), (&json!(offset), &json!(length)), "{report}");
    let range = &file[offset as usize..(offset + length) as usize];
    let expected = sha256_hex(range);
    assert_eq!((&slice["sha256"], &shown[1]), (&json!(expected), &expected), "{report}");
    assert_eq!(shown[0], format!("bytes {offset} to {} of gpt-oss-nano.gguf", offset + length - 1));
    assert_eq!((&slice["requests"], &compared["ok"]), (&json!(1), &json!(true)), "{report}");
    let powers = ["max_abs", "mean_abs", "relative_error"];
    let powers = powers.map(|name| format!("{:.2e}", compared[name].as_f64().expect("a number")));
    assert_eq!((&shown[2], &shown[5..8]), (&"baseline".to_owned(), &powers[..]), "{report}");
    let error = compared["relative_error"].as_f64().expect("a number");
    assert!(error > 0.0 && error < 1e-5, "{report}");
    let sent = session.requests().into_iter().filter(|request| {
        request.range.is_some_and(|range| (range.first, range.last) == (offset, offset + length - 1))
    });
    assert_eq!(sent.count(), 1, "the server sent this range once, and nothing around it");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_run_says_why_and_stop_ends_it() {
    let session = Session::start().await;
    let browser = &session.browser;
    let origin = format!("http://{}", session.server.addr());
    // Without an address the first model of the host is offered.
    browser.goto(&format!("{origin}/ml-inference?tensor=output.wait")).await.expect("the page opens");
    press_waits(browser).await;
    let offered = async |browser: &Browser| {
        let value = browser.eval("return document.querySelector('#gate-gguf').value;", vec![]).await?;
        Ok(if value == "" { Err("no model yet".to_owned()) } else { Ok(()) })
    };
    browser.wait_for("a model", PATIENCE, offered).await.expect("the host's model is offered");
    let (word, why) = run(browser).await;
    assert_eq!(word, "COULD NOT RUN");
    assert!(why.contains("has no tensor output.wait") && why.contains("Choose a tensor from the list"), "{why}");
    let listed = browser.eval("return document.querySelectorAll('#gate-tensors option').length;", vec![]).await;
    assert_eq!(listed.expect("script"), header(&nano_bytes()).tensors.len(), "the header was read");

    browser.set_value("#gate-tensor", "output.weight").await.expect("type");
    browser.set_value("#gate-tolerance", "1e-12").await.expect("type");
    let (word, why) = run(browser).await;
    assert_eq!(word, "FAIL");
    assert!(why.contains("y = W x on the GPU: relative error") && why.contains("at most 1e-12"), "{why}");

    browser.set_value("#gate-k", "x").await.expect("type");
    let (word, why) = run(browser).await;
    assert!(word == "NOT RUN" && why.contains("k is \"x\""), "{word}: {why}");
    assert_eq!(browser.text("#gate-k-error").await.expect("shown"), "k is \"x\", expected a whole number.");
    browser.set_value("#gate-k", "").await.expect("type");
    browser.set_value("#gate-tolerance", "").await.expect("type");
    session.assert_quiet_console().await;

    browser.set_value("#gate-gguf", &format!("{origin}/models/nothing.gguf")).await.expect("type");
    let (word, why) = run(browser).await;
    assert_eq!(word, "COULD NOT RUN");
    assert!(why.contains("404") && why.contains("nothing.gguf"), "{why}");

    let slow = Behaviour { delay: Duration::from_secs(3), ..Behaviour::GOOD };
    let host = TinyHost::start(nano_bytes(), slow).expect("host");
    browser.set_value("#gate-gguf", &host.url()).await.expect("type");
    press(browser, "run-slice").await;
    press(browser, "stop").await;
    assert_eq!(verdict(browser).await.0, "STOPPED");
    // And it goes on as if nothing had been.
    host.behave(Behaviour::GOOD);
    let (word, why) = run(browser).await;
    assert_eq!(word, "PASS", "{why}");
}

/// A file of this disk, and what of it no slice tells: the same bytes whenever it is opened, and logits.
#[tokio::test(flavor = "multi_thread")]
async fn a_picked_file_is_checked_whole_with_all_figures() {
    let session = Session::start().await;
    let browser = &session.browser;
    browser.goto(&format!("http://{}/ml-inference?layers=2", session.server.addr())).await.expect("the page opens");
    press_waits(browser).await;
    browser.pick_files("#gate-file", &[gptoss_tests::nano_model()]).await.expect("pick");
    let picked = browser.text("#gate-picked-name").await.expect("shown");
    assert!(picked.starts_with("gpt-oss-nano.gguf · 3.05 MB"), "{picked}");

    press(browser, "whole-model").await;
    press(browser, "stop").await;
    assert_eq!(verdict(browser).await.0, "STOPPED");
    press(browser, "whole-model").await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    let (word, why) = verdict(browser).await;
    assert_eq!(word, "PASS", "{why}");
    assert!(why.contains("Logits after 2 of 6 layers"), "{why}");
    session.screenshot("gate-whole").await;
    let json = copied(browser).await;
    let letters: String =
        json["gates"].as_array().expect("reports").iter().filter_map(|it| it["gate"].as_str()).collect();
    assert_eq!(letters, "abedg");
    assert_eq!(
        (&gate(&json, "b")["facts"]["openings"], &gate(&json, "d")["path"]),
        (&json!(3), &json!("gpt-oss-nano.gguf"))
    );
    let correct = gate(&json, "d");
    let all = &correct["comparisons"][0];
    assert_eq!((&all["shape"], &correct["facts"]["layers"]), (&json!([72, 1280]), &json!("2 of 6")));
    let error = all["relative_error"].as_f64().expect("a number");
    assert!(error > 0.0 && error < 1e-5, "{correct}");
    assert_eq!(gate(&json, "g")["comparisons"][0]["shape"], json!([1280]));
    let card = browser.text("[data-gate=d]").await.expect("a card");
    assert!(card.contains(&format!("relative error {error:.2e}, at most 1e-4")), "{card}");
    let of_model = session.requests().iter().filter(|request| request.range.is_some()).count();
    assert_eq!(of_model, 0, "the server was asked for nothing of it");

    browser.click("#gate-unpick").await.expect("a press");
    let hidden = browser.eval("return document.querySelector('#gate-picked').hidden;", vec![]).await;
    assert_eq!(hidden.expect("script"), true, "the address counts again");
    session.assert_quiet_console().await;
}
