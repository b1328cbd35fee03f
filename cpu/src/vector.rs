//! Element-wise steps on F32 rows, and dot products of them.

use gptoss_model::ops::experts::{SWIGLU_ALPHA, SWIGLU_LIMIT};
use gptoss_model::ops::rope::{HALF_DIM, HEAD_DIM};

use crate::isa::by_isa;
use crate::simd::Simd;

const LANES: usize = 16;

by_isa!(
    /// The dot product of `x` and `w`, which have equal lengths.
    dot(x: &[f32], w: &[f32]) -> f32, dot_body);

#[inline(always)]
pub(crate) fn dot_body<S: Simd>(x: &[f32], w: &[f32]) -> f32 {
    let mut sums = [0.0f32; LANES];
    let (x_lanes, x_rest) = x.as_chunks::<LANES>();
    let (w_lanes, w_rest) = w.as_chunks::<LANES>();
    for (x, w) in x_lanes.iter().zip(w_lanes) {
        for lane in 0..LANES {
            sums[lane] = S::mul_add(x[lane], w[lane], sums[lane]);
        }
    }
    sum_of(sums) + x_rest.iter().zip(w_rest).map(|(x, w)| x * w).sum::<f32>()
}

/// Sums pairwise, with shorter chains and smaller errors than one after the other.
#[inline(always)]
pub(crate) fn sum_of(mut lanes: [f32; LANES]) -> f32 {
    let mut half = LANES / 2;
    while half > 0 {
        for lane in 0..half {
            lanes[lane] += lanes[lane + half];
        }
        half /= 2;
    }
    lanes[0]
}

/// Bits of an infinity: larger ones are NaN.
pub(crate) const INFINITE_BITS: u32 = f32::INFINITY.to_bits();

by_isa!(
    /// The largest magnitude, as bits: they order like the numbers they stand for, and NaN comes last, where a maximum
    /// of floats would forget it. Below [`INFINITE_BITS`] when all values are finite.
    largest_bits(values: &[f32]) -> u32, largest_bits_body);

#[inline(always)]
pub(crate) fn largest_bits_body<S: Simd>(values: &[f32]) -> u32 {
    values.iter().fold(0, |largest, value| largest.max(value.abs().to_bits()))
}

by_isa!(
    /// Computes `y = x / rms(x) · weight`, rms with `epsilon` under the root; not finite where the mean square is not.
    rms_norm(x: &[f32], weight: &[f32], epsilon: f32, y: &mut [f32]), rms_norm_body);

#[inline(always)]
fn rms_norm_body<S: Simd>(x: &[f32], weight: &[f32], epsilon: f32, y: &mut [f32]) {
    let mean = dot_body::<S>(x, x) / x.len() as f32 + epsilon;
    // The inverse of an infinite mean would turn the row into zeros.
    let scale = if mean.is_finite() { 1.0 / mean.sqrt() } else { f32::NAN };
    for (y, (x, weight)) in y.iter_mut().zip(x.iter().zip(weight)) {
        *y = x * scale * weight;
    }
}

by_isa!(
    /// Computes `out = swiglu(gate, up)` with gpt-oss' clamps; NaN if one of both is not finite.
    swiglu(gate: &[f32], up: &[f32], out: &mut [f32]), swiglu_body);

#[inline(always)]
fn swiglu_body<S: Simd>(gate: &[f32], up: &[f32], out: &mut [f32]) {
    const LIMIT: f32 = SWIGLU_LIMIT as f32;
    const ALPHA: f32 = SWIGLU_ALPHA as f32;
    for (out, (gate, up)) in out.iter_mut().zip(gate.iter().zip(up)) {
        let are_finite = gate.is_finite() & up.is_finite();
        let gate = gate.min(LIMIT);
        let up = up.clamp(-LIMIT, LIMIT);
        let activated = gate / (1.0 + exp::<S>(-ALPHA * gate)) * (up + 1.0);
        *out = if are_finite { activated } else { f32::NAN };
    }
}

/// Each `exp(x − maximum)` in place; returns their sum.
#[inline(always)]
pub(crate) fn exp_of_differences_body<S: Simd>(x: &mut [f32], maximum: f32) -> f32 {
    let mut sums = [0.0f32; LANES];
    let (lanes, rest) = x.as_chunks_mut::<LANES>();
    for x in lanes {
        for lane in 0..LANES {
            x[lane] = exp::<S>(x[lane] - maximum);
            sums[lane] += x[lane];
        }
    }
    let mut sum = 0.0;
    for x in rest {
        *x = exp::<S>(*x - maximum);
        sum += *x;
    }
    sum + sum_of(sums)
}

