//! The driver on a page of its own making. Needs Chrome and chromedriver, and fails without them.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::Path;
use std::time::Duration;

use browser_driver::{
    Browser, ConsoleLevel, End, Error, GptossPage, Gpu, Installation, LaunchOptions, PageState, StageLine,
};
use serde_json::json;

const PAGE: &str = r#"<!doctype html>
<body data-state="idle">
<button id="load" onclick="document.body.dataset.state = 'loading'; setTimeout(() => {
    document.querySelector('[data-channel=final] .said').textContent = document.querySelector('#prompt').value.toUpperCase();
    document.body.dataset.state = 'done';
}, 300);">LOAD MODEL</button>
<input id="prompt" value="something else">
<input id="file" type="file">
<ol id="stages"><li data-status="done"><i>x</i><b class="name">GPU</b><b class="time">12 ms</b></li></ol>
<article class="turn" data-last><section data-channel="final"><div class="said"></div></section></article>
<script>
    console.warn("page warning");
    const code = new Blob(['console.error("worker error")'], { type: "text/javascript" });
    new Worker(URL.createObjectURL(code));
</script>"#;

/// Serves [`PAGE`] from a file in the browser's own profile, which goes away with it.
async fn open_page(browser: &Browser) -> GptossPage<'_> {
    let file = browser.profile_folder().join("page.html");
    std::fs::write(&file, PAGE).expect("write the page");
    GptossPage::open(browser, &format!("file://{}", file.display())).await.expect("open the page")
}

fn software() -> LaunchOptions {
    LaunchOptions { gpu: Gpu::Software, ..LaunchOptions::default() }
}

#[tokio::test]
async fn a_page_is_clicked_filled_followed_and_read() {
    let browser = Browser::open(&software()).await.expect("browser");
    let page = open_page(&browser).await;
    page.set_prompt("typed text").await.expect("type");
    page.load().await.expect("click");
    let mut states = Vec::new();
    let done = page
        .follow(&[PageState::Done], Duration::from_secs(20), |snapshot| states.push(snapshot.state))
        .await
        .expect("done");
    assert_eq!(done.final_text, "TYPED TEXT");
    let stage = StageLine { name: "GPU".to_owned(), status: StageLine::DONE.to_owned(), time: "12 ms".to_owned() };
    assert_eq!(done.stages, [stage]);
    assert_eq!(states, [PageState::Loading, PageState::Done]);

    let picked = browser.profile_folder().join("page.html");
    browser.pick_files("#file", &[picked]).await.expect("pick");
    let name = browser.eval("return document.querySelector('#file').files[0].name;", vec![]).await.expect("eval");
    assert_eq!(name, "page.html");

    let screenshot = browser.profile_folder().join("shots/page.png");
    browser.screenshot(&screenshot).await.expect("screenshot");
    let png = std::fs::read(&screenshot).expect("read the screenshot");
    assert!(png.starts_with(b"\x89PNG\r\n\x1a\n"), "not a PNG: {:?}", &png[..8]);
}

#[tokio::test]
async fn the_console_reports_page_and_workers() {
    let browser = Browser::open(&software()).await.expect("browser");
    let _page = open_page(&browser).await;
    let mut entries = Vec::new();
    browser
        .wait_for("a warning of the page and an error of its worker", Duration::from_secs(20), async |browser| {
            entries.extend(browser.console().await?);
            let has = |level, text| entries.iter().any(|entry| entry.level == level && entry.message.contains(text));
            let both = has(ConsoleLevel::Warning, "page warning") && has(ConsoleLevel::Severe, "worker error");
            Ok(if both { Ok(()) } else { Err(format!("{entries:?}")) })
        })
        .await
        .expect("both lines");
}

#[tokio::test]
async fn software_mode_offers_a_webgpu_adapter() {
    let browser = Browser::open(&software()).await.expect("browser");
    let page = open_page(&browser).await;
    assert!(page.has_webgpu_adapter().await.expect("ask"), "SwiftShader gave no adapter");
}

#[tokio::test]
async fn waiting_in_vain_says_for_what_and_what_was_seen() {
    let browser = Browser::open(&software()).await.expect("browser");
    let page = open_page(&browser).await;
    let error = page.follow(&[PageState::Done], Duration::from_millis(300), |_| {}).await.expect_err("nobody clicked");
    assert!(matches!(error, Error::Timeout { .. }), "{error:?}");
    let message = error.to_string();
    assert!(message.contains("Done") && message.contains("state Idle"), "{message}");
}

#[tokio::test]
async fn a_program_that_is_no_chromedriver_is_named() {
    let found = Installation::find().expect("Chrome and chromedriver");
    let wrong = Installation { chromedriver: Path::new("/nonexistent/chromedriver").into(), ..found };
    let error = Browser::open_with(&wrong, &software()).await.expect_err("no such file");
    assert!(error.to_string().contains("/nonexistent/chromedriver"), "{error}");
}

#[tokio::test]
async fn dropping_the_browser_leaves_nothing_behind() {
    let browser = Browser::open(&software()).await.expect("browser");
    let profile = browser.profile_folder().to_path_buf();
    assert!(!processes_with(&profile).is_empty(), "no process mentions the profile: this check would prove nothing");
    drop(browser);
    assert!(!profile.exists(), "{} is still there", profile.display());
    assert!(processes_with(&profile).is_empty());
}

