//! Reads the experts that a batch needs and the GPU lacks.

use gptoss_kernels::Step;
use gptoss_kernels::launch::record;
use gptoss_model::{EngineError, Host};
use gptoss_protocol::{Event, Missing};

use crate::forward::Resume;
use crate::model::Model;

/// A layer is read ahead if a batch needs each of its experts with at least this probability.
const LIKELY: f64 = 0.75;

impl Model {
    /// Loads what a halted layer needs. If the batch needs more experts than the layer has slots, they come in turns:
    /// each turn but the last computes the pairs whose experts are resident, and the last one's are left to be
    /// computed.
    ///
    /// The GPU said what it missed; what it needs and lacks now may be less, since experts go on coming while it
    /// computes.
    pub(crate) async fn bring_in(&mut self, step: &Step, layer: usize, host: &dyn Host) -> Result<(), EngineError> {
        let needed = self.pager.residency().used_by(layer, step.stamp);
        let (resident, missing): (Vec<u32>, Vec<u32>) =
            needed.iter().partition(|&&expert| self.pager.residency().is_resident(layer, expert));
        // A token of an answer is done soon, but a prompt's first batch may wait for most of the model.
        let tells = step.tokens > 1 && !missing.is_empty();
        if tells {
            let experts = missing.len() as u32;
            let bytes = u64::from(experts) * self.pager.expert_file_bytes(layer);
            host.emit(Event::Missing(Missing { layer: layer as u32, layers: self.plan.layers, experts, bytes }));
        }
        self.expect_experts(layer + 1, step.tokens);
        self.read_missing(step, layer, &missing, &resident, host).await?;
        if tells {
            self.pager.journal().tell_all(host);
            host.emit(Event::Experts(self.pager.residency().counters()));
        }
        Ok(())
    }

    /// Reads what is missing, in turns if necessary.
    async fn read_missing(
        &mut self,
        step: &Step,
        layer: usize,
        missing: &[u32],
        resident: &[u32],
        host: &dyn Host,
    ) -> Result<(), EngineError> {
        let slots = self.pager.residency().slots_per_layer();
        if resident.len() + missing.len() <= slots {
            return self.pager.fetch(layer, missing, resident, host).await;
        }
        // The resident experts are computed first, before their slots are needed.
        self.run_experts(step, layer);
        let mut turns = missing.chunks(slots).peekable();
        while let Some(turn) = turns.next() {
            self.pager.fetch(layer, turn, &[], host).await?;
            if turns.peek().is_some() {
                self.run_experts(step, layer);
            }
        }
        Ok(())
    }

    /// Computes the pairs of a halted layer whose experts are resident.
    fn run_experts(&self, step: &Step, layer: usize) {
        self.reset_status(Resume::Experts(layer));
        let mut encoder = self.gpu.encoder("experts");
        record(&self.gpu, &mut encoder, step, &self.program.layers[layer].experts);
        self.gpu.submit(encoder);
    }

    /// Has the pager read a layer ahead if a batch of this many tokens is likely to need most of it.
    ///
    /// A token chooses k of E experts. Of a prompt's tokens, taken as independent, none chooses a given one with the
    /// chance (1 − k/E)^tokens: 11 tokens for gpt-oss-20b, 45 for gpt-oss-120b.
    pub(crate) fn expect_experts(&mut self, layer: usize, tokens: u32) {
        let chosen = f64::from(self.config.experts_per_token) / f64::from(self.config.experts);
        let chance = 1.0 - (1.0 - chosen).powf(f64::from(tokens));
        if layer < self.pager.residency().layers() && chance >= LIKELY {
            self.pager.expect(layer);
        }
    }
}
