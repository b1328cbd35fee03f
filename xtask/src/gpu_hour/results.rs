//! What commands printed, in one file that is written anew after each of them.

use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// Of what a program said on standard error the end is kept.
const SAID_CHARS: usize = 4000;

/// What came of one command.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Outcome {
    pub name: String,
    pub command: String,
    /// When it ended, UTC.
    pub at: String,
    pub seconds: f64,
    /// Its exit status in words, or that its time was up.
    pub ended: String,
    pub succeeded: bool,
    /// What it printed, as JSON where it is.
    pub printed: Value,
    /// The end of what it said on standard error.
    pub said: String,
}

impl Outcome {
    pub fn new(
        name: &str,
        command: String,
        elapsed: Duration,
        ended: String,
        succeeded: bool,
        (mut printed, mut said): (File, File),
    ) -> Result<Self> {
        let printed = text_of(&mut printed)?;
        let said: Vec<char> = text_of(&mut said)?.chars().collect();
        Ok(Self {
            name: name.to_owned(),
            command,
            at: OffsetDateTime::now_utc().format(&Rfc3339).context("cannot tell the time")?,
            seconds: elapsed.as_secs_f64(),
            ended,
            succeeded,
            printed: serde_json::from_str(&printed).unwrap_or(Value::String(printed)),
            said: said[said.len().saturating_sub(SAID_CHARS)..].iter().collect(),
        })
    }
}

fn text_of(file: &mut File) -> Result<String> {
    let mut bytes = Vec::new();
    file.seek(SeekFrom::Start(0)).and_then(|_| file.read_to_end(&mut bytes)).context("cannot read what was printed")?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// All outcomes, the latest of each name.
pub struct Results {
    path: PathBuf,
    outcomes: Vec<Outcome>,
}

impl Results {
    /// Those of earlier parts, if there are any.
    pub fn open(path: &Path) -> Result<Self> {
        let outcomes = match fs::read_to_string(path) {
            Ok(text) => serde_json::from_str(&text).with_context(|| format!("{} holds no results", path.display()))?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
        };
        Ok(Self { path: path.to_owned(), outcomes })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What the command of this name printed, if it succeeded.
    pub fn printed(&self, name: &str) -> Option<&Value> {
        self.outcomes.iter().find(|outcome| outcome.name == name && outcome.succeeded).map(|outcome| &outcome.printed)
    }

    /// Adds an outcome in place of an earlier one of that name, and writes all of them.
    pub fn keep(&mut self, outcome: Outcome) -> Result<()> {
        self.outcomes.retain(|known| known.name != outcome.name);
        self.outcomes.push(outcome);
        let text = serde_json::to_string_pretty(&self.outcomes).context("cannot write results")?;
        fs::write(&self.path, text + "\n").with_context(|| format!("cannot write {}", self.path.display()))
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn outcome(name: &str, printed: &str) -> Outcome {
        let file = |text: &str| {
            let mut file = tempfile::tempfile().expect("a file");
            file.write_all(text.as_bytes()).expect("written");
            file
        };
        let files = (file(printed), file(&"said ".repeat(2000)));
        Outcome::new(name, "pylon".into(), Duration::from_secs(2), "exit status: 0".into(), true, files).expect("read")
    }

    #[test]
    fn the_latest_of_each_name_is_kept_across_parts() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("gpu-hour.json");
        let mut results = Results::open(&path).expect("nothing yet");
        results.keep(outcome("doctor", "{\"adapters\": 1}")).expect("written");
        results.keep(outcome("model", "no JSON")).expect("written");
        let mut later = Results::open(&path).expect("two");
        assert_eq!(later.printed("doctor").expect("there")["adapters"], 1);
        assert_eq!(later.printed("model"), Some(&Value::String("no JSON".into())));
        assert_eq!(later.outcomes[0].said.len(), SAID_CHARS);
        later.keep(outcome("doctor", "{\"adapters\": 2}")).expect("written");
        let last = Results::open(&path).expect("still two");
        assert_eq!((last.outcomes.len(), &last.printed("doctor").expect("there")["adapters"]), (2, &Value::from(2)));
    }

    #[test]
    fn a_file_that_holds_something_else_is_named() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("gpu-hour.json");
        fs::write(&path, "{}").expect("written");
        let error = Results::open(&path).map(drop).expect_err("refused");
        assert!(format!("{error:#}").contains("gpu-hour.json"), "{error:#}");
    }
}