#[tokio::test]
async fn a_browser_is_started_again_with_its_profile() {
    let mut browser = Browser::open(&software()).await.expect("browser");
    let profile = browser.profile_folder().to_path_buf();
    for (end, count) in [(End::Closed, "1"), (End::Killed, "2")] {
        open_page(&browser).await;
        let script = "localStorage.count = Number(localStorage.count ?? 0) + 1; return localStorage.count;";
        assert_eq!(browser.eval(script, vec![]).await.expect("eval"), count, "what was stored is there");
        let before = processes_with(&profile);
        browser.restart(end).await.expect("it starts again");
        assert_eq!(browser.profile_folder(), profile);
        let left: Vec<_> = processes_with(&profile).into_iter().filter(|process| before.contains(process)).collect();
        assert!(!before.is_empty() && left.is_empty(), "{end:?} left {left:?} of {before:?}");
    }
}

#[tokio::test]
async fn tabs_are_driven_one_at_a_time_and_devtools_answer() {
    let browser = Browser::open(&software()).await.expect("browser");
    open_page(&browser).await;
    let first = browser.tab().await.expect("a tab");
    let second = browser.new_tab().await.expect("another tab");
    browser.switch_to(&second).await.expect("switch");
    assert_eq!(browser.eval("return location.href;", vec![]).await.expect("eval"), "about:blank");
    browser.switch_to(&first).await.expect("switch");
    let url = browser.eval("return location.protocol;", vec![]).await.expect("eval");
    assert_eq!(url, "file:");
    let version = browser.devtools("Browser.getVersion", json!({})).await.expect("DevTools");
    assert!(version["product"].as_str().is_some_and(|product| product.contains("Chrome")), "{version}");
}

/// Answers every request with an empty page, from a thread that ends with this program.
fn serve_empty_pages() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let origin = format!("http://{}", listener.local_addr().expect("an address"));
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut request = [0; 4096];
            let answer =
                b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
            // A browser opens connections that it does not use.
            let _ = stream.read(&mut request).and_then(|_| stream.write_all(answer));
        }
    });
    origin
}

/// All that a page can leave: windows, workers, storage, cookies, overrides, a hidden window, lines in the console.
#[tokio::test]
async fn a_renewed_browser_has_nothing_of_what_was_there() {
    let browser = Browser::open(&software()).await.expect("browser");
    let origin = serve_empty_pages();
    let leave = "const done = arguments[arguments.length - 1]; \
         localStorage.left = 'yes'; document.cookie = 'left=yes; max-age=1000'; \
         new Worker(URL.createObjectURL(new Blob([`setInterval(() => \
             new BroadcastChannel('left').postMessage('alive'), 5)`]))); \
         console.error('left'); \
         navigator.storage.getDirectory().then((root) => root.getFileHandle('left', { create: true })) \
             .then(() => done(true), (error) => done(String(error)));";
    let look = "const done = arguments[arguments.length - 1]; let heard = 0; \
         new BroadcastChannel('left').onmessage = () => { heard += 1; }; \
         navigator.storage.getDirectory().then(async (root) => { \
             const files = []; \
             for await (const name of root.keys()) { files.push(name); } \
             await new Promise((later) => setTimeout(later, 200)); \
             done([localStorage.left ?? null, document.cookie, files, heard > 0, window.innerWidth, window.innerHeight, \
                 document.visibilityState, navigator.userAgent === 'left']); \
         });";
    let before = {
        browser.goto(&origin).await.expect("open");
        browser.eval_async(look, vec![]).await.expect("script")
    };
    assert_eq!(browser.eval_async(leave, vec![]).await.expect("script"), true);
    let after = browser.eval_async(look, vec![]).await.expect("script");
    assert_eq!(after[0], "yes");
    assert_eq!((&after[1], &after[2], &after[3]), (&"left=yes".into(), &json!(["left"]), &true.into()), "{after}");
    browser.devtools("Emulation.setUserAgentOverride", json!({ "userAgent": "left" })).await.expect("an override");
    let small = json!({ "width": 390, "height": 844, "deviceScaleFactor": 1, "mobile": false });
    browser.devtools("Emulation.setDeviceMetricsOverride", small).await.expect("a size");
    let another = browser.new_tab().await.expect("a tab");
    browser.switch_to(&another).await.expect("switch");
    browser.goto(&origin).await.expect("open");
    browser.hide().await.expect("hidden");

    browser.renew(&origin).await.expect("it is made ready");
    assert_eq!(browser.console().await.expect("console"), []);
    browser.goto(&origin).await.expect("open");
    assert_eq!(browser.eval_async(look, vec![]).await.expect("script"), before);
    assert_eq!(browser.windows().await.expect("asked"), 1);
}

/// Ids of the processes that were started with `profile` in their arguments.
fn processes_with(profile: &Path) -> Vec<String> {
    let output = std::process::Command::new("ps").args(["-A", "-o", "pid=,args="]).output().expect("ps");
    let profile = profile.display().to_string();
    let text = String::from_utf8_lossy(&output.stdout);
    let lines = text.lines().filter(|line| line.contains(&profile));
    lines.filter_map(|line| line.split_whitespace().next().map(str::to_owned)).collect()
}
