//! Gate B: determinism. The same bytes, and the same weights from them, however often the file is opened and read.

use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;

use gptoss_gguf::{Gguf, WeightType};
use gptoss_model::{AwaitPoint, EngineError, Host, milliseconds_since, read_gguf, until_stopped};
use gptoss_protocol::{Event, GateProgress, GateStep};
use gptoss_source::Source;
use sha2::{Digest, Sha256};
use web_time::Instant;

use crate::error::GateError;
use crate::file::GatedFile;
use crate::report::Report;

/// What the gate is about.
pub const TITLE: &str = "determinism: the same bytes and weights at every reading";

/// How often the file is opened and read unless somebody says otherwise.
pub const USUAL_READINGS: u32 = 3;

/// Length of each range that is read at the beginning, the middle and the end of a tensor, in bytes.
const RANGE_BYTES: u64 = 64 << 10;
/// How many tensors are looked at, evenly over the table.
const TENSORS: usize = 32;

/// A file that is being opened.
pub type Opening<'a> = Pin<Box<dyn Future<Output = Result<Rc<dyn Source>, EngineError>> + 'a>>;

/// Opens a file once more, as if nobody had opened it before.
pub trait Reopen {
    /// The file behind a new handle.
    fn reopen<'a>(&'a self, host: &'a dyn Host) -> Opening<'a>;
}

/// A range of a tensor that is read again and again.
#[derive(Clone, Debug)]
pub struct Range {
    tensor: String,
    /// Type of its weights; `None` where they are not decoded.
    format: Option<WeightType>,
    /// Position in the file, all parts laid one after the other.
    pub offset_bytes: u64,
    /// Length of the range.
    pub len_bytes: u64,
}

/// What a reading gave of one range.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Hashes {
    bytes: String,
    /// Hash of the bits of all weights, decoded to F32.
    weights: Option<String>,
}

/// Ranges, and what the first reading gave.
pub struct Readings {
    ranges: Vec<Range>,
    first: Vec<Hashes>,
}

/// SHA-256 in hex digits.
pub(crate) fn sha256(bytes: &[u8]) -> String {
    hex(Sha256::new_with_prefix(bytes))
}

