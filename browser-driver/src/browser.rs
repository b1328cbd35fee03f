//! One headless Chromium with one tab.

use std::path::Path;
use std::time::{Duration, Instant};

use fantoccini::wd::{WebDriverCompatibleCommand, WindowHandle};
use fantoccini::{Client, ClientBuilder, Locator};
use hyper_util::client::legacy::connect::HttpConnector;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::driver_process::DriverProcess;
use crate::error::Error;
use crate::launch::{LaunchOptions, capabilities};
use crate::locate::Installation;

/// The first wait between two looks, and the longest: most of what is waited for is there at once or takes seconds.
const POLL_PERIODS: (Duration, Duration) = (Duration::from_millis(5), Duration::from_millis(100));

/// A running headless Chromium. Dropping it ends Chrome and chromedriver and removes the profile.
#[derive(Debug)]
pub struct Browser {
    client: Client,
    // Fields drop in this order: first the processes, then the folder they write to.
    driver: DriverProcess,
    profile: tempfile::TempDir,
    installation: Installation,
    options: LaunchOptions,
}

/// How a browser ends before it is started again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// In order, as when a user closes the browser.
    Closed,
    /// All processes die at once, as in a crash, without a chance to write anything.
    Killed,
}

/// One tab of a [`Browser`].
#[derive(Clone, Debug)]
pub struct Tab(WindowHandle);

/// One line of the browser's console, the page's and its workers', uncaught errors included.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct ConsoleEntry {
    /// Severity of the message.
    pub level: ConsoleLevel,
    /// Script address and position, then the text.
    pub message: String,
    /// Milliseconds since the Unix epoch.
    pub timestamp: u64,
}

/// WebDriver's names for console levels; `console.error` is `Severe`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum ConsoleLevel {
    /// The lowest level of the filter; messages do not have it.
    All,
    /// `console.debug`.
    Debug,
    /// `console.log` and `console.info`.
    Info,
    /// `console.warn`.
    Warning,
    /// `console.error`, and errors that nothing caught.
    Severe,
    /// A level that is none of the above.
    #[serde(other)]
    Unknown,
}

impl Browser {
    /// Starts chromedriver and Chrome with a fresh profile.
    ///
    /// # Errors
    /// When either program is missing, does not start, or the two do not go together.
    pub async fn open(options: &LaunchOptions) -> Result<Self, Error> {
        Self::open_with(&Installation::find()?, options).await
    }

    /// Like [`Browser::open`], with programs that were found before.
    pub async fn open_with(installation: &Installation, options: &LaunchOptions) -> Result<Self, Error> {
        let profile = tempfile::Builder::new()
            .prefix("browser-driver-")
            .tempdir()
            .map_err(Error::io("create a folder for the browser's profile"))?;
        let (driver, client) = start(installation, options, profile.path()).await?;
        Ok(Self { client, driver, profile, installation: installation.clone(), options: options.clone() })
    }

    /// Ends the browser and starts it again with the same profile: what pages stored is still there, nothing else is.
    pub async fn restart(&mut self, end: End) -> Result<(), Error> {
        match end {
            End::Closed => self.driver.close(),
            End::Killed => self.driver.kill(),
        }
        let (driver, client) = start(&self.installation, &self.options, self.profile.path()).await?;
        (self.driver, self.client) = (driver, client);
        Ok(())
    }

    /// The tab that is driven now.
    pub async fn tab(&self) -> Result<Tab, Error> {
        self.client.window().await.map(Tab).map_err(Error::command("ask which tab this is"))
    }

    /// How many windows and tabs are open.
    pub async fn windows(&self) -> Result<usize, Error> {
        Ok(self.client.windows().await.map_err(Error::command("list the windows"))?.len())
    }

    /// Opens another tab. It is not driven before [`Browser::switch_to`].
    pub async fn new_tab(&self) -> Result<Tab, Error> {
        let opened = self.client.new_window(true).await.map_err(Error::command("open a tab"))?;
        Ok(Tab(opened.handle))
    }

    /// Drives `tab` from now on.
    pub async fn switch_to(&self, tab: &Tab) -> Result<(), Error> {
        self.client.switch_to_window(tab.0.clone()).await.map_err(Error::command("switch to a tab"))
    }

