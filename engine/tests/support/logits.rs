//! Goldens, and how far logits are from them. Shared by the tests of both backends.
#![allow(dead_code, reason = "each test target uses a part of it")]

/// F32 values of a two-dimensional NPY file in C order, and its number of columns.
pub fn npy(bytes: &[u8]) -> (Vec<f32>, usize) {
    assert_eq!(&bytes[..6], b"\x93NUMPY", "not an NPY file");
    assert_eq!(bytes[6], 1, "only version 1");
    let header_len = usize::from(u16::from_le_bytes([bytes[8], bytes[9]]));
    let header = std::str::from_utf8(&bytes[10..10 + header_len]).expect("an ASCII header");
    assert!(header.contains("'<f4'") && header.contains("'fortran_order': False"), "{header}");
    let shape = header.split('(').nth(1).and_then(|rest| rest.split(')').next()).expect("a shape");
    let columns = shape.split(',').nth(1).and_then(|n| n.trim().parse().ok()).expect("two dimensions");
    let values = bytes[10 + header_len..].chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]));
    (values.collect(), columns)
}

pub fn token_ids(text: &str) -> Vec<u32> {
    text.split_ascii_whitespace().map(|id| id.parse().expect("a token id")).collect()
}

/// How far logits are from a golden.
#[derive(Clone, Copy, Debug)]
pub struct Distance {
    pub max_abs: f64,
    /// Σ (got − want)² / Σ want².
    pub nmse: f64,
    /// Share of positions whose most likely token agrees.
    pub top1: f64,
    /// Positions whose most likely token differs although the golden's leads by more than twice [`F32_MAX_ABS`]: such a
    /// lead cannot be lost to rounding.
    pub overturned: usize,
    /// Position of the largest difference.
    pub worst_position: usize,
}

pub fn distance(got: &[f32], want: &[f32], columns: usize) -> Distance {
    assert_eq!(got.len(), want.len(), "number of logits");
    let (mut max_abs, mut worst, mut error, mut power) = (0.0f64, 0, 0.0, 0.0);
    for (index, (&got, &want)) in got.iter().zip(want).enumerate() {
        let difference = f64::from(got) - f64::from(want);
        // What is not a number is as far away as can be.
        let apart = if difference.is_nan() { f64::INFINITY } else { difference.abs() };
        if apart > max_abs {
            (max_abs, worst) = (apart, index / columns);
        }
        error += difference * difference;
        power += f64::from(want) * f64::from(want);
    }
    let best = |row: &[f32]| row.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1)).map_or(0, |(index, _)| index);
    let rows = got.len() / columns;
    let (mut same, mut overturned) = (0, 0);
    for (got, want) in got.chunks(columns).zip(want.chunks(columns)) {
        let (chosen, golden) = (best(got), best(want));
        same += usize::from(chosen == golden);
        overturned += usize::from(f64::from(want[golden] - want[chosen]) > 2.0 * F32_MAX_ABS);
    }
    Distance { max_abs, nmse: error / power, top1: same as f64 / rows as f64, overturned, worst_position: worst }
}

/// Largest difference allowed on the F32 path: independent F32 engines differ by 6e-4 (NMSE 4e-10) at 700 tokens.
pub const F32_MAX_ABS: f64 = 2e-3;

pub fn assert_f32_parity(what: &str, distance: Distance) {
    assert!(
        distance.max_abs <= F32_MAX_ABS && distance.nmse <= 1e-8 && distance.overturned == 0,
        "{what}: {distance:?}; allowed max_abs {F32_MAX_ABS}, nmse 1e-8, no clear top token overturned"
    );
}

/// F16 keys and values.
pub fn assert_f16_cache_parity(what: &str, distance: Distance) {
    assert!(
        distance.nmse <= 1e-4 && distance.top1 >= 0.99,
        "{what}: {distance:?}; allowed nmse 1e-4, top-1 at least 99 %"
    );
}
