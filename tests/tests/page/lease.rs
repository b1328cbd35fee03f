//! The browser of a test: one that tests use in turn, or one of its own for a test that kills processes, restarts or needs
//! other flags. A browser takes a second to start and to end, and the first page in it another for the GPU's process.

use std::ops::{Deref, DerefMut};
use std::sync::{LazyLock, Mutex, PoisonError};

use browser_driver::{Browser, LaunchOptions};
use tokio::runtime::{Builder, Runtime};

use crate::session::launch_options;

/// The shared browser while no test has it. It ends with this program: see `browser_driver`'s guard.
static SHARED: Mutex<Option<Browser>> = Mutex::new(None);

/// Where the connection to the shared browser lives: it would end with the runtime of the test that opened it.
static RUNTIME: LazyLock<Runtime> =
    LazyLock::new(|| Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime"));

/// A browser that is given back when it is dropped, or ended.
pub struct Lease {
    browser: Option<Browser>,
    /// Whose pages the test looks at, if the browser is the shared one.
    shared_for: Option<String>,
}

impl Lease {
    /// The shared browser, for a test that looks at pages of `origin` and changes nothing outside of them.
    pub async fn shared(origin: String) -> Self {
        let waiting = SHARED.lock().unwrap_or_else(PoisonError::into_inner).take();
        let browser = match waiting {
            Some(browser) => browser,
            // Only where the guard is: nothing else would end it.
            None if cfg!(unix) => {
                let opened = RUNTIME.spawn(async { Browser::open(&launch_options()).await }).await;
                opened.expect("it does not panic").expect("headless Chromium")
            }
            None => return Self::own(&launch_options()).await,
        };
        Self { browser: Some(browser), shared_for: Some(origin) }
    }

    /// A new browser, which ends with the test.
    pub async fn own(options: &LaunchOptions) -> Self {
        let browser = Browser::open(options).await.expect("headless Chromium");
        Self { browser: Some(browser), shared_for: None }
    }
}

impl Deref for Lease {
    type Target = Browser;

    fn deref(&self) -> &Browser {
        self.browser.as_ref().expect("it is there until it is dropped")
    }
}

impl DerefMut for Lease {
    fn deref_mut(&mut self) -> &mut Browser {
        self.browser.as_mut().expect("it is there until it is dropped")
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let (Some(browser), Some(origin)) = (self.browser.take(), self.shared_for.take()) else { return };
        // Nobody knows what a test that failed has left: the next one gets a new browser.
        if std::thread::panicking() {
            return;
        }
        // On a thread of its own, because this one may be a runtime's.
        let renewed = std::thread::scope(|scope| scope.spawn(|| RUNTIME.block_on(browser.renew(&origin))).join());
        renewed.expect("it does not panic").expect("the browser can be made ready for the next test");
        *SHARED.lock().unwrap_or_else(PoisonError::into_inner) = Some(browser);
    }
}