    /// Makes this browser as good as a new one for whoever uses it next: a new, empty window is driven from now on and all
    /// others are closed, with their pages, workers and DevTools overrides; cookies, what pages of `origin` have stored, and
    /// lines of the console that nobody has read are gone. What other origins have stored stays.
    pub async fn renew(&self, origin: &str) -> Result<(), Error> {
        let old = self.client.windows().await.map_err(Error::command("list the windows"))?;
        let new = self.client.new_window(false).await.map_err(Error::command("open a window"))?;
        for window in old {
            self.client.switch_to_window(window).await.map_err(Error::command("switch to a window"))?;
            self.client.close_window().await.map_err(Error::command("close a window"))?;
        }
        self.switch_to(&Tab(new.handle)).await?;
        self.devtools("Network.clearBrowserCookies", json!({})).await?;
        self.devtools("Storage.clearDataForOrigin", json!({ "origin": origin, "storageTypes": "all" })).await?;
        self.console().await?;
        Ok(())
    }

    /// Minimises the window: its pages are hidden then.
    pub async fn hide(&self) -> Result<(), Error> {
        self.client.minimize_window().await.map_err(Error::command("minimise the window"))
    }

    /// Brings the window back.
    pub async fn show(&self) -> Result<(), Error> {
        self.client.maximize_window().await.map_err(Error::command("bring the window back"))
    }

    /// Sends a command of the Chrome DevTools Protocol to the tab that is driven now.
    pub async fn devtools(&self, command: &str, parameters: Value) -> Result<Value, Error> {
        let send = DevTools { command: command.to_owned(), parameters };
        self.client.issue_cmd(send).await.map_err(Error::command(format!("send {command} to the browser")))
    }

    /// The profile's folder: a place for files that should vanish with the browser.
    pub fn profile_folder(&self) -> &Path {
        self.profile.path()
    }

    /// Opens `url` and waits for its load event.
    pub async fn goto(&self, url: &str) -> Result<(), Error> {
        self.client.goto(url).await.map_err(Error::command(format!("open {url}")))
    }

    /// Runs `script` as a function body in the page and gives back what it returns. `arguments` holds `args`.
    pub async fn eval(&self, script: &str, args: Vec<Value>) -> Result<Value, Error> {
        self.client.execute(script, args).await.map_err(Error::command(format!("run script {script:?}")))
    }

    /// Like [`Browser::eval`], for a script that ends by calling its last argument with the result.
    pub async fn eval_async(&self, script: &str, args: Vec<Value>) -> Result<Value, Error> {
        self.client.execute_async(script, args).await.map_err(Error::command(format!("run script {script:?}")))
    }

    /// Clicks the first element that matches `css`, as a user would: it must be visible and not covered.
    pub async fn click(&self, css: &str) -> Result<(), Error> {
        let doing = || Error::command(format!("click {css}"));
        // chromedriver takes what a scrolled part of the page has scrolled away for visible, where it would be in the window.
        let show = "document.querySelector(arguments[0])?.scrollIntoView({ block: 'nearest', inline: 'nearest' });";
        self.eval(show, vec![json!(css)]).await?;
        let element = self.client.find(Locator::Css(css)).await.map_err(doing())?;
        element.click().await.map_err(doing())
    }

    /// Replaces what is in the input that matches `css` by typing `text`.
    pub async fn fill(&self, css: &str, text: &str) -> Result<(), Error> {
        let doing = || Error::command(format!("type into {css}"));
        let element = self.client.find(Locator::Css(css)).await.map_err(doing())?;
        element.clear().await.map_err(doing())?;
        element.send_keys(text).await.map_err(doing())
    }

    /// Sets the input or select that matches `css`, visible or not, and tells the page as a user's change would.
    pub async fn set_value(&self, css: &str, value: &str) -> Result<(), Error> {
        let script = "const element = document.querySelector(arguments[0]); \
             if (element === null) { return false; } \
             element.value = arguments[1]; \
             for (const name of ['input', 'change']) { element.dispatchEvent(new Event(name, { bubbles: true })); } \
             return element.value === arguments[1];";
        match self.eval(script, vec![json!(css), json!(value)]).await? {
            Value::Bool(true) => Ok(()),
            _ => Err(Error::Answer {
                doing: format!("set {css} to {value:?}"),
                got: "no such element, or it does not take that value".to_owned(),
            }),
        }
    }

    /// Picks `files`, all at once, in the file input that matches `css`. Works on hidden inputs, too.
    pub async fn pick_files(&self, css: &str, files: &[impl AsRef<Path>]) -> Result<(), Error> {
        // The WebDriver standard wants one path per line for inputs that take several files.
        let paths: Vec<String> = files.iter().map(|file| file.as_ref().display().to_string()).collect();
        let paths = paths.join("\n");
        let doing = || Error::command(format!("pick {paths} in {css}"));
        let element = self.client.find(Locator::Css(css)).await.map_err(doing())?;
        element.send_keys(&paths).await.map_err(doing())
    }

