//! Parsing against recorded outputs: legal headers of every kind, and what models write instead.

use crate::common::{ids, o200k, rows};
use gptoss_text::harmony::{Event, Header, MessageEnd, ParsedMessage, Parser, Role, Turn};
use gptoss_text::{Special, Tokenizer, UnknownToken};
use serde_json::{Value, json};

/// All events of `tokens`, and the turn.
fn parse(tokenizer: &Tokenizer, tokens: &[u32]) -> (Vec<Event>, Turn) {
    let mut parser = Parser::new(tokenizer);
    let mut events = Vec::new();
    for &id in tokens {
        events.extend(parser.push(tokenizer, id).unwrap());
    }
    let (last, turn) = parser.finish();
    events.extend(last);
    assert_eq!(retold(&events), turn.messages.iter().map(told).collect::<Vec<_>>(), "events and turn differ");
    (events, turn)
}

fn parse_text(text: &str) -> (Vec<Event>, Turn) {
    parse(o200k(), &o200k().encode_with_specials(text))
}

type Told = (Header, String, MessageEnd);

fn told(message: &ParsedMessage) -> Told {
    (message.header.clone(), message.text.clone(), message.end)
}

/// The messages that `events` tell of.
fn retold(events: &[Event]) -> Vec<Told> {
    let mut messages = Vec::new();
    let mut current: Option<(Header, String)> = None;
    for event in events {
        match event {
            Event::Header(header, _) => assert!(current.replace((header.clone(), String::new())).is_none()),
            Event::Text(text) => current.as_mut().expect("text is in a message").1.push_str(text),
            Event::MessageEnd(end) => {
                let (header, text) = current.take().expect("a message is open");
                messages.push((header, text, *end));
            }
            Event::Stop(_) => assert!(current.is_none(), "a message is open at the end of generation"),
            Event::Ignored(_) => {}
        }
    }
    assert!(current.is_none(), "a message was left open");
    messages
}

/// A message as the vectors have it.
fn as_recorded(message: &ParsedMessage) -> Value {
    let Header { role, channel, recipient, content_type } = &message.header;
    let (role, name) = match role {
        Role::Tool(name) => ("tool", Some(name)),
        role => (role.name(), None),
    };
    let mut recorded = json!({"role": role, "name": name, "content": [{"type": "text", "text": message.text}]});
    let mut set = |key: &str, value: Option<String>| {
        if let Some(value) = value {
            recorded[key] = value.into();
        }
    };
    set("channel", channel.as_ref().map(|channel| channel.name().to_owned()));
    set("recipient", recipient.clone());
    set(
        "content_type",
        content_type.as_ref().map(|t| (if t.constrained { "<|constrain|>" } else { "" }).to_owned() + &t.name),
    );
    recorded
}

fn as_recorded_all(turn: &Turn) -> Value {
    turn.messages.iter().map(as_recorded).collect()
}

#[test]
fn recorded_outputs() {
    let mut scored = 0;
    for row in rows("harmony_parse_cases.jsonl", 32) {
        let id = &row["id"];
        let (_, turn) = parse(o200k(), &ids(&row["tokens"]));
        for message in &turn.messages {
            let fields = as_recorded(message).to_string().replace("<|constrain|>json", "json");
            assert!(!fields.contains("<|"), "{id}: a special's text in {fields}");
        }
        let Some(expect) = row.get("expect") else { continue };
        let calls: Value =
            turn.tool_calls().map(|call| json!({"name": call.name, "arguments": call.arguments})).collect();
        let result = json!({"reasoning": turn.reasoning(), "content": turn.content(), "tool_calls": calls});
        assert_eq!(&result, expect, "{id}: {}", row["text"]);
        scored += 1;
    }
    assert_eq!(scored, 27);
}

