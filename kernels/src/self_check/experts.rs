//! Checks of the router and of the experts.

use std::collections::BTreeSet;
use std::rc::Rc;

use gptoss_gguf::CodeOrder;
use gptoss_model::ops;
use gptoss_model::ops::experts::{ExpertFormats, ExpertRows, swiglu_reference};
use gptoss_model::ops::router::Route;

use super::dense::{EPSILON, whole_blocks, with_squares};
use super::{SelfCheck, UNTOUCHED, Want};
use crate::experts::{self, Arena, Shape, SlotLayout};
use crate::gpu::GpuBuffer;
use crate::norm::{Normed, combined_squares};
use crate::repack::{Destination, RepackKernels};
use crate::router::{self, MISS};
use crate::step::{Status, Step};

/// Columns of the router's input.
const COLUMNS: usize = 64;
/// Choices whose logits are nearer than this may change places by rounding.
const CLEAR: f64 = 1e-3;

const LAYERS: u32 = 2;
const LAYER: u32 = 1;
const EXPERTS: usize = 5;
/// The expert in each slot. Experts 1 and 2 are in none.
const RESIDENT: [usize; 3] = [4, 0, 3];
/// Slots of each arena.
const ARENAS: [u32; 2] = [2, 1];
const CHOICES: usize = 3;
const ROUTES: [(u32, f32); 9] =
    [(4, 0.5), (0, 0.3), (3, 0.2), (3, 0.6), (4, 0.25), (0, 0.15), (1, 0.4), (0, 0.35), (3, 0.25)];
/// Number of tokens; the last one misses an expert.
const TOKENS: usize = ROUTES.len() / CHOICES;

/// The weights of one expert, as in the file and decoded.
struct Expert {
    /// File bytes of gate, up and down.
    bytes: [Vec<u8>; 3],
    weights: [Vec<f32>; 3],
}

/// Input of a router whose choices do not depend on rounding.
struct Routing {
    /// Normalised input in the layout of [`with_squares`].
    normed: Vec<f32>,
    weight: Vec<f32>,
    bias: Vec<f32>,
    /// Right choices of all tokens.
    routes: Vec<Route>,
}

