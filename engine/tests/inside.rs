//! What is told of the inside of a model while it works: where its tensors are, what is read, which experts are on the GPU.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use crate::support::{GatedSource, Gatekeeper, Recorder, engine_of, memory};
use gptoss_engine::GpuEngine;
use gptoss_kernels::GpuOptions;
use gptoss_model::{Backend, Host, Quiet};
use gptoss_protocol::{
    CacheCounters, Effort, Event, ExpertLoading, ExpertPlace, FileMap, FileRange, LoadOptions, Prompt, PromptFormat,
    Sampling, Stage, StageStatus,
};
use gptoss_source::Source;

const MODEL: &[u8] = include_bytes!("../../models/nano/gpt-oss-nano.gguf");
const LAYERS: u32 = 6;
const EXPERTS: u32 = 8;

fn prompt(text: &str, max_new_tokens: u32) -> Prompt {
    Prompt {
        user: text.into(),
        format: PromptFormat::Text,
        instructions: String::new(),
        effort: Effort::Low,
        date: None,
        max_new_tokens,
        sampling: Sampling::default(),
        ..Prompt::default()
    }
}

async fn load(source: Rc<dyn Source>, options: &LoadOptions, host: &dyn Host) -> GpuEngine {
    engine_of(source, &GpuOptions::default(), options, host).await.expect("nano loads")
}

fn file_map(events: &[Event]) -> FileMap {
    let at = events.iter().position(|event| matches!(event, Event::Model(_))).expect("it is told what the model is");
    match &events[at + 1] {
        Event::FileMap(map) => map.clone(),
        other => panic!("{other:?} where the map should follow"),
    }
}

/// What arrived, sorted; asserts that nothing came twice, and that nothing came that was not under way.
fn arrived(events: &[Event]) -> Vec<FileRange> {
    let reads = events.iter().filter_map(|event| if let Event::Reads(reads) = event { Some(reads) } else { None });
    let mut all: Vec<FileRange> = Vec::new();
    let mut last_under_way = Vec::new();
    for reads in reads {
        all.extend(&reads.arrived);
        last_under_way.clone_from(&reads.under_way);
    }
    assert!(last_under_way.is_empty(), "{last_under_way:?} are under way at the end");
    all.sort_by_key(|range| range.offset_bytes);
    for pair in all.windows(2) {
        assert!(pair[0].offset_bytes + pair[0].bytes <= pair[1].offset_bytes, "{pair:?} overlap");
    }
    all
}

/// Bytes of `place` that are among `ranges`.
fn bytes_within(ranges: &[FileRange], offset_bytes: u64, bytes: u64) -> u64 {
    let overlap = |range: &FileRange| {
        let end = (range.offset_bytes + range.bytes).min(offset_bytes + bytes);
        end.saturating_sub(range.offset_bytes.max(offset_bytes))
    };
    ranges.iter().map(overlap).sum()
}

/// The experts on the GPU, as somebody knows them who hears of nothing but moves.
#[derive(Default)]
struct Picture {
    resident: BTreeSet<ExpertPlace>,
    awaited: BTreeSet<ExpertPlace>,
    missed: u64,
    evicted: u64,
    /// How often counters were compared.
    compared: u32,
}

impl Picture {
    /// Goes through events; wherever they have counters, they are those of the picture.
    fn follow(&mut self, events: &[Event], slots_per_layer: usize) {
        for event in events {
            match event {
                Event::ExpertMoves(moves) => self.go(moves, slots_per_layer),
                Event::Experts(counters) => self.compare(counters),
                Event::Recovering { .. } | Event::Unloaded => {
                    self.resident.clear();
                    self.awaited.clear();
                }
                _ => {}
            }
        }
    }

