//! What the engine needs from whoever runs it, besides bytes and a GPU.

use std::future::Future;
use std::pin::Pin;

use futures_util::FutureExt;
use gptoss_protocol::{Event, MemoryPlan, Stage, StageStatus, Watch};
use web_time::Instant;

use crate::error::{EngineError, StageError};
use crate::waiting::AwaitPoint;

/// The engine's window on the world: where events go, and whether the user wants it to stop.
pub trait Host {
    /// Takes an event, in the order in which things happen. Must not wait.
    fn emit(&self, event: Event);

    /// Whether the user wants to stop. Asked before and during everything that takes long; `true` makes the engine
    /// return [`EngineError::Cancelled`].
    fn cancelled(&self) -> bool;

    /// Ends once `cancelled` is true: a read may wait long for a host that does not answer. The default never ends, for hosts
    /// that can only be asked.
    fn until_cancelled(&self) -> Pin<Box<dyn Future<Output = ()> + '_>> {
        Box::pin(std::future::pending())
    }

    /// Something is about to be waited for. The default does nothing.
    fn awaiting(&self, _at: AwaitPoint) {}

    /// What somebody looks at of that which costs a read-back. Asked for each batch when it is given to the device. The default
    /// is nothing.
    fn watch(&self) -> Watch {
        Watch::default()
    }

    /// Ends when a load may go on as planned; nothing big was allocated or fetched for it yet. Asked again when less memory
    /// turns out to be there. Somebody who can be asked may want to know before experts are paged. The default does not ask.
    fn approve<'a>(&'a self, _proposal: LoadProposal<'a>) -> Pin<Box<dyn Future<Output = ()> + 'a>> {
        Box::pin(std::future::ready(()))
    }

    /// The load begins in earnest: file and plan were looked at and approved, and from here on memory is allocated and
    /// weights are fetched. A host that holds another model lets go of it now: two need not fit side by side. Said
    /// again when a load begins anew after a lost device.
    fn load_begins(&self) {}

    /// Whether [`Host::remember`] was called with this key before, perhaps long ago. Must not wait. A key names what the
    /// engine knows of adapter, driver and build; a host that knows more (the browser's version) adds it.
    fn remembered(&self, _key: &str) -> bool {
        false
    }

    /// The engine found out something that need not be found out again: the kernels passed their self-check.
    fn remember(&self, _key: &str) {}
}

/// A load that may go on once the host approves, with what is known before anything big is done.
#[derive(Clone, Copy, Debug)]
pub struct LoadProposal<'a> {
    /// Where everything would go, and whether all of it fits.
    pub plan: &'a MemoryPlan,
    /// Rate at which the header came over the network; `None` where too little came that way to tell.
    pub bytes_per_second: Option<f64>,
    /// GPU memory that the user said experts may take; `None` where the user said nothing.
    pub wished_expert_bytes: Option<u64>,
}

impl LoadProposal<'_> {
    /// Whether the plan is less than the user has reason to expect: experts are paged, or the context is shortened, unasked.
    pub fn is_less_than_expected(&self) -> bool {
        let plan = self.plan;
        let one_slot_each = plan.expert_bytes / u64::from(plan.expert_slots_per_layer.max(1));
        // As many slots as the user gave memory for are no surprise; fewer are.
        let as_wished = self.wished_expert_bytes.is_some_and(|given| plan.expert_bytes + one_slot_each > given);
        (plan.paged && !as_wished) || plan.shortened_from_tokens.is_some()
    }
}

impl<H: Host + ?Sized> Host for &H {
    fn emit(&self, event: Event) {
        (**self).emit(event);
    }

    fn cancelled(&self) -> bool {
        (**self).cancelled()
    }

    fn until_cancelled(&self) -> Pin<Box<dyn Future<Output = ()> + '_>> {
        (**self).until_cancelled()
    }

    fn awaiting(&self, at: AwaitPoint) {
        (**self).awaiting(at);
    }

    fn watch(&self) -> Watch {
        (**self).watch()
    }

    fn approve<'a>(&'a self, proposal: LoadProposal<'a>) -> Pin<Box<dyn Future<Output = ()> + 'a>> {
        (**self).approve(proposal)
    }

    fn load_begins(&self) {
        (**self).load_begins();
    }

    fn remembered(&self, key: &str) -> bool {
        (**self).remembered(key)
    }

    fn remember(&self, key: &str) {
        (**self).remember(key);
    }
}

/// A host that watches nothing and never stops.
pub struct Quiet;

impl Host for Quiet {
    fn emit(&self, _event: Event) {}

    fn cancelled(&self) -> bool {
        false
    }
}

/// Ends work that the user wants to stop.
///
/// # Errors
/// [`EngineError::Cancelled`] if the host says so.
pub fn check_cancelled(host: &dyn Host) -> Result<(), EngineError> {
    if host.cancelled() { Err(EngineError::Cancelled) } else { Ok(()) }
}

/// Runs `work` as `stage`: reports its begin and end, and names the stage in its error.
pub async fn in_stage<T>(
    host: &dyn Host,
    stage: Stage,
    work: impl Future<Output = Result<T, EngineError>>,
) -> Result<T, StageError> {
    let report = |status, elapsed_ms| host.emit(Event::Stage { stage, status, elapsed_ms });
    report(StageStatus::Started, None);
    let begin = Instant::now();
    let result = match check_cancelled(host) {
        Ok(()) => work.await,
        Err(cancelled) => Err(cancelled),
    };
    let status = match &result {
        Ok(_) => StageStatus::Completed,
        Err(EngineError::Cancelled) => StageStatus::Cancelled,
        Err(_) => StageStatus::Failed,
    };
    report(status, Some(milliseconds_since(begin)));
    result.map_err(|error| StageError { stage, error })
}

/// Like [`in_stage`], for work that waits for nothing.
///
/// # Errors
/// STOP, and what `work` fails with.
pub fn in_stage_now<T>(
    host: &dyn Host,
    stage: Stage,
    work: impl FnOnce() -> Result<T, EngineError>,
) -> Result<T, StageError> {
    in_stage(host, stage, async { work() }).now_or_never().expect("nothing is waited for")
}

/// Time since `begin`, with its fraction, as events give it.
pub fn milliseconds_since(begin: Instant) -> f64 {
    begin.elapsed().as_secs_f64() * 1e3
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fewer_experts_or_a_shorter_context_than_wished_for_are_a_surprise() {
        // 2 of 4 slots in each layer, one of all layers taking 50 bytes.
        let plan = MemoryPlan { paged: true, expert_bytes: 100, expert_slots_per_layer: 2, ..MemoryPlan::default() };
        let is_surprise = |plan: &MemoryPlan, wished_expert_bytes| {
            LoadProposal { plan, bytes_per_second: None, wished_expert_bytes }.is_less_than_expected()
        };
        assert!(is_surprise(&plan, None));
        assert!(!is_surprise(&plan, Some(100)) && !is_surprise(&plan, Some(149)), "as many as fit what was wished");
        assert!(is_surprise(&plan, Some(150)), "one more would fit what was wished");
        let whole = MemoryPlan { paged: false, ..plan.clone() };
        assert!(!is_surprise(&whole, None));
        assert!(is_surprise(&MemoryPlan { shortened_from_tokens: Some(8192), ..whole }, None));
    }
}
