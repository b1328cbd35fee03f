//! Prefetch: reads experts that no token has needed yet while there is nothing else to do.

use gptoss_model::{AwaitPoint, EngineError, Host, until_stopped};
use gptoss_protocol::{Event, Prefetch};
use web_time::Instant;

use crate::model::Model;
use crate::pager::Turned;

impl Model {
    /// Whether some slots have no expert.
    pub fn has_free_slots(&self) -> bool {
        self.pager.missing_bytes() > 0
    }

    /// Prefetches experts into free slots, lower layers first, until no slot is free. Evicts nothing.
    ///
    /// # Errors
    /// [`EngineError::Cancelled`] as soon as `host` says so; what the source or the GPU fails with. What was read
    /// before stays; what is on its way is given up, so that whoever comes has the line for himself.
    pub async fn prefetch(&mut self, host: &dyn Host) -> Result<(), EngineError> {
        let done = self.prefetch_until_stopped(host).await;
        if done.is_err() {
            self.pager.give_up();
        }
        self.pager.journal().tell_all(host);
        done
    }

    async fn prefetch_until_stopped(&mut self, host: &dyn Host) -> Result<(), EngineError> {
        let begin = Instant::now();
        let missing_at_first = self.pager.missing_bytes();
        while self.pager.idle() {
            self.pager.journal().tell(host);
            match until_stopped(host, AwaitPoint::Weights, self.pager.turn()).await?? {
                Turned::Came => {}
                Turned::Loaded => {
                    let missing_bytes = self.pager.missing_bytes();
                    let counters = self.pager.residency().counters();
                    let (read, seconds) = (missing_at_first - missing_bytes, begin.elapsed().as_secs_f64());
                    let bytes_per_second = (seconds > 0.0).then(|| read as f64 / seconds);
                    let (resident, slots) = (counters.resident, counters.slots);
                    // Whoever follows the experts has as many as are counted.
                    self.pager.journal().tell_all(host);
                    host.emit(Event::Experts(counters));
                    host.emit(Event::Prefetch(Prefetch { resident, slots, missing_bytes, bytes_per_second }));
                }
            }
        }
        Ok(())
    }
}
