use gptoss_gguf::WeightType;
use gptoss_model::ops::experts::{ExpertWeights, SWIGLU_ALPHA, SWIGLU_LIMIT, reference, swiglu_reference};

use crate::goldens::{Case, cases};
use crate::{ROUNDED_ONCE, check, distance};
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

const SWIGLU: &str = include_str!("../goldens/swiglu.json");
const EXPERTS: &str = include_str!("../goldens/experts.json");

fn activate(case: &Case, activation: impl Fn(f64, f64) -> f64) -> Vec<f32> {
    let (gate, up) = (case.floats("gate"), case.floats("up"));
    gate.iter().zip(&up).map(|(&g, &u)| activation(f64::from(g), f64::from(u)) as f32).collect()
}

#[test]
fn swiglu_is_the_golden() {
    for case in cases(SWIGLU) {
        assert_eq!((case.number("alpha"), case.number("limit")), (SWIGLU_ALPHA, SWIGLU_LIMIT));
        check(&case, "out", &activate(&case, swiglu_reference), &case.floats("out"), ROUNDED_ONCE);
    }
}

/// The gate has an upper limit only: far below, sigmoid takes it to zero.
#[test]
fn gate_is_not_clamped_below() {
    let case = cases(SWIGLU).into_iter().find(|case| case.text("name") == "edges").expect("a case with edges");
    let mistaken = activate(&case, |gate, up| swiglu_reference(gate.max(-SWIGLU_LIMIT), up));
    let far = case.floats("out").iter().zip(&mistaken).any(|(want, mistaken)| (want - mistaken).abs() > 1e-4);
    assert!(far, "the golden has no gate far below the limit");
}

#[test]
fn up_is_clamped_on_both_sides_and_gate_above() {
    let case = cases(SWIGLU).into_iter().find(|case| case.text("name") == "edges").expect("a case with edges");
    let unclamped = activate(&case, |gate, up| gate / (1.0 + (-SWIGLU_ALPHA * gate).exp()) * (up + 1.0));
    assert!(distance(&unclamped, &case.floats("out")) > 0.5);
    let up_above_only = activate(&case, |gate, up| {
        let gate = gate.min(SWIGLU_LIMIT);
        gate / (1.0 + (-SWIGLU_ALPHA * gate).exp()) * (up.min(SWIGLU_LIMIT) + 1.0)
    });
    assert!(distance(&up_above_only, &case.floats("out")) > 0.5);
}

/// The matrices of a case, decoded.
struct Block {
    gate: Vec<f32>,
    up: Vec<f32>,
    down: Vec<f32>,
    gate_bias: Vec<f32>,
    up_bias: Vec<f32>,
    down_bias: Vec<f32>,
    hidden: usize,
    ff: usize,
}

/// Part `index` of equal parts of `count` values.
fn part(values: &[f32], index: usize, count: usize) -> &[f32] {
    &values[index * count..][..count]
}

impl Block {
    fn new(case: &Case) -> Self {
        let decode = |name: &str| WeightType::Mxfp4.decode(&case.bytes(name));
        Self {
            gate: decode("gate_hex"),
            up: decode("up_hex"),
            down: decode("down_hex"),
            gate_bias: case.floats("gate_bias"),
            up_bias: case.floats("up_bias"),
            down_bias: case.floats("down_bias"),
            hidden: case.size("hidden"),
            ff: case.size("ff"),
        }
    }

    fn expert(&self, expert: usize) -> ExpertWeights<'_> {
        let matrix = self.ff * self.hidden;
        ExpertWeights {
            gate: part(&self.gate, expert, matrix),
            up: part(&self.up, expert, matrix),
            down: part(&self.down, expert, matrix),
            gate_bias: part(&self.gate_bias, expert, self.ff),
            up_bias: part(&self.up_bias, expert, self.ff),
            down_bias: part(&self.down_bias, expert, self.hidden),
        }
    }
}

/// The block's output with `weigh(result of the expert, its down bias, routing weight)` for each component.
fn mix(case: &Case, weigh: impl Fn(f64, f64, f64) -> f64) -> Vec<f32> {
    let block = Block::new(case);
    let top_k = case.size("top_k");
    let (ids, weights) = (case.integers("ids"), case.floats("weights"));
    case.floats("x")
        .chunks_exact(block.hidden)
        .zip(ids.chunks_exact(top_k).zip(weights.chunks_exact(top_k)))
        .flat_map(|(x, (ids, weights))| {
            let mut sum = vec![0.0f64; block.hidden];
            for (&id, &weight) in ids.iter().zip(weights) {
                let expert = block.expert(id);
                for ((sum, y), &bias) in sum.iter_mut().zip(reference(x, &expert)).zip(expert.down_bias) {
                    *sum += weigh(y, f64::from(bias), f64::from(weight));
                }
            }
            sum.into_iter().map(|v| v as f32)
        })
        .collect()
}

#[test]
fn experts_are_the_golden() {
    for case in cases(EXPERTS) {
        let got = mix(&case, |y, _, weight| weight * y);
        // The routing weights are rounded to F32 in the golden: one more rounding than elsewhere.
        check(&case, "y", &got, &case.floats("y"), crate::compare::Tolerance::new(2e-6, 1e-6));
    }
}

/// The routing weight multiplies the down bias too.
#[test]
fn expert_bias_comes_before_the_routing_weight() {
    for case in cases(EXPERTS) {
        let mistaken = mix(&case, |y, bias, weight| weight * (y - bias) + bias);
        assert!(distance(&mistaken, &case.floats("y")) > 0.05, "{}", case.name());
    }
}

/// Gate and up are not interchangeable.
#[test]
fn gate_and_up_are_not_exchanged() {
    for case in cases(EXPERTS) {
        let block = Block::new(&case);
        let expert = block.expert(case.integers("ids")[0]);
        let exchanged = ExpertWeights {
            gate: expert.up,
            up: expert.gate,
            gate_bias: expert.up_bias,
            up_bias: expert.gate_bias,
            ..expert
        };
        let x = &case.floats("x")[..block.hidden];
        let as_f32 = |values: Vec<f64>| values.into_iter().map(|v| v as f32).collect::<Vec<_>>();
        assert!(distance(&as_f32(reference(x, &exchanged)), &as_f32(reference(x, &expert))) > 0.05);
    }
}
