//! The mixture: router, then the chosen experts, each once for all tokens that chose it.

use std::ops::Range;

use gptoss_gguf::CodeOrder;
use gptoss_model::ops::router::Route;
use gptoss_model::{Place, RowOrder};

use crate::activations::Rows;
use crate::matmul::{Compute, Kernels, Matrix, Scratch, rows_per_task};
use crate::shared::SharedMut;
use crate::vector::{INFINITE_BITS, dot, largest_bits, swiglu};

/// Router weights [experts, hidden] and bias, in F32.
pub(crate) struct RouterWeights {
    pub weight: Vec<f32>,
    pub bias: Vec<f32>,
}

/// Gate and up matrices of all experts.
pub(crate) enum GateUp<'a> {
    /// Two matrices, [experts · ff, hidden] each.
    Apart(Matrix<'a>, Matrix<'a>),
    /// One matrix, [experts · 2 · ff, hidden].
    Fused(Matrix<'a>, RowOrder),
}

/// All experts of a layer: gate and up; down [experts · hidden, ff]; biases [experts, rows].
pub(crate) struct ExpertWeights<'a> {
    pub hidden: usize,
    pub ff: usize,
    pub gate_up: GateUp<'a>,
    pub down: Matrix<'a>,
    pub gate_bias: &'a [f32],
    pub up_bias: &'a [f32],
    pub down_bias: &'a [f32],
}

/// Intermediate results of the experts.
#[derive(Default)]
pub(crate) struct Mixture {
    /// Chosen experts, [tokens, experts_per_token].
    pub routes: Vec<Route>,
    /// Chosen experts with their pairs (token · experts_per_token + choice).
    groups: Vec<(usize, Vec<u32>)>,
    /// Activations between gate-up and down, [pairs, ff].
    hidden: Rows,
    /// Results of down, [pairs, hidden].
    out: Vec<f32>,
}

/// Chooses experts: the `count` largest logits + bias (the first of equals), weighted by their softmax. An expert with
/// a bias of −∞ or the least float is never chosen; if fewer than `count` others are left, or a logit is not finite for
/// another reason, all weights are NaN.
pub(crate) fn route(isa: crate::isa::Isa, x: &[f32], router: &RouterWeights, routes: &mut [Route]) {
    let mut logits: Vec<f32> =
        router.weight.chunks_exact(x.len()).zip(&router.bias).map(|(row, bias)| dot(isa, row, x) + bias).collect();
    let is_sound =
        |(&logit, &bias): (&f32, &f32)| logit.is_finite() || (logit == f32::NEG_INFINITY && bias == f32::NEG_INFINITY);
    let are_sound = logits.iter().zip(&router.bias).all(is_sound);
    let mut maximum = f32::NEG_INFINITY;
    for route in routes.iter_mut() {
        let (expert, logit) =
            logits.iter().copied().enumerate().fold((0, f32::NEG_INFINITY), |best, (expert, logit)| {
                if logit > best.1 { (expert, logit) } else { best }
            });
        logits[expert] = f32::NEG_INFINITY;
        maximum = maximum.max(logit);
        *route = Route { expert: expert as u32, weight: logit };
    }
    if !are_sound || routes.iter().any(|route| route.weight <= f32::MIN) {
        routes.iter_mut().for_each(|route| route.weight = f32::NAN);
        return;
    }
    let mut total = 0.0;
    for route in routes.iter_mut() {
        route.weight = (route.weight - maximum).exp();
        total += route.weight;
    }
    routes.iter_mut().for_each(|route| route.weight /= total);
}

impl Mixture {
    /// Adds the experts' results: `y[t] += Σ weight · expert(x[t])` for all rows of `x`.
    ///
    /// # Errors
    /// Where a value was not finite.
    pub fn add(
        &mut self,
        compute: &mut Compute,
        x: &Rows,
        router: &RouterWeights,
        experts: &ExpertWeights<'_>,
        per_token: usize,
        y: &mut [f32],
    ) -> Result<(), Place> {
        self.choose(compute, x, router, per_token);
        if self.routes.iter().any(|route| !route.weight.is_finite()) {
            return Err(Place::Router);
        }
        self.gate_up(compute, x, experts, per_token);
        self.hidden.quantise(compute.isa, compute.activations);
        self.down(compute, experts);
        self.combine(compute, x.columns, per_token, y);
        if largest_bits(compute.isa, y) >= INFINITE_BITS { Err(Place::Experts) } else { Ok(()) }
    }

