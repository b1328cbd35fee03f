//! A browser with the page, served by gguf-serve with the nano model.

use std::path::PathBuf;
#[cfg(target_os = "linux")]
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use browser_driver::{
    Browser, BrowserProcess, ConsoleLevel, GptossPage, Gpu, LaunchOptions, NanoCase, PageState, Snapshot, nano_cases,
};
use gguf_serve::{AccessRecord, Options, PageSource, RunningServer, serve};
use gptoss_tests::workspace_root;
use tokio::sync::{Mutex as AsyncMutex, MutexGuard};

use crate::lease::Lease;

/// Loading and answering with the nano model takes seconds; a slow machine with a software adapter gets minutes.
pub const PATIENCE: Duration = Duration::from_secs(300);

/// One browser at a time, since the page's own timing is looked at. `cargo xtask test` runs two parts of this program at once:
/// a page with the software adapter keeps about 1.4 cores busy.
static TURN: AsyncMutex<()> = AsyncMutex::const_new(());

/// Fields drop in this order.
pub struct Session {
    pub browser: Lease,
    pub server: RunningServer,
    records: Arc<Mutex<Vec<AccessRecord>>>,
    _turn: MutexGuard<'static, ()>,
}

impl Session {
    /// Serves the nano model.
    pub async fn start() -> Self {
        Self::serving(vec![gptoss_tests::nano_model()]).await
    }

    /// Serves `models`, the first of which the page offers by itself.
    pub async fn serving(models: Vec<PathBuf>) -> Self {
        Self::with(Options { paths: models, ..Options::default() }).await
    }

    /// Serves as `options` say, on a free port.
    pub async fn with(options: Options) -> Self {
        let turn = TURN.lock().await;
        let records = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&records);
        let log: gguf_serve::AccessLog = Arc::new(move |record: &AccessRecord| {
            log.lock().unwrap_or_else(PoisonError::into_inner).push(record.clone());
        });
        let page = options.web.clone().map_or(PageSource::Embedded, PageSource::Folder);
        let server = serve(Options { port: 0, log: Some(log), ..options }).await.expect("gguf-serve starts");
        assert_eq!(
            *server.page_source(),
            page,
            "gguf-serve was built without the page: run `cargo xtask page` first, or `cargo xtask test`"
        );
        let browser = Lease::shared(format!("http://{}", server.addr())).await;
        Self { browser, server, records, _turn: turn }
    }

    /// Replaces the browser, which other tests use, too, by one of its own.
    pub async fn with_own_browser(mut self, options: &LaunchOptions) -> Self {
        self.browser = Lease::own(options).await;
        self
    }

    /// Opens the page with `query` (without the question mark; may be empty) and waits until LOAD MODEL can be pressed. Recorded
    /// answers are those of questions that stand alone.
    pub async fn open(&self, query: &str) -> GptossPage<'_> {
        self.open_talking(&format!("history=no&{query}")).await
    }

    /// As [`Self::open`], for a conversation.
    pub async fn open_talking(&self, query: &str) -> GptossPage<'_> {
        let page = self.open_as_it_is(query).await;
        page.wait_until_enabled("#load").await.expect("LOAD MODEL can be pressed");
        page
    }

    /// Opens the page with `query`, whatever comes of it.
    pub async fn open_as_it_is(&self, query: &str) -> GptossPage<'_> {
        let separator = if query.is_empty() { "" } else { "?" };
        let url = format!("{}{separator}{query}", self.server.page_url());
        GptossPage::open(&self.browser, &url).await.expect("the page opens")
    }

    /// Opens a tab of the drawer, and waits until it is drawn.
    pub async fn open_tab(&self, name: &str) {
        self.browser.click(&format!("[data-do='tab {name}']")).await.expect("the drawer can be opened");
        let script = format!("return document.getElementById('tab-{name}').hidden;");
        let look = async |browser: &Browser| {
            let hidden = browser.eval(&script, vec![]).await?;
            Ok(if hidden == false { Ok(()) } else { Err(format!("hidden: {hidden}")) })
        };
        self.browser.wait_for(name, Duration::from_secs(30), look).await.expect("the tab");
    }

    /// Address of the served model with this file name.
    pub async fn model_url(&self, file_name: &str) -> String {
        let models = self.server.models().await.expect("models");
        let model = models.iter().find(|model| model.name == file_name).expect("the model is served");
        format!("http://{}{}", self.server.addr(), model.file_url)
    }

    /// Requests that the server has answered in full so far.
    pub fn requests(&self) -> Vec<AccessRecord> {
        self.records.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Saves what the page shows as `target/screenshots/<name>.png`.
    pub async fn screenshot(&self, name: &str) {
        let file = workspace_root().join("target/screenshots").join(format!("{name}.png"));
        self.browser.screenshot(&file).await.expect("screenshot");
    }

    /// Fails if anything worse than information was written to the console since the last look, workers included.
    pub async fn assert_quiet_console(&self) {
        let entries = self.browser.console().await.expect("console");
        let loud: Vec<_> = entries.into_iter().filter(|entry| entry.level >= ConsoleLevel::Warning).collect();
        assert!(loud.is_empty(), "the console is not quiet: {loud:#?}");
    }
}

