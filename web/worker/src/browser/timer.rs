//! Time passing, for those who wait.

use std::pin::pin;
use std::time::Duration;

use futures_util::future::{Either, select};
use gptoss_source::pause;

/// What `awaited` comes to, if it does within so long.
pub async fn within<T>(patience: Duration, awaited: impl Future<Output = T>) -> Option<T> {
    match select(pin!(awaited), pin!(pause(patience))).await {
        Either::Left((outcome, _)) => Some(outcome),
        Either::Right(_) => None,
    }
}