    fn choose(&mut self, compute: &mut Compute, x: &Rows, router: &RouterWeights, per_token: usize) {
        let none = Route { expert: 0, weight: 0.0 };
        self.routes.resize(x.count() * per_token, none);
        let routes = SharedMut::new(&mut self.routes);
        let (pool, kernels) = compute.split();
        pool.for_each(x.count(), &|token, _| {
            // SAFETY: each token's routes belong to one task.
            #[expect(unsafe_code, reason = "tasks share the slice, and each has places of its own")]
            let routes = unsafe { routes.slice(token * per_token, per_token) };
            route(kernels.isa, x.row(token), router, routes);
        });
        let experts = router.bias.len();
        let mut pairs = vec![Vec::new(); experts];
        for (pair, route) in (0..).zip(&self.routes) {
            pairs[route.expert as usize].push(pair);
        }
        self.groups.clear();
        self.groups.extend(pairs.into_iter().enumerate().filter(|(_, pairs)| !pairs.is_empty()));
    }

    /// Tasks (group, first row, rows) over a matrix of every chosen expert.
    fn tasks(&self, one_expert: &Matrix<'_>, threads: usize) -> Vec<(usize, usize, usize)> {
        let total = self.groups.len() * one_expert.rows;
        let mut tasks = Vec::new();
        for (index, (_, pairs)) in self.groups.iter().enumerate() {
            let rows = rows_per_task(one_expert, total, pairs.len(), threads);
            tasks.extend((0..one_expert.rows).step_by(rows).map(|first| (index, first, rows)));
        }
        tasks
    }

    fn gate_up(&mut self, compute: &mut Compute, x: &Rows, experts: &ExpertWeights<'_>, per_token: usize) {
        let ff = experts.ff;
        self.hidden.resize(self.routes.len(), ff);
        let x = &InOrders::new(x, experts.gate_up.codes());
        let tasks = self.tasks(&experts.gate_up.one_expert(ff), compute.pool.threads());
        let tokens: Vec<Vec<u32>> =
            self.groups.iter().map(|(_, pairs)| pairs.iter().map(|pair| pair / per_token as u32).collect()).collect();
        let hidden = SharedMut::new(&mut self.hidden.values);
        let groups = &self.groups;
        let (pool, kernels) = compute.split();
        pool.for_each(tasks.len(), &|task, worker| {
            let (index, first, rows) = tasks[task];
            let (expert, pairs) = &groups[index];
            let rows = first..(first + rows).min(ff);
            let scratch = &mut *kernels.scratch(worker);
            experts.gate_up.products(kernels, scratch, (*expert, ff), rows.clone(), x, &tokens[index]);
            for (results, bias) in scratch.results.iter_mut().zip([experts.gate_bias, experts.up_bias]) {
                let bias = &bias[expert * ff..][rows.clone()];
                for results in results.chunks_exact_mut(rows.len()) {
                    results.iter_mut().zip(bias).for_each(|(result, bias)| *result += bias);
                }
            }
            let [gate, up] = &scratch.results;
            for ((gate, up), &pair) in gate.chunks_exact(rows.len()).zip(up.chunks_exact(rows.len())).zip(pairs) {
                // SAFETY: a pair has one expert, and rows of an expert belong to one task.
                #[expect(unsafe_code, reason = "tasks share the slice, and each has places of its own")]
                let out = unsafe { hidden.slice(pair as usize * ff + rows.start, rows.len()) };
                swiglu(kernels.isa, gate, up, out);
            }
        });
    }