    fn go(&mut self, moves: &gptoss_protocol::ExpertMoves, slots_per_layer: usize) {
        for expert in &moves.evicted {
            let was_there = self.resident.remove(expert);
            assert!(was_there || self.awaited.remove(expert), "{expert:?} was evicted from nowhere");
            self.evicted += u64::from(was_there);
        }
        self.missed += moves.missed.len() as u64;
        for expert in &moves.awaited {
            assert!(!self.resident.contains(expert) && self.awaited.insert(*expert), "{expert:?} is awaited again");
        }
        for expert in &moves.arrived {
            assert!(self.awaited.remove(expert) && self.resident.insert(*expert), "{expert:?} was not awaited");
        }
        let mut slots: BTreeMap<u32, usize> = BTreeMap::new();
        for expert in self.resident.iter().chain(&self.awaited) {
            *slots.entry(expert.layer).or_default() += 1;
        }
        assert!(slots.values().all(|&taken| taken <= slots_per_layer), "{slots:?}");
    }

    fn compare(&mut self, counters: &CacheCounters) {
        assert_eq!(self.resident.len(), counters.resident as usize, "{counters:?}");
        assert_eq!((self.missed, self.evicted), (counters.misses, counters.evictions));
        self.compared += 1;
    }
}

/// A load with all experts: each byte of each tensor comes once, and so does each expert.
async fn all_of_the_file_comes_once() {
    let host = Recorder::default();
    load(memory("nano", MODEL), &LoadOptions::default(), &host).await;
    let events = host.events.take();
    let map = file_map(&events);
    assert_eq!((map.file_bytes, map.tensors.len()), (MODEL.len() as u64, 117));
    let came = arrived(&events);
    for tensor in &map.tensors {
        assert_eq!(bytes_within(&came, tensor.offset_bytes, tensor.bytes), tensor.bytes, "{tensor:?}");
    }
    let all_bytes: u64 = map.tensors.iter().map(|tensor| tensor.bytes).sum();
    assert_eq!(came.iter().map(|range| range.bytes).sum::<u64>(), all_bytes, "nothing else was read");
    let mut picture = Picture::default();
    picture.follow(&events, EXPERTS as usize);
    let all: BTreeSet<_> = (0..LAYERS).flat_map(|layer| (0..EXPERTS).map(move |it| (layer, it).into())).collect();
    assert_eq!((&picture.resident, picture.compared), (&all, 1));
    // It is all told before the stage ends, of which it is.
    let end = events.iter().position(|event| {
        matches!(event, Event::Stage { stage: Stage::WeightsFetch, status: StageStatus::Completed, .. })
    });
    let later = &events[end.expect("weights were fetched")..];
    assert!(!later.iter().any(|event| matches!(event, Event::Reads(_) | Event::ExpertMoves(_))), "{later:?}");
}

/// Experts that come when they are needed, and the others when there is time.
async fn experts_come_once_when_they_are_needed() {
    let host = Recorder::default();
    let options = LoadOptions { experts: ExpertLoading::AsNeeded, ..LoadOptions::default() };
    let mut engine = load(memory("nano", MODEL), &options, &host).await;
    let map = file_map(&host.events.borrow());
    let loaded = arrived(&host.events.borrow());
    let is_of_experts = |tensor: &&gptoss_protocol::TensorPlace| tensor.experts_of_layer.is_some();
    assert_eq!(map.tensors.iter().filter(is_of_experts).count() as u32, 3 * LAYERS);
    for tensor in &map.tensors {
        let bytes = if is_of_experts(&tensor) { 0 } else { tensor.bytes };
        assert_eq!(bytes_within(&loaded, tensor.offset_bytes, tensor.bytes), bytes, "{tensor:?}");
    }
    engine.answer(&prompt("a", 3), &host).await.expect("an answer");
    engine.model.prefetch(&host).await.expect("the rest comes");
    let events = host.events.take();
    let came = arrived(&events);
    for tensor in &map.tensors {
        assert_eq!(bytes_within(&came, tensor.offset_bytes, tensor.bytes), tensor.bytes, "{tensor:?}");
    }
    let mut picture = Picture::default();
    picture.follow(&events, EXPERTS as usize);
    assert_eq!(picture.resident.len() as u32, LAYERS * EXPERTS);
    assert!(picture.missed >= u64::from(4 * LAYERS) && picture.compared > 4);
}

