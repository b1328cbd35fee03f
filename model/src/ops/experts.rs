//! The chosen experts: `Σ_k weight_k · (W_down · swiglu(W_gate x + b_gate, W_up x + b_up) + b_down)`.

use gptoss_gguf::WeightType;

/// Limit of gpt-oss's SwiGLU: gate is clamped from above, up on both sides.
pub const SWIGLU_LIMIT: f64 = 7.0;
/// Factor in the sigmoid of gpt-oss's SwiGLU: gate · σ(α · gate) · (up + 1).
pub const SWIGLU_ALPHA: f64 = 1.702;

/// Formats of an expert's matrices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExpertFormats {
    /// Format of the gate matrices.
    pub gate: WeightType,
    /// Format of the up matrices.
    pub up: WeightType,
    /// Format of the down matrices.
    pub down: WeightType,
}

impl ExpertFormats {
    /// Formats of an expert whose gate and up have the same one, as in most files.
    pub const fn new(gate_up: WeightType, down: WeightType) -> Self {
        Self { gate: gate_up, up: gate_up, down }
    }

    /// Whether gate and up rows interleave in one run of planes, and one launch multiplies both.
    pub fn interleave(&self) -> bool {
        self.gate == self.up
    }
}

/// What a run of rows of an expert tensor holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExpertRows {
    /// Rows of gate alone.
    Gate,
    /// Rows of up alone.
    Up,
    /// Alternating rows: gate 0, up 0, gate 1, …
    GateAndUp,
    /// Rows of down.
    Down,
}

/// The specification of the activation. Values that are not finite stay so, even where a clamp would make them 7.
pub fn swiglu_reference(gate: f64, up: f64) -> f64 {
    if !gate.is_finite() || !up.is_finite() {
        return f64::NAN;
    }
    let gate = gate.min(SWIGLU_LIMIT);
    let up = up.clamp(-SWIGLU_LIMIT, SWIGLU_LIMIT);
    gate / (1.0 + (-SWIGLU_ALPHA * gate).exp()) * (up + 1.0)
}

/// One expert's weights, decoded: gate, up [ff, hidden], down [hidden, ff], biases `[ff]`, `[ff]`, `[hidden]`.
#[derive(Clone, Copy, Debug)]
pub struct ExpertWeights<'a> {
    /// Gate matrix, [ff, hidden].
    pub gate: &'a [f32],
    /// Up matrix, [ff, hidden].
    pub up: &'a [f32],
    /// Down matrix, [hidden, ff].
    pub down: &'a [f32],
    /// Bias of gate, `[ff]`.
    pub gate_bias: &'a [f32],
    /// Bias of up, `[ff]`.
    pub up_bias: &'a [f32],
    /// Bias of down, `[hidden]`.
    pub down_bias: &'a [f32],
}

/// The specification of one expert for one token, without the routing weight: `x` `[hidden]` → `[hidden]`.
pub fn reference(x: &[f32], expert: &ExpertWeights<'_>) -> Vec<f64> {
    let project = |matrix: &[f32], bias: &[f32], input: &[f64]| -> Vec<f64> {
        let dot = |row: &[f32]| row.iter().zip(input).map(|(&w, x)| f64::from(w) * x).sum::<f64>();
        matrix.chunks_exact(input.len()).zip(bias).map(|(row, &bias)| dot(row) + f64::from(bias)).collect()
    };
    let x: Vec<f64> = x.iter().map(|&x| f64::from(x)).collect();
    let gate = project(expert.gate, expert.gate_bias, &x);
    let up = project(expert.up, expert.up_bias, &x);
    let h: Vec<f64> = gate.iter().zip(&up).map(|(&gate, &up)| swiglu_reference(gate, up)).collect();
    project(expert.down, expert.down_bias, &h)
}