/// How the browsers of these tests are started: with the software adapter, which is the same everywhere, or with this
/// machine's own GPU if `GPTOSS_PAGE_GPU=any`.
pub fn launch_options() -> LaunchOptions {
    let gpu = match std::env::var("GPTOSS_PAGE_GPU").as_deref() {
        Err(std::env::VarError::NotPresent) => Gpu::Software,
        Ok("any") => Gpu::Any,
        other => panic!("GPTOSS_PAGE_GPU is {other:?}, expected any, or nothing at all"),
    };
    LaunchOptions { gpu, ..LaunchOptions::default() }
}

/// Follows the page to one of `states`.
pub async fn follow(page: &GptossPage<'_>, states: &[PageState]) -> Snapshot {
    page.follow(states, PATIENCE, |_| {}).await.expect("the page gets there")
}

/// Waits until the model thinks.
pub async fn first_words(session: &Session, page: &GptossPage<'_>) {
    let look = async |_: &_| {
        let seen = page.snapshot().await?;
        assert_ne!(seen.state, PageState::Done, "the answer was over before anybody left");
        Ok(if seen.analysis_text.is_empty() { Err(format!("{:?}", seen.state)) } else { Ok(()) })
    };
    session.browser.wait_for("the first words", Duration::from_secs(120), look).await.expect("the model thinks");
}

/// Presses LOAD MODEL and follows the page until it has answered.
pub async fn load_and_answer(page: &GptossPage<'_>) -> Snapshot {
    page.load().await.expect("LOAD MODEL can be pressed");
    follow(page, &[PageState::Done]).await
}

/// The recorded question of this family.
pub fn case(family: &str) -> NanoCase {
    let cases = nano_cases(&gptoss_tests::nano_cases()).expect("recorded cases");
    cases.into_iter().find(|case| case.family == family).expect("a case of this family")
}

#[track_caller]
pub fn assert_answer(snapshot: &Snapshot, case: &NanoCase) {
    assert_eq!(snapshot.final_text, case.final_text, "final channel, asked {:?}", case.user);
    assert_eq!(snapshot.analysis_text, case.analysis_text, "analysis channel, asked {:?}", case.user);
}

/// Sends a signal to every one of `processes`.
#[cfg(target_os = "linux")]
pub fn signal(which: &str, processes: &[BrowserProcess]) {
    let sent = Command::new("kill")
        .arg(which)
        .args(processes.iter().map(|process| process.id.to_string()))
        .status()
        .expect("kill runs");
    // Processes that have ended meanwhile need no signal.
    assert!(sent.success() || which == "-CONT", "kill {which} {processes:?}: {sent}");
}
