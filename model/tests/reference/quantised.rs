//! Rounding to the types that this project writes, to the byte: weights and gguf-py's bytes of them are recorded.

use gptoss_gguf::WeightType;

use crate::goldens::{Case, cases};
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

const GOLDENS: &str = include_str!("../goldens/quantised.json");

/// The case whose largest weights have no exponent in MXFP4: what gguf-py gives depends on the processor there.
const BELOW: &str = "below the exponents";

/// The recorded fields, and the type of each.
const FIELDS: [(&str, WeightType); 4] = [
    ("f16_hex", WeightType::F16),
    ("bf16_hex", WeightType::Bf16),
    ("q8_0_hex", WeightType::Q8_0),
    ("mxfp4_hex", WeightType::Mxfp4),
];

fn weights(case: &Case) -> Vec<f32> {
    WeightType::F32.decode(&case.bytes("weights_hex"))
}

fn encoded(kind: WeightType, weights: &[f32]) -> Vec<u8> {
    let mut bytes = Vec::new();
    kind.encode(weights, &mut bytes);
    bytes
}

#[test]
fn every_byte_is_that_of_gguf_py() {
    let mut compared = 0;
    for case in &cases(GOLDENS) {
        let weights = weights(case);
        assert_eq!(encoded(WeightType::F32, &weights), case.bytes("weights_hex"));
        for (field, kind) in FIELDS {
            if kind == WeightType::Mxfp4 && case.text("name") == BELOW {
                continue;
            }
            let (got, want) = (encoded(kind, &weights), case.bytes(field));
            assert_eq!(got.len(), want.len());
            let unit = if kind.is_quantised() { kind.block_bytes() as usize } else { want.len() * 32 / weights.len() };
            for (index, (got, want)) in got.chunks(unit).zip(want.chunks(unit)).enumerate() {
                let block = &weights[32 * index..][..32];
                assert_eq!(got, want, "{kind:?}, {}, block {index}: {block:?}", case.name());
                compared += 1;
            }
        }
    }
    assert_eq!(compared, 4 * (96 + 12 + 8 + 234 + 4 + 9 + 11) + 3 * 6, "blocks of the goldens");
}

/// gguf-py turns a negative exponent into a byte near 255: zeros under a huge scale, or under none at all. Here such
/// weights get the smallest scale, and the nearest codes.
#[test]
fn weights_below_the_smallest_exponent_are_numbers_all_the_same() {
    let all = cases(GOLDENS);
    let case = all.iter().find(|case| case.text("name") == BELOW).expect("recorded");
    let (weights, reference) = (weights(case), case.bytes("mxfp4_hex"));
    assert!(reference.chunks(17).all(|block| block[0] > 200), "the reference has exponents now: compare them");
    let got = encoded(WeightType::Mxfp4, &weights);
    assert!(got.chunks(17).all(|block| block[0] == 0), "{got:?}");
    let smallest = 2f32.powi(-128);
    for (weight, decoded) in weights.iter().zip(WeightType::Mxfp4.decode(&got)) {
        // Codes lie at most 4 of the halved scale apart, up to 12 of it: the largest weight is just below 8 of it.
        assert!((weight - decoded).abs() <= 2.0 * smallest, "{weight:e} became {decoded:e}");
    }
}

/// What has been rounded once is rounded to itself: no weight of a model changes by going through F32.
#[test]
fn rounding_twice_changes_no_weight() {
    let mut compared = 0;
    for case in &cases(GOLDENS) {
        for (_, kind) in FIELDS {
            let once = kind.decode(&encoded(kind, &weights(case)));
            if once.iter().any(|weight| !weight.is_finite()) {
                assert!(kind != WeightType::Mxfp4, "{}: the largest weight has an exponent", case.name());
                continue;
            }
            let twice = kind.decode(&encoded(kind, &once));
            let positive = |weights: &[f32]| weights.iter().map(|weight| weight + 0.0).collect::<Vec<f32>>();
            assert!(positive(&once) == positive(&twice), "{kind:?}, {}", case.name());
            compared += 1;
        }
    }
    assert!(compared > 20, "{compared} of 32");
}
