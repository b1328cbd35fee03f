//! What models were seen to write instead of the format, and by which rules it is read: the cases behind
//! docs/HARMONY.md.

use crate::common::o200k;
use gptoss_text::harmony::{Event, Parser, Purpose, Recovery, Turn};

/// What a turn is to be read as: reasoning, content, calls with their arguments, and all rules that were applied.
struct Case {
    text: &'static str,
    reasoning: Option<&'static str>,
    content: Option<&'static str>,
    calls: &'static [(&'static str, &'static str)],
    rules: &'static [&'static str],
}

fn parse(text: &str) -> Turn {
    let mut parser = Parser::new(o200k());
    for id in o200k().encode_with_specials(text) {
        parser.push(o200k(), id).unwrap();
    }
    parser.finish().1
}

fn check(cases: &[Case]) {
    let mut wrong = Vec::new();
    for case in cases {
        let turn = parse(case.text);
        let calls: Vec<(String, String)> = turn.tool_calls().map(|call| (call.name, call.arguments)).collect();
        let calls: Vec<(&str, &str)> = calls.iter().map(|(name, text)| (name.as_str(), text.as_str())).collect();
        let rules: Vec<&str> =
            turn.messages.iter().flat_map(|message| &message.recoveries).map(|rule| rule.name()).collect();
        let (reasoning, content) = (turn.reasoning(), turn.content());
        let read = (reasoning.as_deref(), content.as_deref(), calls.as_slice(), rules.as_slice());
        if read != (case.reasoning, case.content, case.calls, case.rules) {
            wrong.push(format!("{}\n    is read as {read:?}", case.text));
        }
        // What had to be recovered is better not repeated to the model as it was written.
        assert!(turn.messages.iter().all(|m| m.exact_tokens.is_none() || m.recoveries.is_empty()), "{}", case.text);
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

macro_rules! cases {
    ($($text:literal => $reasoning:expr, $content:expr, $calls:expr, $rules:expr;)*) => {
        &[$(Case { text: $text, reasoning: $reasoning, content: $content, calls: &$calls, rules: &$rules }),*]
    };
}

const LS: (&str, &str) = ("bash", "{\"cmd\":\"ls\"}");

#[test]
fn roles() {
    check(cases! {
        "<|channel|>analysis<|message|>t<|end|><|start|>final<|message|>Answer<|return|>"
            => Some("t"), Some("Answer"), [], ["role-is-channel"];
        "<|channel|>analysis<|message|>t<|end|><|start|>analysis<|message|>u<|end|><|start|>assistant<|channel|>final<|message|>A<|return|>"
            => Some("t\nu"), Some("A"), [], ["role-is-channel"];
        "<|channel|>analysis<|message|>t<|end|><|start|>bash<|message|>{\"cmd\":\"ls\"}<|call|>"
            => Some("t"), None, [LS], ["role-unknown", "role-is-tool"];
        "<|channel|>analysis<|message|>t<|end|><|start|>bash<|channel|>commentary<|message|>{\"cmd\":\"ls\"}<|call|>"
            => Some("t"), None, [LS], ["role-unknown", "role-is-tool"];
        "<|channel|>analysis<|message|>t<|end|><|start|>functions.bash<|channel|>commentary<|message|>{\"cmd\":\"ls\"}<|call|>"
            => Some("t"), None, [LS], ["role-is-tool"];
        "<|channel|>analysis<|message|>t<|end|><|start|>bash to=functions.bash<|channel|>commentary<|message|>{\"cmd\":\"ls\"}<|call|>"
            => Some("t"), None, [LS], ["role-unknown"];
        "<|channel|>analysis<|message|>t<|end|><|start|>bash<|channel|>final<|message|>A<|return|>"
            => Some("t"), Some("A"), [], ["role-unknown"];
        "<|channel|>analysis<|message|>t<|end|><|start|>model<|message|>A<|return|>"
            => Some("t"), Some("A"), [], ["role-unknown", "unclear-answer"];
        "<|channel|>analysis<|message|>t<|end|><|start|>assistantassistant<|channel|>final<|message|>A<|return|>"
            => Some("t"), Some("A"), [], ["role-spelling"];
        "<|channel|>analysis<|message|>t<|end|><|start|>assistantfinal<|message|>A<|return|>"
            => Some("t"), Some("A"), [], ["role-spelling", "channel-unmarked"];
        "<|channel|>analysis<|message|>t<|end|><|start|>Assistant<|channel|>final<|message|>A<|return|>"
            => Some("t"), Some("A"), [], ["role-spelling"];
        "<|channel|>analysis<|message|>t<|end|><|start|>assistant final<|message|>A<|return|>"
            => Some("t"), Some("A"), [], ["channel-unmarked"];
        "<|channel|>analysis<|message|>t<|end|><|start|>We should answer now.<|end|><|start|>assistant<|channel|>final<|message|>A<|return|>"
            => Some("t\nWe should answer now."), Some("A"), [], ["role-unknown", "message-missing", "unclear-reasoning"];
    });
}

#[test]
fn channels() {
    check(cases! {
        "<|channel|>bash<|channel|>commentary<|message|>{\"cmd\":\"ls\"}<|call|>"
            => None, None, [LS], ["channel-repeated", "channel-is-tool"];
        "<|channel|>bash<|channel|>analysis<|message|>{\"cmd\":\"ls\"}<|call|>"
            => None, None, [LS], ["channel-repeated", "channel-is-tool"];
        "<|channel|>bash<|message|>{\"cmd\":\"ls\"}<|call|>" => None, None, [LS], ["channel-is-tool"];
        "<|channel|>bash<|message|>ls -la<|call|>" => None, None, [("bash", "ls -la")], ["channel-is-tool"];
        "<|channel|>bash <|constrain|>json<|message|>{\"cmd\":\"ls\"}<|call|>" => None, None, [LS], ["channel-is-tool"];
        "<|channel|>bash {\"cmd\":\"ls\"}<|call|>" => None, None, [LS], ["message-missing", "channel-is-tool"];
        "<|channel|>bash{\"cmd\":\"ls\"}<|call|>" => None, None, [LS], ["message-missing", "channel-is-tool"];
        "<|channel|>bash<|message|>{\"cmd\":\"ls\"}<|end|><|start|>assistant<|channel|>final<|message|>A<|return|>"
            => None, Some("A"), [LS], ["channel-is-tool"];
        "<|channel|>bash<|message|>{\"cmd\"" => None, None, [("bash", "{\"cmd\"")], ["channel-is-tool"];
        "<|channel|>functions.bash<|message|>{\"cmd\":\"ls\"}<|call|>" => None, None, [LS], ["channel-is-tool"];
        "<|channel|>python<|message|>print(1)<|call|>" => None, None, [("python", "print(1)")], ["channel-is-tool"];
        "<|channel|>bash<|channel|>final<|message|>A<|return|>"
            => None, Some("A"), [], ["channel-repeated", "channel-unknown"];
        "<|channel|>commentary<|message|>{\"cmd\":\"ls\"}<|call|>" => Some(LS.1), None, [], ["call-unnamed"];
        "<|channel|>commentary<|message|>{\"path\": \"/\"}<|end|><|start|>assistant<|channel|>final<|message|>A<|return|>"
            => Some("{\"path\": \"/\"}"), Some("A"), [], ["call-unnamed"];
        "<|message|>{\"cmd\":\"ls\"}<|call|>" => Some(LS.1), None, [], ["call-unnamed"];
        "<|message|>{\"cmd\":\"ls\"}<|return|>" => None, Some(LS.1), [], [];
        "{\"cmd\":\"ls\"}<|return|>" => None, Some(LS.1), [], ["header-missing", "unclear-answer"];
        "<|channel|>analyis<|message|>t<|end|><|start|>assistant<|channel|>FINAL<|message|>A<|return|>"
            => Some("t"), Some("A"), [], ["channel-spelling", "channel-spelling"];
        "<|channel|>thinking<|message|>t<|end|><|start|>assistant<|channel|>Final<|message|>A<|return|>"
            => Some("t"), Some("A"), [], ["channel-spelling", "channel-spelling"];
        "<|channel|>think<|message|>{\"thought\":1}<|call|>" => None, None, [("think", "{\"thought\":1}")], ["channel-is-tool"];
        "<|channel|>––commentary<|message|>Hi<|end|>" => None, Some("Hi"), [], ["channel-spelling"];
        "<|channel|>summary<|message|>A<|return|>" => None, Some("A"), [], ["channel-unknown", "unclear-answer"];
        "<|channel|>summary<|message|>t<|end|><|start|>assistant<|channel|>final<|message|>A<|return|>"
            => Some("t"), Some("A"), [], ["channel-unknown", "unclear-reasoning"];
        "<|channel|>final__HANDOFF__<|return|>" => None, Some("__HANDOFF__"), [], ["channel-spelling", "message-missing"];
        "<|channel|>finalThe answer.<|return|>" => None, Some("The answer."), [], ["channel-spelling", "message-missing"];
        "<|channel|>finalA<|return|>" => None, Some("A"), [], ["channel-spelling", "message-missing"];
        "<|channel|>analysisWe think<|end|><|start|>assistant<|channel|>final<|message|>A<|return|>" => Some("We think"), Some("A"), [],
            ["channel-spelling", "message-missing"];
        "<|channel|>42<|return|>" => None, Some("42"), [], ["channel-unknown", "message-missing", "unclear-answer"];
        "<|channel|>final Here it is:<|message|>A<|return|>"
            => None, Some("Here it is:\nA"), [], ["words-in-header", "words-in-header"];
        "<|channel|>analysis We look<|channel|>final<|message|>A<|return|>"
            => Some("We look"), Some("A"), [], ["message-missing"];
    });
}

#[test]
fn headers_without_their_tokens() {
    check(cases! {
        "<|channel|>analysis<|message|>t<|end|>analysis<|message|>secret<|end|><|start|>assistant<|channel|>final<|message|>A<|return|>"
            => Some("t\nsecret"), Some("A"), [], ["channel-unmarked"];
        "<|channel|>analysis<|message|>t<|end|>final<|message|>A<|return|>" => Some("t"), Some("A"), [], ["channel-unmarked"];
        "<|channel|>analysis<|message|>t<|end|>analysis We think on.<|end|><|start|>assistant<|channel|>final<|message|>A<|return|>"
            => Some("t\nWe think on."), Some("A"), [], ["channel-unmarked", "message-missing"];
        "<|channel|>analysis<|message|>t<|end|>commentary to=functions.bash<|message|>{\"cmd\":\"ls\"}<|call|>"
            => Some("t"), None, [LS], ["channel-unmarked"];
        "<|channel|>analysis<|message|>t<|end|>commentaryto=functions.bash<|message|>{\"cmd\":\"ls\"}<|call|>"
            => Some("t"), None, [LS], ["channel-unmarked"];
        "<|channel|>analysis<|message|>t<|end|>Wait.<|start|>assistant<|channel|>final<|message|>A<|return|>"
            => Some("t\nWait."), Some("A"), [], ["header-missing", "unclear-reasoning"];
        "final answers need care.<|return|>"
            => None, Some("final answers need care."), [], ["header-missing", "unclear-answer"];
        "<|channel|>We need to look at the file first.<|end|><|start|>assistant<|channel|>analysis<|message|>t<|end|><|start|>assistant<|channel|>final<|message|>A<|return|>"
            => Some("We need to look at the file first.\nt"), Some("A"), [], ["channel-unknown", "message-missing", "unclear-reasoning"];
        "<|channel|>We need to look at the file first.<|end|>"
            => None, Some("We need to look at the file first."), [], ["channel-unknown", "message-missing", "unclear-answer"];
        "<|channel|>??<|end|><|start|>assistant<|channel|>analysis<|message|>t<|end|><|start|>assistant<|channel|>final<|message|>A<|return|>"
            => Some("t"), Some("A"), [], [];
        "<|channel|>commentary?commentary?<|end|><|start|>assistant<|channel|>final<|message|>A<|return|>"
            => None, Some("A"), [], [];
        "<|channel|>commentary 2?<|end|><|start|>assistant<|channel|>final<|message|>A<|return|>"
            => Some("2?"), Some("A"), [], ["message-missing", "unclear-reasoning"];
        "<|channel|>commentary to=assistant<|channel|>commentary?<|end|><|start|>assistant<|channel|>final<|message|>A<|return|>"
            => None, Some("A"), [], [];
        "??<|return|>" => None, Some("??"), [], ["header-missing", "unclear-answer"];
    });
}

#[test]
fn recipients() {
    const ARGUMENTS: &str = "{\"a\":1}";
    check(cases! {
        "<|channel|>commentary to=functions.f{\"a\":1}<|call|>"
            => None, None, [("f", ARGUMENTS)], ["recipient-spelling", "message-missing"];
        "<|channel|>commentary to=functions.f{\"a\":1}<|message|><|call|>"
            => None, None, [("f", ARGUMENTS)], ["recipient-spelling", "words-in-header"];
        "<|channel|>commentary to = functions.f <|constrain|>json<|message|>{\"a\":1}<|call|>"
            => None, None, [("f", ARGUMENTS)], ["recipient-spelling"];
        "<|channel|>commentary to=\"functions.f\" <|constrain|>json<|message|>{\"a\":1}<|call|>"
            => None, None, [("f", ARGUMENTS)], ["recipient-spelling"];
        "<|channel|>commentary to='f'<|message|>{\"a\":1}<|call|>" => None, None, [("f", ARGUMENTS)], ["recipient-spelling"];
        "<|channel|>commentary to=functions.f: <|message|>{\"a\":1}<|call|>"
            => None, None, [("f", ARGUMENTS)], ["recipient-spelling"];
        "<|channel|>commentary to=f <|constrain|>json<|message|>{\"a\":1}<|call|>" => None, None, [("f", ARGUMENTS)], [];
        "<|channel|>commentary to=functions.f to=functions.g<|message|>{\"a\":1}<|call|>"
            => None, None, [("f", ARGUMENTS)], ["recipient-repeated"];
        "<|channel|>commentary to=functions.f please run it<|message|>{\"a\":1}<|call|>"
            => None, None, [("f", ARGUMENTS)], ["words-in-header"];
        "<|channel|>commentary to=functions.f <|constrain|>write: edit it.<|end|>"
            => None, None, [("f", "write: edit it.")], ["constrain-misplaced", "message-missing"];
        "<|channel|>commentary <|constrain|>write: edit it.<|end|><|start|>assistant<|channel|>final<|message|>A<|return|>"
            => Some("write: edit it."), Some("A"), [], ["constrain-misplaced", "message-missing", "unclear-reasoning"];
        " <|constrain|>commentary to=functions.f<|message|>{\"a\":1}<|call|>"
            => None, None, [("f", ARGUMENTS)], ["constrain-misplaced"];
        "<|channel|>commentary functions.f<|message|>{\"a\":1}<|call|>"
            => None, None, [("f", ARGUMENTS)], ["recipient-unmarked"];
        "<|channel|>commentary bash<|message|>{\"cmd\":\"ls\"}<|call|>" => None, None, [LS], ["recipient-unmarked"];
        "<|channel|>commentary bash {\"cmd\":\"ls\"}<|call|>"
            => None, None, [LS], ["message-missing", "recipient-unmarked"];
        "<|channel|>commentary hello<|message|>Hi<|end|>" => None, Some("Hi"), [], ["words-in-header"];
        "<|channel|>analysis<|message|>t<|end|><|start|>assistant functions.f<|channel|>commentary<|message|>{\"a\":1}<|call|>"
            => Some("t"), None, [("f", ARGUMENTS)], ["recipient-unmarked"];
        "<|channel|>commentary to=functions.f. <|message|>{\"a\":1}<|call|>"
            => None, None, [("f", ARGUMENTS)], ["recipient-spelling"];
        "<|channel|>final to=final<|message|>A<|return|>" => None, Some("A"), [], ["recipient-is-channel"];
        "<|channel|>commentary to=functions.f {\"a\":1" => None, None, [("f", "{\"a\":1")], ["message-missing"];
    });
}

/// Roles that are none of the model's stay what they are, as in a transcript.
#[test]
fn transcripts() {
    let text = "<|start|>system<|message|>s<|end|><|start|>developer<|message|>d<|end|><|start|>user:ada<|message|>u<|end|>\
                <|start|>functions.f to=assistant<|channel|>commentary<|message|>{\"r\":1}<|end|>\
                <|start|>browser.search<|message|>found<|end|><|start|>python to=assistant<|message|>3<|end|>\
                <|start|>bash to=assistant<|channel|>commentary<|message|>{\"r\":1}<|end|><|start|>assistant<|message|>A<|end|>";
    let turn = parse(text);
    let roles: Vec<&str> = turn.messages.iter().map(|message| message.header.role.name()).collect();
    assert_eq!(roles, ["system", "developer", "user", "functions.f", "browser.search", "python", "bash", "assistant"]);
    assert!(turn.messages.iter().all(|message| message.recoveries.is_empty()), "{:?}", turn.messages);
    assert_eq!((turn.content().as_deref(), turn.tool_calls().count()), (Some("A"), 0));
}

#[test]
fn a_call_without_json_is_marked() {
    let malformed = |text: &str| parse(text).tool_calls().map(|call| call.is_malformed).collect::<Vec<_>>();
    assert_eq!(malformed("<|channel|>commentary to=functions.f<|message|>edit it.<|call|>"), [true]);
    assert_eq!(malformed("<|channel|>commentary to=functions.f<|message|>[1]<|call|>"), [true]);
    assert_eq!(malformed("<|channel|>commentary to=functions.f<|message|>{\"a\"<|call|>"), [true]);
    assert_eq!(malformed("<|channel|>commentary to=functions.f<|message|> {} <|call|>"), [false]);
    assert_eq!(malformed("<|channel|>commentary to=functions.f<|message|><|call|>"), [false]);
    assert_eq!(malformed("<|channel|>analysis to=python code<|message|>print(1)<|call|>"), [false]);
    assert_eq!(malformed("<|channel|>analysis to=python <|constrain|>json<|message|>print(1)<|call|>"), [true]);
}

/// What is as it should be is told token by token; what may be a call or reasoning only when that is known.
#[test]
fn text_is_told_when_its_purpose_is_known() {
    let told = |text: &str| {
        let mut parser = Parser::new(o200k());
        let ids = o200k().encode_with_specials(text);
        let steps = ids.iter().map(|&id| {
            let events = parser.push(o200k(), id).unwrap();
            events.iter().filter(|event| matches!(event, Event::Text(_))).count()
        });
        steps.collect::<Vec<_>>()
    };
    assert_eq!(told("<|channel|>final<|message|> one two three"), [0, 0, 0, 1, 1, 1]);
    assert_eq!(told("<|channel|>Final<|message|> one two three").iter().sum::<usize>(), 3);
    assert_eq!(told("<|channel|>commentary<|message|>{ two three<|end|>").iter().sum::<usize>(), 1);
    assert_eq!(told("<|channel|>analysis<|message|> one two three"), [0, 0, 0, 1, 1, 1]);
    assert_eq!(told("<|channel|>commentary<|message|> one two three").iter().sum::<usize>(), 3);
    assert_eq!(told("<|channel|>bash<|message|> one two<|call|>"), [0, 0, 0, 0, 0, 1]);
    let parts = told("<|channel|>summary<|message|> one<|end|><|channel|>final<|message|> two");
    assert_eq!(parts, [0, 0, 0, 0, 0, 0, 0, 1, 1]);
}

#[test]
fn a_recovered_message_goes_into_the_history_where_it_belongs() {
    let turn = parse("<|channel|>We look.<|end|><|start|>final<|message|>A<|return|>");
    let history: Vec<_> = turn.messages.iter().map(|message| message.to_history().unwrap()).collect();
    let channels: Vec<&str> = history.iter().map(|message| message.channel.as_ref().unwrap().name()).collect();
    assert_eq!(channels, ["analysis", "final"]);
    assert_eq!(turn.messages[0].purpose, Purpose::Reasoning);
    assert_eq!(turn.messages[0].header_text, "<|channel|>");
}

#[test]
fn every_rule_has_a_line_in_the_documentation() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/HARMONY.md");
    let text = std::fs::read_to_string(path).unwrap();
    let named: Vec<&str> =
        text.lines().filter_map(|line| line.strip_prefix("| `")?.split_once('`')).map(|(name, _)| name).collect();
    assert_eq!(named, Recovery::ALL.map(Recovery::name));
}
