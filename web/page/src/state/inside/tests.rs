use gptoss_protocol::{
    Command, ExpertMoves, Failure, Head as AttentionHead, LoadSettings, Missing, ModelLocation, Reads, Recording,
    Replay, RequestId, Sequencer, TopToken,
};

use super::*;
use crate::core::made_up::{self, PROMPT, Run, SLICE_BYTES};
use crate::state::State;

fn fold(run: &Run) -> Inside {
    let mut inside = Inside::default();
    run.events.iter().for_each(|(at_ms, event)| inside.apply(event, *at_ms));
    inside
}

fn place(layer: u32, expert: u32) -> ExpertPlace {
    ExpertPlace { layer, expert }
}

fn at(inside: &Inside, layer: u32, expert: u32) -> Expert {
    *inside.expert(place(layer, expert)).expect("the model has it")
}

#[test]
fn what_arrives_is_counted_by_expert_and_tensor() {
    let mut run = Run::new(6, 8);
    run.load_dense();
    let loaded = fold(&run);
    assert_eq!(loaded.resident(), 0);
    assert!(loaded.has_header());
    assert_eq!(loaded.complete.iter().filter(|complete| **complete).count(), 7);
    assert_eq!(loaded.arrived.bytes(), (24 + 6 * 3) * SLICE_BYTES);
    run.bring(place(2, 3));
    let inside = fold(&run);
    assert_eq!((inside.resident(), inside.resident_in(2)), (1, 1));
    assert_eq!(at(&inside, 2, 3).place, Place::Resident);
    assert_eq!(inside.arrived_bytes(place(2, 3)), 3 * SLICE_BYTES);
    assert_eq!(inside.arrived_bytes(place(2, 4)), 0);
    assert_eq!(inside.expert_bytes(2), 3 * SLICE_BYTES);
}

#[test]
fn all_of_a_mapped_file_is_in_place_until_another_model_is() {
    let mut run = Run::new(6, 8);
    run.tell(Event::Mapped { bytes: run.map.file_bytes });
    let inside = fold(&run);
    assert_eq!((inside.resident(), inside.arrived.bytes()), (48, run.map.file_bytes));
    assert!(inside.is_mapped && inside.complete.iter().all(|complete| *complete));
    run.tell(Event::Unloaded);
    let gone = fold(&run);
    assert_eq!((gone.resident(), gone.arrived.bytes(), gone.is_mapped), (0, 0, false));
}

#[test]
fn bytes_of_the_file_belong_to_tensors_and_experts() {
    let run = Run::new(6, 8);
    let inside = fold(&run);
    for cell in [place(0, 0), place(3, 7), place(5, 2)] {
        for slice in run.slices(cell) {
            for byte in [slice.offset_bytes, slice.offset_bytes + slice.bytes - 1] {
                assert_eq!(inside.expert_at(byte), Some(cell), "{byte}");
            }
        }
    }
    assert_eq!((inside.tensor_at(0), inside.expert_at(0)), (None, None), "the header is no tensor");
    assert_eq!(inside.tensor_at(made_up::HEADER_BYTES), Some(0));
    assert_eq!(inside.expert_at(made_up::HEADER_BYTES), None, "every token needs the embedding");
    assert_eq!(inside.tensor_at(run.map.file_bytes), None, "behind the end");
    assert_eq!(inside.expert(place(6, 0)), None);
    assert_eq!(inside.layer(6), &[]);
}

