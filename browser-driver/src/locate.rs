//! Finding Chrome and chromedriver.

use std::ffi::OsStr;
use std::fmt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A Chrome (or Chromium) and the chromedriver that goes with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Installation {
    /// Path of Chrome or Chromium.
    pub chrome: PathBuf,
    /// Path of chromedriver, of the same major version.
    pub chromedriver: PathBuf,
}

/// One of the two programs was not found. The message says where it was looked for and what to install.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct NotInstalled {
    /// Programs that are missing, each with the names and places that were tried.
    pub missing: Vec<(Program, Vec<PathBuf>)>,
}

impl fmt::Display for NotInstalled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (program, tried) in &self.missing {
            let tried: Vec<_> = tried.iter().map(|path| path.display().to_string()).collect();
            writeln!(f, "{program} not found. Looked at ${}, then for: {}.", program.variable(), tried.join(", "))?;
        }
        write!(f, "{}", install_advice())
    }
}

/// What [`Installation::find`] looks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Program {
    Chrome,
    Chromedriver,
}

impl fmt::Display for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Chrome => "Chrome or Chromium",
            Self::Chromedriver => "chromedriver",
        })
    }
}

impl Program {
    /// Environment variable that names the program outright.
    pub fn variable(self) -> &'static str {
        match self {
            Self::Chrome => "CHROME",
            Self::Chromedriver => "CHROMEDRIVER",
        }
    }

    /// Names without a folder are looked up in `PATH`.
    fn candidates(self) -> Vec<PathBuf> {
        match self {
            Self::Chrome if cfg!(target_os = "macos") => {
                let apps = ["Google Chrome", "Chromium", "Google Chrome for Testing"];
                let home = std::env::home_dir().unwrap_or_default();
                let folders = [PathBuf::from("/Applications"), home.join("Applications")];
                folders
                    .iter()
                    .flat_map(|folder| apps.map(|app| folder.join(format!("{app}.app/Contents/MacOS/{app}"))))
                    .chain(["google-chrome", "chromium"].map(PathBuf::from))
                    .collect()
            }
            Self::Chrome if cfg!(windows) => ["ProgramFiles", "ProgramFiles(x86)", "LocalAppData"]
                .iter()
                .filter_map(std::env::var_os)
                .map(|folder| Path::new(&folder).join(r"Google\Chrome\Application\chrome.exe"))
                .chain(["chrome.exe", "chromium.exe"].map(PathBuf::from))
                .collect(),
            Self::Chrome => ["google-chrome-stable", "google-chrome", "chromium", "chromium-browser", "chrome"]
                .map(PathBuf::from)
                .into(),
            Self::Chromedriver if cfg!(windows) => vec!["chromedriver.exe".into()],
            Self::Chromedriver => [
                "chromedriver",
                "/usr/lib/chromium/chromedriver",
                "/usr/lib/chromium-browser/chromedriver",
                "/usr/local/bin/chromedriver",
                "/opt/homebrew/bin/chromedriver",
            ]
            .map(PathBuf::from)
            .into(),
        }
    }

    /// Every installed candidate, best first; only the named one when the environment variable names an existing file.
    fn installed(self) -> Vec<PathBuf> {
        if let Some(named) = std::env::var_os(self.variable()).filter(|value| !value.is_empty()) {
            return resolve(Path::new(&named), std::env::var_os("PATH").as_deref()).into_iter().collect();
        }
        let path = std::env::var_os("PATH");
        self.candidates().iter().filter_map(|candidate| resolve(candidate, path.as_deref())).collect()
    }
}

