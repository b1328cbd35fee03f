//! How long the GPU is waited for. What takes far longer than its like took on this device is not going to end: then
//! the device counts as lost, and can be replaced.

use std::cell::Cell;
use std::pin::pin;
use std::time::Duration;

use futures_util::future::{Either, select};

/// How long callbacks may run before the waiting code looks again whether anybody still waits. Time is counted in these
/// turns, so that a machine that slept meanwhile is not mistaken for a GPU that hangs.
pub(crate) const TURN: Duration = Duration::from_millis(100);

/// Limit for opening an adapter and a device, which takes a moment unless the browser asks the user.
pub(crate) const OPENING: Duration = Duration::from_secs(60);

/// Lowest limit on a GPU: another program may use it for a while.
const HARDWARE_FLOOR: Duration = Duration::from_secs(60);
/// Lowest limit on a software adapter, which takes minutes for a batch of gpt-oss-20b.
const SOFTWARE_FLOOR: Duration = Duration::from_secs(15 * 60);
/// Factor of the lowest limit as long as nothing was measured, and for work that cannot be compared: compilation,
/// uploads.
const UNMEASURED_FLOORS: u32 = 5;
/// How much longer than ever before work may take: contexts grow, and other programs or heat slow a GPU down.
const SLOWDOWN: f64 = 20.0;

/// Speed of one device, learnt from finished work.
pub(crate) struct Pace {
    floor: Duration,
    /// Slowest speed so far, in seconds per unit.
    slowest: Cell<Option<f64>>,
    /// Overrides all limits, for tests.
    fixed: Option<Duration>,
}

impl Pace {
    pub fn new(software: bool, fixed: Option<Duration>) -> Self {
        let floor = if software { SOFTWARE_FLOOR } else { HARDWARE_FLOOR };
        Self { floor, slowest: Cell::new(None), fixed }
    }

    /// Time limit for work that cannot be compared with any other.
    pub fn unmeasured_limit(&self) -> Duration {
        self.fixed.unwrap_or(self.floor * UNMEASURED_FLOORS)
    }

    /// Time limit for this much work, in units of the caller's choice.
    pub fn limit(&self, units: u64) -> Duration {
        let Some(slowest) = self.slowest.get() else { return self.unmeasured_limit() };
        let measured = Duration::try_from_secs_f64(SLOWDOWN * slowest * units as f64).unwrap_or(Duration::MAX);
        self.fixed.unwrap_or(self.floor.max(measured))
    }

    /// Records how long some work took.
    pub fn took(&self, units: u64, elapsed: Duration) {
        let seconds_per_unit = elapsed.as_secs_f64() / units.max(1) as f64;
        self.slowest.set(Some(self.slowest.get().unwrap_or_default().max(seconds_per_unit)));
    }
}

/// Awaits `awaited` for at most `limit`. Returns the result and the time that it took, to within a [`TURN`]; `None` if
/// the limit was reached. Each `turn` lets callbacks run for up to [`TURN`]; it is told whether the one before left
/// nothing to do, and returns the same.
///
/// # Errors
/// Those of a turn.
pub(crate) async fn within<T, E>(
    limit: Duration,
    awaited: impl Future<Output = T>,
    mut turn: impl AsyncFnMut(bool) -> Result<bool, E>,
) -> Result<Option<(T, Duration)>, E> {
    let mut awaited = pin!(awaited);
    let (mut waited, mut idle) = (Duration::ZERO, false);
    while waited < limit {
        match select(awaited.as_mut(), pin!(turn(idle))).await {
            Either::Left((outcome, _)) => return Ok(Some((outcome, waited))),
            Either::Right((turned, _)) => idle = turned?,
        }
        waited += TURN;
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn limits_follow_what_was_measured_and_never_go_below_the_floor() {
        let pace = Pace::new(false, None);
        assert_eq!(pace.limit(24), UNMEASURED_FLOORS * HARDWARE_FLOOR, "nothing is known yet");
        pace.took(24, SECOND / 100);
        assert_eq!(pace.limit(24), HARDWARE_FLOOR, "a token of 10 ms");
        pace.took(24, 6 * SECOND);
        pace.took(24, SECOND);
        assert_eq!(pace.limit(24), 120 * SECOND, "the slowest counts");
        assert_eq!(pace.limit(48), 240 * SECOND, "twice the work");
        assert_eq!(pace.unmeasured_limit(), UNMEASURED_FLOORS * HARDWARE_FLOOR);
    }

    /// A batch takes minutes whose first layer took seconds.
    #[test]
    fn a_slow_batch_of_a_software_adapter_is_waited_for() {
        let pace = Pace::new(true, None);
        pace.took(64, 10 * SECOND);
        assert!(pace.limit(64 * 24) >= 10 * 24 * SECOND);
        assert!(pace.limit(1) >= SOFTWARE_FLOOR);
    }

    #[test]
    fn a_limit_beyond_all_time_is_one() {
        let pace = Pace::new(false, None);
        pace.took(1, SECOND);
        assert_eq!(pace.limit(u64::MAX), Duration::MAX);
    }
}