impl SelfCheck<'_> {
    /// Checks the router with as many experts and choices as the model has: the order of the best, their weights, and
    /// which of them are missing.
    pub fn router(&mut self, experts: u32, experts_per_token: u32) {
        let Routing { normed, weight, bias, routes } = self.routing(experts as usize, experts_per_token as usize);
        let absent = routes[0].expert;
        let slot = |entry: u32| if entry % experts == absent { MISS } else { entry % experts };
        let page_table: Vec<u32> = (0..LAYERS * experts).map(slot).collect();
        let mut last_used = vec![0; page_table.len()];
        for route in &routes {
            last_used[(LAYER * experts + route.expert) as usize] = self.step.stamp;
        }
        // Each expert counts once for all tokens that choose it.
        let chosen: BTreeSet<u32> = routes.iter().map(|route| route.expert).collect();
        let (misses, hits) = (1, chosen.len() as u32 - 1);
        let mut status = Status { halt_layer: LAYER, hits, misses, ..Status::running() };
        status.missed[(absent / 32) as usize] = 1 << (absent % 32);

        let (x, weight, bias) = (self.storage(&normed), self.storage(&weight), self.storage(&bias));
        let (page_table, used) = (self.storage(&page_table), self.storage(&vec![0u32; last_used.len()]));
        // Those of the layers before it, which are not touched, come first.
        let first = LAYER as usize * routes.len();
        let chosen = self.output(2 * (first + routes.len()));
        let status_buffer = self.keep(self.gpu.storage_from("status", &[Status::running()]));
        let buffers: router::Buffers<&GpuBuffer> = router::Buffers {
            step: &self.step_buffer,
            x: &x,
            weight: &weight,
            bias: &bias,
            routes: &chosen,
            page_table: &page_table,
            last_used: &used,
            status: &status_buffer,
        };
        let Normed { squares_first, squares, epsilon } = self.normed(self.step.tokens as usize, COLUMNS);
        let columns = COLUMNS as u32;
        let (layer, padding) = (LAYER, 0);
        let params =
            router::Params { columns, experts, experts_per_token, layer, squares_first, squares, epsilon, padding };
        let launch = self.bind(&router::call(&buffers, params));
        self.record(self.step, vec![launch]);
        self.expect_at("router", "choices", &chosen, (first * size_of::<Route>()) as u64, Want::Routes(routes));
        self.expect("router", "last uses", &used, Want::Exact(last_used));
        self.expect("router", "status", &status_buffer, Want::Exact(bytemuck::cast_slice(&[status]).to_vec()));
    }

    /// Makes input in which two equal experts are often chosen: the one with the lower number must come first.
    fn routing(&mut self, experts: usize, choices: usize) -> Routing {
        loop {
            let x = self.random.normals(self.step.tokens as usize * COLUMNS, 1.0);
            let norm = self.random.normals(COLUMNS, 1.0);
            let activations = ops::rms_norm::reference(&x, &norm, f64::from(EPSILON));
            let mut weight = self.random.normals(experts * COLUMNS, 0.2);
            let mut bias = self.random.normals(experts, 0.5);
            if experts > 1 {
                weight.copy_within(..COLUMNS, (experts - 1) * COLUMNS);
                (bias[0], bias[experts - 1]) = (2.0, 2.0);
            }
            let mut clear = true;
            let mut routes = Vec::new();
            for x in activations.chunks_exact(COLUMNS) {
                // All experts are ranked, to see how far the last choice is from the next.
                let all = ops::router::reference(x, &weight, &bias, experts);
                let total: f64 = all[..choices].iter().map(|route| f64::from(route.weight)).sum();
                clear &= all.windows(2).take(choices).all(|pair| {
                    let equal = [pair[0].expert, pair[1].expert] == [0, experts as u32 - 1];
                    equal || f64::from(pair[0].weight / pair[1].weight).ln() > CLEAR
                });
                let weighed = |route: &Route| Route { weight: (f64::from(route.weight) / total) as f32, ..*route };
                routes.extend(all[..choices].iter().map(weighed));
            }
            if clear {
                return Routing { normed: with_squares(&x, &norm), weight, bias, routes };
            }
        }
    }

    /// Checks experts in two arenas, one of them missing; then the sum of their results.
    pub fn experts(&mut self, formats: ExpertFormats, repack: &RepackKernels) {
        let (hidden, ff) = (whole_blocks(formats.gate, 288), whole_blocks(formats.down, 96));
        let hidden = whole_blocks(formats.up, hidden as u64);
        let slot = SlotLayout::new(formats, hidden as u64, ff as u64);
        let all: Vec<Expert> = (0..EXPERTS).map(|_| self.expert(formats, hidden, ff)).collect();
        let arenas = self.arenas(repack, &slot, &all);
        // The biases are so large that the clamps of SwiGLU matter.
        let biases = [self.random.normals(2 * EXPERTS * ff, 4.0), self.random.normals(EXPERTS * hidden, 1.0)].concat();
        let residual = self.random.normals(TOKENS * hidden, 1.0);
        let [norm, next_norm] = [0, 1].map(|_| self.random.normals(hidden, 1.0));
        let activations = ops::rms_norm::reference(&residual, &norm, f64::from(EPSILON));
        let (h, y) = results(&all, &biases, &activations, hidden, ff);

        let mut page_table = vec![MISS; LAYERS as usize * EXPERTS];
        for (slot, expert) in RESIDENT.into_iter().enumerate() {
            page_table[LAYER as usize * EXPERTS + expert] = slot as u32;
        }
        let step = Step { tokens: TOKENS as u32, ..self.step };
        // The token that misses an expert is not combined.
        let whole = Step { tokens: TOKENS as u32 - 1, ..self.step };
        let (step_buffer, whole_buffer) = (self.batch(step), self.batch(whole));
        let (h_buffer, y_buffer) = (self.output(h.len()), self.output(y.len()));
        let sums = self.storage(&residual);
        let before = with_squares(&residual, &norm);
        let [x, biases, next] = [&before, &biases, &next_norm].map(|values| self.storage(values));
        let [routes, whole_routes] = [step, whole].map(|step| self.storage(&routes_of_layers(step.tokens as usize)));
        let page_table = self.storage(&page_table);
        let buffers: experts::Buffers<&GpuBuffer> = experts::Buffers {
            step: &step_buffer,
            x: &x,
            biases: &biases,
            h: &h_buffer,
            y: &y_buffer,
            residual: &sums,
            norm: &next,
            routes: &routes,
            page_table: &page_table,
            status: &self.running,
        };
        let shape = Shape {
            layer: LAYER,
            hidden: hidden as u32,
            ff: ff as u32,
            experts: EXPERTS as u32,
            experts_per_token: CHOICES as u32,
            normed: self.normed(TOKENS, hidden),
        };
        let arenas: Vec<Arena<&GpuBuffer>> = arenas.iter().map(Arena::by_ref).collect();
        let gate_up = arenas.iter().flat_map(|arena| experts::gate_up(arena, &slot, &buffers, shape));
        let down = arenas.iter().map(|arena| experts::down(arena, &slot, &buffers, shape));
        let products = gate_up.chain(down).map(|call| self.bind(&call)).collect();
        let of_whole: experts::Buffers<&GpuBuffer> =
            experts::Buffers { step: &whole_buffer, routes: &whole_routes, ..buffers };
        let combine = self.bind(&experts::combine(&of_whole, shape));
        self.record(step, products);
        self.record(whole, vec![combine]);

        let combined = combined(&residual, &y, hidden);
        let gate_up = if formats.interleave() {
            format!("experts_gate_up {}", formats.gate.name())
        } else {
            format!("experts_gate {}, experts_up {}", formats.gate.name(), formats.up.name())
        };
        self.expect(&gate_up, "h", &h_buffer, Want::Close(h));
        self.expect(&format!("experts_down {}", formats.down.name()), "y", &y_buffer, Want::Close(y));
        let done = TOKENS - 1;
        let after = with_squares(&combined, &next_norm);
        self.expect("experts_combine", "residual", &sums, Want::Close(combined));
        // Tokens that were combined have new rows, the last one has its old row; sums of squares follow in the same
        // way.
        let squares = combined_squares(hidden as u32) as usize;
        let (mut normed, mut sums_of_squares) =
            (after[..done * hidden].to_vec(), after[TOKENS * hidden..][..done * squares].to_vec());
        normed.extend(&before[done * hidden..TOKENS * hidden]);
        sums_of_squares.extend(&before[TOKENS * hidden..][done * squares..TOKENS * squares]);
        self.expect("experts_combine", "normed", &x, Want::Close(normed));
        let squares_at = (TOKENS * hidden * 4) as u64;
        self.expect_at("experts_combine", "squares", &x, squares_at, Want::Close(sums_of_squares));
    }

    fn expert(&mut self, formats: ExpertFormats, hidden: usize, ff: usize) -> Expert {
        let gate = self.random.weights(formats.gate, ff, hidden);
        let up = self.random.weights(formats.up, ff, hidden);
        let down = self.random.weights(formats.down, hidden, ff);
        let weights = [formats.gate.decode(&gate), formats.up.decode(&up), formats.down.decode(&down)];
        Expert { bytes: [gate, up, down], weights }
    }

    /// Fills arenas as the loader does: gate and up rows interleave where they can.
    fn arenas(&mut self, repack: &RepackKernels, slot: &SlotLayout, all: &[Expert]) -> Vec<Arena<Rc<GpuBuffer>>> {
        let mut first_slot = 0;
        ARENAS
            .into_iter()
            .map(|slots| {
                let buffer = self.keep(self.gpu.storage("self-check", u64::from(slots) * slot.slot_bytes));
                for index in 0..slots {
                    let expert = &all[RESIDENT[(first_slot + index) as usize]];
                    let start = u64::from(index) * slot.slot_bytes;
                    let parts = [ExpertRows::Gate, ExpertRows::Up, ExpertRows::Down];
                    for (bytes, part) in expert.bytes.iter().zip(parts) {
                        let rows = slot.place(part);
                        let place = Destination {
                            buffer: &buffer,
                            planes_offset_bytes: start + rows.offset_bytes,
                            planes: rows.planes,
                            first_row: rows.first_row,
                            row_step: rows.row_step,
                            codes: CodeOrder::Halves,
                        };
                        self.upload(repack, bytes, &place);
                    }
                }
                let arena = Arena { buffer, first_slot, slots };
                first_slot += slots;
                arena
            })
            .collect()
    }
}

