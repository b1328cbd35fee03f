//! The conversation of `pylon infer` on a terminal.

use std::process::ExitCode;

use gptoss_model::{AnswerLimits, Chat, Engine, EngineError};
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
    let mut chat = Chat::new(&answering.prompt);
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
                chat = Chat::new(&answering.prompt);
                continue;
            }
            _ => {}
        }
        // A history that cannot be kept in memory is no reason to stop talking.
        let _ = editor.add_history_entry(question);
        chat.ask(question);
        interrupts.clear();
        match answer(&mut engine, answering, &mut chat, interrupts) {
            Ok(()) => {}
            Err(error) if ends_the_conversation(&error) => return Err(error),
            Err(error) => {
                chat.forget_question();
                error.report();
            }
        }
    }
}

/// Answers the last question; what the assistant said becomes a part of `chat`, of an answer that was stopped what the user saw.
fn answer(
    engine: &mut Engine<AnyModel>,
    answering: &Answering,
    chat: &mut Chat,
    interrupts: &Interrupts,
) -> Result<(), CliError> {
    let host = ConsoleHost::text(Some(Transcript::new(answering.show_analysis)), interrupts);
    let tokens = chat.tokens(&engine.tokenizer);
    let sampler = sampler(chat.sampling(answering.prompt.sampling))?;
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
    match result {
        Ok(answer) => chat.answered(&answer),
        Err(error) if error.is_cancelled() => chat.stopped(shown),
        Err(error) => return Err(error.into()),
    }
    Ok(())
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
