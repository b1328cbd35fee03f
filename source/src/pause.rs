//! Time passing, for those who wait.

use std::time::Duration;

use crate::platform;

/// Waits for at least `duration` while other futures go on. On the web the event loop runs meanwhile; natively the
/// thread sleeps, because an engine has one thread. Dropping the future early leaves nothing behind.
pub async fn pause(duration: Duration) {
    platform::pause(duration).await;
}