impl Installation {
    /// Finds both programs: `$CHROME` and `$CHROMEDRIVER` first, then `PATH`, then the places where installers put
    /// them. With several Chromes it takes the one whose major version is chromedriver's.
    ///
    /// # Errors
    /// [`NotInstalled`] names what is missing, where it was looked for and what to install.
    pub fn find() -> Result<Self, NotInstalled> {
        let chromes = Program::Chrome.installed();
        let drivers = Program::Chromedriver.installed();
        if let (Some(first_chrome), Some(driver)) = (chromes.first(), drivers.first()) {
            let wanted = major_version(driver);
            let matching = chromes.iter().find(|chrome| wanted.is_some() && major_version(chrome) == wanted);
            return Ok(Self { chrome: matching.unwrap_or(first_chrome).clone(), chromedriver: driver.clone() });
        }
        let missing = [(Program::Chrome, chromes.is_empty()), (Program::Chromedriver, drivers.is_empty())]
            .into_iter()
            .filter(|(_, is_missing)| *is_missing)
            .map(|(program, _)| (program, program.candidates()))
            .collect();
        Err(NotInstalled { missing })
    }
}

/// Chrome or Chromium alone, for opening a window that nobody drives.
pub fn find_chrome() -> Option<PathBuf> {
    Program::Chrome.installed().into_iter().next()
}

fn install_advice() -> &'static str {
    if cfg!(target_os = "macos") {
        "Install them with: brew install --cask google-chrome chromedriver"
    } else if cfg!(windows) {
        "Install Google Chrome, and the chromedriver of the same version from https://googlechromelabs.github.io/chrome-for-testing/"
    } else {
        "On Debian, install them with: apt-get install chromium chromium-driver. \
         Elsewhere install Chrome or Chromium and the chromedriver of the same version."
    }
}

/// Absolute path of a program: as given when it has a folder, otherwise the first hit in `path`.
fn resolve(program: &Path, path: Option<&OsStr>) -> Option<PathBuf> {
    if program.components().count() > 1 {
        return program.is_file().then(|| program.to_path_buf());
    }
    std::env::split_paths(path?).map(|folder| folder.join(program)).find(|full| full.is_file())
}

/// Major version that the program itself reports. Not asked on Windows, where `chrome --version` opens a window.
fn major_version(program: &Path) -> Option<u32> {
    if cfg!(windows) {
        return None;
    }
    let output = Command::new(program).arg("--version").stdin(Stdio::null()).stderr(Stdio::null()).output().ok()?;
    parse_major(&String::from_utf8_lossy(&output.stdout))
}

/// `Chromium 156.0.8078.79 built on …` → 156.
fn parse_major(text: &str) -> Option<u32> {
    text.split_whitespace().find_map(|word| word.split_once('.')?.0.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn major_versions_are_read_from_what_programs_print() {
        assert_eq!(parse_major("Chromium 156.0.8078.79 built on Debian GNU/Linux 12 (bookworm)"), Some(156));
        assert_eq!(parse_major("ChromeDriver 156.0.8078.79 (a21ce95c24ce-refs/branch-heads/8078@{#1704})"), Some(156));
        assert_eq!(parse_major("Google Chrome for Testing 140.0.7339.5"), Some(140));
        assert_eq!(parse_major("command not found"), None);
    }

    #[test]
    fn bare_names_come_from_path_and_full_ones_stand_for_themselves() {
        let folder = tempfile::tempdir().expect("temp folder");
        let program = folder.path().join("some-browser");
        std::fs::write(&program, "").expect("write");
        let path = std::env::join_paths([Path::new("/nonexistent"), folder.path()]).expect("join");
        assert_eq!(resolve(Path::new("some-browser"), Some(&path)), Some(program.clone()));
        assert_eq!(resolve(&program, None), Some(program));
        assert_eq!(resolve(Path::new("other-browser"), Some(&path)), None);
        assert_eq!(resolve(&folder.path().join("other-browser"), Some(&path)), None);
    }

    #[test]
    fn what_is_missing_is_named_with_the_places_and_the_variable() {
        let error = NotInstalled { missing: vec![(Program::Chromedriver, vec!["/some/chromedriver".into()])] };
        let message = error.to_string();
        for part in ["chromedriver not found", "$CHROMEDRIVER", "/some/chromedriver", "nstall"] {
            assert!(message.contains(part), "{part:?} is not in {message:?}");
        }
    }
}
