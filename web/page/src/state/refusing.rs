//! Choices that cannot be used, by the page's word or by the engine's: said in the panel, and at the input itself.

use gptoss_protocol::{Failure, FailureKind, InputError};
use serde::{Deserialize, Serialize};

use super::State;

/// Inputs that cannot be used.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Refusal {
    /// Counts changes of `errors`, so that whoever marks inputs sees that there was another one, be it with the same words.
    pub number: u32,
    /// What is wrong with each of them; empty once inputs were accepted.
    pub errors: Vec<InputError>,
}

impl State {
    /// Inputs cannot be used: nothing was begun.
    pub(crate) fn refuse(&mut self, errors: &[InputError]) {
        self.fail(request_failure(errors));
        self.mark(errors.to_vec());
    }

    /// Marks the input that the engine's failure is about.
    pub(super) fn mark_refused(&mut self, failure: &Failure) {
        // Not everything that the engine can refuse has an input here.
        let option = failure.parameter.as_ref().map(|refused| refused.option);
        if let Some(field) = option.filter(|option| option.row().key.is_some_and(|key| key.in_form)) {
            self.mark(vec![InputError { field: Some(field), message: sentences(failure) }]);
        }
    }

    /// The inputs were accepted: nothing about them is wrong any more.
    pub(super) fn accept_inputs(&mut self) {
        if !self.refused.errors.is_empty() {
            self.mark(Vec::new());
        }
    }

    fn mark(&mut self, errors: Vec<InputError>) {
        self.refused = Refusal { number: self.refused.number + 1, errors };
    }
}

/// All of them at once, one per line.
fn request_failure(errors: &[InputError]) -> Failure {
    let message: Vec<&str> = errors.iter().map(|error| error.message.as_str()).collect();
    let advice = if errors.iter().any(|error| error.field.is_some()) {
        "Correct the marked inputs and try again."
    } else {
        "Correct the page's address and reload."
    };
    let (kind, message) = (FailureKind::Request, message.join("\n"));
    Failure { kind, message, advice: advice.to_owned(), parameter: None }
}

/// What happened and what can be done, as sentences.
fn sentences(failure: &Failure) -> String {
    let mut message = failure.message.clone();
    if let Some(first) = message.get_mut(..1) {
        first.make_ascii_uppercase();
    }
    format!("{message}. {}", failure.advice)
}