    fn down(&mut self, compute: &mut Compute, experts: &ExpertWeights<'_>) {
        let columns = experts.hidden;
        self.out.resize(self.routes.len() * columns, 0.0);
        let tasks = self.tasks(&expert_of(&experts.down, 0, columns), compute.pool.threads());
        let out = SharedMut::new(&mut self.out);
        let (groups, hidden) = (&self.groups, &InOrders::new(&self.hidden, [experts.down.codes; 2]));
        let (pool, kernels) = compute.split();
        pool.for_each(tasks.len(), &|task, worker| {
            let (index, first, rows) = tasks[task];
            let (expert, pairs) = &groups[index];
            let rows = first..(first + rows).min(columns);
            let scratch = &mut *kernels.scratch(worker);
            kernels.product_of(
                scratch,
                0,
                &expert_of(&experts.down, *expert, columns),
                rows.clone(),
                hidden.of(&experts.down),
                pairs,
            );
            let bias = &experts.down_bias[expert * columns..][rows.clone()];
            for (results, &pair) in scratch.results[0].chunks_exact(rows.len()).zip(pairs) {
                // SAFETY: a pair has one expert, and rows of an expert belong to one task.
                #[expect(unsafe_code, reason = "tasks share the slice, and each has places of its own")]
                let out = unsafe { out.slice(pair as usize * columns + rows.start, rows.len()) };
                for (out, (result, bias)) in out.iter_mut().zip(results.iter().zip(bias)) {
                    *out = result + bias;
                }
            }
        });
    }

    /// Adds the results in the order of the choices, so that the sum does not depend on what was computed first.
    fn combine(&self, compute: &mut Compute, columns: usize, per_token: usize, y: &mut [f32]) {
        let tokens = y.len() / columns;
        let y = SharedMut::new(y);
        let (routes, out) = (&self.routes, &self.out);
        compute.pool.for_each(tokens, &|token, _| {
            // SAFETY: each token's row belongs to one task.
            #[expect(unsafe_code, reason = "tasks share the slice, and each has places of its own")]
            let y = unsafe { y.slice(token * columns, columns) };
            let pairs = token * per_token..(token + 1) * per_token;
            let mut sum = vec![0.0f32; columns];
            for (route, out) in routes[pairs.clone()].iter().zip(out[pairs.start * columns..].chunks_exact(columns)) {
                sum.iter_mut().zip(out).for_each(|(sum, out)| *sum += route.weight * out);
            }
            y.iter_mut().zip(sum).for_each(|(y, sum)| *y += sum);
        });
    }
}

impl GateUp<'_> {
    fn codes(&self) -> [CodeOrder; 2] {
        match self {
            Self::Apart(gate, up) => [gate.codes, up.codes],
            Self::Fused(both, _) => [both.codes; 2],
        }
    }

    /// A matrix of one expert, which shows the number and length of its rows.
    fn one_expert(&self, ff: usize) -> Matrix<'_> {
        match self {
            Self::Apart(gate, _) => expert_of(gate, 0, ff),
            Self::Fused(both, _) => expert_of(both, 0, ff),
        }
    }

    /// Computes `scratch.results` = products of `rows` of gate and of up, [tokens, rows] each, for an expert whose
    /// matrices have `ff` rows.
    fn products(
        &self,
        kernels: Kernels<'_>,
        scratch: &mut Scratch,
        (expert, ff): (usize, usize),
        rows: Range<usize>,
        x: &InOrders<'_>,
        tokens: &[u32],
    ) {
        let mut product = |set: usize, matrix: Matrix<'_>, rows| {
            kernels.product_of(scratch, set, &matrix, rows, x.of(&matrix), tokens);
        };
        match self {
            Self::Apart(gate, up) => {
                product(0, expert_of(gate, expert, ff), rows.clone());
                product(1, expert_of(up, expert, ff), rows);
            }
            Self::Fused(both, RowOrder::GateFirst) => {
                let both = expert_of(both, expert, 2 * ff);
                product(0, both, rows.clone());
                product(1, both, ff + rows.start..ff + rows.end);
            }
            Self::Fused(both, RowOrder::Alternating) => {
                // A panel takes sixteen rows, hence two calls.
                let both = expert_of(both, expert, 2 * ff);
                let middle = rows.start + rows.end;
                product(0, both, 2 * rows.start..middle);
                product(1, both, middle..2 * rows.end);
                part(&mut scratch.results, rows.len());
            }
        }
    }
}

