//! The controller, with the nano model on the CPU as its backend: what is asked for while other things are under way.
#![cfg(not(target_arch = "wasm32"))]

mod support;

use gptoss_protocol::{
    Chat, ChatMessage, Command, Envelope, Event, FailureKind, FinishReason, GateSlice, GateVerdict, Prompt,
    PromptFormat, RequestId, Sampling, Stage, StageStatus,
};
use support::{Desk, LoadAs, MODEL, Scripted, answered, broken_model, ended, gate, generate, load, prompt, stop, text};

/// Answers to these, each alone.
fn alone(prompts: &[Prompt]) -> Vec<String> {
    let one = |prompt: &Prompt| {
        let desk = Desk::new(Scripted::default());
        desk.submit(0, load());
        desk.submit(1, generate(prompt.clone()));
        desk.run();
        text(&desk.events(), 1).expect("an answer")
    };
    prompts.iter().map(one).collect()
}

fn questions() -> Vec<Prompt> {
    ["What is 17 + 25?", "Spell the word river.", "Sort: pear, apple, fig."].map(prompt).to_vec()
}

#[test]
fn a_load_and_its_question_are_one_request() {
    let desk = Desk::new(Scripted::default());
    desk.submit(7, support::load_and_ask(prompt("What is 17 + 25?")));
    desk.run();
    let events = desk.events();
    assert!(events.iter().all(|envelope| envelope.request == Some(RequestId(7))), "{events:#?}");
    let sequences: Vec<u64> = events.iter().map(|envelope| envelope.sequence).collect();
    assert_eq!(sequences, (0..events.len() as u64).collect::<Vec<_>>());
    let stages = events.iter().filter_map(|envelope| match envelope.event {
        Event::Stage { stage, status: StageStatus::Completed, .. } => Some(stage),
        _ => None,
    });
    let stages: Vec<Stage> = stages.collect();
    assert_eq!(stages[stages.len() - 3..], [Stage::PromptEncode, Stage::Prefill, Stage::Decode]);
    assert_eq!(text(&events, 7).as_deref(), Some("17 + 25 = 42."));
}

#[test]
fn questions_are_answered_together_as_each_is_alone() {
    let right = alone(&questions());
    for sequences in [1, 2, 3] {
        let desk = Desk::new(Scripted { sequences, ..Scripted::default() });
        desk.submit(0, load());
        for (id, question) in (1..).zip(questions()) {
            desk.submit(id, generate(question));
        }
        desk.run();
        let events = desk.events();
        for (id, right) in (1..).zip(&right) {
            assert_eq!(text(&events, id).as_ref(), Some(right), "{sequences} sequences");
        }
        // Requests 1 and 2 take turns where both can be under way, and wait for each other where not.
        let tokens = events.iter().filter(|envelope| matches!(envelope.event, Event::Token(_)));
        let ids: Vec<_> = tokens.filter_map(|envelope| envelope.request).filter(|id| id.0 < 3).collect();
        let turns = ids.windows(2).filter(|pair| pair[0] != pair[1]).count();
        assert_eq!(turns > 1, sequences > 1, "{sequences} sequences: {ids:?}");
        let queued =
            |id| events.iter().any(|it| it.request == Some(RequestId(id)) && matches!(it.event, Event::Queued { .. }));
        assert!(queued(3) || sequences == 3, "{sequences} sequences");
    }
}

#[test]
fn blocks_are_busy_while_answers_need_them_and_idle_afterwards() {
    let desk = Desk::new(Scripted { sequences: 2, kv_blocks: true, ..Scripted::default() });
    desk.submit(0, load());
    for (id, question) in (1..).zip(questions()) {
        desk.submit(id, generate(question));
    }
    desk.run();
    let events = desk.events();
    let told: Vec<_> = events
        .iter()
        .filter_map(|envelope| match (envelope.request, &envelope.event) {
            (None, Event::KvBlocks(blocks)) => Some(*blocks),
            _ => None,
        })
        .collect();
    assert!(told.windows(2).all(|pair| pair[0] != pair[1]), "only what has changed: {told:?}");
    for places in told.iter().flat_map(|blocks| [blocks.full, blocks.sliding, blocks.sequences]) {
        assert_eq!(places.busy + places.idle + places.free, places.places, "none is lost: {told:?}");
    }
    let (first, last) = (told[0], told[told.len() - 1]);
    // 2048 positions, and a block for what the second sequence forks.
    assert_eq!((first.full.places, first.full.free, first.sequences.free), (33, 33, 2), "{told:?}");
    assert_eq!((last.full.busy, last.sliding.busy, last.sequences.busy, last.sequences.idle), (0, 0, 0, 2));
    assert!(last.full.idle >= 4, "two prompts of more than 64 tokens are there: {last:?}");
    assert_eq!(told.iter().map(|blocks| blocks.sequences.busy).max(), Some(2), "two answers at a time: {told:?}");
}

