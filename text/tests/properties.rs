//! What holds for every text and every sequence of tokens.

use crate::common::{VOCAB_SIZE, o200k};
use gptoss_text::harmony::{
    AssistantMessage, Channel, Conversation, Ending, Event, Message, ParsedMessage, Parser, Purpose, Renderer, Turn,
};
use gptoss_text::{Special, StreamDecoder, split_o200k};
use proptest::prelude::*;

/// Text of all of Unicode, with more than its share of what the format is made of.
fn text() -> impl Strategy<Value = String> {
    let fragment = prop_oneof![
        any::<String>(),
        "[a-zA-Z0-9' \r\n\t/{}\":=]{0,20}",
        prop::sample::select(Special::ALL.map(Special::name).to_vec()).prop_map(str::to_owned),
        prop::sample::select(vec![" to=functions.f", "assistant", "commentary", "<|", "|>", "to="])
            .prop_map(str::to_owned),
    ];
    prop::collection::vec(fragment, 0..8).prop_map(|fragments| fragments.concat())
}

/// Any tokens, specials and the words of headers among them.
fn tokens() -> impl Strategy<Value = Vec<u32>> {
    let part = prop_oneof![
        (0..VOCAB_SIZE).prop_map(|id| vec![id]),
        prop::sample::select(Special::ALL.to_vec()).prop_map(|special| vec![o200k().special_id(special)]),
        prop::sample::select(vec![
            "assistant",
            "analysis",
            "commentary",
            "final",
            " to=functions.f",
            " to = \"f\"",
            "json",
            "bash",
            "functions.g",
            "analyis",
            "thinking",
            "Final",
            "user",
            " We need",
            "?",
            " x",
            "{}",
            "{\"a\":1}",
            "to="
        ])
        .prop_map(|text| o200k().encode_ordinary(text)),
    ];
    prop::collection::vec(part, 0..40).prop_map(|parts| parts.concat())
}

