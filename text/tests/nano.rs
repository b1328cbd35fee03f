//! The demo model's own vocabulary, read from its GGUF file: other ids, fewer merges, the same format.

use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use crate::common::{ids, string};
use gptoss_gguf::{Gguf, Progress};
use gptoss_text::harmony::{Channel, Effort};
use gptoss_text::harmony::{
    Conversation, Ending, Header, Message, ParsedMessage, Parser, Renderer, Role, SystemMessage, ToolMessage, Turn,
};
use gptoss_text::{Special, Tokenizer};
use serde_json::{Value, json};

fn model_file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/nano").join(name)
}

fn gguf() -> Gguf {
    let file = std::fs::read(model_file("gpt-oss-nano.gguf")).expect("the demo model is part of the repository");
    match gptoss_gguf::parse(&file, file.len() as u64).expect("a sound file") {
        Progress::Ready(gguf) => *gguf,
        Progress::NeedMore { at_least } => panic!("the whole file is there, yet {at_least} bytes are wanted"),
    }
}

fn nano() -> &'static Tokenizer {
    static TOKENIZER: LazyLock<Tokenizer> = LazyLock::new(|| {
        let metadata = gguf().metadata;
        let tokens = metadata.string_array("tokenizer.ggml.tokens").unwrap();
        let types = metadata.i32_array("tokenizer.ggml.token_type").unwrap();
        let merges = metadata.string_array("tokenizer.ggml.merges").unwrap();
        Tokenizer::new(tokens.iter(), &types, merges.iter()).unwrap()
    });
    &TOKENIZER
}

fn cases() -> Vec<Value> {
    let text = std::fs::read_to_string(model_file("cases.json")).expect("the demo model's cases");
    let file: Value = serde_json::from_str(&text).unwrap();
    let cases = file["cases"].as_array().unwrap().clone();
    assert_eq!(cases.len(), 30);
    cases
}

fn parse(tokens: &[u32]) -> Turn {
    let mut parser = Parser::new(nano());
    for &id in tokens {
        parser.push(nano(), id).unwrap();
    }
    parser.finish().1
}

#[test]
fn specials_are_found_by_name() {
    assert_eq!(nano().vocab_size(), 1280);
    assert_eq!(nano().special_id(Special::Start), 1275);
    assert_eq!(nano().stop_ids(), [1272, 1278, 1271]);
    assert_eq!(nano().special_name(1279), Some("<|endofprompt|>"));
}

#[test]
fn prompts_have_the_recorded_ids() {
    for case in cases() {
        let prompt = string(&case["prompt"]);
        assert_eq!(nano().encode_with_specials(&prompt), ids(&case["prompt_ids"]), "{prompt}");
        assert_eq!(nano().decode(&ids(&case["prompt_ids"])).unwrap(), prompt);
    }
}

#[test]
fn generated_tokens_are_read() {
    for case in cases() {
        let turn = parse(&ids(&case["greedy_ids"]));
        assert_eq!(json!(turn.content()), case["final"], "{}", case["text"]);
        let calls: Vec<Value> = turn
            .tool_calls()
            .map(|call| json!([call.recipient, serde_json::from_str::<Value>(&call.arguments).unwrap()]))
            .collect();
        let expected: Vec<Value> = if case["call"].is_null() { vec![] } else { vec![case["call"].clone()] };
        assert_eq!(calls, expected, "{}", case["text"]);
        assert_eq!(turn.stop, Some(if calls.is_empty() { Special::Return } else { Special::Call }));
        assert!(turn.reasoning().is_none_or(|reasoning| !reasoning.contains("<|")), "{}", case["text"]);
    }
}

/// Every prompt, read as a transcript and rendered again from typed messages, has the same ids.
#[test]
fn prompts_are_rendered() {
    let (mut with_tools, mut with_history) = (0, 0);
    for case in cases() {
        let prompt_ids = ids(&case["prompt_ids"]);
        let turn = parse(&prompt_ids);
        let mut messages: Vec<Message> = Vec::new();
        for message in &turn.messages {
            match rebuilt(message, string(&case["level"]).as_str()) {
                Some(message) => messages.push(message),
                // The developer's text is the reference's concern, see the recorded renderings.
                None => with_tools += 1,
            }
        }
        with_history += usize::from(messages.iter().any(|message| matches!(message, Message::Tool(_))));
        let has_functions = string(&case["prompt"]).contains("Calls to these tools");
        let rendered = Renderer::default().tokens(nano(), &Conversation { messages });
        if turn.messages.iter().all(|message| message.header.role != Role::Developer) {
            assert!(!has_functions);
            assert_eq!(rendered, prompt_ids, "{}", case["prompt"]);
        }
        // What follows system and developer messages.
        let user = nano().encode_with_specials("<|start|>user");
        let tail = |ids: &[u32]| ids[ids.windows(user.len()).position(|w| w == user).unwrap()..].to_vec();
        assert_eq!(tail(&rendered), tail(&prompt_ids), "{}", case["prompt"]);
    }
    assert!(with_tools > 10 && with_history >= 5, "{with_tools} {with_history}");
}

/// The typed message that renders as `message`; `None` for the developer's.
fn rebuilt(message: &ParsedMessage, level: &str) -> Option<Message> {
    let Header { role, recipient, channel, .. } = message.header.clone();
    let text = message.text.clone();
    Some(match role {
        Role::System => {
            let line = |start: &str| text.lines().find_map(|line| line.strip_prefix(start)).map(str::to_owned);
            Message::System(SystemMessage {
                identity: text.lines().next().unwrap().to_owned(),
                current_date: line("Current date: "),
                effort: Effort::from_name(level),
                ..SystemMessage::default()
            })
        }
        Role::Developer => return None,
        Role::User => Message::User(text),
        Role::Assistant => Message::Assistant(message.to_history().unwrap()),
        Role::Tool(name) => Message::Tool(ToolMessage { name, recipient, channel, text }),
    })
}

/// A served turn goes back into the history as it was generated, less its reasoning once it is complete.
#[test]
fn a_turn_becomes_history() {
    for case in cases() {
        let turn = parse(&ids(&case["greedy_ids"]));
        let mut messages = vec![Message::User("?".to_owned())];
        messages.extend(turn.messages.iter().filter_map(ParsedMessage::to_history).map(Message::Assistant));
        let closed = Renderer { drop_analysis: false, ending: Ending::Closed, ..Renderer::default() };
        let tokens = closed.tokens(nano(), &Conversation { messages: messages.clone() });
        let mut expected = nano().encode_with_specials("<|start|>user<|message|>?<|end|><|start|>assistant");
        expected.extend(ids(&case["greedy_ids"]));
        // In a history `<|end|>` takes the place of `<|return|>`.
        if expected.last() == Some(&nano().special_id(Special::Return)) {
            *expected.last_mut().unwrap() = nano().special_id(Special::End);
        }
        assert_eq!(tokens, expected, "{}", case["text"]);

        messages.push(Message::User("!".to_owned()));
        let text = Renderer::default().text(nano(), &Conversation { messages });
        let is_complete = turn.messages.iter().any(|message| message.header.channel == Some(Channel::Final));
        assert_eq!(text.contains("analysis"), !is_complete, "{text}");
    }
}
