use gptoss_model::ops::attention::{Shape, reference, row_reference};
use gptoss_model::ops::rope::HEAD_DIM;

use crate::goldens::{Case, cases};
use crate::{ROUNDED_ONCE, check, distance};
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

const FILE: &str = include_str!("../goldens/attention.json");

fn shape(case: &Case) -> Shape {
    assert_eq!(case.size("head_dim"), HEAD_DIM);
    Shape {
        query_heads: case.size("heads"),
        kv_heads: case.size("kv_heads"),
        window: case.optional_size("window").unwrap_or(0),
    }
}

/// All queries of a case, with the case's own inputs.
fn attend(case: &Case, shape: Shape) -> Vec<f32> {
    attend_with(case, &case.floats("q"), &case.floats("k"), &case.floats("sinks"), shape)
}

fn attend_with(case: &Case, queries: &[f32], keys: &[f32], sinks: &[f32], shape: Shape) -> Vec<f32> {
    let values = case.floats("v");
    queries
        .chunks_exact(shape.query_heads * HEAD_DIM)
        .zip(case.size("query_offset")..)
        .flat_map(|(query, position)| reference(query, keys, &values, sinks, position, shape))
        .collect()
}

/// The cases in which a window hides keys.
fn windowed() -> Vec<Case> {
    let cases: Vec<_> = cases(FILE)
        .into_iter()
        .filter(|case| shape(case).window != 0 && case.size("keys") > shape(case).window)
        .collect();
    assert!(!cases.is_empty(), "a golden must have more keys than its window");
    cases
}

#[test]
fn attention_is_the_golden() {
    for case in cases(FILE) {
        check(&case, "out", &attend(&case, shape(&case)), &case.floats("out"), ROUNDED_ONCE);
    }
}

/// Query heads of a group are neighbours: head h uses KV head h / group, not h mod kv_heads.
#[test]
fn query_heads_map_to_kv_heads_in_groups() {
    let mut tested = 0;
    for case in cases(FILE) {
        let shape = shape(&case);
        if shape.kv_heads == 1 {
            continue;
        }
        // Permute the query heads so that groups become strides, and the results back.
        let group = shape.query_heads / shape.kv_heads;
        let stride = |head: usize| head % shape.kv_heads * group + head / shape.kv_heads;
        let width = shape.query_heads * HEAD_DIM;
        let queries = case.floats("q");
        let mut permuted = queries.clone();
        let sinks = case.floats("sinks");
        let mut permuted_sinks = sinks.clone();
        for head in 0..shape.query_heads {
            permuted_sinks[stride(head)] = sinks[head];
            for token in 0..case.size("tokens") {
                let (from, to) = (token * width + head * HEAD_DIM, token * width + stride(head) * HEAD_DIM);
                permuted[to..to + HEAD_DIM].copy_from_slice(&queries[from..from + HEAD_DIM]);
            }
        }
        let out = attend_with(&case, &permuted, &case.floats("k"), &permuted_sinks, shape);
        let mistaken: Vec<f32> = (0..out.len())
            .map(|at| {
                let (token, head, d) = (at / width, at % width / HEAD_DIM, at % HEAD_DIM);
                out[token * width + stride(head) * HEAD_DIM + d]
            })
            .collect();
        assert!(distance(&mistaken, &case.floats("out")) > 0.1, "{}", case.name());
        tested += 1;
    }
    assert!(tested > 0);
}

/// The sink takes probability and gives no value: without it, results are too large, …
#[test]
fn sink_joins_the_denominator() {
    for case in cases(FILE) {
        let none = vec![-1e30; case.size("heads")];
        let mistaken = attend_with(&case, &case.floats("q"), &case.floats("k"), &none, shape(&case));
        assert!(distance(&mistaken, &case.floats("out")) > 0.05, "{}", case.name());
    }
}

/// … and it is not divided by √64 as the scores are.
#[test]
fn sink_is_not_scaled() {
    for case in cases(FILE) {
        let scaled: Vec<f32> = case.floats("sinks").iter().map(|s| s / 8.0).collect();
        let mistaken = attend_with(&case, &case.floats("q"), &case.floats("k"), &scaled, shape(&case));
        assert!(distance(&mistaken, &case.floats("out")) > 0.01, "{}", case.name());
    }
}

/// A query sees `window` keys, itself included: neither one fewer nor one more.
#[test]
fn window_is_not_off_by_one() {
    for case in windowed() {
        let right = shape(&case);
        for window in [right.window - 1, right.window + 1] {
            let mistaken = attend(&case, Shape { window, ..right });
            assert!(distance(&mistaken, &case.floats("out")) > 1e-4, "{window}: {}", case.name());
        }
    }
}

#[test]
fn window_hides_keys() {
    for case in windowed() {
        let mistaken = attend(&case, Shape { window: 0, ..shape(&case) });
        assert!(distance(&mistaken, &case.floats("out")) > 1e-3, "{}", case.name());
    }
}

/// What a head looks at, times the values, is the golden; with the sink it sums to 1.
#[test]
fn the_weights_of_a_row_give_the_golden() {
    for case in cases(FILE) {
        let shape = shape(&case);
        let (keys, sinks, values) = (case.floats("k"), case.floats("sinks"), case.floats("v"));
        let queries = case.floats("q");
        let mut out = Vec::new();
        for (query, position) in queries.chunks_exact(shape.query_heads * HEAD_DIM).zip(case.size("query_offset")..) {
            for head in 0..shape.query_heads {
                let row = row_reference(query, &keys, &sinks, position, (head, shape));
                let total: f64 = row.weights.iter().chain([&row.sink]).map(|&weight| f64::from(weight)).sum();
                assert!((total - 1.0).abs() < 1e-6, "{}: {total}", case.name());
                assert_eq!(row.first + row.weights.len(), position + 1);
                out.extend((0..HEAD_DIM).map(|dimension| {
                    let value = |at: usize| {
                        let kv_head = head / (shape.query_heads / shape.kv_heads);
                        f64::from(values[(at * shape.kv_heads + kv_head) * HEAD_DIM + dimension])
                    };
                    row.weights.iter().zip(row.first..).map(|(&w, at)| f64::from(w) * value(at)).sum::<f64>() as f32
                }));
            }
        }
        check(&case, "out", &out, &case.floats("out"), ROUNDED_ONCE);
    }
}