#[test]
fn a_question_that_comes_later_joins_those_under_way() {
    let right = alone(&questions());
    let desk = Desk::new(Scripted { sequences: 2, ..Scripted::default() });
    desk.submit(0, load());
    desk.submit(1, generate(questions().remove(0)));
    // With the third token of the first answer.
    desk.react(|envelope| match &envelope.event {
        Event::Token(token) if token.index == 2 && envelope.request == Some(RequestId(1)) => {
            vec![(2, generate(questions().remove(1)))]
        }
        _ => Vec::new(),
    });
    desk.run();
    let events = desk.events();
    assert_eq!((text(&events, 1), text(&events, 2)), (Some(right[0].clone()), Some(right[1].clone())));
    let first_of_second =
        events.iter().position(|it| it.request == Some(RequestId(2)) && matches!(it.event, Event::Token(_)));
    let end_of_first =
        events.iter().position(|it| it.request == Some(RequestId(1)) && matches!(it.event, Event::Finished { .. }));
    assert!(first_of_second < end_of_first);
}

#[test]
fn stop_ends_the_request_that_it_names_and_leaves_the_others() {
    let right = alone(&questions());
    for (named, sequences) in [(1, 2), (2, 2), (3, 3), (2, 1)] {
        for at in 0..6 {
            let desk = Desk::new(Scripted { sequences, ..Scripted::default() });
            desk.submit(0, load());
            for (id, question) in (1..).zip(questions()) {
                desk.submit(id, generate(question));
            }
            let mut seen = 0;
            desk.react(move |envelope| match &envelope.event {
                Event::Token(_) | Event::Prefill { .. } => {
                    seen += 1;
                    if seen == at + 1 { vec![(99, stop(Some(named)))] } else { Vec::new() }
                }
                _ => Vec::new(),
            });
            desk.run();
            let events = desk.events();
            for (id, right) in (1..).zip(&right) {
                let what = format!("request {id} where {named} is stopped at {at}, {sequences} sequences");
                if id == named {
                    assert!(matches!(ended(&events, id), Some(Event::Stopped { model_loaded: true })), "{what}");
                } else {
                    assert_eq!(text(&events, id).as_ref(), Some(right), "{what}");
                }
            }
        }
    }
}

/// Drawn so flatly that all logits are read at every other token, among those of other answers.
#[test]
fn answers_that_read_all_logits_are_what_they_are_alone_whoever_is_stopped() {
    let flat = |seed| Sampling { temperature: 2.0, seed, ..Sampling::default() };
    let prompts: Vec<Prompt> = (1..)
        .zip(questions())
        .map(|(seed, question)| Prompt {
            sampling: flat(seed),
            max_new_tokens: 30,
            format: PromptFormat::Raw,
            ..question
        })
        .collect();
    let right = alone(&prompts);
    for (named, at) in [(9, 0), (1, 1), (1, 7), (2, 3), (2, 12), (3, 5), (3, 20)] {
        let desk = Desk::new(Scripted { sequences: 3, ..Scripted::default() });
        desk.submit(0, load());
        for (id, prompt) in (1..).zip(prompts.clone()) {
            desk.submit(id, generate(prompt));
        }
        let mut seen = 0;
        desk.react(move |envelope| match &envelope.event {
            Event::Token(_) | Event::Prefill { .. } => {
                seen += 1;
                if seen == at + 1 { vec![(99, stop(Some(named)))] } else { Vec::new() }
            }
            _ => Vec::new(),
        });
        desk.run();
        for (id, right) in (1..).zip(&right) {
            if id != named {
                assert_eq!(text(&desk.events(), id).as_ref(), Some(right), "request {id}, {named} stopped at {at}");
            }
        }
    }
}

