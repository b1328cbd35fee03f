//! The check of what sampling reads.

use gptoss_model::ops;
use gptoss_model::ops::sample::CANDIDATES;

use super::{SelfCheck, Want};
use crate::gpu::GpuBuffer;
use crate::sample::{self, Sampled};
use crate::step::{Row, Step};

/// Size of the vocabulary: several logits for each lane, and a part of one more round.
const VOCABULARY: usize = 1003;
/// Inverse temperatures of the tokens whose logits are wanted, which are the last of the batch.
const INVERSE_TEMPERATURES: [f32; 2] = [1.25, 0.7];

impl SelfCheck<'_> {
    /// Checks logits in steps, so that many are equal, also at the last place among the candidates.
    pub fn sample(&mut self) {
        let mut logits = self.random.normals(INVERSE_TEMPERATURES.len() * VOCABULARY, 3.0);
        logits.iter_mut().for_each(|logit| *logit = (*logit * 4.0).round() / 4.0);
        let head_tokens = INVERSE_TEMPERATURES.len() as u32;
        let step = Step { head_first: self.step.tokens - head_tokens, head_tokens, ..self.step };
        let row = |inverse_temperature| Row { position: 0, table: 0, inverse_temperature, padding: 0 };
        let mut rows = vec![row(1.0); step.head_first as usize];
        rows.extend(INVERSE_TEMPERATURES.map(row));
        let (step_buffer, rows, logits_buffer) = (self.batch(step), self.storage(&rows), self.storage(&logits));
        let size_bytes = u64::from(head_tokens) * Sampled::SIZE_BYTES;
        let sampled = self.keep(self.gpu.storage("self-check", size_bytes));
        let buffers: sample::Buffers<&GpuBuffer> =
            sample::Buffers { step: &step_buffer, logits: &logits_buffer, rows: &rows, sampled: &sampled };
        let launch = self.bind(&sample::call(&buffers, VOCABULARY as u32));
        self.record(step, vec![launch]);

        let places = (0..).step_by(Sampled::SIZE_BYTES as usize);
        for ((logits, inverse_temperature), at) in logits.chunks(VOCABULARY).zip(INVERSE_TEMPERATURES).zip(places) {
            let want = ops::sample::reference(logits, CANDIDATES, f64::from(inverse_temperature));
            let best = want.candidates[0];
            let sums = [want.log_sum_exp, want.log_sum_exp_tempered, want.entropy_nats].map(|sum| sum as f32);
            let candidates: Vec<u32> = bytemuck::cast_slice(&want.candidates).to_vec();
            let exact = vec![0, best.token, best.logit.to_bits()];
            let sums_at = at + std::mem::offset_of!(Sampled, log_sum_exp) as u64;
            self.expect_at("sample", "best token", &sampled, at, Want::Exact(exact));
            self.expect_at("sample", "log-sum-exp and entropy", &sampled, sums_at, Want::Close(sums.to_vec()));
            self.expect_at("sample", "candidates", &sampled, at + Sampled::SUMS_BYTES, Want::Exact(candidates));
        }
    }
}
