//! The conversation of `pylon infer`, on a pseudo-terminal.
#![cfg(unix)]

use std::process::Command;

use crate::support::{nano, pylon};
use rexpect::session::{PtySession, spawn_command};

const CTRL_C: char = 'c';
const CTRL_D: char = 'd';

fn command(flags: &[&str]) -> Command {
    let mut command = pylon();
    command.args(["infer", "--gguf", nano(), "--backend", "cpu"]).args(flags).env("TERM", "xterm");
    command
}

/// A conversation that waits for its first question.
fn converse(flags: &[&str]) -> PtySession {
    let mut session = spawn_command(command(flags), Some(30_000)).expect("it starts");
    session.exp_string("/exit leaves").expect("a greeting");
    session.exp_string("> ").expect("a prompt");
    session
}

/// Asks, and waits for the words and the next prompt.
#[track_caller]
fn ask(session: &mut PtySession, question: &str, words: &[&str]) {
    session.send_line(question).expect("written");
    for word in words {
        session.exp_string(word).unwrap_or_else(|error| panic!("{question:?}, {word:?}: {error}"));
    }
    session.exp_string("> ").expect("a prompt");
}

#[track_caller]
fn ends_with(session: PtySession, code: i32) {
    let status = session.process().wait().expect("it ends");
    // `Exited(Pid(1), 0)`: the type's own crate is no dependency here.
    let status = format!("{status:?}");
    assert!(status.starts_with("Exited(") && status.ends_with(&format!(", {code})")), "{status}; expected {code}");
}

#[test]
fn it_remembers_what_was_said_and_reads_it_only_once() {
    let mut session = converse(&["--stats"]);
    ask(&mut session, "My name is Sara.", &["Nice to meet you, Sara!"]);
    ask(&mut session, "What is my name?", &["Your name is Sara.", "of them from the KV cache"]);
    session.send_line("/exit").expect("written");
    ends_with(session, 0);
}

#[test]
fn a_new_conversation_knows_nothing_of_the_old_one() {
    let mut session = converse(&["--stats"]);
    ask(&mut session, "My name is Sara.", &["Sara!", "prompt   63 tokens"]);
    ask(&mut session, "/new", &[]);
    ask(&mut session, "My name is Sara.", &["Sara!", "prompt   63 tokens"]);
    session.send_control(CTRL_D).expect("written");
    ends_with(session, 0);
}

#[test]
fn reasoning_of_earlier_turns_is_left_out() {
    let mut session = converse(&["--stats", "--show-analysis"]);
    ask(
        &mut session,
        "Reverse this word: mil",
        &["[analysis]", "Letters: m i l.", "[final]", "lim", "prompt   64 tokens"],
    );
    // 64 tokens of the first prompt end with `<|start|>assistant`. Then `<|channel|>final<|message|>lim<|end|>` and the
    // question with its frame follow, but nothing of the reasoning.
    ask(&mut session, "Reverse this word: mil", &["lim", "prompt   83 tokens"]);
    session.send_control(CTRL_C).expect("written");
    ends_with(session, 130);
}

#[test]
fn a_question_that_is_too_long_is_forgotten_and_the_conversation_goes_on() {
    let mut session = converse(&["--max-kv", "150"]);
    ask(&mut session, &"one ".repeat(150), &["tokens long", "150"]);
    ask(&mut session, "Reverse this word: mil", &["lim"]);
    session.send_control(CTRL_D).expect("written");
    ends_with(session, 0);
}

#[test]
fn json_and_plain_text_are_no_conversations() {
    for flags in [&["--json"][..], &["--raw"], &["--no-harmony"]] {
        let mut session = spawn_command(command(flags), Some(30_000)).expect("it starts");
        session.exp_string("--prompt is missing").expect("a refusal");
        ends_with(session, 2);
    }
}

/// A model without layers repeats itself without end.
const ENDLESS: [&str; 6] = ["--layers", "0", "--max-kv", "131072", "--max-tokens", "131000"];

/// What the line editor writes when it hands the terminal back: from then on Ctrl-C is a signal.
const EDITOR_LEFT: &str = "\x1b[?2004l";

#[test]
fn ctrl_c_stops_an_answer_and_the_conversation_goes_on() {
    let mut session = converse(&ENDLESS);
    for _ in 0..2 {
        session.send_line("hello").expect("written");
        session.exp_string(EDITOR_LEFT).expect("the editor hands over");
        std::thread::sleep(std::time::Duration::from_millis(300));
        session.send_control(CTRL_C).expect("written");
        session.exp_string("> ").expect("the next question");
    }
    session.send_control(CTRL_C).expect("written");
    ends_with(session, 130);
}
