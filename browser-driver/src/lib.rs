#![doc = include_str!("../README.md")]

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
