//! Drives a headless Chromium through WebDriver, for `cargo xtask demo` and the end-to-end tests.
//!
//! [`Installation`] finds Chrome and chromedriver on this machine; [`Browser`] starts both with a profile of its own and
//! takes everything down again when it is dropped, whatever happened in between; [`GptossPage`] knows the page at
//! `/gptoss`: its elements, its states, what it shows; [`nano_cases`] has questions to ask it and the right answers.

mod browser;
mod driver_process;
mod error;
mod gptoss_page;
mod launch;
mod locate;
mod nano_cases;
mod processes;

pub use browser::{Browser, ConsoleEntry, ConsoleLevel, End, Tab};
pub use error::Error;
pub use gptoss_page::{GptossPage, PageState, Snapshot, StageLine};
pub use launch::{AfterGpuCrashes, Gpu, LaunchOptions, chrome_arguments, unattended};
pub use locate::{Installation, NotInstalled, find_chrome};
pub use nano_cases::{NanoCase, nano_cases};
pub use processes::{BrowserProcess, processes_of};
