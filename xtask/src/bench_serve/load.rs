//! The two kinds of load: long ranges as fast as they come, and short ones with the time that each takes.

use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};
use rand_xoshiro::SplitMix64;
use rand_xoshiro::rand_core::{Rng, SeedableRng};

use super::client::Connection;
use super::target::Target;

/// About what the page's loader asks for at once.
const STREAM_BYTES: u64 = 8 << 20;
const REQUEST_BYTES: u64 = 64 << 10;

/// What came over all connections.
#[derive(Debug)]
pub struct Transfer {
    /// Until the time was over.
    timely_bytes: u64,
    time: Duration,
    /// With the rest of the answers that were under way by then.
    all_bytes: u64,
}

impl Transfer {
    pub fn gigabytes_per_second(&self) -> f64 {
        self.timely_bytes as f64 / 1e9 / self.time.as_secs_f64()
    }

    /// All that the server had to work for.
    pub fn gigabytes(&self) -> f64 {
        self.all_bytes as f64 / 1e9
    }
}

/// How long each request took, from its first byte sent to its last one received.
#[derive(Debug)]
pub struct Latencies {
    /// In ascending order.
    sorted: Vec<Duration>,
    elapsed: Duration,
}

impl Latencies {
    fn new(mut latencies: Vec<Duration>, elapsed: Duration) -> Self {
        latencies.sort_unstable();
        Self { sorted: latencies, elapsed }
    }

    pub fn requests(&self) -> usize {
        self.sorted.len()
    }

    pub fn requests_per_second(&self) -> f64 {
        self.requests() as f64 / self.elapsed.as_secs_f64()
    }

    /// The shortest time that at least `per_mille` of a thousand requests did not exceed; `None` without requests.
    pub fn percentile_microseconds(&self, per_mille: usize) -> Option<f64> {
        let rank = (self.sorted.len() * per_mille).div_ceil(1000).max(1);
        self.sorted.get(rank - 1).map(|latency| latency.as_secs_f64() * 1e6)
    }
}

/// Downloads consecutive long ranges over each connection, each from another place round the file.
pub fn stream(target: &Target, connections: u64, time: Duration) -> Result<Transfer> {
    let ranges = target.file_bytes / STREAM_BYTES;
    let (counts, _) = in_parallel(target, connections, time, |index, mut connection, deadline| {
        let (mut timely, mut all) = (0, 0);
        let mut position = ranges * index / connections;
        while Instant::now() < deadline {
            // The last answer is taken to its end, so that it is checked and leaves the server idle; what comes late
            // is not counted as if it had come in time.
            connection.get(position * STREAM_BYTES, STREAM_BYTES, |bytes| {
                all += bytes.len() as u64;
                if Instant::now() < deadline {
                    timely += bytes.len() as u64;
                }
            })?;
            position = (position + 1) % ranges;
        }
        Ok((timely, all))
    })?;
    let timely_bytes = counts.iter().map(|(timely, _)| timely).sum();
    let all_bytes = counts.iter().map(|(_, all)| all).sum();
    Ok(Transfer { timely_bytes, time, all_bytes })
}

/// Gets short ranges from all over the file, one after the other over each connection: each as soon as the one before is there,
/// or, with `per_second`, so many a second over all connections together. Then two servers are compared at the same load, and a
/// request that has to wait because the one before is late is late itself: its time begins when it was due.
pub fn request(target: &Target, connections: u64, time: Duration, per_second: Option<u32>) -> Result<Latencies> {
    let ranges = target.file_bytes / REQUEST_BYTES;
    let (latencies, elapsed) = in_parallel(target, connections, time, |index, mut connection, deadline| {
        let mut latencies = Vec::new();
        // The same in every run, so that all servers get the same requests.
        let mut random = SplitMix64::seed_from_u64(index);
        let mut pace = per_second.map(|per_second| Pace::new(per_second, (index, connections)));
        let mut now = Instant::now();
        while now < deadline {
            let begin = pace.as_mut().map_or(now, |pace| pace.next(now));
            let offset = random.next_u64() % ranges * REQUEST_BYTES;
            connection.get(offset, REQUEST_BYTES, |_| ())?;
            now = Instant::now();
            latencies.push(now - begin);
        }
        Ok(latencies)
    })?;
    Ok(Latencies::new(latencies.concat(), elapsed))
}

