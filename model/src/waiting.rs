//! The one place where the engine waits for others: sources, the GPU, whoever approves. STOP ends every wait, and every
//! wait has a name, so that a test can stop at each of them. `tests/tests/awaits.rs` finds those that go past it.

use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;

use futures_util::future::{Either, select};

use crate::error::EngineError;
use crate::host::{Host, check_cancelled};

/// What the engine is waiting for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AwaitPoint {
    /// An adapter and its device.
    Device,
    /// The next attempt to find an adapter, after a loss.
    NextAdapter,
    /// Bytes of the header.
    Header,
    /// The user's approval, [`Host::approve`].
    Approval,
    /// Compilation of the kernels.
    Kernels,
    /// Results of the kernels for known vectors.
    SelfCheck,
    /// Memory to be allocated.
    Memory,
    /// Weights, including experts that a token misses.
    Weights,
    /// The GPU in the middle of a load, so that it does not fall too far behind the weights.
    Uploads,
    /// The GPU at the end of a load, once all weights are on their way.
    LastUploads,
    /// A batch of tokens: its status, and its predictions.
    Batch,
    /// All logits of a token.
    Logits,
}

impl AwaitPoint {
    /// All points, in the order of a load and an answer.
    pub const ALL: [Self; 12] = [
        Self::Device,
        Self::NextAdapter,
        Self::Header,
        Self::Approval,
        Self::Kernels,
        Self::SelfCheck,
        Self::Memory,
        Self::Weights,
        Self::Uploads,
        Self::LastUploads,
        Self::Batch,
        Self::Logits,
    ];
}

/// Awaits `awaited`, but drops it if `host` wants to stop first.
///
/// # Errors
/// [`EngineError::Cancelled`].
pub async fn until_stopped<T>(
    host: &dyn Host,
    at: AwaitPoint,
    awaited: impl Future<Output = T>,
) -> Result<T, EngineError> {
    check_cancelled(host)?;
    host.awaiting(at);
    let mut told = host.until_cancelled();
    // A host without a wake-up is asked whenever anything happens.
    let stopped = poll_fn(|context| if host.cancelled() { Poll::Ready(()) } else { told.as_mut().poll(context) });
    match select(pin!(awaited), stopped).await {
        Either::Left((outcome, _)) => Ok(outcome),
        Either::Right(_) => Err(EngineError::Cancelled),
    }
}
