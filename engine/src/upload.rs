//! Streaming: source → host buffer → GPU, a few reads ahead, no weight through the wasm heap.

use futures_util::StreamExt;
use gptoss_kernels::Gpu;
use gptoss_kernels::repack::{Destination, Repack};
use gptoss_model::{AwaitPoint, EngineError, Host, check_cancelled, until_stopped};
use gptoss_source::{Bytes, Source};
use gptoss_telemetry::Event;
use web_time::Instant;

use crate::pieces::{Piece, Sink, Span};
use crate::platform;

/// Reads under way at once. Browsers allow six connections to an HTTP/1.1 host; this leaves room for others.
const READS_IN_FLIGHT: usize = 4;
/// The GPU is never more than two of these behind, so that staging copies cannot pile up. It is not waited for to the end: it
/// works on one while the next comes.
const BYTES_BETWEEN_MARKS: u64 = 32 << 20;

/// Counts of one load, and where they are reported.
pub struct Progress<'a> {
    pub host: &'a dyn Host,
    pub needed_bytes: u64,
    pub tensor_count: u32,
}

/// What a stream of pieces did.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Streamed {
    pub fetched_bytes: u64,
    pub used_bytes: u64,
}

/// Fetches the spans in order and puts each piece where it belongs. Bytes of [`Sink::Host`] pieces are handed to `keep`.
pub async fn stream(
    gpu: &Gpu,
    repack: &Repack,
    source: &dyn Source,
    spans: Vec<Span>,
    progress: Option<Progress<'_>>,
    host: &dyn Host,
    mut keep: impl FnMut(u64, Bytes),
) -> Result<Streamed, EngineError> {
    let begin = Instant::now();
    let mut done = Streamed::default();
    let mut tensors = 0;
    let mut since_mark = 0;
    let mut mark = None;
    let reads = spans.into_iter().map(|span| async move {
        let bytes = source.read(span.offset_bytes, span.len_bytes).await?;
        Ok::<_, EngineError>((span, bytes))
    });
    let mut arriving = futures_util::stream::iter(reads).buffered(READS_IN_FLIGHT);
    loop {
        // After STOP dropping what is under way aborts it.
        let Some(arrived) = until_stopped(host, AwaitPoint::Weights, arriving.next()).await? else { break };
        check_cancelled(host)?;
        let (span, bytes) = arrived?;
        done.fetched_bytes += bytes.len() as u64;
        for piece in &span.pieces {
            let from = (piece.offset_bytes - span.offset_bytes) as usize;
            let part = bytes.slice(from..from + piece.len_bytes as usize);
            done.used_bytes += piece.len_bytes;
            deliver(gpu, repack, piece, part, &mut keep)?;
            if let (Some(completed), Some(progress)) = (&piece.completes, &progress) {
                progress.host.emit(Event::Tensor {
                    name: completed.name.clone(),
                    format: completed.format.to_owned(),
                    bytes: completed.size_bytes,
                    index: tensors,
                    count: progress.tensor_count,
                });
                tensors += 1;
            }
        }
        if let Some(progress) = &progress {
            let seconds = begin.elapsed().as_secs_f64();
            progress.host.emit(Event::Fetch {
                fetched_bytes: done.fetched_bytes,
                needed_bytes: progress.needed_bytes,
                requests: source.requests(),
                wire_bytes: source.wire_bytes(),
                bytes_per_second: (seconds > 0.0).then(|| done.fetched_bytes as f64 / seconds),
            });
        }
        since_mark += span.len_bytes;
        if since_mark >= BYTES_BETWEEN_MARKS {
            since_mark = 0;
            if let Some(earlier) = mark.replace(gpu.finished()) {
                until_stopped(host, AwaitPoint::Uploads, earlier).await??;
            }
        }
    }
    gpu.check()?;
    Ok(done)
}

fn deliver(
    gpu: &Gpu,
    repack: &Repack,
    piece: &Piece,
    bytes: Bytes,
    keep: &mut impl FnMut(u64, Bytes),
) -> Result<(), EngineError> {
    match &piece.sink {
        Sink::Copy { buffer, offset_bytes } => platform::write_bytes(gpu, buffer, *offset_bytes, &bytes)?,
        Sink::Widen { buffer, offset_bytes, tensor } => {
            let values = tensor.decode(&bytes.to_vec(0..bytes.len()));
            gpu.write(buffer, *offset_bytes, bytemuck::cast_slice(&values));
        }
        Sink::Repack { buffer, planes_offset_bytes, planes, rows, first_row, row_step, codes } => {
            platform::write_bytes(gpu, repack.staging(), 0, &bytes)?;
            let destination = Destination {
                buffer,
                planes_offset_bytes: *planes_offset_bytes,
                planes: *planes,
                first_row: *first_row,
                row_step: *row_step,
                codes: *codes,
            };
            repack.submit(gpu, *rows, &destination);
        }
        Sink::Host => keep(piece.offset_bytes, bytes),
    }
    Ok(())
}
