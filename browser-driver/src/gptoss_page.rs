//! The page at `/gptoss`, as a test or a demo sees it.

use std::time::Duration;

use serde::Deserialize;
use serde_json::json;

use crate::browser::Browser;
use crate::error::Error;

/// The gpt-oss page, driven through the browser that has it open.
#[derive(Debug)]
pub struct GptossPage<'a> {
    browser: &'a Browser,
}

/// State of the page: the attribute `data-state` of its body.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PageState {
    /// Nothing was asked for yet.
    Idle,
    /// A model is being loaded.
    Loading,
    /// A model is loaded and nothing is going on.
    Ready,
    /// An answer is being generated.
    Generating,
    /// The answer is complete.
    Done,
    /// `#error` says what happened, `#error-advice` what to do.
    Error,
    /// STOP took effect.
    Stopped,
}

/// What the page shows at one moment.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Snapshot {
    /// State of the page.
    pub state: PageState,
    /// All lines of the stage list, in order.
    pub stages: Vec<StageLine>,
    /// Text of the analysis channel, so far.
    pub analysis_text: String,
    /// Text of the final channel, so far.
    pub final_text: String,
    /// Text of `#error`; empty without an error.
    pub error: String,
    /// Text of `#error-advice`: what the user can do about the error.
    pub error_advice: String,
}

/// One line of the stage list.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct StageLine {
    /// The stage in the user's words.
    pub name: String,
    /// `waiting`, `running`, `done`, `failed` or `stopped`.
    pub status: String,
    /// How long the stage took, with its unit, or what is shown while that is not known.
    pub time: String,
}

impl StageLine {
    /// Status of a stage that was not begun.
    pub const WAITING: &str = "waiting";
    /// Status of a stage that is under way.
    pub const RUNNING: &str = "running";
    /// Status of a stage that went well.
    pub const DONE: &str = "done";
}

impl Snapshot {
    fn summary(&self) -> String {
        let stages: Vec<_> = self
            .stages
            .iter()
            .filter(|line| line.status != StageLine::WAITING)
            .map(|line| format!("{} {}", line.name, line.status))
            .collect();
        let mut summary = format!("state {:?}, stages [{}]", self.state, stages.join(", "));
        for (name, text) in [
            ("analysis", &self.analysis_text),
            ("final", &self.final_text),
            ("error", &self.error),
            ("advice", &self.error_advice),
        ] {
            if !text.is_empty() {
                summary.push_str(&format!(", {name} {text:?}"));
            }
        }
        summary
    }
}

/// How long the page may take, on a busy machine, to enable a button and to react to it.
const REACTION_TIMEOUT: Duration = Duration::from_secs(30);

/// Collects a snapshot in one call, so that its parts belong together.
const SNAPSHOT_SCRIPT: &str = include_str!("snapshot.js");

impl<'a> GptossPage<'a> {
    /// Opens `url` (the page's address with whatever query) and waits until the page's code runs.
    pub async fn open(browser: &'a Browser, url: &str) -> Result<Self, Error> {
        browser.goto(url).await?;
        let page = Self { browser };
        let what = format!("the page at {url} to start (body[data-state])");
        browser
            .wait_for(&what, Duration::from_secs(60), async |browser| {
                let state = browser.eval("return document.body?.dataset.state ?? null;", vec![]).await?;
                Ok(if state.is_string() { Ok(()) } else { Err(format!("data-state {state}")) })
            })
            .await?;
        Ok(page)
    }

    /// Everything the page shows right now.
    pub async fn snapshot(&self) -> Result<Snapshot, Error> {
        let value = self.browser.eval(SNAPSHOT_SCRIPT, vec![]).await?;
        Snapshot::deserialize(&value)
            .map_err(|error| Error::Answer { doing: "read the page".to_owned(), got: format!("{value} ({error})") })
    }

    /// Presses LOAD MODEL, and returns once the page has reacted. Where nothing stands in the prompt, the last question is asked
    /// again.
    pub async fn load(&self) -> Result<(), Error> {
        self.press("#load").await
    }

    /// Presses ASK (another prompt to the loaded model), and returns once the page has reacted. Where nothing stands in the prompt,
    /// the last question is asked again.
    pub async fn ask(&self) -> Result<(), Error> {
        self.press("#ask").await
    }

