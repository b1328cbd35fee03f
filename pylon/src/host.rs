//! The terminal as a watcher: prints what comes, keeps count, and hears Ctrl-C.

use std::cell::RefCell;

use gptoss_model::Host;
use gptoss_protocol::{ChatMessage, Envelope, Event, Failure};

use crate::account::Account;
use crate::error::CliError;
use crate::interrupt::Interrupts;
use crate::load_bars::LoadBars;
use crate::output::Output;
use crate::transcript::Transcript;

/// How events reach standard output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    Text,
    /// Each envelope as a line of JSON.
    Json,
}

/// How the last request ended.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// There is an answer, which adds these messages to the conversation.
    Answered(Vec<ChatMessage>),
    /// The model is loaded.
    Loaded,
    Stopped,
    Failed(Failure),
}

/// Watches one command (in a chat: one answer).
pub struct ConsoleHost {
    state: RefCell<State>,
    interrupts: Interrupts,
}

struct State {
    output: Output,
    form: Form,
    /// What is made of the generated tokens; `None`: nothing, for a benchmark or while loading.
    transcript: Option<Transcript>,
    bars: LoadBars,
    account: Account,
    outcome: Option<Outcome>,
    /// The first error of writing; the engine is asked to stop then.
    failure: Option<CliError>,
}

impl ConsoleHost {
    /// Prints text.
    pub fn text(transcript: Option<Transcript>, interrupts: &Interrupts) -> Self {
        Self::new(Form::Text, transcript, interrupts)
    }

    /// Prints events in this form.
    pub fn new(form: Form, transcript: Option<Transcript>, interrupts: &Interrupts) -> Self {
        let state = State {
            output: Output::new(),
            form,
            transcript,
            bars: LoadBars::default(),
            account: Account::default(),
            outcome: None,
            failure: None,
        };
        Self { state: RefCell::new(state), interrupts: interrupts.clone() }
    }

    /// Takes note of what a node tells.
    pub fn watch(&self, envelope: &Envelope) {
        let mut state = self.state.borrow_mut();
        state.follow(&envelope.event);
        if state.failure.is_none() {
            state.failure = state.write(envelope).err();
        }
    }

    /// How the last request ended; `None` while nothing has.
    pub fn outcome(&self) -> Option<Outcome> {
        self.state.borrow().outcome.clone()
    }

    /// What was counted.
    pub fn account(&self) -> Account {
        self.state.borrow().account.clone()
    }

    /// Ends the text that is under way with a line break, and writes everything out. Returns the text of the answer, as
    /// far as it came.
    ///
    /// # Errors
    /// Standard output could not be written, now or before.
    pub fn finish(self) -> Result<String, CliError> {
        let mut state = self.state.into_inner();
        if let Some(failure) = state.failure {
            return Err(failure);
        }
        state.bars.clear();
        let (rest, text) = match &mut state.transcript {
            None => (String::new(), String::new()),
            Some(transcript) => (transcript.interrupt(), transcript.final_text().to_owned()),
        };
        if state.form == Form::Text {
            state.output.text(rest)?;
        }
        state.output.finish()?;
        Ok(text)
    }
}

/// For commands that do without a node: what they measure is not answered but computed. Nothing is printed.
impl Host for ConsoleHost {
    fn emit(&self, event: Event) {
        self.state.borrow_mut().follow(&event);
    }

    fn cancelled(&self) -> bool {
        self.interrupts.is_pending() || self.state.borrow().failure.is_some()
    }
}

impl State {
    fn follow(&mut self, event: &Event) {
        self.bars.follow(event);
        self.account.follow(event);
        match event {
            Event::Ready { .. } => self.outcome = Some(Outcome::Loaded),
            Event::Finished { messages, .. } => self.outcome = Some(Outcome::Answered(messages.clone())),
            Event::Stopped { .. } => self.outcome = Some(Outcome::Stopped),
            Event::Failed { failure, .. } => self.outcome = Some(Outcome::Failed(failure.clone())),
            _ => {}
        }
    }

    fn write(&mut self, envelope: &Envelope) -> Result<(), CliError> {
        let shown = self.text_of(&envelope.event);
        match self.form {
            Form::Text if shown.is_empty() => Ok(()),
            Form::Text => {
                self.output.text(shown)?;
                self.output.flush()
            }
            Form::Json => {
                self.output.json(envelope)?;
                self.output.flush()
            }
        }
    }

    /// The text that an event makes visible.
    fn text_of(&mut self, event: &Event) -> String {
        match (&mut self.transcript, event) {
            (Some(transcript), Event::Token(token)) => transcript.push(token),
            (Some(transcript), Event::Finished { final_text, .. }) => transcript.finish(final_text),
            _ => String::new(),
        }
    }
}