/// The messages that OpenAI's parser finds, where its lenient mode finds any and is right.
#[test]
fn recorded_outputs_message_by_message() {
    for row in rows("harmony_parse_cases.jsonl", 32) {
        let (_, turn) = parse(o200k(), &ids(&row["tokens"]));
        let expected = match row["id"].as_str().unwrap() {
            // It takes the content type for a recipient.
            "vl-02" => {
                json!([{"role": "assistant", "name": null, "channel": "final", "content_type": "<|constrain|>json",
                "content": [{"type": "text", "text": "{\"result\":true}"}]}])
            }
            // It fails at the repeated recipient.
            "vl-03" => {
                json!([{"role": "assistant", "name": null, "channel": "commentary", "recipient": "functions.get_weather",
                "content": [{"type": "text", "text": "{}"}]}])
            }
            _ => row["reference_lenient"]["messages"].clone(),
        };
        assert_eq!(as_recorded_all(&turn), expected, "{}: {}", row["id"], row["text"]);
    }
}

#[test]
fn upstream_parses() {
    for row in rows("harmony_parse_upstream.jsonl", 6) {
        assert_eq!(as_recorded_all(&parse(o200k(), &ids(&row["tokens"])).1), row["messages"], "{}", row["id"]);
    }
}

#[test]
fn upstream_streams() {
    for row in rows("harmony_stream_upstream.jsonl", 13) {
        let id = row["id"].as_str().unwrap();
        let steps = row["steps"].as_array().unwrap();
        let tokens: Vec<u32> = steps.iter().map(|step| step["token"].as_u64().unwrap() as u32).collect();
        let (_, turn) = parse(o200k(), &tokens);
        if !row["error"].is_null() {
            // The strict mode refuses at the first token behind the header; we read on, as its lenient mode does.
            assert!(!turn.messages.is_empty(), "{id}");
            continue;
        }
        // Its record of this one is taken before the stream ends, and lacks the open message.
        if id != "up-43" {
            assert_eq!(as_recorded_all(&turn), row["messages"], "{id}");
        }
        check_steps(id, steps);
    }
}

/// The header in force after each token, and the text so far.
fn check_steps(id: &str, steps: &[Value]) {
    let mut parser = Parser::new(o200k());
    let mut header: Option<Header> = None;
    let (mut ours, mut theirs) = (String::new(), String::new());
    // Around bytes that are no UTF-8 it cuts the text in other places.
    let is_invalid = steps.iter().any(|step| step["delta"].as_str().is_some_and(|delta| delta.contains('\u{FFFD}')));
    for (index, step) in steps.iter().enumerate() {
        let mut delta = String::new();
        for event in parser.push(o200k(), step["token"].as_u64().unwrap() as u32).unwrap() {
            match event {
                Event::Header(new, _) => header = Some(new),
                Event::Text(text) => delta.push_str(&text),
                Event::MessageEnd(_) => header = None,
                Event::Stop(_) | Event::Ignored(_) => {}
            }
        }
        let channel = header.as_ref().and_then(|header| header.channel.as_ref()).map(|channel| channel.name());
        let recipient = header.as_ref().and_then(|header| header.recipient.as_deref());
        assert_eq!(
            (json!(channel), json!(recipient)),
            (step["channel"].clone(), step["recipient"].clone()),
            "{id} {index}"
        );
        // A special ends a message: then we tell what was held back, or was found in a header without `<|message|>`.
        if o200k().is_special(step["token"].as_u64().unwrap() as u32) {
            assert!(step["delta"].is_null(), "{id} {index}");
            continue;
        }
        let expected = step["delta"].as_str().unwrap_or_default();
        ours.push_str(&delta);
        theirs.push_str(expected);
        assert!(delta == expected || is_invalid, "{id} {index}: {delta:?} is not {expected:?}");
    }
    // Its deltas of up-40 to up-42 lack what their messages have.
    assert!(ours == theirs || matches!(id, "up-40" | "up-41" | "up-42"), "{id}: {ours:?} is not {theirs:?}");
}