/// eˣ to 2 units in the last place, without branches, so that loops over it become vector code: 2ⁿ · e^r with
/// |r| ≤ ln 2 / 2 and a polynomial of degree 7 for e^r (what it leaves out is below 5e-9). Below −87.3 the result is 0; above 88.7 it is infinite. NaN stays.
#[inline(always)]
pub(crate) fn exp<S: Simd>(x: f32) -> f32 {
    const LN_2_HIGH: f32 = 0.693_359_4; // 10 bits, so that n · this is exact
    const LN_2_LOW: f32 = -2.121_944_4e-4;
    // 1.5 · 2²³: adding it rounds to a whole number, which then is the lowest bits.
    const ROUND: f32 = 12_582_912.0;
    let clamped = x.clamp(-87.4, 88.8);
    let shifted = S::mul_add(clamped, std::f32::consts::LOG2_E, ROUND);
    let n = shifted - ROUND;
    let r = S::mul_add(n, -LN_2_LOW, S::mul_add(n, -LN_2_HIGH, clamped));
    let mut p = 1.0 / 5040.0;
    for coefficient in [1.0 / 720.0, 1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5, 1.0, 1.0] {
        p = S::mul_add(p, r, coefficient);
    }
    // In two factors: 2¹²⁸ alone is not a float.
    let exponent = shifted.to_bits().wrapping_sub(ROUND.to_bits()) as i32;
    let half = exponent >> 1;
    let power = |n: i32| f32::from_bits(((n + 127) as u32) << 23);
    let result = p * power(half) * power(exponent - half);
    let result = if x < -87.3 { 0.0 } else { result };
    if x > 88.72 { f32::INFINITY } else { result }
}

/// Turns each head of `heads` by the angles of one position: `table` holds cos and sin of the 32 pairs (i, i + 32).
pub(crate) fn rotate(heads: &mut [f32], table: &[[f32; 2]]) {
    for head in heads.chunks_exact_mut(HEAD_DIM) {
        let (first, second) = head.split_at_mut(HALF_DIM);
        for ((a, b), [cos, sin]) in first.iter_mut().zip(second).zip(table) {
            (*a, *b) = (*a * cos - *b * sin, *b * cos + *a * sin);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::isa::Isa;

    by_isa!(exp_of_differences(x: &mut [f32], maximum: f32) -> f32, exp_of_differences_body);

    #[test]
    fn exp_is_exact_to_two_units_and_ends_as_it_should() {
        for isa in Isa::available() {
            let mut worst = 0.0f64;
            for i in -87_000..88_000 {
                let x = i as f32 * 1e-3 + 3.7e-5;
                let mut got = [x];
                exp_of_differences(isa, &mut got, 0.0);
                let want = f64::from(x).exp();
                worst = worst.max((f64::from(got[0]) - want).abs() / want);
            }
            assert!(worst < 2.4e-7, "{isa}: {worst:e}");
            let mut ends = [-88.0, f32::NEG_INFINITY, 89.0, f32::NAN];
            exp_of_differences(isa, &mut ends, 0.0);
            assert_eq!((ends[0], ends[1], ends[2]), (0.0, 0.0, f32::INFINITY), "{isa}");
            assert!(ends[3].is_nan(), "{isa}");
        }
    }

    #[test]
    fn steps_keep_what_is_not_finite() {
        const NONE: [f32; 4] = [f32::NAN, -f32::NAN, f32::INFINITY, f32::NEG_INFINITY];
        let sound: Vec<f32> = (0..75).map(|i| (i as f32 - 37.0) * 0.3).collect();
        for isa in Isa::available() {
            assert_eq!(f32::from_bits(largest_bits(isa, &sound)), 37.0 * 0.3, "{isa}");
            for (value, at) in NONE.into_iter().flat_map(|value| (0..75).map(move |at| (value, at))) {
                let mut broken = sound.clone();
                broken[at] = value;
                assert!(largest_bits(isa, &broken) >= INFINITE_BITS, "{isa}: {value} at {at}");

                let mut y = vec![0.0; 75];
                rms_norm(isa, &broken, &sound, 1e-5, &mut y);
                assert!(y.iter().all(|y| !y.is_finite()), "{isa}: {value} at {at} of a norm");

                for (gate, up) in [(&broken, &sound), (&sound, &broken), (&broken, &broken)] {
                    swiglu(isa, gate, up, &mut y);
                    for (i, y) in y.iter().enumerate() {
                        assert_eq!(y.is_finite(), i != at, "{isa}: {value} at {at} of SwiGLU, {i}");
                    }
                }
            }
            // Each is finite, their squares are not.
            let mut y = vec![0.0; 75];
            rms_norm(isa, &[1e25; 75], &sound, 1e-5, &mut y);
            assert!(y.iter().all(|y| !y.is_finite()), "{isa}: squares that are infinite");
        }
    }

    #[test]
    fn steps_equal_their_references() {
        let x: Vec<f32> = (0..75).map(|i| ((i * 29 % 83) as f32 - 41.0) * 0.31).collect();
        let w: Vec<f32> = (0..75).map(|i| ((i * 17 % 71) as f32 - 35.0) * 0.11).collect();
        for isa in Isa::available() {
            let want: f64 = x.iter().zip(&w).map(|(&x, &w)| f64::from(x) * f64::from(w)).sum();
            assert!((f64::from(dot(isa, &x, &w)) - want).abs() < 1e-4, "{isa}");

            let mut y = vec![0.0; 75];
            rms_norm(isa, &x, &w, 1e-5, &mut y);
            let want = gptoss_model::ops::rms_norm::reference(&x, &w, 1e-5);
            assert!(y.iter().zip(&want).all(|(y, want)| (y - want).abs() <= 1e-6 * (1.0 + want.abs())), "{isa}");

            swiglu(isa, &x, &w, &mut y);
            for ((y, &gate), &up) in y.iter().zip(&x).zip(&w) {
                let want = gptoss_model::ops::experts::swiglu_reference(f64::from(gate), f64::from(up));
                assert!((f64::from(*y) - want).abs() <= 1e-6 * (1.0 + want.abs()), "{isa}: {gate} {up}");
            }
        }
    }
}
