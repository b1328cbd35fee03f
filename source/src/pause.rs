//! Time passing, for those who wait.

use std::time::Duration;

use crate::platform;

/// Lets whatever else is awaited beside it go on for at least so long. On the web the event loop runs meanwhile; natively the
/// thread sleeps: one engine, one thread. Dropped before its time, it leaves nothing behind.
pub async fn pause(duration: Duration) {
    platform::pause(duration).await;
}
