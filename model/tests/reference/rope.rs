use gptoss_model::ops::rope::{HALF_DIM, HEAD_DIM, Yarn, reference};

use crate::compare::Tolerance;
use crate::goldens::{Case, cases};
use crate::{ROUNDED_ONCE, check, distance};
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

const FILE: &str = include_str!("../goldens/rope.json");

fn yarn(case: &Case) -> Yarn {
    Yarn {
        base: case.number("base"),
        factor: case.number("factor"),
        original_context: case.number("original_context"),
        beta_fast: case.number("beta_fast"),
        beta_slow: case.number("beta_slow"),
        truncate: case.flag("truncate"),
    }
}

/// All positions of a case, turned by `turn(head values, position)`.
fn turned(case: &Case, turn: impl Fn(&mut [f32], usize)) -> Vec<f32> {
    let mut q = case.floats("q");
    for (token, position) in q.chunks_exact_mut(case.size("heads") * HEAD_DIM).zip(case.integers("positions")) {
        turn(token, position);
    }
    q
}

#[test]
fn frequencies_are_the_goldens() {
    for case in cases(FILE) {
        let got = yarn(&case).inverse_frequencies().map(|f| f as f32);
        // The golden's were computed in F32.
        check(&case, "inverse frequencies", &got, &case.floats("inv_freq"), Tolerance::new(0.0, 1e-6));
        assert!((yarn(&case).concentration() - case.number("attention_scaling")).abs() < 1e-12);
    }
}

/// Up to position 131071: angles in F64.
#[test]
fn rope_is_the_golden() {
    for case in cases(FILE) {
        let got = turned(&case, |token, position| reference(token, position, &yarn(&case)));
        check(&case, "rotated", &got, &case.floats("rotated_f64"), ROUNDED_ONCE);
    }
}

/// What the kernel uses.
#[test]
fn the_table_turns_like_the_reference() {
    for case in cases(FILE) {
        let yarn = yarn(&case);
        let table = yarn.table(4096);
        assert_eq!(table.len(), 4096 * HALF_DIM);
        for position in [0, 1, 127, 4095] {
            for i in 0..HALF_DIM {
                let mut unit = [0.0; HEAD_DIM];
                unit[i] = 1.0;
                reference(&mut unit, position, &yarn);
                assert_eq!(table[position * HALF_DIM + i], [unit[i], unit[i + HALF_DIM]], "position {position}, {i}");
            }
        }
    }
}

/// Dimension i turns with i + 32, not with its neighbour.
#[test]
fn rope_pairs_halves_not_neighbours() {
    for case in cases(FILE) {
        let yarn = yarn(&case);
        let mistaken = turned(&case, |token, position| {
            for head in token.chunks_exact_mut(HEAD_DIM) {
                let spread: Vec<f32> =
                    (0..HEAD_DIM).map(|i| head[if i < HALF_DIM { 2 * i } else { 2 * (i - HALF_DIM) + 1 }]).collect();
                let mut pairs = spread;
                reference(&mut pairs, position, &yarn);
                for i in 0..HALF_DIM {
                    (head[2 * i], head[2 * i + 1]) = (pairs[i], pairs[i + HALF_DIM]);
                }
            }
        });
        assert!(distance(&mistaken, &case.floats("rotated_f64")) > 0.1);
    }
}

/// OpenAI's correction range is not rounded; llama.cpp rounds it. The two goldens are what each computes.
#[test]
fn yarn_truncation_changes_the_result() {
    for case in cases(FILE) {
        let other = Yarn { truncate: !case.flag("truncate"), ..yarn(&case) };
        let mistaken = turned(&case, |token, position| reference(token, position, &other));
        assert!(distance(&mistaken, &case.floats("rotated_f64")) > 0.01, "truncate {}", case.flag("truncate"));
    }
}

/// The concentration applies at every position, also at 0, where nothing turns.
#[test]
fn concentration_applies_at_every_position() {
    for case in cases(FILE) {
        let concentration = yarn(&case).concentration() as f32;
        let mistaken = turned(&case, |token, position| {
            reference(token, position, &yarn(&case));
            token.iter_mut().for_each(|v| *v /= concentration);
        });
        let want = case.floats("rotated_f64");
        let width = case.size("heads") * HEAD_DIM;
        for (mistaken, want) in mistaken.chunks_exact(width).zip(want.chunks_exact(width)) {
            assert!(distance(mistaken, want) > 0.2);
        }
    }
}
