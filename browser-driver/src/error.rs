use std::path::PathBuf;

use crate::locate::NotInstalled;

/// Why a browser could not be driven.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    #[error(transparent)]
    NotInstalled(#[from] NotInstalled),

    #[error("chromedriver ({path}) could not be started: {source}", path = path.display())]
    DriverStart { path: PathBuf, source: std::io::Error },

    #[error(
        "chromedriver ({path}) did not say within {seconds} s which port it listens on; it printed:\n{output}",
        path = path.display()
    )]
    DriverSilent { path: PathBuf, seconds: u64, output: String },

    #[error(
        "chromedriver could not start Chrome ({chrome}): {detail}\n\
         Chrome and chromedriver must have the same major version; CHROME and CHROMEDRIVER choose other ones.",
        chrome = chrome.display()
    )]
    Session { chrome: PathBuf, detail: String },

    #[error("{doing}: {source}")]
    Command { doing: String, source: Box<fantoccini::error::CmdError> },

    #[error("{doing}: the browser answered with something unexpected: {got}")]
    Answer { doing: String, got: String },

    #[error("waited {seconds:.0} s for {what}; last seen: {last}")]
    Timeout { what: String, seconds: f64, last: String },

    #[error("{doing}: {source}")]
    Io { doing: String, source: std::io::Error },
}

impl Error {
    pub(crate) fn io(doing: impl Into<String>) -> impl FnOnce(std::io::Error) -> Self {
        let doing = doing.into();
        move |source| Self::Io { doing, source }
    }

    pub(crate) fn command(doing: impl Into<String>) -> impl FnOnce(fantoccini::error::CmdError) -> Self {
        let doing = doing.into();
        move |source| Self::Command { doing, source: Box::new(source) }
    }
}
