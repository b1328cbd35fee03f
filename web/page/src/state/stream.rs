//! How bytes of the model come: how fast right now, and what reads had to be made again.

use gptoss_protocol::{Event, TroubleKind};
use serde::{Deserialize, Serialize};

/// The line of rates has a point for each time of this length.
const STEP_MS: f64 = 250.0;
/// The rate right now is the mean of so many points: two seconds.
const NOW: usize = 8;
/// Points of the line: half a minute.
const MOST_RATES: usize = 120;

/// What is known of the stream of bytes since the load began.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Stream {
    /// When the next point of the line begins, by the clock of the teller; `None` before the first bytes.
    begun_at_ms: Option<f64>,
    /// Bytes that had come by then.
    begun_bytes: u64,
    /// Bytes per second, one number for each quarter of a second, newest last.
    pub rates: Vec<u32>,
    /// Attempts at reads after the first.
    pub retries: u32,
    /// Times that no byte came for too long.
    pub stalls: u32,
    /// The longest time without a byte that came to an end; `None` before there was one.
    pub longest_silence_ms: Option<f64>,
}

impl Stream {
    /// Bytes per second of the last two seconds; `None` before there is anything to tell.
    pub fn rate_now(&self) -> Option<f64> {
        let last = &self.rates[self.rates.len().saturating_sub(NOW)..];
        let sum: f64 = last.iter().map(|rate| f64::from(*rate)).sum();
        (!last.is_empty()).then(|| sum / last.len() as f64)
    }

    /// Takes in an event of the host.
    pub(super) fn apply(&mut self, event: &Event, at_ms: f64) {
        match event {
            Event::Fetch { fetched_bytes, .. } => self.sample(at_ms, *fetched_bytes),
            Event::Trouble(trouble) => {
                self.retries += u32::from(trouble.next.is_some());
                self.stalls += u32::from(trouble.what == TroubleKind::Stalled);
            }
            Event::TroubleOver { elapsed_ms, .. } => {
                let longest = self.longest_silence_ms.map_or(*elapsed_ms, |longest| longest.max(*elapsed_ms));
                self.longest_silence_ms = Some(longest);
            }
            // Everything is read again, from nothing.
            Event::Recovering { .. } => self.begun_at_ms = None,
            _ => {}
        }
    }

    fn sample(&mut self, at_ms: f64, bytes: u64) {
        let begun_at_ms = self.begun_at_ms.unwrap_or_else(|| {
            (self.begun_at_ms, self.begun_bytes) = (Some(at_ms), bytes);
            at_ms
        });
        let elapsed_ms = at_ms - begun_at_ms;
        if elapsed_ms < STEP_MS {
            return;
        }
        if self.rates.len() >= MOST_RATES {
            self.rates.remove(0);
        }
        self.rates.push((bytes.saturating_sub(self.begun_bytes) as f64 / elapsed_ms * 1000.0) as u32);
        (self.begun_at_ms, self.begun_bytes) = (Some(at_ms), bytes);
    }
}

#[cfg(test)]
mod tests {
    use gptoss_protocol::{NextAttempt, Stage, Trouble};

    use super::*;

    fn fetch(fetched_bytes: u64) -> Event {
        Event::Fetch { fetched_bytes, needed_bytes: 1 << 40, requests: 1, wire_bytes: None, bytes_per_second: None }
    }

    #[test]
    fn the_rate_right_now_is_that_of_the_last_seconds() {
        let mut stream = Stream::default();
        stream.apply(&fetch(1000), 1000.0);
        assert_eq!((stream.rate_now(), stream.rates.len()), (None, 0), "one sample tells nothing");
        // A megabyte a second for five seconds, then ten.
        for tenth in 1..=50 {
            stream.apply(&fetch(1000 + tenth * 100_000), 1000.0 + tenth as f64 * 100.0);
        }
        assert_eq!(stream.rate_now(), Some(1e6));
        for tenth in 1..=40 {
            stream.apply(&fetch(5_001_000 + tenth * 1_000_000), 6000.0 + tenth as f64 * 100.0);
        }
        assert_eq!(stream.rate_now(), Some(1e7), "what was before is forgotten");
        assert_eq!((stream.rates.first(), stream.rates.last()), (Some(&1_000_000), Some(&10_000_000)));
        // A pause is part of the rate, and a recovery begins at nothing.
        stream.apply(&fetch(45_001_000), 20_000.0);
        assert_eq!(stream.rates.last(), Some(&0));
        let (stage, reason) = (Stage::Decode, String::new());
        stream.apply(&Event::Recovering { stage, attempt: 1, most: 3, tokens: 0, reason }, 20_000.0);
        stream.apply(&fetch(10), 30_000.0);
        stream.apply(&fetch(1_000_010), 31_000.0);
        assert_eq!(stream.rates.last(), Some(&1_000_000));
        for step in 0..500 {
            stream.apply(&fetch(2_000_000), 40_000.0 + f64::from(step) * 300.0);
        }
        assert_eq!(stream.rates.len(), MOST_RATES);
    }

    #[test]
    fn what_reads_met_is_counted() {
        let mut stream = Stream::default();
        let trouble =
            |what, next| Event::Trouble(Trouble { what, file: "m".into(), offset_bytes: 0, missing_bytes: 1, next });
        let next = Some(NextAttempt { attempt: 2, attempts: 12, wait_ms: 1.0 });
        stream.apply(&trouble(TroubleKind::Stalled, next), 0.0);
        stream.apply(&trouble(TroubleKind::HostBusy, next), 0.0);
        stream.apply(&trouble(TroubleKind::Offline, None), 0.0);
        for elapsed_ms in [40.0, 900.0, 10.0] {
            let over = Event::TroubleOver { file: "m".into(), offset_bytes: 0, attempts: 2, elapsed_ms };
            stream.apply(&over, 0.0);
        }
        assert_eq!((stream.retries, stream.stalls, stream.longest_silence_ms), (2, 1, Some(900.0)));
    }
}