/// Files of OpenAI's renderer, read as transcripts.
#[test]
fn upstream_transcripts() {
    let folder = std::fs::read_dir(crate::common::vectors().join("harmony-test-data")).unwrap();
    let names: Vec<String> = folder.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    assert_eq!(names.len(), 21);
    for name in names {
        let text = crate::common::read(&format!("harmony-test-data/{name}"));
        let (_, turn) = parse_text(&text);
        // This reads the letters alone: a text is what stands between its marker and the next one.
        let texts: Vec<&str> = text.split("<|message|>").skip(1).map(|rest| rest.split("<|").next().unwrap()).collect();
        let parsed: Vec<&str> = turn.messages.iter().map(|message| message.text.as_str()).collect();
        assert_eq!(parsed, texts, "{name}");
        let roles = ["system", "developer", "user", "assistant", "functions.lookup_weather", "browser.search"];
        for message in &turn.messages {
            assert!(roles.contains(&message.header.role.name()), "{name}: {:?}", message.header);
        }
    }
}

#[test]
fn end_is_not_a_stop() {
    let (events, turn) =
        parse_text("<|channel|>analysis<|message|>a<|end|><|start|>assistant<|channel|>final<|message|>b<|return|>");
    assert_eq!(turn.stop, Some(Special::Return));
    assert_eq!(events.iter().filter(|event| matches!(event, Event::Stop(_))).count(), 1);
    assert_eq!((turn.reasoning().as_deref(), turn.content().as_deref()), (Some("a"), Some("b")));
    assert_eq!(
        turn.messages.iter().map(|message| message.end).collect::<Vec<_>>(),
        [MessageEnd::End, MessageEnd::Return]
    );
}

/// What a model was seen to write instead of a legal message, beyond the recorded cases.
#[test]
fn malformed_messages() {
    let call = |name: &str, arguments: &str| (None, None, vec![(name.to_owned(), arguments.to_owned())]);
    let content = |text: &str| (None, Some(text.to_owned()), vec![]);
    let cases = [
        // Markers as plain text in a name, in a header otherwise legal.
        ("<|channel|>commentary to=functions.f\u{1}<|channel|>\u{1}x<|message|>{}<|call|>", call("f", "{}")),
        ("<|channel|>commentary to=functions.f \u{1}<|constrain|>\u{1}json<|message|>{}<|call|>", call("f", "{}")),
        (
            "<|channel|>commentary to=functions.f <|constrain|>json\u{1}<|message|>\u{1}{\"a\":1}<|call|>",
            call("f", "{\"a\":1}"),
        ),
        // No `<|message|>`.
        (
            "<|channel|>commentary to=functions.f <|constrain|>json{\"a\": \"to=b c\"}<|call|>",
            call("f", "{\"a\": \"to=b c\"}"),
        ),
        ("<|channel|>commentary to=functions.f {\"a\": 1}<|call|>", call("f", "{\"a\": 1}")),
        ("<|channel|>final Set to=5 please.<|return|>", content("Set to=5 please.")),
        ("Hello there", content("Hello there")),
        // No `<|start|>assistant`, no `<|start|>`, no `<|end|>`.
        ("<|channel|>final<|message|>a<|end|><|channel|>final<|message|>b<|return|>", content("a\nb")),
        ("<|channel|>final<|message|>a<|end|>assistant<|channel|>final<|message|>b<|return|>", content("a\nb")),
        ("<|channel|>final<|message|>a<|start|>assistant<|channel|>final<|message|>b<|return|>", content("a\nb")),
        ("<|channel|>final<|message|>a<|channel|>final<|message|>b<|return|>", content("a\nb")),
        // Specials that mean nothing there.
        ("<|channel|>final<|message|>a<|message|>b<|constrain|>c<|reserved_200013|>d<|return|>", content("abcd")),
        // A channel nobody defined is not lost.
        ("<|channel|>finale<|message|>a<|return|>", content("a")),
        ("<|message|>a<|return|>", content("a")),
        // Cut off inside a header: half a name is not a call.
        ("<|channel|>commentary to=functions.ge", (None, None, vec![])),
        ("<|channel|>analysis<|message|>a<|end|><|start|>assis", (Some("a".to_owned()), None, vec![])),
        ("<|return|>", (None, None, vec![])),
        // A role as recipient is no tool.
        ("<|channel|>final to=user<|message|>a<|return|>", content("a")),
        ("<|channel|>commentary to=functions.<|message|>{}<|call|>", call("functions.", "{}")),
    ];
    for (text, expected) in cases {
        // The parts between U+0001 marks are ordinary text.
        let parts = text.split('\u{1}').enumerate();
        let tokens: Vec<u32> = parts
            .flat_map(
                |(i, part)| if i % 2 == 0 { o200k().encode_with_specials(part) } else { o200k().encode_ordinary(part) },
            )
            .collect();
        let (_, turn) = parse(o200k(), &tokens);
        let calls: Vec<_> = turn.tool_calls().map(|call| (call.name, call.arguments)).collect();
        assert_eq!((turn.reasoning(), turn.content(), calls), expected, "{text:?}");
    }
}

