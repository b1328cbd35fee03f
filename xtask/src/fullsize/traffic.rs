//! What gguf-serve was asked for, from its own lines.

use std::io::{BufRead, BufReader};
use std::process::ChildStdout;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Bytes of the model that went over the wire.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    pub requests: u64,
    pub model_bytes: u64,
    /// Offset of the last byte of the farthest range.
    pub farthest_byte: u64,
}

impl Traffic {
    /// Takes in a line such as `GET /m.gguf 206 bytes 0-65535 65536 B 0.4 ms model m`.
    fn take(&mut self, line: &str) {
        let words: Vec<&str> = line.split_whitespace().collect();
        let ["GET", _, "206", "bytes", range, sent, "B", ..] = words[..] else { return };
        let last = range.split_once('-').and_then(|(_, last)| last.parse().ok());
        let (Some(last), Ok(sent)) = (last, sent.parse::<u64>()) else { return };
        self.requests += 1;
        self.model_bytes += sent;
        self.farthest_byte = self.farthest_byte.max(last);
    }
}

/// Reads the server's lines to their end.
pub fn follow(lines: BufReader<ChildStdout>, traffic: &Mutex<Traffic>) {
    lines.lines().map_while(Result::ok).for_each(|line| lock(traffic).take(&line));
}

pub fn lock(traffic: &Mutex<Traffic>) -> MutexGuard<'_, Traffic> {
    traffic.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_of_the_model_are_added_up() {
        let mut traffic = Traffic::default();
        for line in [
            "GET /api/models/m/file/m.gguf 206 bytes 0-65535 65536 B 0.4 ms model m",
            "GET /gptoss 200 22961 B 0.1 ms",
            "GET /m.gguf 206 bytes 5000000000-5000000009 4 B 1.0 ms model m aborted of 10 B",
            "answered 3 requests",
            "",
        ] {
            traffic.take(line);
        }
        assert_eq!(traffic, Traffic { requests: 2, model_bytes: 65_540, farthest_byte: 5_000_000_009 });
    }
}