/// Conversations in turn: each goes on in its own sequence, and one from elsewhere that begins alike takes nothing from them.
#[test]
fn conversations_do_not_take_each_others_place() {
    let desk = Desk::new(Scripted { sequences: 4, ..Scripted::default() });
    desk.submit(0, load());
    let mut chats: Vec<_> = (0..3).map(|_| Chat::new(&prompt(""))).collect();
    let mut id = 0;
    for round in 0..3 {
        if round == 1 {
            let history =
                vec![ChatMessage::User { text: "Hello.".into() }, ChatMessage::said("Hello. How can I help?")];
            id += 1;
            desk.submit(id, generate(Prompt { history, max_new_tokens: 4, ..prompt("What is 17 + 25?") }));
            desk.run();
        }
        for (chat, question) in chats.iter_mut().zip(questions()) {
            id += 1;
            desk.submit(id, generate(chat.ask(question.user)));
            desk.run();
            let Some(Event::Finished { reused_tokens, messages, .. }) = ended(&desk.events(), id) else {
                panic!("{id}")
            };
            // All that was said before, but for the reasoning of the last answer.
            assert!(reused_tokens >= Some([0, 80, 105][round]), "round {round}, request {id}: {reused_tokens:?}");
            chat.answered(messages);
        }
    }
}

#[test]
fn stop_without_a_name_ends_everything_that_was_asked_for() {
    let desk = Desk::new(Scripted { sequences: 2, ..Scripted::default() });
    desk.submit(0, load());
    for (id, question) in (1..).zip(questions()) {
        desk.submit(id, generate(question));
    }
    desk.submit(4, load());
    desk.react(|envelope| match &envelope.event {
        Event::Token(token) if token.index == 1 => vec![(99, stop(None))],
        _ => Vec::new(),
    });
    desk.run();
    for id in 1..=4 {
        assert!(matches!(ended(&desk.events(), id), Some(Event::Stopped { model_loaded: true })), "request {id}");
    }
    // The model is there, and answers.
    desk.react(|_| Vec::new());
    desk.submit(5, generate(questions().remove(0)));
    desk.run();
    assert_eq!(text(&desk.events(), 5).as_deref(), Some("17 + 25 = 42."));
}

#[test]
fn whatever_a_platform_waits_for_stop_ends_it() {
    for hanging in [LoadAs::Hangs, LoadAs::HangsInStage, LoadAs::AsksFirst] {
        let desk = Desk::new(Scripted { load_as: vec![LoadAs::Model, hanging], ..Scripted::default() });
        desk.submit(0, load());
        desk.submit(1, load());
        desk.submit(2, generate(questions().remove(0)));
        desk.stop_when_nothing_happens(1);
        desk.run();
        let events = desk.events();
        assert!(matches!(ended(&events, 1), Some(Event::Stopped { model_loaded: true })), "{hanging:?}");
        assert_eq!(text(&events, 2).as_deref(), Some("17 + 25 = 42."), "{hanging:?}: the model before answers");
        let last_stage = events.iter().rev().find_map(|it| match it.event {
            Event::Stage { status, .. } if it.request == Some(RequestId(1)) => Some(status),
            _ => None,
        });
        assert!(last_stage.is_none_or(|status| status == StageStatus::Cancelled), "{hanging:?}: {last_stage:?}");
        assert_eq!(desk.dropped_loads(), 1, "{hanging:?}: the load was dropped where it stood");
    }
    let desk = Desk::new(Scripted::default());
    desk.submit(0, support::download());
    desk.stop_when_nothing_happens(0);
    desk.run();
    assert!(matches!(ended(&desk.events(), 0), Some(Event::Stopped { model_loaded: false })));
}

/// Gates need no model, and leave the one that is loaded alone.
#[test]
fn gates_wait_their_turn_and_stop_ends_them() {
    let desk = Desk::new(Scripted::default());
    for (id, command) in [(0, gate(None)), (1, load()), (2, gate(Some(GateSlice::default())))] {
        desk.submit(id, command);
    }
    desk.submit(3, generate(questions().remove(0)));
    desk.stop_when_nothing_happens(2);
    desk.run();
    let events = desk.events();
    let passed = Some(Event::GatesEnded { verdict: GateVerdict::Pass, elapsed_ms: 1.0 });
    assert_eq!(ended(&events, 0), passed);
    assert!(matches!(ended(&events, 2), Some(Event::Stopped { model_loaded: true })), "{:?}", ended(&events, 2));
    assert_eq!(desk.dropped_loads(), 1, "it was dropped where it stood");
    assert_eq!(text(&events, 3).as_deref(), Some("17 + 25 = 42."), "the model that was loaded before answers");
}

