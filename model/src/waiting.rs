//! The one place where the engine waits for others: sources, the GPU, whoever approves. STOP ends every wait, and every wait has a
//! name, so that a test can stop at each of them. `tests/tests/awaits.rs` finds those that go past it.

use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;

use futures_util::future::{Either, select};

use crate::error::EngineError;
use crate::host::{Host, check_cancelled};

/// What the engine waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AwaitPoint {
    /// An adapter, and a device of it.
    Device,
    /// The next look for an adapter, after a loss.
    NextAdapter,
    /// A part of the header.
    Header,
    /// [`Host::approve`].
    Approval,
    /// Kernels that are compiled.
    Kernels,
    /// Kernels that compute known vectors.
    SelfCheck,
    /// Memory that is allocated.
    Memory,
    /// Weights, those that a token misses included.
    Weights,
    /// The GPU, so that it is not too far behind the weights.
    Uploads,
    /// The GPU, once all weights of a load are on their way.
    LastUploads,
    /// A batch of tokens: its status, and what is to be known of it.
    Batch,
    /// All logits of a token.
    Logits,
}

impl AwaitPoint {
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

/// What `awaited` comes to, unless `host` wants to stop before: then it is dropped.
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
    // A host that cannot tell is asked as often as anything happens.
    let stopped = poll_fn(|context| if host.cancelled() { Poll::Ready(()) } else { told.as_mut().poll(context) });
    match select(pin!(awaited), stopped).await {
        Either::Left((outcome, _)) => Ok(outcome),
        Either::Right(_) => Err(EngineError::Cancelled),
    }
}
