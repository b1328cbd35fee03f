use gptoss_gguf::WeightType;
use gptoss_model::ops::matmul::reference;

use crate::goldens::cases;
use crate::{ROUNDED_ONCE, check, distance};
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

const FILES: [(WeightType, &str); 2] = [
    (WeightType::Q8_0, include_str!("../goldens/matmul_q8_0.json")),
    (WeightType::Mxfp4, include_str!("../goldens/matmul_mxfp4.json")),
];

#[test]
fn matmul_is_the_golden() {
    for (format, file) in FILES {
        for case in cases(file) {
            let weights = format.decode(&case.bytes("weight_hex"));
            let got = reference(&weights, &case.floats("x"), &case.floats("bias"), case.size("k"));
            check(&case, "y", &got, &case.floats("y"), ROUNDED_ONCE);
        }
    }
}

/// Rows are outputs: weight (row, k) is at row · columns + k, not at k · rows + row. Only a matrix that is not square
/// with rows that differ shows it.
#[test]
fn weights_are_not_transposed() {
    for (format, file) in FILES {
        for case in cases(file) {
            let (rows, k) = (case.size("rows"), case.size("k"));
            assert_ne!(rows, k, "a golden of a square matrix shows less");
            let weights = format.decode(&case.bytes("weight_hex"));
            let transposed: Vec<f32> = (0..rows * k).map(|at| weights[at % k * rows + at / k]).collect();
            let mistaken = reference(&transposed, &case.floats("x"), &case.floats("bias"), k);
            assert!(distance(&mistaken, &case.floats("y")) > 0.05, "{format:?}: {}", case.name());
        }
    }
}
