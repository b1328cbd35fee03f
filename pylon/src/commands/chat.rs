//! The conversation of `pylon infer` on a terminal.

use std::process::ExitCode;

use gptoss_engine::{Answer, AnswerLimits, Engine, EngineError, StageError};
use gptoss_telemetry::{Effort, FinishReason, Sampling};
use gptoss_text::harmony::{
    self, AssistantMessage, Channel, Conversation, DeveloperMessage, Message, Renderer, SystemMessage,
};
use rustyline::DefaultEditor;
use rustyline::error::ReadlineError;

use crate::backend::AnyModel;
use crate::commands::infer::{Answering, ended_early, no_answer, sampler};
use crate::error::CliError;
use crate::exit;
use crate::host::ConsoleHost;
use crate::interrupt::Interrupts;
use crate::output::note;
use crate::transcript::Transcript;

/// What the user is asked with.
const PROMPT: &str = "> ";

/// Converses until the user leaves.
///
/// # Errors
/// The terminal cannot be used, or the device was lost. What only one answer cannot survive is said, and the conversation
/// goes on without that question.
pub(super) fn run(
    mut engine: Engine<AnyModel>,
    answering: &Answering,
    interrupts: &Interrupts,
) -> Result<ExitCode, CliError> {
    let mut editor = DefaultEditor::new().map_err(terminal_error)?;
    let mut history = History::new(answering);
    note("Ctrl-C stops an answer, a second one leaves. /new begins again, /exit leaves.");
    loop {
        let line = match editor.readline(PROMPT) {
            Ok(line) => line,
            Err(ReadlineError::Interrupted) => return Ok(ExitCode::from(exit::INTERRUPTED)),
            Err(ReadlineError::Eof) => return Ok(exit::SUCCESS),
            Err(error) => return Err(terminal_error(error)),
        };
        let question = line.trim();
        match question {
            "" => continue,
            "/exit" => return Ok(exit::SUCCESS),
            "/new" => {
                history = History::new(answering);
                continue;
            }
            _ => {}
        }
        // A history that cannot be kept in memory is no reason to stop talking.
        let _ = editor.add_history_entry(question);
        history.ask(question);
        interrupts.clear();
        match answer(&mut engine, answering, &history, interrupts) {
            Ok(Some(said)) => history.answered(said),
            Ok(None) => history.forget_question(),
            Err(error) if ends_the_conversation(&error) => return Err(error),
            Err(error) => {
                history.forget_question();
                error.report();
            }
        }
    }
}

/// Answers the last question. Returns what the assistant said; `None` when it was stopped before it said anything.
fn answer(
    engine: &mut Engine<AnyModel>,
    answering: &Answering,
    history: &History,
    interrupts: &Interrupts,
) -> Result<Option<Vec<AssistantMessage>>, CliError> {
    let host = ConsoleHost::text(Some(Transcript::new(answering.show_analysis)), interrupts);
    let tokens = Renderer::default().tokens(&engine.tokenizer, &history.conversation);
    let sampler = sampler(Sampling {
        seed: answering.prompt.sampling.seed.wrapping_add(history.turn),
        ..answering.prompt.sampling
    })?;
    let limits = AnswerLimits {
        max_new_tokens: answering.prompt.max_new_tokens,
        stop: answering.prompt.stop.clone(),
        reuse_prefix: true,
        ..AnswerLimits::default()
    };
    let result = pollster::block_on(engine.answer_tokens(&tokens, sampler, &limits, &host));
    if let Ok(answer) = &result {
        host.set_reused(answer.reused_tokens);
    }
    let account = host.account();
    let shown = host.finish()?;
    if answering.stats {
        note(&account);
    }
    let early = ended_early(account.finish_reason(), answering.prompt.max_new_tokens);
    for text in early.into_iter().chain(no_answer(account.junk_tokens())) {
        note(format_args!("pylon: {text}"));
    }
    said(result, shown)
}

/// What goes into the history: the whole turn, or of one that was stopped what the user saw of the answer.
fn said(result: Result<Answer, StageError>, shown: String) -> Result<Option<Vec<AssistantMessage>>, CliError> {
    match result {
        Ok(answer) if answer.reason == FinishReason::StopSequence => {
            Ok(Some(vec![AssistantMessage::new(Channel::Final, answer.final_text())]))
        }
        Ok(answer) => {
            let messages: Vec<_> = answer.turn.messages.iter().filter_map(|message| message.to_history()).collect();
            Ok((!messages.is_empty()).then_some(messages))
        }
        Err(error) if error.is_cancelled() => {
            Ok((!shown.is_empty()).then(|| vec![AssistantMessage::new(Channel::Final, shown)]))
        }
        Err(error) => Err(error.into()),
    }
}

/// Whether the next question would meet the same error, or cannot be asked.
fn ends_the_conversation(error: &CliError) -> bool {
    !matches!(error, CliError::Engine(EngineError::PromptTooLong { .. } | EngineError::NonFinite(_)))
}

fn terminal_error(error: ReadlineError) -> CliError {
    CliError::Argument {
        what: "the terminal".into(),
        got: format!("unusable ({error})"),
        expected: "one that a line can be read from; --prompt does without".into(),
    }
}

/// The conversation so far. Reasoning stays in it: the renderer leaves that of completed turns out.
struct History {
    conversation: Conversation,
    /// Counts questions.
    turn: u64,
}

impl History {
    fn new(answering: &Answering) -> Self {
        let system = SystemMessage {
            current_date: answering.prompt.date.clone(),
            effort: Some(match answering.prompt.effort {
                Effort::Low => harmony::Effort::Low,
                Effort::Medium => harmony::Effort::Medium,
                Effort::High => harmony::Effort::High,
            }),
            ..SystemMessage::default()
        };
        let developer =
            DeveloperMessage { instructions: answering.prompt.instructions.clone(), ..DeveloperMessage::default() };
        let messages = vec![Message::System(system), Message::Developer(developer)];
        Self { conversation: Conversation { messages }, turn: 0 }
    }

    fn ask(&mut self, question: &str) {
        self.turn += 1;
        self.conversation.messages.push(Message::User(question.to_owned()));
    }

    fn answered(&mut self, messages: Vec<AssistantMessage>) {
        self.conversation.messages.extend(messages.into_iter().map(Message::Assistant));
    }

    /// A question without an answer is not part of the conversation.
    fn forget_question(&mut self) {
        self.conversation.messages.pop();
    }
}
