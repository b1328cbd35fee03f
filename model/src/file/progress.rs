//! Progress of reading a header, which may be many megabytes and is as long as it turns out to be.

use std::time::Duration;

use futures_util::future::{Either, select};
use gptoss_protocol::Event;
use gptoss_source::{Bytes, ReadFuture, Source, SourceError};
use web_time::Instant;

use crate::host::Host;

/// How often the progress of a long read is reported.
const EVERY: Duration = Duration::from_millis(250);

/// Reports how much of a header has arrived, also in the middle of a read if the source counts wire bytes.
pub(super) struct HeaderTelling<'a> {
    /// The source of all of the model's files.
    source: &'a dyn Source,
    host: &'a dyn Host,
    begin: Instant,
    wire_before: u64,
    /// Bytes of completed reads.
    read_bytes: u64,
}

impl<'a> HeaderTelling<'a> {
    pub fn new(source: &'a dyn Source, host: &'a dyn Host) -> Self {
        let wire_before = source.wire_bytes().unwrap_or(0);
        Self { source, host, begin: Instant::now(), wire_before, read_bytes: 0 }
    }

    /// Waits for a read of `len_bytes` more bytes of the header.
    pub async fn wait_for(&mut self, mut read: ReadFuture<'_>, len_bytes: u64) -> Result<Bytes, SourceError> {
        let asked_bytes = self.read_bytes + len_bytes;
        self.tell(asked_bytes);
        let has_wire = self.source.wire_bytes().is_some();
        let bytes = loop {
            if !has_wire {
                break read.await?;
            }
            match select(&mut read, Box::pin(gptoss_source::pause(EVERY))).await {
                Either::Left((done, _)) => break done?,
                Either::Right(_) => self.tell(asked_bytes),
            }
        };
        self.read_bytes = asked_bytes;
        self.tell(asked_bytes);
        Ok(bytes)
    }

    fn tell(&self, asked_bytes: u64) {
        let wire_bytes = self.source.wire_bytes();
        let fetched_bytes = wire_bytes.unwrap_or(0).max(self.read_bytes);
        let came = wire_bytes.map_or(self.read_bytes, |wire_bytes| wire_bytes - self.wire_before);
        let seconds = self.begin.elapsed().as_secs_f64();
        self.host.emit(Event::Header {
            fetched_bytes,
            asked_bytes: asked_bytes.max(fetched_bytes),
            bytes_per_second: (came > 0 && seconds > 0.0).then(|| came as f64 / seconds),
        });
    }
}
