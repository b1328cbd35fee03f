//! A made-up run of a made-up model, consistent in itself: what an engine would tell of it. For tests.

use gptoss_protocol::{
    AttentionRow, Channel, Event, ExpertMoves, ExpertPlace, FileMap, FileRange, Head, Missing, ModelInfo, Reads,
    Residual, Routes, Stage, StageStatus, TensorPlace, TokenInfo,
};

/// Header of the made-up file.
pub const HEADER_BYTES: u64 = 8192;
/// One tensor's part of an expert.
pub const SLICE_BYTES: u64 = 1 << 20;
/// Tokens of the prompt.
pub const PROMPT: u32 = 40;
const TENSORS_OF_EXPERT: u64 = 3;

/// Events of a run, each with its time in ms.
pub struct Run {
    pub layers: u32,
    pub experts: u32,
    pub map: FileMap,
    pub events: Vec<(f64, Event)>,
    now_ms: f64,
    resident: Vec<ExpertPlace>,
}

impl Run {
    /// Up to the file map.
    pub fn new(layers: u32, experts: u32) -> Self {
        let map = file_map(layers, experts);
        let mut run = Self { layers, experts, map, events: Vec::new(), now_ms: 0.0, resident: Vec::new() };
        run.tell(Event::Model(model(layers, experts, run.map.file_bytes)));
        run.tell(Event::FileMap(run.map.clone()));
        run
    }

    pub fn tell(&mut self, event: Event) {
        self.events.push((self.now_ms, event));
    }

    pub fn wait(&mut self, ms: f64) {
        self.now_ms += ms;
    }

    /// What every token needs, in one read for each tensor.
    pub fn load_dense(&mut self) {
        let dense: Vec<_> = self.map.tensors.iter().filter(|t| t.experts_of_layer.is_none()).cloned().collect();
        let count = dense.len() as u32;
        for (tensor, index) in dense.into_iter().zip(0..) {
            let range = FileRange { offset_bytes: tensor.offset_bytes, bytes: tensor.bytes };
            self.read(&[range]);
            let TensorPlace { name, format, bytes, .. } = tensor;
            self.tell(Event::Tensor { name, format, bytes, index, count });
        }
    }

    /// One expert, by as many reads as it has tensors.
    pub fn bring(&mut self, place: ExpertPlace) {
        self.tell(moves(|moves| moves.awaited.push(place)));
        for slice in self.slices(place) {
            self.read(&[slice]);
        }
        self.tell(moves(|moves| moves.arrived.push(place)));
        self.resident.push(place);
    }

    pub fn evict(&mut self, place: ExpertPlace) {
        self.tell(moves(|moves| moves.evicted.push(place)));
        self.resident.retain(|other| *other != place);
    }

    pub fn read(&mut self, ranges: &[FileRange]) {
        self.tell(Event::Reads(Reads { under_way: ranges.to_vec(), arrived: Vec::new() }));
        self.wait(20.0);
        self.tell(Event::Reads(Reads { under_way: Vec::new(), arrived: ranges.to_vec() }));
    }

    /// The parts of the file that an expert is in.
    pub fn slices(&self, place: ExpertPlace) -> Vec<FileRange> {
        let tensors = self.map.tensors.iter().filter(|tensor| tensor.experts_of_layer == Some(place.layer));
        tensors
            .map(|tensor| FileRange {
                offset_bytes: tensor.offset_bytes + u64::from(place.expert) * SLICE_BYTES,
                bytes: SLICE_BYTES,
            })
            .collect()
    }

    pub fn answer_begins(&mut self) {
        self.tell(Event::Stage { stage: Stage::PromptEncode, status: StageStatus::Started, elapsed_ms: None });
        self.tell(Event::PromptEncoded { tokens: PROMPT, context_tokens: 8192 });
        self.tell(prefill(0));
    }

    pub fn prompt_read(&mut self) {
        self.wait(100.0);
        let routes = (0..4).map(|expert| (expert, PROMPT / 4, PROMPT as f32 / 4.0).into()).collect();
        let layers = vec![routes; self.layers as usize];
        self.tell(Event::Routes(Routes { position: PROMPT - 1, tokens: PROMPT, layers }));
        self.tell(prefill(PROMPT));
        self.tell(kv(PROMPT));
        self.tell(token(0));
    }

    /// The token of this number goes through the model, and another comes out. Weights are 0.4, 0.3, 0.2 and 0.1.
    pub fn token(&mut self, index: u32) {
        self.wait(25.0);
        let position = PROMPT + index;
        let layers = (0..self.layers).map(|layer| {
            chosen(layer, index, self.experts)
                .into_iter()
                .zip([0.4, 0.3, 0.2, 0.1])
                .map(|(e, w)| (e, 1, w).into())
                .collect()
        });
        let layers = layers.collect();
        self.tell(Event::Routes(Routes { position, tokens: 1, layers }));
        let norms = (0..=self.layers).map(|layer| 10.0 * 1.2_f32.powi(layer as i32)).collect();
        self.tell(Event::Residual(Residual { position, norms }));
        let weights = vec![0.75 / (position + 1) as f32; position as usize + 1];
        let head = Head { layer: 1, head: 3 };
        self.tell(Event::Attention(AttentionRow { head, position, first_position: 0, weights, sink: 0.25 }));
        self.tell(kv(position + 1));
        self.tell(token(index + 1));
    }