#[test]
fn a_load_waits_for_approval_of_its_own() {
    let desk = Desk::new(Scripted { load_as: vec![LoadAs::AsksFirst], ..Scripted::default() });
    desk.submit(3, load());
    desk.react(|envelope| match envelope.event {
        Event::Preflight { waits: true, .. } => {
            [2, 3].map(|load| (90 + load, Command::Approve { load: RequestId(load) })).to_vec()
        }
        _ => Vec::new(),
    });
    desk.run();
    assert!(desk.events().iter().any(|envelope| matches!(envelope.event, Event::Ready { .. })));
}

#[test]
fn a_model_is_let_go_of_only_when_another_is_known_to_be_good() {
    let desk =
        Desk::new(Scripted { load_as: vec![LoadAs::Model, LoadAs::Fails, LoadAs::Model], ..Scripted::default() });
    let question = || generate(questions().remove(0));
    for (id, command) in [(0, load()), (1, load()), (2, question()), (3, load()), (4, question())] {
        desk.submit(id, command);
    }
    desk.run();
    let events = desk.events();
    assert!(matches!(ended(&events, 1), Some(Event::Failed { .. })));
    assert_eq!((text(&events, 2), text(&events, 4)), (Some("17 + 25 = 42.".into()), Some("17 + 25 = 42.".into())));
    let unloaded: Vec<_> = events.iter().filter(|it| it.event == Event::Unloaded).map(|it| it.request).collect();
    assert_eq!(unloaded, [Some(RequestId(3))]);
}

