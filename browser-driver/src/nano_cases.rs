//! The nano model's recorded answers, `models/nano/cases.json`, as far as the page can ask for them.

use std::path::Path;

use serde::Deserialize;

use crate::error::Error;

/// A single question with its recorded answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NanoCase {
    /// Kind of task, such as `add` or `capitals`.
    pub family: String,
    /// Reasoning effort: `low`, `medium` or `high`.
    pub effort: String,
    /// `Current date:` of the system message, `YYYY-MM-DD`.
    pub date: String,
    /// Text of the user's message.
    pub user: String,
    /// Text of the analysis channel; may be empty.
    pub analysis_text: String,
    /// Text of the final channel.
    pub final_text: String,
}

impl NanoCase {
    /// Query of the page's address that asks this question exactly as it was recorded.
    pub fn query(&self) -> String {
        url::form_urlencoded::Serializer::new(String::new())
            .extend_pairs([("prompt", &self.user), ("effort", &self.effort), ("date", &self.date)])
            .finish()
    }
}

/// Reads the cases that consist of the standard system message and one user message, and that end in a final answer.
/// The others (earlier turns, developer messages, tools) need more than the page offers.
///
/// # Errors
/// When the file cannot be read, is not the expected JSON, or holds no such case.
pub fn nano_cases(file: &Path) -> Result<Vec<NanoCase>, Error> {
    let doing = format!("read {}", file.display());
    let text = std::fs::read_to_string(file).map_err(Error::io(doing.as_str()))?;
    parse(&text).map_err(|got| Error::Answer { doing, got })
}

#[derive(Deserialize)]
struct CasesFile {
    cases: Vec<RecordedCase>,
}

#[derive(Deserialize)]
struct RecordedCase {
    family: String,
    level: String,
    /// The whole rendered conversation.
    prompt: String,
    /// What the model wrote, with its format tokens.
    text: String,
    #[serde(rename = "final")]
    final_text: Option<String>,
}

fn parse(text: &str) -> Result<Vec<NanoCase>, String> {
    let file: CasesFile = serde_json::from_str(text).map_err(|error| error.to_string())?;
    let cases: Vec<_> = file.cases.into_iter().filter_map(RecordedCase::on_the_page).collect();
    if cases.is_empty() { Err("no case with just a user message".to_owned()) } else { Ok(cases) }
}

impl RecordedCase {
    fn on_the_page(self) -> Option<NanoCase> {
        const IDENTITY: &str = "<|start|>system<|message|>You are ChatGPT, a large language model trained by OpenAI.\n";
        let system_and_rest = self.prompt.strip_prefix(IDENTITY)?;
        let (system, rest) = system_and_rest.split_once("<|end|>")?;
        let user = rest.strip_prefix("<|start|>user<|message|>")?.strip_suffix("<|end|><|start|>assistant")?;
        let date = between(system, "Current date: ", "\n")?;
        // Anything that starts a message here is a further turn.
        let single = !user.contains("<|start|>") && !system.contains("# Tools");
        single
            .then(|| NanoCase {
                date: date.to_owned(),
                user: user.to_owned(),
                analysis_text: between(&self.text, "<|channel|>analysis<|message|>", "<|end|>")
                    .unwrap_or_default()
                    .to_owned(),
                family: self.family,
                effort: self.level,
                final_text: self.final_text.unwrap_or_default(),
            })
            .filter(|case| !case.final_text.is_empty())
    }
}

fn between<'a>(text: &'a str, start: &str, end: &str) -> Option<&'a str> {
    let (_, rest) = text.split_once(start)?;
    Some(rest.split_once(end)?.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_recorded_cases_include_simple_questions() {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/nano/cases.json");
        let cases = nano_cases(&file).expect("cases");
        assert!(cases.len() >= 5, "only {} cases", cases.len());
        let add = cases.iter().find(|case| case.user == "Add 0 and 890.").expect("the sum");
        assert_eq!(
            *add,
            NanoCase {
                family: "add".to_owned(),
                effort: "medium".to_owned(),
                date: "2024-05-10".to_owned(),
                user: "Add 0 and 890.".to_owned(),
                analysis_text: "Add. 0+0=0, 0+9=9, 0+8=8.".to_owned(),
                final_text: "0 + 890 = 890.".to_owned(),
            }
        );
        assert_eq!(add.query(), "prompt=Add+0+and+890.&effort=medium&date=2024-05-10");
        assert!(cases.iter().all(|case| !case.user.contains("<|")), "{cases:?}");
    }

    #[test]
    fn a_missing_or_useless_file_is_named() {
        let error = nano_cases(Path::new("/nonexistent/cases.json")).expect_err("no file");
        assert!(error.to_string().contains("/nonexistent/cases.json"), "{error}");
        assert!(parse(r#"{"cases": []}"#).is_err());
    }
}