#[test]
fn an_expert_is_missed_until_it_arrives_and_evicted_after_it_went() {
    let mut run = Run::new(6, 8);
    run.miss(place(1, 2));
    let inside = fold(&run);
    let missed = at(&inside, 1, 2);
    assert!(missed.is_missed());
    assert_eq!((missed.place, missed.miss, inside.misses), (Place::Awaited, 1, 1));
    assert_eq!(inside.arrived_bytes(place(1, 2)), 2 * SLICE_BYTES, "two of three parts are here");
    assert_eq!(inside.newest_open_miss(), Some(place(1, 2)));
    assert_eq!(inside.head, Head::AtLayer(1));
    run.bring(place(1, 2));
    let inside = fold(&run);
    assert!(!at(&inside, 1, 2).is_missed());
    assert_eq!((at(&inside, 1, 2).place, at(&inside, 1, 2).arrivals), (Place::Resident, 1));
    assert_eq!(inside.newest_open_miss(), None);
    run.evict(place(1, 2));
    let inside = fold(&run);
    assert_eq!(at(&inside, 1, 2).place, Place::Evicted);
    assert!(!at(&inside, 1, 2).is_missed());
    assert_eq!(inside.arrived_bytes(place(1, 2)), 0, "its bytes are gone with it");
    run.bring(place(1, 2));
    assert_eq!(at(&fold(&run), 1, 2).arrivals, 2);
}

#[test]
fn an_expert_that_will_not_come_is_where_it_was() {
    let mut run = Run::new(6, 8);
    let moved = |place, is_evicted: bool| {
        let mut moves = ExpertMoves::default();
        if is_evicted {
            moves.evicted.push(place)
        } else {
            moves.awaited.push(place)
        }
        Event::ExpertMoves(moves)
    };
    run.tell(moved(place(0, 1), false));
    run.tell(moved(place(0, 1), true));
    assert_eq!(at(&fold(&run), 0, 1).place, Place::Absent);
    run.bring(place(0, 1));
    run.evict(place(0, 1));
    run.tell(moved(place(0, 1), false));
    run.tell(moved(place(0, 1), true));
    assert_eq!(at(&fold(&run), 0, 1).place, Place::Evicted);
}

#[test]
fn uses_and_weights_are_those_of_this_answer() {
    let mut run = Run::new(24, 32);
    run.answer_begins();
    run.prompt_read();
    (0..3).for_each(|index| run.token(index));
    let inside = fold(&run);
    assert_eq!(inside.position, Some(PROMPT + 2));
    let chosen = made_up::chosen(5, 2, 32);
    for (expert, weight) in chosen.iter().zip([0.4, 0.3, 0.2, 0.1]) {
        let cell = at(&inside, 5, *expert);
        assert!(inside.is_chosen(&cell));
        assert_eq!((cell.last_position, cell.weight), (Some(PROMPT + 2), weight));
    }
    assert_eq!(inside.layer(5).iter().filter(|expert| inside.is_chosen(expert)).count(), chosen.len());
    let by_hand: u32 = (0..3).map(|index| made_up::chosen(5, index, 32).len() as u32).sum();
    let of_prompt = 4 * (PROMPT / 4);
    assert_eq!(inside.layer(5).iter().map(|expert| expert.uses).sum::<u32>(), by_hand + of_prompt);
    assert_eq!(inside.text_at(PROMPT + 2), Some(" word2"));
    assert_eq!(inside.text_at(PROMPT - 1), None, "the prompt's text is not told");
    assert_eq!(inside.routes_at(PROMPT + 1).expect("it is one of the last").chosen.len(), 24 * 4);
    assert_eq!(inside.routes_at(PROMPT - 1), None, "the prompt's tokens were one batch");

    run.answer_begins();
    let next = fold(&run);
    assert!(next.cells.iter().all(|expert| expert.uses == 0 && !next.is_chosen(expert)));
    assert!(next.recent.is_empty() && next.attention.is_empty() && next.said.is_empty() && next.batch.is_none());
    assert_eq!(next.head, Head::Start);
}

#[test]
fn only_the_last_tokens_are_held() {
    let mut run = Run::new(6, 8);
    run.answer_begins();
    run.prompt_read();
    (0..100).for_each(|index| run.token(index));
    let inside = fold(&run);
    assert_eq!((inside.recent.len(), inside.said.len(), inside.attention.len()), (64, 64, 64));
    assert_eq!(inside.recent.back().map(|routes| routes.position), Some(PROMPT + 99));
    assert_eq!(inside.text_at(PROMPT), None);
    assert_eq!(inside.norms.as_ref().map(|residual| residual.norms.len()), Some(7));
}