fn parse(tokens: &[u32]) -> (Vec<Event>, Turn) {
    let mut parser = Parser::new(o200k());
    let mut events: Vec<Event> = tokens.iter().flat_map(|&id| parser.push(o200k(), id).unwrap()).collect();
    let (last, turn) = parser.finish();
    events.extend(last);
    (events, turn)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn encoded_text_decodes_to_itself(text in text()) {
        let ids = o200k().encode_ordinary(&text);
        prop_assert!(ids.iter().all(|&id| !o200k().is_special(id)));
        prop_assert_eq!(o200k().decode(&ids).unwrap(), text.as_str());
        prop_assert_eq!(split_o200k(&text).collect::<String>(), text.as_str());
        prop_assert!(split_o200k(&text).all(|piece| !piece.is_empty()));
        prop_assert_eq!(ids, tiktoken_rs::o200k_harmony_singleton().encode_ordinary(&text));
    }

    #[test]
    fn text_with_specials_decodes_to_itself(text in text()) {
        let ids = o200k().encode_with_specials(&text);
        prop_assert_eq!(o200k().decode(&ids).unwrap(), text.as_str());
        prop_assert_eq!(ids, tiktoken_rs::o200k_harmony_singleton().encode_with_special_tokens(&text));
    }

    #[test]
    fn streamed_tokens_give_the_same_text(tokens in tokens()) {
        let mut decoder = StreamDecoder::new();
        let mut text: String = tokens.iter().map(|&id| decoder.push(o200k(), id).unwrap()).collect();
        text.push_str(&decoder.finish());
        prop_assert_eq!(text, o200k().decode(&tokens).unwrap());
    }

    #[test]
    fn any_tokens_are_read_and_told_in_order(tokens in tokens()) {
        let (events, turn) = parse(&tokens);
        let mut told = Vec::new();
        let mut open = None;
        for event in events {
            match event {
                Event::Header(header, purpose) => prop_assert!(open.replace((header, purpose, String::new())).is_none()),
                Event::Text(text) => open.as_mut().unwrap().2.push_str(&text),
                Event::MessageEnd(end) => {
                    let (header, purpose, text) = open.take().unwrap();
                    told.push((header, purpose, text, end));
                }
                Event::Stop(special) => prop_assert!(open.is_none() && special.is_stop()),
                Event::Ignored(id) => prop_assert!(o200k().is_special(id)),
            }
        }
        prop_assert!(open.is_none());
        let kept: Vec<_> = turn.messages.iter().map(|m| (m.header.clone(), m.purpose, m.text.clone(), m.end)).collect();
        prop_assert_eq!(told, kept);
        // Nothing but a name in any name.
        for message in &turn.messages {
            let header = &message.header;
            let names = [
                Some(header.role.name()),
                header.channel.as_ref().map(Channel::name),
                header.recipient.as_deref(),
                header.content_type.as_ref().map(|content_type| content_type.name.as_str()),
            ];
            let is_part = |c: char| c.is_ascii_alphanumeric() || "_.-/".contains(c);
            prop_assert!(names.into_iter().flatten().all(|name| !name.is_empty() && name.chars().all(is_part)), "{header:?}");
        }
    }

    /// What was written is in a header, in a text or in a fragment, once and in order.
    #[test]
    fn no_token_is_lost(tokens in tokens()) {
        let mut written = String::new();
        let mut decoder = StreamDecoder::new();
        for &id in &tokens {
            if o200k().is_special(id) {
                written.push_str(&std::mem::take(&mut decoder).finish());
            } else {
                written.push_str(&decoder.push(o200k(), id).unwrap());
            }
        }
        written.push_str(&decoder.finish());

        let (_, turn) = parse(&tokens);
        let markers = [Special::Channel, Special::Constrain].map(Special::name);
        let unmarked = |text: &str| markers.iter().fold(text.to_owned(), |text, marker| text.replace(marker, ""));
        let mut read = String::new();
        for index in 0..=turn.messages.len() {
            let fragments = turn.fragments.iter().filter(|fragment| fragment.before == index);
            read.extend(fragments.map(|fragment| unmarked(&fragment.text)));
            if let Some(message) = turn.messages.get(index) {
                read.push_str(&unmarked(&message.header_text));
                read.push_str(&message.text);
            }
        }
        prop_assert_eq!(read, written);
    }

    /// Whatever comes before and after it.
    #[test]
    fn nothing_on_the_analysis_channel_is_shown(before in tokens(), after in tokens()) {
        let secret = o200k().encode_with_specials("<|channel|>analysis<|message|>zqxsecret<|end|>");
        let (events, turn) = parse(&[before, secret, after].concat());
        let is_secret = |text: Option<String>| text.is_some_and(|text| text.contains("zqxsecret"));
        prop_assert!(!is_secret(turn.content()), "{:?}", turn.messages);
        prop_assert!(turn.messages.iter().any(|message| message.text.contains("zqxsecret")));
        let mut told = (None, String::new());
        for event in events {
            match event {
                Event::Header(_, purpose) => told = (Some(purpose), String::new()),
                Event::Text(text) => told.1.push_str(&text),
                _ => {}
            }
            let is_hidden = matches!(told.0, Some(Purpose::Reasoning | Purpose::Call | Purpose::Foreign));
            prop_assert!(is_hidden || !told.1.contains("zqxsecret"), "{told:?}");
        }
    }

    /// What the parser calls exact may go back to the model: read again it is the same message.
    #[test]
    fn exact_tokens_are_read_as_the_same_message(tokens in tokens()) {
        let (_, turn) = parse(&tokens);
        for message in turn.messages.iter().filter(|message| message.exact_tokens.is_some()) {
            let Some(history) = message.to_history() else { continue };
            let renderer = Renderer { ending: Ending::Closed, ..Renderer::default() };
            let rendered = renderer.tokens(o200k(), &Conversation { messages: vec![Message::Assistant(history)] });
            let (_, again) = parse(&rendered);
            let told = |message: &ParsedMessage| (message.header.clone(), message.text.clone());
            prop_assert_eq!(again.messages.iter().map(told).collect::<Vec<_>>(), [told(message)]);
        }
    }

    #[test]
    fn rendered_text_is_read_back(text in text(), answer in text()) {
        let messages = vec![Message::User(text.clone()), Message::Assistant(AssistantMessage::new(Channel::Final, answer.clone()))];
        let renderer = Renderer { ending: Ending::Closed, ..Renderer::default() };
        let (_, turn) = parse(&renderer.tokens(o200k(), &Conversation { messages }));
        let texts: Vec<&str> = turn.messages.iter().map(|message| message.text.as_str()).collect();
        prop_assert_eq!(texts, [text.as_str(), answer.as_str()]);
    }
}