/// Pools of all sizes, with prompts of several batches and single tokens.
async fn moves_lead_to_what_is_counted(slots: u32) {
    let whole = load(memory("nano", MODEL), &LoadOptions::default(), &Quiet).await;
    let bytes = whole.model.plan().expert_bytes(slots);
    drop(whole);
    let options = LoadOptions { expert_memory_bytes: Some(bytes), ..LoadOptions::default() };
    let host = Recorder::default();
    let mut engine = load(memory("nano", MODEL), &options, &host).await;
    engine.answer(&prompt("What is 12 + 30? ".repeat(8).as_str(), 4), &host).await.expect("an answer");
    engine.answer(&prompt("zq", 2), &host).await.expect("an answer");
    let counters = engine.model.cache_counters();
    let mut picture = Picture::default();
    picture.follow(&host.events.borrow(), slots as usize);
    picture.compare(&counters);
    assert!(picture.missed > 0 && (slots == EXPERTS || picture.evicted > 0), "{counters:?}");
    arrived_experts_are_whole(&host.events.borrow());
}

/// As many bytes came as experts did.
fn arrived_experts_are_whole(events: &[Event]) {
    let map = file_map(events);
    let (mut bytes, mut experts) = (0, 0);
    for event in events {
        match event {
            Event::Reads(reads) => bytes += reads.arrived.iter().map(|range| range.bytes).sum::<u64>(),
            Event::ExpertMoves(moves) => experts += moves.arrived.len() as u64,
            _ => {}
        }
    }
    let (mut dense, mut of_experts) = (0, 0);
    for tensor in &map.tensors {
        *if tensor.experts_of_layer.is_some() { &mut of_experts } else { &mut dense } += tensor.bytes;
    }
    assert_eq!(bytes, dense + experts * of_experts / u64::from(LAYERS * EXPERTS));
}

/// STOP while experts are on their way: what will not come is not waited for in the picture, either.
async fn stop_takes_back_what_was_awaited() {
    let source = GatedSource::new("nano", MODEL);
    let options = LoadOptions { experts: ExpertLoading::AsNeeded, ..LoadOptions::default() };
    let host = Recorder::default();
    let mut engine = load(source.clone(), &options, &host).await;
    let mut picture = Picture::default();
    picture.follow(&host.events.take(), EXPERTS as usize);
    let at_layer_1 = |event: &Event| matches!(event, Event::Missing(missing) if missing.layer == 1);
    let stopping = Gatekeeper::new(&source, at_layer_1);
    let error = engine.answer(&prompt("What is 12 + 30?", 4), &stopping).await.expect_err("stopped");
    assert!(error.is_cancelled(), "{error:?}");
    let events = stopping.events.take();
    picture.follow(&events, EXPERTS as usize);
    assert!(picture.awaited.is_empty() && !picture.resident.is_empty(), "{:?}", picture.awaited);
    let last = events.iter().rev().find_map(|event| if let Event::Reads(reads) = event { Some(reads) } else { None });
    assert!(last.expect("some were told").under_way.is_empty());
    source.set_open(true);
    engine.answer(&prompt("What is 12 + 30?", 4), &host).await.expect("an answer");
    picture.follow(&host.events.take(), EXPERTS as usize);
    picture.compare(&engine.model.cache_counters());
}

everywhere!(ahead, all_of_the_file_comes_once());
everywhere!(as_needed, experts_come_once_when_they_are_needed());
everywhere!(fewest_slots, moves_lead_to_what_is_counted(4));
everywhere!(stop, stop_takes_back_what_was_awaited());