#[test]
fn a_call_that_is_cut_off_is_marked() {
    let calls =
        |text: &str| parse_text(text).1.tool_calls().map(|call| (call.arguments, call.is_complete)).collect::<Vec<_>>();
    let header = "<|channel|>commentary to=functions.f <|constrain|>json<|message|>";
    assert_eq!(calls(&format!("{header}{{\"a\"")), [("{\"a\"".to_owned(), false)]);
    assert_eq!(calls(&format!("{header}{{}}<|call|>")), [("{}".to_owned(), true)]);
    // A function without arguments: what a reader of JSON expects.
    assert_eq!(calls(&format!("{header}<|call|>")), [("{}".to_owned(), true)]);
}

#[test]
fn characters_are_whole_in_every_event() {
    let text = "<|channel|>final<|message|>👩‍🔬 ŵ 𝔘nicode 🦄🦄<|return|>";
    let (events, turn) = parse_text(text);
    assert_eq!(turn.content().as_deref(), Some("👩‍🔬 ŵ 𝔘nicode 🦄🦄"));
    assert!(
        events.iter().all(|event| !matches!(event, Event::Text(text) if text.contains('\u{FFFD}') || text.is_empty()))
    );
}

#[test]
fn exact_tokens_are_the_message_as_generated() {
    let generated = o200k().encode_with_specials(
        "<|channel|>analysis<|message|>hm<|end|><|start|>assistant to=functions.f<|channel|>commentary json<|message|>{}<|call|>",
    );
    let (_, turn) = parse(o200k(), &generated);
    let again: Vec<u32> = turn
        .messages
        .iter()
        .flat_map(|message| {
            let end = if message.header.recipient.is_some() { Special::Call } else { Special::End };
            let start = [o200k().special_id(Special::Start)];
            [&start[..], message.exact_tokens.as_ref().unwrap(), &[o200k().special_id(end)]].concat()
        })
        .collect();
    assert_eq!(again, [o200k().encode_with_specials("<|start|>assistant"), generated].concat());
    // What is not well-formed is better rendered anew.
    let (_, turn) = parse_text("<|channel|>final<|message|>a<|constrain|>b<|return|>");
    assert_eq!(turn.messages[0].exact_tokens, None);
    let (_, turn) = parse_text("<|channel|>final a<|return|>");
    assert_eq!(turn.messages[0].exact_tokens, None);
}

#[test]
fn an_id_outside_the_vocabulary_is_an_error_and_changes_nothing() {
    let mut parser = Parser::new(o200k());
    for id in o200k().encode_with_specials("<|channel|>final<|message|>a") {
        parser.push(o200k(), id).unwrap();
    }
    let error = UnknownToken { id: 201_088, vocab_size: 201_088 };
    assert_eq!(parser.push(o200k(), 201_088), Err(error));
    assert_eq!(error.to_string(), "token id 201088 is outside the vocabulary of 201088 tokens");
    assert_eq!(parser.finish().1.content().as_deref(), Some("a"));
}
