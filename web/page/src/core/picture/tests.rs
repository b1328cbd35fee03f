use gptoss_protocol::{Event, ExpertPlace, FileRange, Reads, Replay, Residual, Sequencer};

use super::*;
use crate::core::made_up::{self, PROMPT, Run, SLICE_BYTES};
use crate::core::strip::{Part, slices_of};

fn fold(run: &Run) -> State {
    let (mut state, mut sequencer) = (State::default(), Sequencer::new(1));
    run.events.iter().for_each(|(at_ms, event)| state.apply(&sequencer.wrap(*at_ms, None, event.clone())));
    state
}

fn picture(state: &State, event_ms: f64) -> Picture {
    let mut picture = Picture::default();
    picture.update(state, event_ms, false, 400);
    picture
}

fn place(layer: u32, expert: u32) -> ExpertPlace {
    ExpertPlace { layer, expert }
}

#[test]
fn layers_slide_where_the_file_says_so() {
    let mut state = fold(&made_up::whole(6, 8, 5));
    let all = |state: &State| (0..6).map(|layer| slides(state, layer)).collect::<Vec<_>>();
    let other = [false, false, true, true, false, true];
    state.model.as_mut().expect("a model").sliding = other.to_vec();
    assert_eq!(all(&state), other);
    state.experiment = Some(gptoss_protocol::LoadOptions { attention: Attention::Dense, ..Default::default() });
    assert_eq!(all(&state), [false; 6], "the user chose that none does");
    // Recordings that do not say.
    state.experiment = None;
    state.model.as_mut().expect("a model").sliding.clear();
    assert_eq!(all(&state), [true, false, true, false, true, false]);
}

const SHAPES: [(u32, u32); 3] = [(6, 8), (24, 32), (36, 128)];

#[test]
fn each_cell_shows_what_became_of_its_expert() {
    for (layers, experts) in SHAPES {
        let run = made_up::whole(layers, experts, 5);
        let state = fold(&run);
        let picture = picture(&state, state.inside.at_ms);
        let look = |layer, expert| *picture.cell(place(layer, expert)).expect("the model has it");
        assert_eq!(picture.cells.len(), (layers * experts) as usize);
        let (layer, last) = (layers / 2, experts - 1);
        let missed = look(layer, last);
        assert_eq!(missed.level, Level::Missed);
        assert!((missed.fill - 2.0 / 3.0).abs() < 1e-6, "two of three parts are here: {}", missed.fill);
        assert_eq!(picture.miss, Some((place(layer, last), "miss · 2.10 MB of 3.15 MB".to_owned())));
        if layer != 0 {
            let absent = look(0, last);
            assert_eq!(absent.level, Level::Absent);
            assert_eq!(absent.fill, 0.0);
        }
        for layer in 0..layers {
            let chosen = made_up::chosen(layer, 4, experts);
            for expert in 0..experts - experts / 8 {
                if (layer, expert) == (layers / 2, 1) {
                    continue;
                }
                let look = look(layer, expert);
                let expected = if chosen.contains(&expert) { Level::Chosen } else { Level::Resident };
                assert_eq!((look.level, look.fill), (expected, 1.0), "{layer} {expert}");
                assert_eq!(look.weight > 0.0, chosen.contains(&expert));
            }
            assert_eq!(look(layer, chosen[0]).weight, 1.0, "the heaviest of its layer");
        }
        let evicted = look(layers / 2, 1);
        let is_chosen = made_up::chosen(layers / 2, 4, experts).contains(&1);
        assert_eq!(evicted.level, if is_chosen { Level::Chosen } else { Level::Evicted });
        assert_eq!(evicted.fill, 0.0);
        assert!(picture.cells.iter().any(|cell| cell.heat == 1.0), "one was used most");
        assert!(picture.cells.iter().all(|cell| (0.0..=1.0).contains(&cell.heat)));
    }
}

#[test]
fn glow_decays_and_then_nothing_moves() {
    let mut run = made_up::whole(6, 8, 2);
    run.wait(5000.0);
    run.token(2);
    let state = fold(&run);
    let now_ms = state.inside.at_ms;
    let cell = place(3, made_up::chosen(3, 2, 8)[0]);
    let glows: Vec<f32> = [0.0, 150.0, 300.0, 599.0, 600.0, 5000.0]
        .map(|later| picture(&state, now_ms + later).cell(cell).expect("it is there").glow)
        .to_vec();
    assert_eq!((glows[0], glows[4], glows[5]), (1.0, 0.0, 0.0));
    assert!(glows.windows(2).take(4).all(|pair| pair[0] > pair[1]), "{glows:?}");
    assert!(picture(&state, now_ms).moving && picture(&state, now_ms + 599.0).moving);
    assert!(!picture(&state, now_ms + 600.0).moving);
    assert_eq!(picture(&state, now_ms + 600.0).cell(cell).expect("it is there").level, Level::Chosen);
    let mut still = Picture::default();
    still.update(&state, now_ms, true, 400);
    assert!(!still.moving, "with reduced motion values snap");
    assert!(still.cells.iter().all(|cell| cell.glow == 0.0 && cell.arrival == 0.0));
    assert_eq!(still.thread.layers_done, 6);
}