/// When the requests of one connection are due.
struct Pace {
    due: Instant,
    interval: Duration,
}

impl Pace {
    /// Those of connection `index` of `connections`, which take turns.
    fn new(per_second: u32, (index, connections): (u64, u64)) -> Self {
        let every = Duration::from_secs(1) / per_second;
        Self { due: Instant::now() + every * index as u32, interval: every * connections as u32 }
    }

    /// Waits until the next request is due, and gives the time from which it counts. A clock that wakes this thread late is not
    /// the server's fault; an answer that comes after `due` is.
    fn next(&mut self, now: Instant) -> Instant {
        let due = self.due;
        self.due += self.interval;
        if now >= due {
            return due;
        }
        std::thread::sleep(due - now);
        Instant::now()
    }
}

/// Does `work` on a thread for each connection, with the connection's number and the time when to end. All of them are
/// open before the first begins. Also gives the time from there to the end of the last.
fn in_parallel<T: Send>(
    target: &Target,
    connections: u64,
    time: Duration,
    work: impl Fn(u64, Connection, Instant) -> Result<T> + Sync,
) -> Result<(Vec<T>, Duration)> {
    let opened = (0..connections).map(|_| Connection::open(target)).collect::<Result<Vec<_>>>()?;
    let work = &work;
    let start = Instant::now();
    let deadline = start + time;
    std::thread::scope(|scope| {
        let spawn = |(index, connection)| scope.spawn(move || work(index, connection, deadline));
        let threads: Vec<_> = (0..).zip(opened).map(spawn).collect();
        let join = |thread: std::thread::ScopedJoinHandle<Result<T>>| {
            thread.join().map_err(|_| anyhow!("a thread of the client panicked"))?
        };
        let results = threads.into_iter().map(join).collect::<Result<Vec<_>>>()?;
        Ok((results, start.elapsed()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn latencies(microseconds: impl Iterator<Item = u64>) -> Latencies {
        Latencies::new(microseconds.map(Duration::from_micros).collect(), Duration::from_secs(2))
    }

    #[test]
    fn percentiles_are_times_that_were_measured() {
        let thousand = latencies((1..=1000).rev());
        for (per_mille, expected) in [(500, 500.0), (900, 900.0), (990, 990.0), (999, 999.0), (1000, 1000.0)] {
            assert_eq!(thousand.percentile_microseconds(per_mille).map(f64::round), Some(expected), "{per_mille}");
        }
        assert_eq!(thousand.requests_per_second(), 500.0);

        // Of three, the second is the median, and nothing but the third is a time that 90 % did not exceed.
        let three = latencies([30, 10, 20].into_iter());
        assert_eq!(three.percentile_microseconds(500).map(f64::round), Some(20.0));
        assert_eq!(three.percentile_microseconds(900).map(f64::round), Some(30.0));
        assert_eq!(three.percentile_microseconds(0).map(f64::round), Some(10.0));
        assert_eq!(latencies(std::iter::empty()).percentile_microseconds(500), None);
    }

    #[test]
    fn a_request_that_was_kept_waiting_counts_from_when_it_was_due() {
        let mut pace = Pace::new(1000, (1, 2));
        let begin = pace.due;
        assert!(pace.next(Instant::now()) >= begin, "not before its time");
        let late = begin + Duration::from_millis(50);
        assert_eq!(pace.next(late), begin + Duration::from_millis(2));
        assert_eq!(pace.next(late), begin + Duration::from_millis(4));
    }

    #[test]
    fn only_what_came_in_time_counts_as_speed() {
        let transfer = Transfer { timely_bytes: 3_000_000_000, time: Duration::from_secs(2), all_bytes: 3_500_000_000 };
        assert_eq!(transfer.gigabytes_per_second(), 1.5);
        assert_eq!(transfer.gigabytes(), 3.5);
    }
}