    /// Writes the last question into the prompt if it is empty: the page empties it once its question is being answered.
    pub async fn bring_back_question(browser: &Browser) -> Result<(), Error> {
        let script = "const prompt = document.querySelector('#prompt'); \
             const asked = [...document.querySelectorAll('.turn .asked')].at(-1)?.textContent; \
             if (prompt.value !== '' || asked === undefined) { return; } \
             prompt.value = asked; \
             prompt.dispatchEvent(new Event('input', { bubbles: true }));";
        browser.eval(script, vec![]).await.map(|_| ())
    }

    /// Clicks once the button is enabled, and waits until the page's state changes, so that what was shown before is
    /// not mistaken for the outcome. Changes are counted in the page, because a fast GPU may be done between two looks.
    /// A run that fails at once may begin and end between two drawings of the page and leave the state of an earlier
    /// failure; then the number of events, which is drawn together with the state, has changed.
    pub async fn press(&self, css: &str) -> Result<(), Error> {
        if ["#load", "#ask"].contains(&css) {
            Self::bring_back_question(self.browser).await?;
        }
        self.wait_until_enabled(css).await?;
        let count_changes = "window.driverStateChanges = 0; \
             window.driverEventsBefore = document.querySelector('#events-received')?.textContent; \
             window.driverStateObserver ??= new MutationObserver(() => { window.driverStateChanges += 1; }); \
             window.driverStateObserver.observe(document.body, { attributes: true, attributeFilter: ['data-state'] });";
        self.browser.eval(count_changes, vec![]).await?;
        self.browser.click(css).await?;
        self.browser
            .wait_for(&format!("the page to react to {css}"), REACTION_TIMEOUT, async |browser| {
                let script = "return window.driverStateChanges > 0 || \
                     document.querySelector('#events-received')?.textContent !== window.driverEventsBefore;";
                let reacted = browser.eval(script, vec![]).await?;
                Ok(if reacted == true { Ok(()) } else { Err(self.snapshot().await?.summary()) })
            })
            .await
    }

    /// Waits until the button that matches `css` is enabled: a disabled one swallows clicks silently.
    pub async fn wait_until_enabled(&self, css: &str) -> Result<(), Error> {
        let script = "const button = document.querySelector(arguments[0]); \
             return button !== null && !button.disabled && button.getAttribute('aria-disabled') !== 'true';";
        self.browser
            .wait_for(&format!("{css} to be enabled"), REACTION_TIMEOUT, async |browser| {
                let enabled = browser.eval(script, vec![json!(css)]).await?;
                Ok(if enabled == true { Ok(()) } else { Err(self.snapshot().await?.summary()) })
            })
            .await
    }

    /// Presses STOP.
    pub async fn stop(&self) -> Result<(), Error> {
        self.browser.click("#stop").await
    }

    /// Types `prompt` into the prompt field, replacing what was there.
    pub async fn set_prompt(&self, prompt: &str) -> Result<(), Error> {
        self.browser.fill("#prompt", prompt).await
    }

    /// Types a model address, replacing what was there.
    pub async fn set_gguf_url(&self, url: &str) -> Result<(), Error> {
        self.browser.set_value("#gguf", url).await
    }

    /// Follows the page until it is in one of `states`; `on_change` sees every snapshot that differs from the one
    /// before.
    ///
    /// # Errors
    /// [`Error::Timeout`], or [`Error::Answer`] with the page's own message when it shows an error that was not waited
    /// for.
    pub async fn follow(
        &self,
        states: &[PageState],
        timeout: Duration,
        mut on_change: impl FnMut(&Snapshot),
    ) -> Result<Snapshot, Error> {
        let what = format!("the page to be in one of the states {states:?}");
        let mut previous = None;
        self.browser
            .wait_for(&what, timeout, async |_| {
                let snapshot = self.snapshot().await?;
                if previous.as_ref() != Some(&snapshot) {
                    on_change(&snapshot);
                    previous = Some(snapshot.clone());
                }
                if states.contains(&snapshot.state) {
                    return Ok(Ok(snapshot));
                }
                if snapshot.state == PageState::Error {
                    return Err(Error::Answer { doing: what.clone(), got: snapshot.summary() });
                }
                Ok(Err(snapshot.summary()))
            })
            .await
    }

    /// True when the browser offers the page a WebGPU adapter.
    pub async fn has_webgpu_adapter(&self) -> Result<bool, Error> {
        let script = "const done = arguments[arguments.length - 1]; \
             if (!navigator.gpu) { done(false); } \
             else { navigator.gpu.requestAdapter().then((adapter) => done(adapter !== null), () => done(false)); }";
        Ok(self.browser.eval_async(script, vec![]).await? == json!(true))
    }
}
