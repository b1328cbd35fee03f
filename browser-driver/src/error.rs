use std::path::PathBuf;

use crate::locate::NotInstalled;

/// Why a browser could not be driven.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[expect(missing_docs, reason = "the messages say what the fields are")]
pub enum Error {
    /// Chrome or chromedriver is not on this machine.
    #[error(transparent)]
    NotInstalled(#[from] NotInstalled),

    /// The operating system could not start chromedriver.
    #[error("chromedriver ({path}) could not be started: {source}", path = path.display())]
    DriverStart { path: PathBuf, source: std::io::Error },

    /// Chromedriver started but did not say its port in time.
    #[error(
        "chromedriver ({path}) did not say within {seconds} s which port it listens on; it printed:\n{output}",
        path = path.display()
    )]
    DriverSilent { path: PathBuf, seconds: u64, output: String },

    /// Chromedriver could not start Chrome.
    #[error(
        "chromedriver could not start Chrome ({chrome}): {detail}\n\
         Chrome and chromedriver must have the same major version; CHROME and CHROMEDRIVER choose other ones.",
        chrome = chrome.display()
    )]
    Session { chrome: PathBuf, detail: String },

    /// A WebDriver command failed.
    #[error("{doing}: {source}")]
    Command { doing: String, source: Box<fantoccini::error::CmdError> },

    /// A command succeeded with a result of an unexpected form.
    #[error("{doing}: the browser answered with something unexpected: {got}")]
    Answer { doing: String, got: String },

    /// Something that a test waited for did not happen.
    #[error("waited {seconds:.0} s for {what}; last seen: {last}")]
    Timeout { what: String, seconds: f64, last: String },

    /// A file or process operation of this machine failed.
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
