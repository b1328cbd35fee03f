//! Rotary position embedding with YaRN.
//!
//! Angles as in YaRN (Peng et al. 2023, section 3.2) with gpt-oss' parameters: below `low` dimensions keep their
//! frequency, above `high` they are divided by `factor`, between them a linear ramp. The concentration
//! `0.1 · ln(factor) + 1` multiplies cos and sin at every position.

/// Dimensions of a head; every gpt-oss model has 64.
pub const HEAD_DIM: usize = 64;
/// Pairs of dimensions that turn together: i and i + 32.
pub const HALF_DIM: usize = HEAD_DIM / 2;

/// The numbers that decide the angles.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Yarn {
    /// Base of the frequencies: `rope.freq_base`.
    pub base: f64,
    /// How many times longer the context is than the original one: `rope.scaling.factor`.
    pub factor: f64,
    /// Context length before scaling, in tokens: `rope.scaling.original_context_length`.
    pub original_context: f64,
    /// Rotations over the original context above which a frequency stays as it is.
    pub beta_fast: f64,
    /// Rotations over the original context below which a frequency is divided by `factor`.
    pub beta_slow: f64,
    /// Whether to round the correction range outwards to whole dimensions. OpenAI's code does not; llama.cpp does.
    pub truncate: bool,
}

impl Yarn {
    /// The dimensions between which frequencies are blended.
    fn correction_range(&self) -> (f64, f64) {
        let dimension = |rotations: f64| {
            HEAD_DIM as f64 * (self.original_context / (rotations * std::f64::consts::TAU)).ln()
                / (2.0 * self.base.ln())
        };
        let (mut low, mut high) = (dimension(self.beta_fast), dimension(self.beta_slow));
        if self.truncate {
            (low, high) = (low.floor(), high.ceil());
        }
        (low.max(0.0), high.min(HEAD_DIM as f64 - 1.0))
    }

    /// Radians per position for each of the 32 pairs.
    pub fn inverse_frequencies(&self) -> [f64; HALF_DIM] {
        let (low, high) = self.correction_range();
        std::array::from_fn(|i| {
            let plain = self.base.powf(-2.0 * i as f64 / HEAD_DIM as f64);
            if self.factor <= 1.0 {
                return plain;
            }
            // A range of no width must not divide by zero.
            let ramp = ((i as f64 - low) / (high - low).max(0.001)).clamp(0.0, 1.0);
            plain / self.factor * ramp + plain * (1.0 - ramp)
        })
    }

    /// Factor of cos and sin, and so of queries and keys.
    pub fn concentration(&self) -> f64 {
        if self.factor <= 1.0 { 1.0 } else { 0.1 * self.factor.ln() + 1.0 }
    }

    /// `[positions, 32]` pairs of cos and sin; angles in F64, so that position 131071 is as exact as position 1.
    pub fn table(&self, positions: usize) -> Vec<[f32; 2]> {
        self.rows(0..positions)
    }

    /// The rows of the table for some positions.
    pub fn rows(&self, positions: std::ops::Range<usize>) -> Vec<[f32; 2]> {
        let frequencies = self.inverse_frequencies();
        let concentration = self.concentration();
        positions
            .flat_map(|position| {
                frequencies.map(|frequency| {
                    let (sin, cos) = (position as f64 * frequency).sin_cos();
                    [(cos * concentration) as f32, (sin * concentration) as f32]
                })
            })
            .collect()
    }
}

/// The specification: turns each 64-wide head of `x` for `position`, in place.
pub fn reference(x: &mut [f32], position: usize, yarn: &Yarn) {
    let frequencies = yarn.inverse_frequencies();
    for head in x.chunks_exact_mut(HEAD_DIM) {
        for (i, frequency) in frequencies.iter().enumerate() {
            let (sin, cos) = (position as f64 * frequency).sin_cos();
            let (sin, cos) = (sin * yarn.concentration(), cos * yarn.concentration());
            let (a, b) = (f64::from(head[i]), f64::from(head[i + HALF_DIM]));
            head[i] = (a * cos - b * sin) as f32;
            head[i + HALF_DIM] = (b * cos + a * sin) as f32;
        }
    }
}
