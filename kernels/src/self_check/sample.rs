//! The check of what sampling reads.

use std::rc::Rc;

use gptoss_model::ops;
use gptoss_model::ops::sample::CANDIDATES;

use super::{SelfCheck, Want};
use crate::gpu::GpuBuffer;
use crate::sample::{self, CANDIDATES_BYTES};
use crate::step::Status;

/// Several logits for each lane, and a part of one more round.
const VOCABULARY: usize = 1003;

impl SelfCheck<'_> {
    /// Values in steps, so that many are equal, also at the last place that makes it.
    pub fn sample(&mut self) {
        let mut logits = self.random.normals(VOCABULARY, 3.0);
        logits.iter_mut().for_each(|logit| *logit = (*logit * 4.0).round() / 4.0);
        let want = ops::sample::reference(&logits, CANDIDATES, f64::from(self.step.inverse_temperature));
        let logits = self.storage(&logits);
        let candidates = self.keep(self.gpu.storage("self-check", CANDIDATES_BYTES));
        let status = self.keep(self.gpu.storage_from("status", &[Status::running()]));
        let buffers: sample::Buffers<&GpuBuffer> =
            sample::Buffers { step: &self.step_buffer, logits: &logits, candidates: &candidates, status: &status };
        let launch = self.bind(&sample::call(&buffers, VOCABULARY as u32));
        self.record(self.step, vec![launch]);

        let best = want.candidates[0];
        let expected = Status { top_token: best.token, top_logit: best.logit, ..Status::running() };
        let words: Vec<u32> = bytemuck::cast_slice(&[expected]).to_vec();
        // Up to the sums, which are not exact.
        let sums_at = std::mem::offset_of!(Status, log_sum_exp);
        let sums = [want.log_sum_exp, want.log_sum_exp_tempered, want.entropy_nats].map(|sum| sum as f32);
        let found: Vec<u32> = bytemuck::cast_slice(&want.candidates).to_vec();
        let expect =
            |check: &mut Self, what, buffer: &Rc<_>, at, want| check.expect_at("sample", what, buffer, at, want);
        expect(self, "candidates", &candidates, 0, Want::Exact(found));
        expect(self, "status", &status, 0, Want::Exact(words[..sums_at / 4].to_vec()));
        expect(self, "log-sum-exp and entropy", &status, sums_at as u64, Want::Close(sums.to_vec()));
    }
}
