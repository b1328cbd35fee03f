//! The terminal as the engine's host: prints what comes, keeps count, and hears Ctrl-C.

use std::cell::RefCell;
use std::time::Instant;

use gptoss_model::Host;
use gptoss_protocol::{Event, Sequencer};

use crate::account::Account;
use crate::error::CliError;
use crate::interrupt::Interrupts;
use crate::load_bars::LoadBars;
use crate::output::Output;
use crate::transcript::Transcript;

/// How events reach standard output.
enum Form {
    Text,
    /// Each event as a line of JSON.
    Json {
        sequencer: Sequencer,
        begin: Instant,
    },
}

/// Listens to the engine for one command (in a chat: for one answer).
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
    /// The first error of writing; the engine is asked to stop then.
    failure: Option<CliError>,
}

impl ConsoleHost {
    /// Prints text.
    pub fn text(transcript: Option<Transcript>, interrupts: &Interrupts) -> Self {
        Self::new(Form::Text, transcript, interrupts)
    }

    /// Prints events as JSON lines; `run_id` numbers this run.
    pub fn json(run_id: u64, interrupts: &Interrupts) -> Self {
        Self::new(Form::Json { sequencer: Sequencer::new(run_id), begin: Instant::now() }, None, interrupts)
    }

    fn new(form: Form, transcript: Option<Transcript>, interrupts: &Interrupts) -> Self {
        let state = State {
            output: Output::new(),
            form,
            transcript,
            bars: LoadBars::default(),
            account: Account::default(),
            failure: None,
        };
        Self { state: RefCell::new(state), interrupts: interrupts.clone() }
    }

    /// From now on tokens are shown this way.
    pub fn set_transcript(&self, transcript: Transcript) {
        self.state.borrow_mut().transcript = Some(transcript);
    }

    /// What was counted.
    pub fn account(&self) -> Account {
        self.state.borrow().account.clone()
    }

    /// Tokens of the prompt that were in the KV cache already: the engine tells only in the end.
    pub fn set_reused(&self, tokens: u32) {
        self.state.borrow_mut().account.set_reused(tokens);
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
        if matches!(state.form, Form::Text) {
            state.output.text(rest)?;
        }
        state.output.finish()?;
        Ok(text)
    }
}

impl Host for ConsoleHost {
    fn emit(&self, event: Event) {
        let mut state = self.state.borrow_mut();
        state.bars.follow(&event);
        state.account.follow(&event);
        if state.failure.is_none() {
            state.failure = state.write(event).err();
        }
    }

    fn cancelled(&self) -> bool {
        let state = self.state.borrow();
        self.interrupts.is_pending() || state.failure.is_some()
    }
}

impl State {
    fn write(&mut self, event: Event) -> Result<(), CliError> {
        let shown = self.text_of(&event);
        match &mut self.form {
            Form::Text if shown.is_empty() => Ok(()),
            Form::Text => {
                self.output.text(shown)?;
                self.output.flush()
            }
            Form::Json { sequencer, begin } => {
                self.output.json(&sequencer.wrap(begin.elapsed().as_secs_f64() * 1e3, event))?;
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
