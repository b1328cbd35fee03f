use gptoss_protocol::{
    CacheCounters, Event, ExpertMoves, FileMap, FileRange, Reads, Stage, StageStatus, TensorPlace, Trouble,
    TroubleKind, WorkCounters,
};

use super::super::tests::{html, model, state, state_at};
use super::cells::cells;
use super::*;

/// A dense tensor of 100 bytes, and one with 8 experts of 10 bytes each.
fn map() -> Event {
    let tensor = |name: &str, offset_bytes, bytes, experts_of_layer: Option<u32>| TensorPlace {
        name: name.into(),
        format: if experts_of_layer.is_some() { "MXFP4" } else { "Q8_0" }.into(),
        offset_bytes,
        bytes,
        experts_of_layer,
    };
    let tensors = vec![tensor("a", 1000, 100, None), tensor("b", 1100, 80, Some(0))];
    Event::FileMap(FileMap { file_bytes: 1180, header_bytes: 1000, tensors })
}

fn reads(under_way: &[(u64, u64)], arrived: &[(u64, u64)]) -> Event {
    let ranges =
        |of: &[(u64, u64)]| of.iter().map(|&(offset_bytes, bytes)| FileRange { offset_bytes, bytes }).collect();
    Event::Reads(Reads { under_way: ranges(under_way), arrived: ranges(arrived) })
}

#[test]
fn cells_fill_as_bytes_come_those_of_experts_too() {
    let fills =
        |state: &State| cells(&state.inside).iter().map(|cell| (cell.fill, cell.is_under_way)).collect::<Vec<_>>();
    assert!(cells(&state([model()]).inside).is_empty());
    assert_eq!(fills(&state([model(), map()])), [(0, false), (0, false)]);
    let half = state([model(), map(), reads(&[(1050, 60)], &[(1000, 50)])]);
    assert_eq!(fills(&half), [(127, true), (0, true)], "the read under way brings bytes of both");
    let arrived = vec![(0, 0).into(), (0, 3).into(), (0, 4).into(), (0, 7).into()];
    let experts = Event::ExpertMoves(ExpertMoves { arrived, ..ExpertMoves::default() });
    let evicted = ExpertMoves { evicted: vec![(0, 3).into(), (0, 4).into(), (0, 0).into()], ..ExpertMoves::default() };
    let with = state([model(), map(), reads(&[], &[(1000, 100)]), experts.clone()]);
    assert_eq!(fills(&with), [(255, false), (127, false)]);
    let without = state([model(), map(), experts, Event::ExpertMoves(evicted)]);
    assert_eq!(fills(&without)[1], (32, false), "one of eight is left");
    // A hair less than all is not all.
    assert_eq!(fills(&state([model(), map(), reads(&[], &[(1000, 99)])]))[0], (251, false));
}

#[test]
fn what_was_received_used_and_repeated_is_told_apart() {
    let fetch = Event::Fetch {
        fetched_bytes: 40_000,
        needed_bytes: 100_000,
        requests: 9,
        wire_bytes: Some(52_000),
        bytes_per_second: Some(1e6),
    };
    let work = WorkCounters { weights_fetched_bytes: 40_000, weights_used_bytes: 30_000, ..WorkCounters::default() };
    let trouble =
        Trouble { what: TroubleKind::Stalled, file: "m".into(), offset_bytes: 0, missing_bytes: 1, next: None };
    let events =
        [model(), map(), fetch.clone(), Event::Work(work), Event::Trouble(trouble), reads(&[(1000, 100)], &[])];
    let said = html(&PANEL, &state(events));
    for words in [
        "id=\"weights-summary\">40.0 kB of 100 kB<",
        "value=\"0.4000\"",
        "id=\"weights-requests\">9</dd><dd class=\"note\">1 read open<",
        "id=\"weights-wire\">52.0 kB<",
        "id=\"weights-used\">30.0 kB of 40.0 kB</dd><dd class=\"note\">75.0 %<",
        "id=\"weights-retries\">0</dd><dd class=\"note\">1 stall<",
    ] {
        assert!(said.contains(words), "no {words} in {said}");
    }
    let Event::Fetch { fetched_bytes, needed_bytes, requests, bytes_per_second, .. } = fetch else { unreachable!() };
    let picked = Event::Fetch { fetched_bytes, needed_bytes, requests, wire_bytes: None, bytes_per_second };
    assert!(!html(&PANEL, &state([picked])).contains("weights-wire"), "a picked file has no wire");
    assert!(html(&PANEL, &state([])).contains("data-empty"));
}

#[test]
fn while_the_header_is_read_that_is_what_is_told() {
    let begun = Event::Stage { stage: Stage::GgufHeader, status: StageStatus::Started, elapsed_ms: None };
    let header = Event::Header { fetched_bytes: 65_536, asked_bytes: 131_072, bytes_per_second: None };
    let said = html(&PANEL, &state([begun, header]));
    assert!(said.contains(">header, 65.5 kB so far<") && said.contains("value=\"0.5000\""), "{said}");
}

#[test]
fn the_latest_arrival_stands_first() {
    let tensor =
        |index, name: &str| Event::Tensor { name: name.into(), format: "F32".into(), bytes: 100, index, count: 9 };
    let said = html(&PANEL, &state([tensor(0, "first"), tensor(1, "second")]));
    let (first, second) = (said.find("first").expect("named"), said.find("second").expect("named"));
    assert!(second < first, "{said}");
    // Experts come one by one once there is a model.
    let counters = CacheCounters { loaded_bytes: 20, ..CacheCounters::default() };
    let arrived =
        |expert| Event::ExpertMoves(ExpertMoves { arrived: vec![(0, expert).into()], ..ExpertMoves::default() });
    let events = [model(), map(), tensor(0, "a"), Event::Experts(counters), arrived(3), arrived(5)];
    let said = html(&PANEL, &state_at(events.into_iter().zip(0..).map(|(event, at)| (f64::from(at), event))));
    let latest: Vec<usize> =
        ["blk.0 ▸ expert 5", "blk.0 ▸ expert 3", ">a<"].map(|name| said.find(name).unwrap_or(0)).into();
    assert!(latest[0] > 0 && latest.is_sorted(), "{latest:?}: {said}");
}
