//! What the user can choose, as text: what is typed and what stands in the page's address are read in the same way, by
//! the table of options. Its rows with an input are the page's; their order is that of messages.

use std::collections::BTreeMap;

use gptoss_protocol::OptionId;
use gptoss_protocol::options::{Kind, Owner, Settings};
use gptoss_protocol::{InputError, LoadSettings, Prompt};
use gptoss_source::{SourceError, check_not_a_page};

use super::node_address::without_key;

/// Id of an option's input element: the address parameter, spelled as ids are.
pub fn element_id(option: OptionId) -> String {
    option.row().key.map_or_else(String::new, |key| key.name.replace('_', "-"))
}

/// The text of every input. A blank one means the default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Inputs {
    texts: BTreeMap<OptionId, String>,
    today: String,
}

impl Inputs {
    /// Empty inputs. `today` is the date that this word means, as `YYYY-MM-DD`.
    pub fn on(today: String) -> Self {
        Self { texts: BTreeMap::new(), today }
    }

    /// Replaces the text of an input.
    pub fn set(&mut self, option: OptionId, text: impl Into<String>) {
        self.texts.insert(option, text.into());
    }

    /// The text of an input; empty if nothing was entered.
    pub fn get(&self, option: OptionId) -> &str {
        self.texts.get(&option).map_or("", |text| text.trim())
    }

    /// How to load the model, or all errors of the inputs.
    pub fn load_options(&self) -> Result<LoadSettings, Vec<InputError>> {
        let owners = [Owner::Engine, Owner::Gpu, Owner::Network, Owner::Cache];
        let (settings, errors) = self.settings(&owners);
        if errors.is_empty() { Ok(settings.load) } else { Err(errors) }
    }

    /// How to load the model and what to ask it, if there is a prompt, or all errors of either.
    pub fn load_and_ask(&self) -> Result<(LoadSettings, Option<Prompt>), Vec<InputError>> {
        let prompt = if self.get(OptionId::Prompt).is_empty() { Ok(None) } else { self.prompt().map(Some) };
        match (self.load_options(), prompt) {
            (Ok(options), Ok(prompt)) => {
                let least = prompt.as_ref().map_or(0, |prompt| prompt.format.least_context_tokens());
                if options.engine.max_kv_tokens.is_some_and(|tokens| tokens < least) {
                    let expected = format!("at least {least}: what stands before the prompt alone takes as much");
                    let text = self.get(OptionId::MaxKvTokens);
                    return Err(vec![input_error(OptionId::MaxKvTokens, text, &expected)]);
                }
                Ok((options, prompt))
            }
            (options, prompt) => {
                let errors = options.err().into_iter().chain(prompt.err());
                Err(errors.flatten().collect())
            }
        }
    }

    /// What to ask the model, or all errors of the inputs.
    pub fn prompt(&self) -> Result<Prompt, Vec<InputError>> {
        let (mut settings, mut errors) = self.settings(&[Owner::Prompt, Owner::Sampling]);
        if settings.prompt.user.is_empty() {
            let message = "The prompt is empty.".to_owned();
            errors.insert(0, InputError { field: Some(OptionId::Prompt), message });
        }
        match settings.read_functions() {
            Ok(functions) => settings.prompt.functions = functions,
            Err(expected) => errors.push(input_error(OptionId::Functions, "what is given", &expected)),
        }
        if errors.is_empty() { Ok(settings.prompt) } else { Err(errors) }
    }

    /// What to ask the model where the question comes from somewhere else; or all errors of the other inputs.
    pub fn prompt_of(&self, user: &str) -> Result<Prompt, Vec<InputError>> {
        let mut inputs = self.clone();
        inputs.set(OptionId::Prompt, user);
        inputs.prompt()
    }

    /// What was chosen of the options of `owners` that is not the default, in words; nothing of what stands beside the prompt
    /// itself, where it can be seen.
    pub fn chosen(&self, owners: &[Owner]) -> Vec<String> {
        let hidden = |option: &OptionId| !matches!(option, OptionId::Prompt | OptionId::Effort);
        let options = OptionId::in_form().filter(hidden).filter(|option| owners.contains(&option.row().owner));
        let words = options.filter_map(|option| {
            let (text, row) = (self.get(option), option.row());
            let is_default = match row.kind {
                Kind::Words { .. } => row.canonical(text) == row.default.page,
                Kind::Date { .. } => text == self.today,
                _ => text == row.default.page,
            };
            if text.is_empty() || is_default {
                return None;
            }
            Some(match row.kind {
                Kind::Text { .. } => row.label.to_owned(),
                Kind::Words { words, .. } => match words.iter().find(|word| word.text == row.canonical(text)) {
                    Some(word) if !word.meaning.is_empty() => word.meaning.to_owned(),
                    _ => format!("{} {text}", row.label),
                },
                _ => format!("{} {text}", row.label),
            })
        });
        words.collect()
    }

    /// Whether every question stands alone.
    pub fn alone(&self) -> bool {
        self.settings(&[Owner::Prompt]).0.alone
    }

    /// The page's defaults with the inputs of `owners` applied, and every error, so that the user sees all of them at
    /// once.
    fn settings(&self, owners: &[Owner]) -> (Settings, Vec<InputError>) {
        let mut settings = Settings { today: self.today.clone(), ..Settings::page() };
        let mut errors = Vec::new();
        for option in OptionId::in_form().filter(|option| owners.contains(&option.row().owner)) {
            let text = self.get(option);
            if !text.is_empty()
                && let Err(expected) = option.row().apply(&mut settings, text)
            {
                errors.push(input_error(option, text, &expected));
            }
        }
        (settings, errors)
    }
}

/// Checks whether `text` could be used for `option`, with the parser that will be used.
pub fn check(option: OptionId, text: &str) -> Result<(), InputError> {
    let text = text.trim();
    let row = option.row();
    // A blank text is a default like any other.
    if text.is_empty() && matches!(row.kind, Kind::Text { .. }) {
        return Ok(());
    }
    let checked = row.check(text).and_then(|()| if option == OptionId::Gguf { check_file(text) } else { Ok(()) });
    checked.map_err(|expected| input_error(option, text, &expected))
}

/// The error for a value that cannot be used.
pub(super) fn input_error(option: OptionId, text: &str, expected: &str) -> InputError {
    let shown = match option.row().kind {
        Kind::Address { .. } => without_key(text),
        _ => text.to_owned(),
    };
    let message = format!("{} is \"{shown}\", expected {expected}.", option.name());
    let field = option.row().key.filter(|key| key.in_form).map(|_| option);
    InputError { field, message }
}

/// Refuses addresses of pages about files, as far as an address tells.
fn check_file(address: &str) -> Result<(), String> {
    if !address.contains("://") {
        return Ok(());
    }
    check_not_a_page(address).map_err(|error| match error {
        SourceError::PageAddress { file_url: Some(file_url), .. } => {
            format!("the address of the file itself: that is a page about it, the file is at {file_url}")
        }
        error => format!("the address of a .gguf file: that is one of a page. {}", error.advice()),
    })
}

#[cfg(test)]
mod form;
#[cfg(test)]
mod tests;