/// Separates products of alternating rows, half of them in each set, [tokens, rows] each, into those of gate and those
/// of up.
fn part([gate, up]: &mut [Vec<f32>; 2], rows: usize) {
    for (gate, up) in gate.chunks_exact_mut(rows).zip(up.chunks_exact_mut(rows)) {
        let both = [&*gate, &*up].concat();
        for ((gate, up), pair) in gate.iter_mut().zip(up).zip(both.chunks_exact(2)) {
            (*gate, *up) = (pair[0], pair[1]);
        }
    }
}

/// Activations in each order that some weights need.
struct InOrders<'a> {
    halves: &'a Rows,
    neighbours: Option<Rows>,
}

impl<'a> InOrders<'a> {
    fn new(x: &'a Rows, codes: [CodeOrder; 2]) -> Self {
        let neighbours = codes.contains(&CodeOrder::Neighbours).then(|| x.for_neighbours());
        Self { halves: x, neighbours }
    }

    /// The activations in the order that suits this matrix.
    fn of(&self, matrix: &Matrix<'_>) -> &Rows {
        match matrix.codes {
            CodeOrder::Halves => self.halves,
            CodeOrder::Neighbours => self.neighbours.as_ref().expect("made for every order of the matrices"),
        }
    }
}

/// The rows of one expert in a stack of matrices with `rows` rows each.
fn expert_of<'a>(all: &Matrix<'a>, expert: usize, rows: usize) -> Matrix<'a> {
    let bytes = all.row_bytes() * rows;
    Matrix { bytes: &all.bytes[expert * bytes..][..bytes], rows, ..*all }
}

#[cfg(test)]
mod tests {
    use gptoss_model::ops::router::reference;

    use super::*;
    use crate::isa::Isa;

    /// Choices equal the reference's, and are NaN at the same time.
    #[test]
    fn routes_are_the_reference_also_where_a_logit_is_not_finite() {
        let x: Vec<f32> = (0..40).map(|i| ((i * 37 % 23) as f32 - 11.0) * 0.1).collect();
        let weight: Vec<f32> = (0..6 * 40).map(|i| ((i * 29 % 31) as f32 - 15.0) * 0.05).collect();
        let bias = vec![0.5f32, -0.25, 0.0, 0.125, 0.75, -1.0];
        let (infinity, nan) = (f32::INFINITY, f32::NAN);
        let biases: [(&[(usize, f32)], bool); 8] = [
            (&[], true),
            (&[(4, -infinity)], true),
            (&[(4, -infinity), (0, -infinity)], true),
            (&[(4, -infinity), (0, -infinity), (1, -infinity)], false),
            (&[(5, nan)], false),
            (&[(5, infinity)], false),
            (&[(2, f32::MIN)], true),
            (&[(2, -infinity), (5, nan)], false),
        ];
        for isa in Isa::available() {
            for (changes, sound) in biases {
                let mut router = RouterWeights { weight: weight.clone(), bias: bias.clone() };
                changes.iter().for_each(|&(expert, value)| router.bias[expert] = value);
                let mut routes = [Route { expert: 9, weight: 9.0 }; 4];
                route(isa, &x, &router, &mut routes);
                let want = reference(&x, &router.weight, &router.bias, 4);
                assert_eq!(want.iter().all(|route| route.weight.is_finite()), sound, "{changes:?}");
                for (got, want) in routes.iter().zip(&want) {
                    assert_eq!(got.weight.is_nan(), want.weight.is_nan(), "{isa}: {changes:?}");
                    assert!(!sound || (got.expert == want.expert && (got.weight - want.weight).abs() < 1e-5), "{isa}");
                }
            }
            // −∞ that comes from a weight does not exclude an expert, even under a finite bias.
            let mut router = RouterWeights { weight: weight.clone(), bias: bias.clone() };
            router.weight[3] = -infinity * x[3].signum();
            let mut routes = [Route { expert: 9, weight: 9.0 }; 4];
            route(isa, &x, &router, &mut routes);
            assert!(routes.iter().all(|route| route.weight.is_nan()), "{isa}");
        }
    }
}
