//! What a wrong address, a value that cannot be used, a GPU that is too small or a permission that is missing costs: no
//! model, no answer, and no riddle.

use std::path::Path;
use std::time::Duration;

use browser_driver::{Browser, GptossPage, LaunchOptions, PageState, Snapshot};
use gguf_serve::Options;
use gptoss_protocol::{CacheNoticeKind, Event};
use serde_json::{Value, json};

use crate::session::{PATIENCE, Session, assert_answer, case, follow, launch_options, load_and_answer};
use crate::tiny_host::{Behaviour, TinyHost};
use crate::{event_log, nano_bytes, query_with};

/// The words at an input, how it is marked, and what has the focus.
const MARKS: &str = "const input = document.getElementById(arguments[0]); return [ \
     document.getElementById(input.getAttribute('aria-describedby') ?? '')?.textContent ?? '', \
     input.getAttribute('aria-invalid'), document.activeElement.id];";

/// Waits until the input `id` is marked, has the focus, and all of `words` stand at it: a click takes the focus away, and the
/// page draws its answer to the click a little later. Until then it may show the refusal before it.
async fn is_marked(browser: &Browser, id: &str, words: &[&str]) {
    let marked = async |browser: &Browser| {
        let seen = browser.eval(MARKS, vec![json!(id)]).await?;
        let said = seen[0].as_str().unwrap_or_default();
        let is_marked = seen[1] == json!("true") && seen[2] == json!(id);
        Ok(if is_marked && words.iter().all(|words| said.contains(words)) { Ok(()) } else { Err(seen.to_string()) })
    };
    let what = format!("#{id} to be marked, in focus, with {words:?}");
    browser.wait_for(&what, Duration::from_secs(10), marked).await.expect("marked");
}