    /// A batch misses an expert of a layer: told, and two of its three parts are here.
    pub fn miss(&mut self, place: ExpertPlace) {
        let missing =
            Missing { layer: place.layer, layers: self.layers, experts: 1, bytes: TENSORS_OF_EXPERT * SLICE_BYTES };
        self.tell(moves(|moves| {
            moves.missed.push(place);
            moves.awaited.push(place);
        }));
        self.tell(Event::Missing(missing));
        let slices = self.slices(place);
        self.read(&slices[..2]);
        self.tell(Event::Reads(Reads { under_way: slices[2..].to_vec(), arrived: Vec::new() }));
    }
}

/// The experts that a token of the answer chooses: others for each token and layer, the same in every run. None of
/// those that [`whole`] does not load is among them.
pub fn chosen(layer: u32, index: u32, experts: u32) -> Vec<u32> {
    let experts = experts - experts / 8;
    let mut chosen: Vec<u32> =
        (0..4).map(|which| (layer * 7 + index * 5 + which * which * 3 + which) % experts).collect();
    chosen.sort_unstable();
    chosen.dedup();
    chosen
}

/// A run with everything in it: loaded but for the last experts of each layer, asked, answering, with one expert
/// evicted and one missed, in whose read the run stops.
pub fn whole(layers: u32, experts: u32, tokens: u32) -> Run {
    let mut run = Run::new(layers, experts);
    run.load_dense();
    for layer in 0..layers {
        (0..experts - experts / 8).for_each(|expert| run.bring(ExpertPlace { layer, expert }));
    }
    run.answer_begins();
    run.prompt_read();
    (0..tokens).for_each(|index| run.token(index));
    run.evict(ExpertPlace { layer: layers / 2, expert: 1 });
    run.miss(ExpertPlace { layer: layers / 2, expert: experts - 1 });
    run
}

fn file_map(layers: u32, experts: u32) -> FileMap {
    let mut tensors: Vec<TensorPlace> = Vec::new();
    let mut end = HEADER_BYTES;
    let mut add = |name: String, format: &str, bytes: u64, experts_of_layer: Option<u32>| {
        tensors.push(TensorPlace { name, format: format.to_owned(), offset_bytes: end, bytes, experts_of_layer });
        end += bytes;
    };
    add("token_embd.weight".to_owned(), "Q8_0", 24 * SLICE_BYTES, None);
    for layer in 0..layers {
        add(format!("blk.{layer}.attn_q.weight"), "Q8_0", 3 * SLICE_BYTES, None);
        for which in ["gate", "up", "down"] {
            let bytes = u64::from(experts) * SLICE_BYTES;
            add(format!("blk.{layer}.ffn_{which}_exps.weight"), "MXFP4", bytes, Some(layer));
        }
    }
    FileMap { file_bytes: end, header_bytes: HEADER_BYTES, tensors }
}

fn model(layers: u32, experts: u32, file_bytes: u64) -> ModelInfo {
    ModelInfo {
        name: "made up".to_owned(),
        architecture: "gpt-oss".to_owned(),
        file_bytes,
        tensors: 1 + layers * 4,
        layers,
        hidden: 2880,
        query_heads: 64,
        kv_heads: 8,
        experts,
        experts_per_token: 4,
        vocabulary: 201_088,
        context_tokens: 131_072,
        window_tokens: 128,
        sliding: (0..layers).map(|layer| layer % 2 == 0).collect(),
        layers_run: layers,
        formats: Vec::new(),
    }
}

fn moves(change: impl FnOnce(&mut ExpertMoves)) -> Event {
    let mut moves = ExpertMoves::default();
    change(&mut moves);
    Event::ExpertMoves(moves)
}

fn prefill(done_tokens: u32) -> Event {
    Event::Prefill { done_tokens, total_tokens: PROMPT, reused_tokens: 0, elapsed_ms: 100.0 }
}

fn kv(used_tokens: u32) -> Event {
    Event::Kv { used_tokens, capacity_tokens: 8192, bytes: 1 << 28 }
}

fn token(index: u32) -> Event {
    Event::Token(TokenInfo {
        index,
        id: index,
        text: format!(" word{index}"),
        channel: Some(Channel::Final),
        recipient: None,
        probability: Some(0.5),
        entropy_nats: 0.5,
        top: Vec::new(),
        elapsed_ms: 25.0,
        decode_tokens_per_second: (index > 0).then_some(40.0),
    })
}
