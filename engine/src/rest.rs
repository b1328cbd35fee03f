//! What no token has needed yet: read when there is nothing else to do.

use gptoss_model::{EngineError, Host};
use gptoss_telemetry::{Event, Rest};
use web_time::Instant;

use crate::model::Model;

/// Experts of a layer that are read together: enough for four reads at a time, and few enough that little is lost when a
/// question comes in between (53 MB of gpt-oss).
const EXPERTS_AT_ONCE: usize = 4;

impl Model {
    /// Whether there are slots that nothing is in.
    pub fn has_free_slots(&self) -> bool {
        (0..self.layers()).any(|layer| self.residency.free_slots(layer) > 0)
    }

    /// Reads experts into slots that are free, lower layers first, until there are none. Pushes nothing out.
    ///
    /// # Errors
    /// [`EngineError::Cancelled`] as soon as `host` says so; what the source or the GPU fails with. What was read before stays.
    pub async fn fill(&mut self, host: &dyn Host) -> Result<(), EngineError> {
        let begin = Instant::now();
        let missing_at_first = self.missing_bytes();
        for layer in 0..self.layers() {
            loop {
                let experts = self.residency.not_resident(layer, EXPERTS_AT_ONCE);
                if experts.is_empty() {
                    break;
                }
                // Nothing has to go for them, so that nobody asks for stamps.
                self.load_experts(layer, &experts, &[], &[], host).await?;
                let missing_bytes = self.missing_bytes();
                let counters = self.residency.counters();
                let (read, seconds) = (missing_at_first - missing_bytes, begin.elapsed().as_secs_f64());
                let bytes_per_second = (seconds > 0.0).then(|| read as f64 / seconds);
                let (resident, slots) = (counters.resident, counters.slots);
                host.emit(Event::Experts(counters));
                host.emit(Event::Rest(Rest { resident, slots, missing_bytes, bytes_per_second }));
            }
        }
        Ok(())
    }

    fn layers(&self) -> usize {
        self.plan.layers as usize
    }

    /// Of the file, for every slot that is free.
    fn missing_bytes(&self) -> u64 {
        let of_layer = |layer| self.residency.free_slots(layer) as u64 * self.expert_file_bytes(layer);
        (0..self.layers()).map(of_layer).sum()
    }
}
