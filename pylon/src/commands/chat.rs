//! The conversation of `pylon infer` on a terminal.

use std::process::ExitCode;

use gptoss_protocol::{Chat, FailureKind, OptionId};
use rustyline::DefaultEditor;
use rustyline::error::ReadlineError;

use crate::backend::LoadRequest;
use crate::commands::infer::{Answering, ended_early, no_answer};
use crate::error::CliError;
use crate::exit;
use crate::host::{ConsoleHost, Outcome};
use crate::interrupt::Interrupts;
use crate::native_node::NativeNode;
use crate::output::note;
use crate::transcript::Transcript;

/// What the user is asked with.
const PROMPT: &str = "> ";

/// Loads the model and converses until the user leaves.
///
/// # Errors
/// The model cannot be loaded, the terminal cannot be used, or the device was lost. What only one answer cannot survive is said, and
/// the conversation goes on without that question.
pub(super) fn run(load: &LoadRequest, answering: &Answering) -> Result<ExitCode, CliError> {
    let interrupts = Interrupts::catch();
    let node = NativeNode::new(ConsoleHost::text(None, &interrupts));
    node.load(load)?;
    node.watch_with(ConsoleHost::text(None, &interrupts)).finish()?;
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
        interrupts.clear();
        match answer(&node, answering, &mut chat, question, &interrupts) {
            Ok(()) => {}
            Err(error) if ends_the_conversation(&error) => return Err(error),
            Err(error) => {
                chat.forget_question();
                error.report();
            }
        }
    }
}

/// Answers a question; what the assistant said becomes a part of `chat`, of an answer that was stopped what the user saw.
fn answer(
    node: &NativeNode,
    answering: &Answering,
    chat: &mut Chat,
    question: &str,
    interrupts: &Interrupts,
) -> Result<(), CliError> {
    node.watch_with(ConsoleHost::text(Some(Transcript::new(answering.show_analysis)), interrupts));
    let result = node.ask(chat.ask(question));
    let console = node.watch_with(ConsoleHost::text(None, interrupts));
    let (account, outcome) = (console.account(), console.outcome());
    let shown = console.finish()?;
    if answering.stats {
        note(&account);
    }
    let early = ended_early(account.finish_reason(), answering.prompt.max_new_tokens);
    for text in early.into_iter().chain(no_answer(account.junk_tokens())) {
        note(format_args!("pylon: {text}"));
    }
    match outcome {
        Some(Outcome::Answered(messages)) => chat.answered(messages),
        Some(Outcome::Stopped) => chat.stopped(&shown),
        Some(Outcome::Failed(_) | Outcome::Loaded) | None => return result,
    }
    Ok(())
}

/// Whether the next question would meet the same error, or cannot be asked.
fn ends_the_conversation(error: &CliError) -> bool {
    match error {
        CliError::Failed(failure) => {
            let is_question = failure.parameter.as_ref().is_some_and(|refused| refused.option == OptionId::Prompt);
            failure.kind != FailureKind::NotFinite && !is_question
        }
        _ => true,
    }
}

fn terminal_error(error: ReadlineError) -> CliError {
    CliError::Argument {
        what: "the terminal".into(),
        got: format!("unusable ({error})"),
        expected: "one that a line can be read from; --prompt does without".into(),
    }
}