#[test]
fn an_update_leaves_nothing_of_the_one_before() {
    let (large, small) = (fold(&made_up::whole(24, 32, 3)), fold(&made_up::whole(6, 8, 2)));
    let mut updated = Picture::default();
    updated.update(&large, 1e6, false, 900);
    updated.update(&small, 1e6, false, 400);
    assert_eq!(format!("{:?}", updated.cells), format!("{:?}", picture(&small, 1e6).cells));
    assert_eq!(updated.strip.bins, picture(&small, 1e6).strip.bins);
    updated.update(&State::default(), 0.0, false, 400);
    let nothing = picture(&State::default(), 0.0);
    assert!(updated.cells.is_empty() && updated.strip.bins.is_empty() && updated.reads.is_empty());
    assert_eq!((updated.thread, updated.kv, updated.miss), (nothing.thread, nothing.kv, nothing.miss));
    assert!(!updated.moving);
}

#[test]
fn the_clock_goes_on_from_the_newest_event() {
    let (mut clock, mut inside) = (EventClock::default(), fold(&made_up::whole(6, 8, 1)).inside);
    assert_eq!(clock.event_ms(&inside, 70_000.0), inside.at_ms, "other clocks begin at other times");
    assert_eq!(clock.event_ms(&inside, 70_250.0), inside.at_ms + 250.0);
    (inside.at_ms, inside.revision) = (inside.at_ms + 40.0, inside.revision + 1);
    assert_eq!(clock.event_ms(&inside, 70_300.0), inside.at_ms);
    (inside.at_ms, inside.revision) = (5.0, 2);
    assert_eq!(clock.event_ms(&inside, 70_400.0), 5.0, "somebody scrubs back");
}

#[test]
fn every_byte_of_the_file_is_in_the_strip_once() {
    let run = made_up::whole(24, 32, 1);
    let state = fold(&run);
    let file_bytes = run.map.file_bytes as f64;
    for bins in [1, 7, 400, 3000] {
        let mut strip = Strip::default();
        strip.update(&state.inside, bins);
        assert_eq!(strip.bins.len(), bins);
        let sum = |share: fn(&crate::core::strip::Bin) -> f32| {
            strip.bins.iter().map(|bin| f64::from(share(bin))).sum::<f64>() / bins as f64
        };
        let slice = SLICE_BYTES as f64 / file_bytes;
        let dense = made_up::HEADER_BYTES as f64 / file_bytes + (24.0 + 24.0 * 3.0) * slice;
        // 28 of 32 experts, but for the one that was evicted; of the missed one, two parts are here and one is coming.
        let placed = dense + (24.0 * 28.0 - 1.0) * 3.0 * slice;
        for (got, expected) in [
            (sum(|bin| bin.placed), placed),
            (sum(|bin| bin.arrived), if bins == 1 { sum(|bin| bin.arrived) } else { 2.0 * slice }),
            (sum(|bin| bin.coming), slice),
            (sum(|bin| bin.evicted), 3.0 * slice),
        ] {
            assert!((got - expected).abs() < 2e-4, "{bins}: {got} instead of {expected}");
        }
    }
    let mut strip = Strip::default();
    strip.update(&state.inside, 400);
    assert_eq!(strip.bins[0].part, Part::Dense, "the header is a small part of its bin");
    assert_eq!(strip.bins[399].part, Part::Experts);
    let names: Vec<Part> = strip.names.iter().map(|(part, _)| *part).collect();
    assert_eq!(names, [Part::Header, Part::Dense, Part::Experts]);
    let slices: Vec<_> = slices_of(&state.inside, place(3, 4)).collect();
    assert_eq!(slices.len(), 3);
    let begin = run.slices(place(3, 4))[0].offset_bytes as f64 / file_bytes;
    assert!((slices[0].start - begin).abs() < 1e-12 && slices[0].end > begin);
}