/// The digest of what was taken in, in hex digits.
pub(crate) fn hex(hasher: Sha256) -> String {
    hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

impl Hashes {
    fn of(range: &Range, bytes: &[u8]) -> Self {
        let weights = range.format.map(|format| {
            let mut hasher = Sha256::new();
            for weight in format.decode(bytes) {
                hasher.update(weight.to_bits().to_le_bytes());
            }
            hex(hasher)
        });
        Self { bytes: sha256(bytes), weights }
    }
}

impl Readings {
    /// The ranges, in the order of the file's table.
    pub fn ranges(&self) -> &[Range] {
        &self.ranges
    }

    /// Holds bytes that were read in another way against those of the first reading, range by range.
    pub fn check_other_way(&self, check: &'static str, read: &[Vec<u8>], report: &mut Report) {
        let mut differing = Vec::new();
        for ((range, first), bytes) in self.ranges.iter().zip(&self.first).zip(read) {
            note_difference(range, first.bytes == sha256(bytes), &mut differing);
        }
        let all = read.len() == self.ranges.len();
        report.check(check, all && differing.is_empty(), described(&differing));
    }
}

/// Opens the file `readings` times in all, reads ranges of up to 32 tensors through each handle, and compares hashes of their
/// bytes and of the weights in them.
///
/// # Errors
/// The file cannot be opened or read again, and STOP.
pub async fn check(
    file: &GatedFile<'_>,
    again: &dyn Reopen,
    readings: u32,
    report: &mut Report,
    host: &dyn Host,
) -> Result<Readings, GateError> {
    let ranges = ranges(file.gguf);
    let each_bytes = ranges.iter().map(|range| range.len_bytes).sum::<u64>();
    report.fact("openings", readings);
    report.fact("ranges", ranges.len());
    report.fact("bytes in each reading", each_bytes);
    let mut way = Way { begin: Instant::now(), fetched_bytes: 0, needed_bytes: each_bytes * u64::from(readings) };
    let requests_before = file.source.requests();
    let first = way.read(file.source.as_ref(), &ranges, host).await?;
    let mut requests = file.source.requests() - requests_before;
    let mut equal_headers = true;
    let (mut differing, mut other_weights) = (Vec::new(), Vec::new());
    for _ in 1..readings {
        let source = until_stopped(host, AwaitPoint::Header, again.reopen(host)).await??;
        equal_headers &= read_gguf(source.as_ref(), host).await? == *file.gguf;
        let read = way.read(source.as_ref(), &ranges, host).await?;
        requests += source.requests();
        for ((range, first), read) in ranges.iter().zip(&first).zip(&read) {
            note_difference(range, first.bytes == read.bytes, &mut differing);
            note_difference(range, first.weights == read.weights, &mut other_weights);
        }
    }
    report.fact("requests", requests);
    report.fact("sha256 of the first range", first.first().map(|hashes| hashes.bytes.clone()));
    report.check("header read again", equal_headers, if equal_headers { "equal" } else { "it differs" });
    report.check("ranges read again at their positions", differing.is_empty(), described(&differing));
    let decoded =
        ranges.iter().filter_map(|it| Some(it.len_bytes / it.format?.block_bytes() * it.format?.block_weights()));
    let decoded: u64 = decoded.sum();
    report.check("weights decoded at each reading", decoded > 0 && other_weights.is_empty(), {
        format!("{decoded} weights, {}", described(&other_weights))
    });
    Ok(Readings { ranges, first })
}

fn described(differing: &[String]) -> String {
    if differing.is_empty() { "bit for bit equal".into() } else { format!("different: {}", differing.join(", ")) }
}

fn note_difference(range: &Range, is_equal: bool, differing: &mut Vec<String>) {
    if !is_equal && !differing.contains(&range.tensor) {
        differing.push(range.tensor.clone());
    }
}

/// How far all readings are.
struct Way {
    begin: Instant,
    fetched_bytes: u64,
    needed_bytes: u64,
}

impl Way {
    async fn read(&mut self, source: &dyn Source, ranges: &[Range], host: &dyn Host) -> Result<Vec<Hashes>, GateError> {
        let mut hashes = Vec::with_capacity(ranges.len());
        for range in ranges {
            host.emit(Event::GateProgress(GateProgress {
                tensor: range.tensor.clone(),
                step: GateStep::Fetch,
                fetched_bytes: self.fetched_bytes,
                needed_bytes: self.needed_bytes,
                elapsed_ms: milliseconds_since(self.begin),
            }));
            let reading = source.read(range.offset_bytes, range.len_bytes);
            let read = until_stopped(host, AwaitPoint::Weights, reading).await??;
            hashes.push(Hashes::of(range, &read.to_vec(0..read.len())));
            self.fetched_bytes += range.len_bytes;
        }
        Ok(hashes)
    }
}

/// Begin, middle and end of tensors evenly over the table, in whole blocks.
fn ranges(gguf: &Gguf) -> Vec<Range> {
    let tensors = &gguf.tensors;
    let step = tensors.len().div_ceil(TENSORS).max(1);
    let mut ranges = Vec::new();
    for tensor in tensors.iter().step_by(step) {
        let format = WeightType::of(tensor.kind);
        let block = format.map_or(1, WeightType::block_bytes);
        let whole_blocks = |bytes: u64| bytes / block * block;
        let len_bytes = whole_blocks(RANGE_BYTES.min(tensor.size_bytes));
        let last = tensor.size_bytes - len_bytes;
        let mut places = vec![0, whole_blocks(last / 2), last];
        places.dedup();
        ranges.extend(places.into_iter().filter(|_| len_bytes > 0).map(|place| Range {
            tensor: tensor.name.clone(),
            // The last range of a tensor that is no whole number of blocks is not decoded.
            format: format.filter(|_| place % block == 0),
            offset_bytes: tensor.offset + place,
            len_bytes,
        }));
    }
    ranges
}
