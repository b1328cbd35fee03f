//! Block formats, to the bit.

use gptoss_gguf::WeightType;
use gptoss_gguf::weight_type::{E2M1_DOUBLED_F32, e8m0_half};

use crate::compare::{bits, equal};
use crate::distance;
use crate::goldens::{Case, cases};
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

const Q8_0: &str = include_str!("../goldens/q8_0.json");
const MXFP4: &str = include_str!("../goldens/mxfp4.json");

/// The golden's decoder writes MXFP4's negative zero as +0, which no sum can tell apart.
fn unsigned_zeros(values: &[f32]) -> Vec<f32> {
    values.iter().map(|v| v + 0.0).collect()
}

fn check_exact(case: &Case, format: WeightType) {
    let got = format.decode(&case.bytes("bytes_hex"));
    let want = case.floats("values");
    let (got, want) =
        if format == WeightType::Mxfp4 { (unsigned_zeros(&got), unsigned_zeros(&want)) } else { (got, want) };
    if let Err(failure) = equal("weights", &bits(&got), &bits(&want)) {
        panic!("{format:?} {}: {failure}", case.name());
    }
    assert_eq!(got.len(), case.size("rows") * case.size("k"));
}

#[test]
fn q8_0_is_exact() {
    cases(Q8_0).iter().for_each(|case| check_exact(case, WeightType::Q8_0));
}

#[test]
fn mxfp4_is_exact() {
    cases(MXFP4).iter().for_each(|case| check_exact(case, WeightType::Mxfp4));
}

#[test]
fn f16_is_exact() {
    cases(include_str!("../goldens/f16.json")).iter().for_each(|case| check_exact(case, WeightType::F16));
}

#[test]
fn bf16_is_exact() {
    cases(include_str!("../goldens/bf16.json")).iter().for_each(|case| check_exact(case, WeightType::Bf16));
}

const OTHERS: &[(WeightType, &str)] = &[
    (WeightType::Q4_0, include_str!("../goldens/q4_0.json")),
    (WeightType::Q4_1, include_str!("../goldens/q4_1.json")),
    (WeightType::Q5_0, include_str!("../goldens/q5_0.json")),
    (WeightType::Q5_1, include_str!("../goldens/q5_1.json")),
    (WeightType::Q4K, include_str!("../goldens/q4_k.json")),
    (WeightType::Q5K, include_str!("../goldens/q5_k.json")),
    (WeightType::Q6K, include_str!("../goldens/q6_k.json")),
    (WeightType::Iq4Nl, include_str!("../goldens/iq4_nl.json")),
    (WeightType::Iq3Xxs, include_str!("../goldens/iq3_xxs.json")),
    (WeightType::Iq3S, include_str!("../goldens/iq3_s.json")),
    (WeightType::Iq4Xs, include_str!("../goldens/iq4_xs.json")),
    (WeightType::Q3K, include_str!("../goldens/q3_k.json")),
];

#[test]
fn the_formats_of_requantised_files_are_exact() {
    let has_goldens = |format: &WeightType| OTHERS.iter().any(|(other, _)| other == format);
    let without: Vec<_> = WeightType::ALL.into_iter().filter(|format| !has_goldens(format)).collect();
    assert_eq!(without, [WeightType::F32, WeightType::F16, WeightType::Bf16, WeightType::Q8_0, WeightType::Mxfp4]);
    for &(format, file) in OTHERS {
        cases(file).iter().for_each(|case| check_exact(case, format));
    }
}

/// Every bit of a block matters: with any one of them changed, the weights are other ones than the golden's.
#[test]
fn goldens_notice_every_bit() {
    for &(format, file) in OTHERS {
        let case = &cases(file)[0];
        let (bytes, want) = (case.bytes("bytes_hex"), case.floats("values"));
        let block = format.block_bytes() as usize;
        for bit in 0..8 * block {
            // The change is made in all blocks at once, because a zero six-bit scale hides the codes of its run.
            let mut changed = bytes.clone();
            changed.iter_mut().skip(bit / 8).step_by(block).for_each(|byte| *byte ^= 1 << (bit % 8));
            assert_ne!(format.decode(&changed), want, "{format:?}: bit {bit} of a block changes nothing");
        }
    }
}

#[test]
fn f32_is_the_bytes() {
    let values = [0.0f32, -0.0, 1.5, f32::MIN_POSITIVE / 3.0, f32::MAX, -3.25];
    let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
    assert_eq!(bits(&WeightType::F32.decode(&bytes)), bits(&values));
}

#[test]
fn every_e8m0_exponent_is_half_a_power_of_two() {
    for exponent in 0..=254u8 {
        assert_eq!(f64::from(e8m0_half(exponent)), 2f64.powi(i32::from(exponent) - 128), "exponent {exponent}");
    }
}

/// Low nibbles are weights 0 to 15, high nibbles 16 to 31.
#[test]
fn mxfp4_nibbles_neither_swapped_nor_interleaved() {
    let case = &cases(MXFP4)[0];
    let want = case.floats("values");
    let bytes = case.bytes("bytes_hex");
    let decode = |order: fn(&[u8]) -> Vec<u8>| -> Vec<f32> {
        let blocks = bytes.chunks_exact(17).map(|block| (e8m0_half(block[0]), order(&block[1..])));
        blocks
            .flat_map(|(half, codes)| codes.into_iter().map(move |code| E2M1_DOUBLED_F32[usize::from(code)] * half))
            .collect()
    };
    let halves = decode(|bytes| bytes.iter().map(|b| b & 15).chain(bytes.iter().map(|b| b >> 4)).collect());
    assert_eq!(unsigned_zeros(&halves), want, "the decoder of this test, in the right order");
    let swapped = decode(|bytes| bytes.iter().map(|b| b >> 4).chain(bytes.iter().map(|b| b & 15)).collect());
    let interleaved = decode(|bytes| bytes.iter().flat_map(|b| [b & 15, b >> 4]).collect());
    assert!(distance(&swapped, &want) > 0.1);
    assert!(distance(&interleaved, &want) > 0.1);
}

/// Blocks are 34 bytes, so every other scale lies in the upper half of a word: with three blocks in a row, rows start
/// at both alignments.
#[test]
fn q8_0_scales_of_odd_blocks_are_their_own() {
    let case = &cases(Q8_0)[0];
    assert_eq!(case.size("k"), 96, "three blocks in a row");
    let mut bytes = case.bytes("bytes_hex");
    let want = case.floats("values");
    let blocks = bytes.len() / 34;
    for odd in (1..blocks).step_by(2) {
        bytes.copy_within((odd - 1) * 34..(odd - 1) * 34 + 2, odd * 34);
    }
    assert!(distance(&WeightType::Q8_0.decode(&bytes), &want) > 0.1);
}