/// Waits for an error with these words: the page may show the error before it until it has drawn.
async fn fails_with(browser: &Browser, page: &GptossPage<'_>, words: &str) -> Snapshot {
    let failed = async |_: &Browser| {
        let seen = page.snapshot().await?;
        let is_it = seen.state == PageState::Error && seen.error.contains(words);
        Ok(if is_it { Ok(seen) } else { Err(format!("{:?}: {}", seen.state, seen.error)) })
    };
    browser.wait_for(words, PATIENCE, failed).await.expect("it fails")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_address_or_value_costs_neither_model_nor_answer() {
    let session = Session::start().await;
    let browser = &session.browser;
    let case = case("add");
    let page = session.open(&case.query()).await;
    assert_answer(&load_and_answer(&page).await, &case);
    let memory = browser.text("#gpu-allocated").await.expect("shown");
    assert!(memory.ends_with("MB"), "{memory}");

    let picture = TinyHost::start(b"\x89PNG\r\n\x1a\n".repeat(1000), Behaviour::GOOD).expect("host");
    let without_ranges = TinyHost::start(nano_bytes(), Behaviour { ranges: false, ..Behaviour::GOOD }).expect("host");
    let missing = format!("http://{}/models/nothing.gguf", session.server.addr());
    for (url, words) in
        [(&missing, "HTTP 404"), (&picture.url(), "a PNG picture"), (&without_ranges.url(), "ignores byte ranges")]
    {
        page.set_gguf_url(url).await.expect("type");
        page.load().await.expect("LOAD MODEL can be pressed");
        assert_answer(&fails_with(browser, &page, words).await, &case);
        let status = browser.text("#status").await.expect("a sentence");
        assert!(status.contains("The model is still loaded"), "{url}: {status}");
        assert_eq!(browser.text("#gpu-allocated").await.expect("shown"), memory, "{url}");
    }

    // A hub's page about a file is no file: said at the field, with the file's own address, before anything is asked
    // for.
    page.set_gguf_url("https://huggingface.co/someone/model-GGUF/blob/main/model.gguf").await.expect("type");
    page.load().await.expect("LOAD MODEL can be pressed");
    is_marked(browser, "gguf", &["https://huggingface.co/someone/model-GGUF/resolve/main/model.gguf"]).await;
    assert_answer(&page.snapshot().await.expect("the page"), &case);
    session.screenshot("refused-address").await;
    // After all four the model answers as before.
    page.set_gguf_url(&missing).await.expect("type");
    page.ask().await.expect("ASK can be pressed");
    assert_answer(&follow(&page, &[PageState::Done]).await, &case);

    browser.set_value("#temp", "4").await.expect("type");
    page.ask().await.expect("ASK can be pressed");
    assert_answer(&follow(&page, &[PageState::Error]).await, &case);
    is_marked(browser, "temp", &["\"4\", expected a number from 0 (greedy) to 2"]).await;
    let look = "return [document.querySelector('#sheet').matches(':popover-open'), document.activeElement.id];";
    assert_eq!(browser.eval(look, vec![]).await.expect("script"), serde_json::json!([true, "temp"]), "it can be seen");
    session.screenshot("refused-temperature").await;
    browser.set_value("#temp", "").await.expect("type");
    page.ask().await.expect("ASK can be pressed");
    assert_answer(&follow(&page, &[PageState::Done]).await, &case);

    browser.set_value("#prompt", &"word ".repeat(9000)).await.expect("type");
    page.ask().await.expect("ASK can be pressed");
    is_marked(browser, "prompt", &["tokens long", "KV capacity of"]).await;
    assert_answer(&page.snapshot().await.expect("the page"), &case);
    session.screenshot("refused-prompt").await;

    // The model that is loaded has its file's cached copy open: the same model again shares it.
    page.set_prompt(&case.user).await.expect("type");
    page.set_gguf_url(&session.model_url("gpt-oss-nano.gguf").await).await.expect("type");
    assert_answer(&load_and_answer(&page).await, &case);
    let events = event_log::export(browser).await;
    let notices = event_log::all(&events, |event| match event {
        // Nothing of the picture is cached, and the page says so.
        Event::CacheNotice(notice) if notice.kind != CacheNoticeKind::Discarded => Some(notice.clone()),
        _ => None,
    });
    assert_eq!(notices, []);
    let unload = event_log::all(&events, |event| matches!(event, Event::Unloaded).then_some(()));
    assert_eq!(unload.len(), 1, "only for the load that went ahead");
}

/// A first question that cannot be asked is refused before weights are fetched, or before anything is.
#[tokio::test(flavor = "multi_thread")]
async fn a_first_question_that_does_not_fit_costs_no_weights() {
    let session = Session::start().await;
    let case = case("add");
    let host = TinyHost::start(nano_bytes(), Behaviour::GOOD).expect("host");
    for (setting, id, words, header) in [
        ("temp=4", "temp", "0 (greedy) to 2", false),
        ("max_kv=10", "max-kv", "expected at least", false),
        ("max_kv=40", "prompt", "KV capacity of", true),
        ("gpu_memory=1", "gpu-memory", "1 B of GPU memory are too little, at least", true),
    ] {
        let before = host.requests().len();
        let page = session.open(&format!("cache=no&{setting}&{}", query_with(&host.url(), &case))).await;
        session.browser.click("#load").await.expect("it can be pressed");
        let failed = follow(&page, &[PageState::Error]).await;
        assert!(failed.error.contains(words) || failed.error_advice.contains(words), "{setting}: {failed:?}");
        is_marked(&session.browser, id, &[words]).await;
        let loaded = |name: &str| failed.stages.iter().find(|line| line.name == name).map(|line| line.status.clone());
        assert_eq!(loaded("Weights").as_deref(), Some("waiting"), "{setting}");
        assert_eq!(host.requests().len() > before, header, "{setting}");
    }
}

/// The built page, with a few lines before its worker's own.
pub fn page_with(lines: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("temp folder");
    copy(&gptoss_tests::workspace_root().join("web/dist"), folder.path());
    let loader = folder.path().join("worker_loader.js");
    let script = std::fs::read_to_string(&loader).expect("the worker's loader");
    std::fs::write(&loader, format!("{lines}\n{script}")).expect("write");
    folder
}

fn copy(from: &Path, to: &Path) {
    for entry in std::fs::read_dir(from).expect("a folder") {
        let entry = entry.expect("an entry");
        let target = to.join(entry.file_name());
        if entry.file_type().expect("a type").is_dir() {
            std::fs::create_dir(&target).expect("a folder");
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), &target).expect("a copy");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_of_the_gpu_that_are_too_low_are_named_before_anything_is_fetched() {
    let masked = "const limits = Object.getOwnPropertyDescriptor(GPUAdapter.prototype, 'limits').get; \
         const lower = { maxStorageBuffersPerShaderStage: 4, maxComputeInvocationsPerWorkgroup: 128 }; \
         Object.defineProperty(GPUAdapter.prototype, 'limits', { get() { const real = limits.call(this); \
             return new Proxy(real, { get: (_, name) => lower[name] ?? Reflect.get(real, name, real) }); } });";
    let web = page_with(masked);
    let paths = vec![gptoss_tests::nano_model()];
    let session = Session::with(Options { paths, web: Some(web.path().to_owned()), ..Options::default() }).await;
    let page = session.open(&case("add").query()).await;
    page.load().await.expect("LOAD MODEL can be pressed");
    let failed = follow(&page, &[PageState::Error]).await;
    session.screenshot("gpu-limits").await;
    for words in ["this GPU lets a shader use 4 storage buffers; 8 are needed", "128 invocations; 256 are needed"] {
        assert!(failed.error.contains(words), "{failed:?}");
    }
    assert!(!failed.error.contains("JsValue") && !failed.error.contains("  "), "{failed:?}");
    assert!(!failed.error_advice.contains("browser with WebGPU"), "{failed:?}");
}

/// A page from elsewhere, and a file on this machine.
#[tokio::test(flavor = "multi_thread")]
async fn a_permission_that_is_missing_is_named() {
    let session = Session::start().await;
    let public_hosts = vec![session.server.addr().to_string()];
    let session = session.with_own_browser(&LaunchOptions { public_hosts, ..launch_options() }).await;
    let host = TinyHost::start(nano_bytes(), Behaviour::GOOD).expect("host");
    let origin = format!("http://{}", session.server.addr());
    let set = async |setting: &str| {
        let permission = json!({ "permission": { "name": "loopback-network" }, "setting": setting, "origin": origin });
        session.browser.devtools("Browser.setPermission", permission).await.expect("a permission");
    };
    let query = query_with(&host.url(), &case("add"));
    for setting in ["denied", "prompt"] {
        set(setting).await;
        let page = session.open(&query).await;
        page.load().await.expect("LOAD MODEL can be pressed");
        let failed = named(
            &session,
            &page.follow(&[PageState::Error], Duration::from_secs(60), |_| {}).await.expect("it fails"),
        )
        .await;
        assert!(failed.contains("\"Apps on device\" (loopback-network)"), "{setting}: {failed}");
    }
    session.screenshot("permission").await;
    set("granted").await;
    let page = session.open(&query).await;
    assert_answer(&load_and_answer(&page).await, &case("add"));
}

/// The advice, once the browser was asked about the permission.
async fn named(session: &Session, failed: &Snapshot) -> String {
    assert_ne!(failed.error, "");
    let look = async |browser: &Browser| {
        let advice = browser.text("#error-advice").await?;
        Ok(if advice.contains("permission \"") { Ok(advice) } else { Err(advice) })
    };
    session.browser.wait_for("the permission to be named", Duration::from_secs(60), look).await.expect("it is named")
}

/// What the browser has no room for is not downloaded for nothing, and nothing is left of it.
#[tokio::test(flavor = "multi_thread")]
async fn a_download_that_keeps_nothing_is_an_error() {
    let session = Session::start().await;
    let browser = &session.browser;
    let case = case("add");
    session.open(&case.query()).await;
    let origin = format!("http://{}", session.server.addr());
    for quota_bytes in [0, 200_000, 2_000_000] {
        let quota = json!({ "origin": origin, "quotaSize": quota_bytes });
        browser.devtools("Storage.overrideQuotaForOrigin", quota).await.expect("a small quota");
        let page = session.open(&case.query()).await;
        browser.click("#source-more summary").await.expect("what else can be done is shown");
        page.press("#download").await.expect("it can be pressed");
        let failed = follow(&page, &[PageState::Error]).await;
        assert!(failed.error.contains("nothing of it is in this browser"), "{quota_bytes}: {failed:?}");
        let advice = &failed.error_advice;
        assert!(
            advice.contains("ree disk space") && !advice.contains("elete"),
            "there is none to be deleted: {advice}"
        );
        assert!(!failed.error.contains("goes on"), "{failed:?}");
        let rows = "return document.querySelectorAll('#cache-models li').length;";
        let none = async |browser: &Browser| {
            let rows: Value = browser.eval(rows, vec![]).await?;
            Ok(if rows == json!(0) { Ok(()) } else { Err(rows.to_string()) })
        };
        browser.wait_for("no row", Duration::from_secs(10), none).await.expect("nothing is left behind");
    }
    session.screenshot("download-without-room").await;
}

/// SwiftShader has no shader-f16. With the tier left to the program the device panel says what runs.
#[tokio::test(flavor = "multi_thread")]
async fn a_tier_that_the_gpu_lacks_is_refused_with_what_it_lacks() {
    let session = Session::start().await;
    let page = session.open(&format!("tier=f16%2Bsubgroups&{}", case("add").query())).await;
    page.load().await.expect("LOAD MODEL can be pressed");
    let failed = follow(&page, &[PageState::Error]).await;
    session.screenshot("gpu-tier").await;
    for words in ["kernel tier f16+subgroups", "it lacks shader-f16"] {
        assert!(failed.error.contains(words), "{failed:?}");
    }
    assert!(failed.error_advice.contains("baseline"), "{failed:?}");
}