#[test]
fn rows_of_another_head_replace_those_before() {
    let mut inside = Inside::default();
    let row = |layer, position| {
        Event::Attention(AttentionRow {
            head: AttentionHead { layer, head: 0 },
            position,
            first_position: 0,
            weights: vec![1.0],
            sink: 0.0,
        })
    };
    for (layer, position, held) in [(0, 5, 1), (0, 6, 2), (1, 7, 1), (1, 8, 2), (1, 8, 2), (1, 6, 1)] {
        inside.apply(&row(layer, position), 0.0);
        assert_eq!(inside.attention.len(), held, "{layer} {position}");
    }
}

/// Without routes, without moves, without reads: what is told still shows.
#[test]
fn experts_are_there_once_their_tensors_are() {
    let mut run = Run::new(6, 8);
    let (layer, count) = (4, 25);
    let tensors: Vec<_> = run.map.tensors.iter().filter(|t| t.experts_of_layer == Some(layer)).cloned().collect();
    for (tensor, index) in tensors.into_iter().zip(0..) {
        assert_eq!(fold(&run).resident(), 0);
        run.tell(Event::Tensor { name: tensor.name, format: tensor.format, bytes: tensor.bytes, index, count });
    }
    let inside = fold(&run);
    assert_eq!((inside.resident(), inside.resident_in(layer)), (8, 8));
}

#[test]
fn a_lost_gpu_takes_places_and_reads_but_not_the_answer() {
    let run = made_up::whole(6, 8, 4);
    let before = fold(&run);
    let failure =
        Failure { kind: FailureKind::DeviceLost, message: String::new(), advice: String::new(), parameter: None };
    let lost = [
        Event::Recovering { stage: Stage::Decode, attempt: 1, most: 3, tokens: 44, reason: "lost".to_owned() },
        Event::Failed { stage: Stage::Decode, failure },
        Event::Unloaded,
    ];
    for event in lost {
        let mut inside = before.clone();
        inside.apply(&event, 9e3);
        assert_eq!((inside.resident(), inside.arrived.bytes(), inside.under_way.len()), (0, 0, 0), "{event:?}");
        assert!(inside.complete.iter().all(|complete| !complete));
        assert_eq!(inside.map, before.map);
        assert_eq!((inside.cells[0].uses, inside.batches), (before.cells[0].uses, before.batches));
        assert!(inside.revision > before.revision);
    }
    let mut inside = before.clone();
    inside.apply(&run.events[0].1, 9e3);
    assert_eq!((inside.resident(), inside.cells.len(), inside.map), (0, 48, None), "a new model begins from nothing");
}

#[test]
fn the_head_moves_only_when_something_is_told() {
    let mut run = Run::new(6, 8);
    let head = |run: &Run| fold(run).head;
    assert_eq!(head(&run), Head::Start);
    run.answer_begins();
    assert_eq!(head(&run), Head::Start, "nothing of the prompt was run");
    run.tell(Event::Missing(Missing { layer: 3, layers: 6, experts: 2, bytes: 9 }));
    assert_eq!(head(&run), Head::AtLayer(3));
    run.tell(Event::Reads(Reads::default()));
    assert_eq!(head(&run), Head::AtLayer(3));
    run.prompt_read();
    assert_eq!(head(&run), Head::End);
    assert_eq!(fold(&run).batch_tokens, PROMPT);
    run.token(0);
    assert_eq!((head(&run), fold(&run).batch_tokens), (Head::End, 1));
}