    /// Text content of the first element that matches `css`, whether it is visible or not.
    pub async fn text(&self, css: &str) -> Result<String, Error> {
        let script = "const element = document.querySelector(arguments[0]); return element && element.textContent;";
        match self.eval(script, vec![json!(css)]).await? {
            Value::String(text) => Ok(text),
            _ => Err(Error::Answer { doing: format!("read {css}"), got: "no such element".to_owned() }),
        }
    }

    /// Console lines since the last call.
    pub async fn console(&self) -> Result<Vec<ConsoleEntry>, Error> {
        let doing = "read the browser's console";
        let entries = self.client.issue_cmd(ConsoleLog).await.map_err(Error::command(doing))?;
        serde_json::from_value(entries.clone())
            .map_err(|error| Error::Answer { doing: doing.to_owned(), got: format!("{entries} ({error})") })
    }

    /// Saves what the window shows as a PNG, making folders as needed.
    pub async fn screenshot(&self, file: &Path) -> Result<(), Error> {
        let png = self.client.screenshot().await.map_err(Error::command("take a screenshot"))?;
        let doing = || Error::io(format!("write {}", file.display()));
        if let Some(folder) = file.parent() {
            std::fs::create_dir_all(folder).map_err(doing())?;
        }
        std::fs::write(file, png).map_err(doing())
    }

    /// Looks again and again until `look` finds what it wants; `Err(seen)` means not yet, with what was seen instead.
    ///
    /// # Errors
    /// Whatever `look` fails with, or [`Error::Timeout`] with what was seen last.
    pub async fn wait_for<T>(
        &self,
        what: &str,
        timeout: Duration,
        mut look: impl AsyncFnMut(&Self) -> Result<Result<T, String>, Error>,
    ) -> Result<T, Error> {
        let start = Instant::now();
        let (mut period, longest) = POLL_PERIODS;
        loop {
            let last = match look(self).await? {
                Ok(found) => return Ok(found),
                Err(seen) => seen,
            };
            if start.elapsed() >= timeout {
                return Err(Error::Timeout { what: what.to_owned(), seconds: timeout.as_secs_f64(), last });
            }
            tokio::time::sleep(period).await;
            period = (period * 2).min(longest);
        }
    }
}

/// Starts both programs with the profile in `profile`.
async fn start(
    installation: &Installation,
    options: &LaunchOptions,
    profile: &Path,
) -> Result<(DriverProcess, Client), Error> {
    let driver = DriverProcess::start(&installation.chromedriver, profile)?;
    let session_error = |detail: String| Error::Session { chrome: installation.chrome.clone(), detail };
    let Value::Object(capabilities) = capabilities(options, &installation.chrome, profile) else {
        return Err(session_error("capabilities are not a JSON object".to_owned()));
    };
    let client = ClientBuilder::new(HttpConnector::new())
        .capabilities(capabilities)
        .connect(&driver.url())
        .await
        .map_err(|error| session_error(error.to_string()))?;
    Ok((driver, client))
}

/// Chromedriver's own endpoint for the DevTools protocol.
#[derive(Debug)]
struct DevTools {
    command: String,
    parameters: Value,
}

impl WebDriverCompatibleCommand for DevTools {
    fn endpoint(&self, base_url: &url::Url, session_id: Option<&str>) -> Result<url::Url, url::ParseError> {
        base_url.join(&format!("session/{}/goog/cdp/execute", session_id.unwrap_or_default()))
    }

    fn method_and_body(&self, _request_url: &url::Url) -> (http::Method, Option<String>) {
        (http::Method::POST, Some(json!({ "cmd": self.command, "params": self.parameters }).to_string()))
    }
}

/// Chromedriver's own endpoint for `goog:loggingPrefs`; WebDriver proper has none.
#[derive(Debug)]
struct ConsoleLog;

impl WebDriverCompatibleCommand for ConsoleLog {
    fn endpoint(&self, base_url: &url::Url, session_id: Option<&str>) -> Result<url::Url, url::ParseError> {
        base_url.join(&format!("session/{}/se/log", session_id.unwrap_or_default()))
    }

    fn method_and_body(&self, _request_url: &url::Url) -> (http::Method, Option<String>) {
        (http::Method::POST, Some(json!({ "type": "browser" }).to_string()))
    }
}