#[test]
fn a_question_without_a_model_is_refused() {
    let desk = Desk::new(Scripted::default());
    desk.submit(1, generate(prompt("Who?")));
    desk.run();
    match ended(&desk.events(), 1) {
        Some(Event::Failed { stage: Stage::PromptEncode, failure }) => {
            assert_eq!((failure.kind, failure.message.as_str()), (FailureKind::Request, "no model is loaded"));
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_was_said_before_is_not_read_again() {
    let desk = Desk::new(Scripted::default());
    desk.submit(0, load());
    let mut chat = Chat::new(&Prompt { user: String::new(), ..prompt("") });
    for (id, question) in [(1, "What is 17 + 25?"), (2, "What is 3 + 4?"), (3, "Spell the word river.")] {
        desk.submit(id, generate(chat.ask(question)));
        desk.run();
        let Some(Event::Finished { reused_tokens, messages, .. }) = ended(&desk.events(), id) else { panic!("{id}") };
        assert_eq!(reused_tokens > Some(20), id > 1, "question {id}: {reused_tokens:?} tokens were there");
        chat.answered(messages);
    }
    // The same conversation in an empty cache gives the same answer.
    let fresh = Desk::new(Scripted::default());
    fresh.submit(0, load());
    chat.forget_question();
    let last = Prompt { sampling: Sampling::default(), ..chat.ask("Spell the word river.") };
    assert!(matches!(last.history.last(), Some(ChatMessage::Assistant { .. })));
    fresh.submit(1, generate(last));
    fresh.run();
    assert_eq!(text(&fresh.events(), 1), text(&desk.events(), 3));
}

#[test]
fn a_cache_that_is_too_small_for_all_makes_the_youngest_wait() {
    let right = alone(&questions());
    // One answer takes about 150 tokens: two of them fit, three do not.
    let desk = Desk::new(Scripted { sequences: 3, max_kv_tokens: 320, ..Scripted::default() });
    desk.submit(0, load());
    for (id, question) in (1..).zip(questions()) {
        desk.submit(id, generate(question));
    }
    desk.run();
    for (id, right) in (1..).zip(&right) {
        assert_eq!(text(&desk.events(), id).as_ref(), Some(right), "request {id}");
    }
}

#[test]
fn a_value_that_is_not_finite_ends_the_answer_that_it_is_in() {
    let token = |text: &str| Prompt { format: PromptFormat::Text, ..prompt(text) };
    let right = alone(&[token("one two three four"), token("five six seven")]);
    // Whoever says "z" meets a number that is none.
    let path = broken_model("z");
    let desk = Desk::new(Scripted { path: Some(path.to_path_buf()), sequences: 3, ..Scripted::default() });
    desk.submit(0, load());
    for (id, text) in [(1, "one two three four"), (2, "z"), (3, "five six seven")] {
        desk.submit(id, generate(token(text)));
    }
    desk.run();
    let events = desk.events();
    match ended(&events, 2) {
        Some(Event::Failed { failure, .. }) => assert_eq!(failure.kind, FailureKind::NotFinite),
        other => panic!("{other:?}"),
    }
    assert_eq!((text(&events, 1).as_ref(), text(&events, 3).as_ref()), (Some(&right[0]), Some(&right[1])));
}

/// Both at once: the culprit is looked for while there is no room for all.
#[test]
fn a_value_that_is_not_finite_is_found_in_a_cache_that_is_too_small() {
    let right = alone(&questions());
    let path = broken_model("z");
    for max_kv_tokens in [192, 256, 320] {
        let desk =
            Desk::new(Scripted { path: Some(path.to_path_buf()), sequences: 4, max_kv_tokens, ..Scripted::default() });
        desk.submit(0, load());
        for (id, question) in (1..).zip(questions()) {
            desk.submit(id, generate(question));
        }
        // It comes into batches in which others decode.
        desk.react(|envelope| match &envelope.event {
            Event::Token(token) if token.index == 3 && envelope.request == Some(RequestId(1)) => {
                vec![(4, generate(prompt("z z z")))]
            }
            _ => Vec::new(),
        });
        desk.run();
        let events = desk.events();
        match ended(&events, 4) {
            Some(Event::Failed { failure, .. }) => assert_eq!(failure.kind, FailureKind::NotFinite),
            other => panic!("{other:?}"),
        }
        for (id, right) in (1..).zip(&right) {
            assert_eq!(text(&events, id).as_ref(), Some(right), "request {id} of {max_kv_tokens} tokens");
        }
    }
}

#[test]
fn answers_say_how_they_ended() {
    let desk = Desk::new(Scripted::default());
    desk.submit(0, load());
    desk.submit(1, generate(Prompt { max_new_tokens: 3, ..prompt("What is 17 + 25?") }));
    desk.submit(2, generate(Prompt { stop: vec!["=".into()], ..prompt("What is 17 + 25?") }));
    desk.run();
    assert_eq!(answered(&desk.events(), 1).map(|it| it.0), Some(FinishReason::MaxTokens));
    assert_eq!(answered(&desk.events(), 2), Some((FinishReason::StopSequence, "17 + 25 ".into())));
    assert!(std::path::Path::new(MODEL).is_file());
}

/// Counting waits for a load before it and for no answer, counts what would be read, and changes nothing.
#[test]
fn a_prompt_is_counted_while_others_are_answered() {
    let question = prompt("What is 17 + 25?");
    let read = |events: &[Envelope], id: u64| {
        events.iter().find_map(|envelope| match (envelope.request, &envelope.event) {
            (Some(RequestId(request)), Event::PromptEncoded { tokens, .. }) if request == id => Some(*tokens),
            _ => None,
        })
    };
    let count = |desk: &Desk, id| desk.submit(id, Command::Count { prompt: question.clone() });
    let desk = Desk::new(Scripted { sequences: 1, ..Scripted::default() });
    count(&desk, 0);
    desk.submit(1, load());
    count(&desk, 2);
    for id in 3..6 {
        desk.submit(id, generate(question.clone()));
    }
    count(&desk, 6);
    count(&desk, 7);
    desk.submit(8, stop(Some(7)));
    desk.run();
    let events = desk.events();
    assert!(matches!(ended(&events, 0), Some(Event::Failed { .. })), "no model yet: {:?}", ended(&events, 0));
    let tokens = read(&events, 3).expect("it was read");
    for id in [2, 6] {
        assert_eq!(ended(&events, id), Some(Event::Counted { tokens }));
    }
    assert_eq!(ended(&events, 7), Some(Event::Stopped { model_loaded: false }));
    let at = |id: u64| events.iter().rposition(|envelope| envelope.request == Some(RequestId(id)));
    assert!(at(6) < at(3), "it waited for the answers: {events:#?}");
    for id in 3..6 {
        assert_eq!(text(&events, id).as_deref(), Some("17 + 25 = 42."));
    }
}