/// The routes of `tokens` tokens, behind others of the layers before theirs.
fn routes_of_layers(tokens: usize) -> Vec<Route> {
    let others = vec![Route { expert: 1, weight: 9.0 }; LAYER as usize * tokens * CHOICES];
    let routes = ROUTES[..tokens * CHOICES].iter().map(|&(expert, weight)| Route { expert, weight });
    others.into_iter().chain(routes).collect()
}

/// Right hidden state and result of every pair; those of a missing expert stay as they were.
fn results(all: &[Expert], biases: &[f32], x: &[f32], hidden: usize, ff: usize) -> (Vec<f32>, Vec<f32>) {
    let project = |matrix: &[f32], bias: &[f32], input: &[f64]| -> Vec<f64> {
        let dot = |row: &[f32]| row.iter().zip(input).map(|(&w, x)| f64::from(w) * x).sum::<f64>();
        matrix.chunks_exact(input.len()).zip(bias).map(|(row, &bias)| dot(row) + f64::from(bias)).collect()
    };
    let (mut h, mut y) = (Vec::new(), Vec::new());
    for (pair, (expert, _)) in ROUTES.into_iter().enumerate() {
        let expert = expert as usize;
        if !RESIDENT.contains(&expert) {
            h.extend(vec![UNTOUCHED; ff]);
            y.extend(vec![UNTOUCHED; hidden]);
            continue;
        }
        let [gate, up, down] = &all[expert].weights;
        let input: Vec<f64> = x[pair / CHOICES * hidden..][..hidden].iter().map(|&x| f64::from(x)).collect();
        let gate = project(gate, &biases[expert * ff..], &input);
        let up = project(up, &biases[(EXPERTS + expert) * ff..], &input);
        let inner: Vec<f64> = gate.iter().zip(&up).map(|(&gate, &up)| swiglu_reference(gate, up)).collect();
        let outer = project(down, &biases[2 * EXPERTS * ff + expert * hidden..], &inner);
        h.extend(inner.iter().map(|&value| value as f32));
        y.extend(outer.iter().map(|&value| value as f32));
    }
    (h, y)
}

/// The residual stream after the weighted results were added; the last token's stays as it was.
fn combined(residual: &[f32], y: &[f32], hidden: usize) -> Vec<f32> {
    let mut sums = residual.to_vec();
    for (pair, (_, weight)) in ROUTES.into_iter().enumerate().take((TOKENS - 1) * CHOICES) {
        let row = &mut sums[pair / CHOICES * hidden..][..hidden];
        for (sum, &value) in row.iter_mut().zip(&y[pair * hidden..]) {
            *sum += weight * value;
        }
    }
    sums
}