#[test]
fn a_read_leads_to_the_cells_that_it_brings() {
    let mut run = Run::new(6, 8);
    let (first, second) = (run.slices(place(2, 3))[0], run.slices(place(2, 4))[0]);
    let both = FileRange { offset_bytes: first.offset_bytes, bytes: first.bytes + second.bytes };
    let dense = FileRange { offset_bytes: made_up::HEADER_BYTES, bytes: SLICE_BYTES };
    run.tell(Event::Reads(Reads { under_way: vec![both, dense], arrived: Vec::new() }));
    let reads = picture(&fold(&run), 0.0).reads;
    assert_eq!(reads[0].cells, [Some(place(2, 3)), Some(place(2, 4)), None]);
    assert_eq!(reads[1].cells, [None, None, None], "what every token needs has no cell");
    assert!(reads[0].from < reads[0].to && reads[0].to <= 1.0 && !reads[0].is_missed);
    let state = fold(&made_up::whole(6, 8, 1));
    let reads = picture(&state, 0.0).reads;
    assert_eq!((reads.len(), reads[0].is_missed), (1, true));
}

#[test]
fn the_thread_is_where_it_is_known_to_be() {
    let mut run = Run::new(6, 8);
    run.answer_begins();
    let thread = |run: &Run| picture(&fold(run), 1e9).thread;
    assert_eq!((thread(&run).layers_done, thread(&run).is_known), (0, false));
    assert_eq!(thread(&run).text, "prompt 0 of 40");
    run.miss(place(3, 1));
    assert_eq!((thread(&run).layers_done, thread(&run).is_known), (3, true));
    run.prompt_read();
    assert_eq!((thread(&run).layers_done, thread(&run).strands), (6, MOST_STRANDS));
    assert_eq!(thread(&run).text, "prompt 40 of 40");
    run.token(0);
    assert_eq!((thread(&run).layers_done, thread(&run).strands), (6, 1));
    assert_eq!(thread(&run).text, "“word0”");
}

#[test]
fn kv_caches_fill_to_their_window_or_to_their_room() {
    let mut run = Run::new(6, 8);
    run.answer_begins();
    run.prompt_read();
    let picture_of = |run: &Run| picture(&fold(run), 1e9);
    let kv = picture_of(&run).kv;
    assert_eq!((kv[0].is_sliding, kv[0].fill), (true, PROMPT as f32 / 128.0));
    assert_eq!((kv[1].is_sliding, kv[1].fill), (false, PROMPT as f32 / 8192.0));
    run.tell(Event::Kv { used_tokens: 4096, capacity_tokens: 8192, bytes: 1 });
    let kv = picture_of(&run).kv;
    assert_eq!((kv[4].fill, kv[5].fill), (1.0, 0.5));
    assert!(picture_of(&Run::new(6, 8)).kv.iter().all(|kv| kv.fill == 0.0), "nothing was told");
}

#[test]
fn norms_are_drawn_by_their_ratios() {
    let state = fold(&made_up::whole(6, 8, 1));
    let picture = picture(&state, 0.0);
    assert_eq!((picture.norms.len(), picture.bends.len()), (7, 6));
    // Each layer makes it 1.2 times as large.
    for (norm, index) in picture.norms.iter().zip(0..) {
        assert!((norm - index as f32 / 6.0).abs() < 1e-5, "{:?}", picture.norms);
    }
    assert!(picture.bends.iter().all(|bend| bend.abs() < 1e-3), "all layers do the same: {:?}", picture.bends);
    let mut state = state;
    // The third layer makes it a hundred times as large, the others leave it as it is.
    let norms = [1.0, 1.0, 1.0, 100.0, 100.0, 100.0, 100.0].to_vec();
    state.inside.norms = Some(Residual { position: 1, norms });
    let bends = self::picture(&state, 0.0).bends;
    assert!(bends[2] == 1.0 && bends.iter().enumerate().all(|(layer, bend)| layer == 2 || *bend < 0.0), "{bends:?}");
}

/// Not a benchmark: it finds what is ten times too slow.
#[test]
fn the_largest_model_is_worked_out_in_a_few_milliseconds() {
    let state = fold(&made_up::whole(36, 128, 2));
    let mut picture = Picture::default();
    picture.update(&state, 0.0, false, 800);
    let begin = std::time::Instant::now();
    const FRAMES: u32 = 20;
    (0..FRAMES).for_each(|frame| picture.update(&state, f64::from(frame), false, 800));
    let each = begin.elapsed() / FRAMES;
    println!("{each:?} for 36 x 128 cells, unoptimised");
    assert!(each.as_millis() < 40, "{each:?}");
}