#[cfg(not(target_arch = "wasm32"))]
mod native {
    use gptoss_source::{JoinedSource, MemorySource};
    use gptoss_synth::edit::Edit;
    use gptoss_synth::{Spec, part_name};

    use super::*;
    use crate::support::run;

    #[test]
    fn moves_lead_to_what_is_counted_in_other_pools() {
        run(async {
            moves_lead_to_what_is_counted(5).await;
            moves_lead_to_what_is_counted(7).await;
        });
    }

    /// Compared with files of another reader, also in parts, with gate and up in one tensor and with a tensor of nothing.
    #[test]
    fn the_map_says_where_each_tensor_is() {
        run(async {
            let mut nano = Edit::read(MODEL);
            nano.tensors.push(gptoss_synth::edit::RawTensor::of_f32("nothing", &[4, 0], &[]));
            let fused = Spec::tiny().layers(2).fused_gate_up(true).to_bytes().expect("a model");
            for (file, of_experts) in [(nano.write(), 3), (fused, 2)] {
                let map = map_of(memory("whole", &file)).await;
                let tensors = Edit::read(&file).tensors;
                assert!(map.tensors.is_sorted_by_key(|tensor| tensor.offset_bytes));
                assert_eq!(map.header_bytes, map.tensors[0].offset_bytes);
                for tensor in tensors.iter().filter(|tensor| !tensor.data.is_empty()) {
                    let place = map.tensors.iter().find(|place| place.name == tensor.name).expect("it has a place");
                    let (first, end) = (place.offset_bytes as usize, (place.offset_bytes + place.bytes) as usize);
                    assert!(file[first..end] == tensor.data[..], "{place:?}");
                    let is_of_experts = tensor.name.ends_with("_exps.weight");
                    let layer = || tensor.name.split('.').nth(1).and_then(|layer| layer.parse().ok());
                    assert_eq!(place.experts_of_layer, if is_of_experts { layer() } else { None }, "{}", tensor.name);
                }
                let count = |layer| map.tensors.iter().filter(|place| place.experts_of_layer == Some(layer)).count();
                assert_eq!((count(0), count(1)), (of_experts, of_experts));
                assert_eq!(map.tensors.len(), tensors.iter().filter(|tensor| !tensor.data.is_empty()).count());
            }
        });
    }

    #[test]
    fn the_map_of_a_split_model_counts_through_all_files() {
        run(async {
            let model = Spec::tiny().layers(2).build().expect("a model");
            let mut whole = Vec::new();
            model.write(&mut whole).expect("memory can be written");
            let parts =
                model.split(3).expect("as many tensors at least").into_iter().enumerate().map(|(index, part)| {
                    let mut file = Vec::new();
                    part.write(&mut file).expect("memory can be written");
                    Rc::new(MemorySource::new(part_name("m", index, 3), file)) as Rc<dyn Source>
                });
            let joined = Rc::new(JoinedSource::new(parts.collect()));
            let (map, of_one) = (map_of(joined.clone()).await, map_of(memory("m", &whole)).await);
            assert_eq!((map.file_bytes, map.tensors.len()), (joined.len_bytes(), of_one.tensors.len()));
            for place in &of_one.tensors {
                let here = map.tensors.iter().find(|here| here.name == place.name).expect("it has a place");
                assert_eq!((here.bytes, here.experts_of_layer), (place.bytes, place.experts_of_layer));
                let bytes = joined.read(here.offset_bytes, here.bytes).await.expect("inside");
                let first = place.offset_bytes as usize;
                assert!(bytes.as_slice() == &whole[first..first + place.bytes as usize], "{here:?}");
            }
        });
    }

    async fn map_of(source: Rc<dyn Source>) -> FileMap {
        let host = Recorder::default();
        let header = gptoss_model::read_header(source.as_ref(), &Quiet).await.expect("a model");
        gptoss_model::announce(&header, 1, &host);
        file_map(&host.events.borrow())
    }
}