#[test]
fn a_token_without_text_has_its_name() {
    let mut run = Run::new(6, 8);
    run.answer_begins();
    run.prompt_read();
    let Some((_, Event::Token(mut token))) = run.events.last().cloned() else { panic!("it ends with a token") };
    (token.index, token.id, token.text) = (1, 7, String::new());
    token.top = vec![TopToken { id: 7, text: "<|channel|>".to_owned(), probability: 0.9 }];
    run.tell(Event::Token(token));
    assert_eq!(fold(&run).text_at(PROMPT + 1), Some("<|channel|>"));
}

/// Also as text, in which a place is a short list.
#[test]
fn a_recording_of_it_replays_to_the_same() {
    for (layers, experts) in [(6, 8), (24, 32)] {
        let run = made_up::whole(layers, experts, 3);
        let (mut recording, mut sequencer) = (Recording::<State>::new(5), Sequencer::new(1));
        let mut state = State::default();
        for (at_ms, event) in &run.events {
            let envelope = sequencer.wrap(*at_ms, None, event.clone());
            state.apply(&envelope);
            recording.push(envelope);
        }
        let text = recording.to_json_lines().expect("JSON");
        let read = Recording::<State>::from_json_lines(&text).expect("it was written just now");
        assert_eq!(read.replay(), state);
        assert_eq!(state.inside, fold(&run));
        let cells = serde_json::to_string(&state.inside.cells).expect("JSON").len();
        assert!(cells < 60 * state.inside.cells.len(), "{cells} bytes of {} cells", state.inside.cells.len());
    }
}

#[test]
fn nothing_is_waited_for_when_the_work_is_over() {
    let mut run = made_up::whole(6, 8, 2);
    let before = fold(&run);
    assert_eq!((before.newest_open_miss(), before.head), (Some(place(3, 7)), Head::AtLayer(3)));
    run.tell(Event::Stopped { model_loaded: true });
    let inside = fold(&run);
    assert_eq!((inside.newest_open_miss(), inside.head, inside.under_way.len()), (None, Head::Start, 0));
    assert_eq!(inside.resident(), before.resident());
    assert_eq!(at(&inside, 3, 7).place, Place::Awaited, "whether it comes is told");
}

#[test]
fn rows_of_a_long_conversation_are_fewer() {
    let mut inside = Inside::default();
    for position in 40_000..40_004 {
        let head = AttentionHead { layer: 1, head: 0 };
        let weights = vec![0.0; position as usize + 1];
        inside.apply(&Event::Attention(AttentionRow { head, position, first_position: 0, weights, sink: 1.0 }), 0.0);
    }
    assert_eq!(inside.attention.iter().map(|row| row.position).collect::<Vec<_>>(), [40_003], "two are too many");
}

/// A load that comes to nothing gives back what was known of the model before; a worker that dies takes it along.
#[test]
fn another_model_begins_from_nothing_and_may_come_to_nothing() {
    let (mut state, mut host, mut page) = (State::default(), Sequencer::new(1), Sequencer::new(2));
    let mut events = made_up::whole(6, 8, 2).events;
    events.push((9.0, Event::Ready { load_ms: 9.0 }));
    for (at_ms, event) in events {
        state.apply(&host.wrap(at_ms, None, event));
    }
    let before = state.inside.clone();
    assert!(before.resident() > 0);
    state.apply(&page.wrap(10.0, Some(RequestId(1)), Event::Asked { command: load() }));
    assert_eq!(state.inside, Inside::default());
    let failure = Failure { kind: FailureKind::Source, message: String::new(), advice: String::new(), parameter: None };
    state.apply(&host.wrap(11.0, None, Event::Failed { stage: Stage::GgufHeader, failure: failure.clone() }));
    assert_eq!(state.inside, before);
    state.apply(&page.wrap(12.0, None, Event::HostDied(failure)));
    assert_eq!((state.inside.resident(), state.inside.arrived.bytes()), (0, 0));
}

fn load() -> Command {
    let model = ModelLocation::Url { url: "https://host/model.gguf".into() };
    Command::Load { model, options: LoadSettings::default(), prompt: None, remembered: Vec::new() }
}
