//! The terminal as the engine's host: prints what comes, keeps count, and hears Ctrl-C.

use std::cell::RefCell;
use std::time::Instant;

use gptoss_engine::Host;
use gptoss_telemetry::{Channel, Event, FinishReason, Sequencer, Stage, StageStatus, TokenInfo};

use crate::account::Account;
use crate::continuation::Continuation;
use crate::error::CliError;
use crate::interrupt::Interrupts;
use crate::load_bars::LoadBars;
use crate::output::Output;
use crate::transcript::Transcript;

/// What is made of the generated tokens.
pub enum Voice {
    /// Nothing: a benchmark, or only loading.
    Silent,
    /// The messages of a conversation.
    Harmony(Transcript),
    /// Text that is not read as Harmony.
    Plain(Continuation),
}

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
    voice: Voice,
    bars: LoadBars,
    account: Account,
    /// The first error of writing; the engine is asked to stop then.
    failure: Option<CliError>,
}

impl ConsoleHost {
    /// Prints text.
    pub fn text(voice: Voice, interrupts: &Interrupts) -> Self {
        Self::new(Form::Text, voice, interrupts)
    }

    /// Prints events as JSON lines; `run_id` numbers this run.
    pub fn json(voice: Voice, run_id: u64, interrupts: &Interrupts) -> Self {
        Self::new(Form::Json { sequencer: Sequencer::new(run_id), begin: Instant::now() }, voice, interrupts)
    }

    fn new(form: Form, voice: Voice, interrupts: &Interrupts) -> Self {
        let state = State {
            output: Output::new(),
            form,
            voice,
            bars: LoadBars::default(),
            account: Account::default(),
            failure: None,
        };
        Self { state: RefCell::new(state), interrupts: interrupts.clone() }
    }

    /// From now on tokens are shown this way.
    pub fn set_voice(&self, voice: Voice) {
        self.state.borrow_mut().voice = voice;
    }

    /// A stop sequence ended the text, and not the user.
    pub fn is_stopped_by_text(&self) -> bool {
        self.state.borrow().is_stopped_by_text()
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
        let (rest, text) = match &mut state.voice {
            Voice::Silent => (String::new(), String::new()),
            Voice::Harmony(transcript) => (transcript.interrupt(), transcript.final_text().to_owned()),
            Voice::Plain(continuation) => (continuation.close(), continuation.text().to_owned()),
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
        self.interrupts.is_pending() || state.failure.is_some() || state.is_stopped_by_text()
    }
}

impl State {
    fn is_stopped_by_text(&self) -> bool {
        matches!(&self.voice, Voice::Plain(continuation) if continuation.is_stopped())
    }

    fn write(&mut self, mut event: Event) -> Result<(), CliError> {
        let shown = self.voice_of(&mut event);
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

    /// The text that an event makes visible. Where the text is no Harmony, the event is told what the text is.
    fn voice_of(&mut self, event: &mut Event) -> String {
        let stopped_by_text = self.is_stopped_by_text();
        match (&mut self.voice, event) {
            (Voice::Harmony(transcript), Event::Token(token)) => transcript.push(token),
            (Voice::Harmony(transcript), Event::Finished { final_text, .. }) => transcript.finish(final_text),
            (Voice::Plain(continuation), Event::Token(token)) => {
                let shown = continuation.push(token.id);
                *token =
                    TokenInfo { text: shown.clone(), channel: Some(Channel::Final), recipient: None, ..token.clone() };
                shown
            }
            (Voice::Plain(continuation), Event::Finished { final_text, analysis_text, tool_calls, .. }) => {
                let shown = continuation.finish();
                *final_text = continuation.text().to_owned();
                analysis_text.clear();
                tool_calls.clear();
                shown
            }
            // The engine was told to stop because the text is complete.
            (Voice::Plain(_), Event::Stage { stage: Stage::Decode, status, .. }) if stopped_by_text => {
                if *status == StageStatus::Cancelled {
                    *status = StageStatus::Completed;
                }
                String::new()
            }
            _ => String::new(),
        }
    }
}

impl ConsoleHost {
    /// Reports the end of a plain text that a stop sequence ended: the engine knows nothing of it.
    pub fn emit_stop_sequence(&self) {
        let account = self.account();
        self.emit(Event::Finished {
            reason: FinishReason::StopSequence,
            new_tokens: account.new_tokens(),
            final_text: String::new(),
            analysis_text: String::new(),
            tool_calls: Vec::new(),
            prefill_tokens_per_second: account.prefill_tokens_per_second(),
            decode_tokens_per_second: account.decode_tokens_per_second(),
            time_to_first_token_ms: account.time_to_first_token_ms(),
        });
    }
}
