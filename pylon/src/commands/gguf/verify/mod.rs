//! `pylon gguf verify`: whether a file, or a whole set of parts, has faults, and who vouches for it.

mod model;
mod published;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use gptoss_gguf::numbers::{bad_blocks, numbers_of};
use gptoss_gguf::sense::{Sampling, Sense};
use gptoss_gguf::{Gguf, TensorInfo, TensorType, part_paths};
use gptoss_model::file_notes;
use gptoss_source::{FileSource, Source};
use indicatif::ProgressBar;
use serde::Serialize;

use self::published::{Published, check_hashes};
use crate::error::CliError;
use crate::exit;
use crate::gguf_file::{CHUNK_BYTES, read_chunks, read_header};
use crate::output::{Output, unless_reader_gone};
use crate::progress;

/// How many problems of one kind are listed one by one.
const LISTED_PROBLEMS: usize = 20;

/// Check everything about a file that can be checked without running the model
///
/// Header, sizes, offsets, overlaps and bytes behind the last tensor; that every scale in every block, and every weight
/// that is stored as a plain number, is finite, and that none lies where it cannot be (reads the whole file); that it
/// holds the tensors of a gpt-oss model in the right shapes and a usable tokenizer; of a split model all parts. A file
/// without a fault is called sound only if its SHA-256 is one that somebody published: that given with --sha256, its
/// name in the hub's cache or among Ollama's blobs, FILE.sha256, or FILE.hashes.json of `gguf-serve hash`. Exit status
/// 1 if anything is wrong.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  pylon gguf verify models/nano/gpt-oss-nano.gguf")]
pub struct Args {
    /// GGUF file; any part of a split model stands for all of them
    path: PathBuf,
    /// The SHA-256 that its publisher states; of a split model one for each part, in their order
    #[arg(long, value_name = "HEX", num_args = 1..)]
    sha256: Vec<String>,
    /// One JSON object instead of text
    #[arg(long)]
    json: bool,
}

/// What one check found.
#[derive(Debug, Serialize)]
struct Check {
    check: &'static str,
    ok: bool,
    /// What was checked.
    detail: String,
    problems: Vec<String>,
    /// Remarks that are no problems.
    notes: Vec<String>,
}

impl Check {
    fn new(check: &'static str, detail: String, problems: Vec<String>) -> Self {
        Self { check, ok: problems.is_empty(), detail, problems, notes: Vec::new() }
    }
}

#[derive(Serialize)]
struct Report {
    path: String,
    parts: usize,
    ok: bool,
    /// Whether every file has a published SHA-256.
    vouched_for: bool,
    published: Vec<Option<Published>>,
    checks: Vec<Check>,
}

impl Report {
    fn verdict(&self) -> String {
        let by: Vec<&str> = self.published.iter().flatten().map(|published| published.by.as_str()).collect();
        match (self.ok, self.vouched_for) {
            (false, _) => "not sound".to_owned(),
            (true, true) => format!("sound: matches the published hash ({})", by.join(", ")),
            (true, false) => {
                "no fault found, unverified: nothing vouches for these bytes (no published hash)".to_owned()
            }
        }
    }
}

/// A file whose header could be read.
struct Part {
    name: String,
    source: FileSource,
    gguf: Gguf,
}

pub fn run(args: &Args) -> Result<ExitCode, CliError> {
    // A missing file that was named is no finding about it.
    FileSource::open(&args.path)?;
    let paths = part_paths(&args.path);
    let published = published(&paths, &args.sha256)?;
    let mut checks = check_all(&paths)?;
    // If some files are missing, the first check says so.
    if checks[0].ok {
        checks.push(check_hashes(&paths, &published)?);
    }
    let ok = checks.iter().all(|check| check.ok);
    let vouched_for = ok && published.iter().all(Option::is_some);
    let report =
        Report { path: args.path.display().to_string(), parts: paths.len(), ok, vouched_for, published, checks };
    unless_reader_gone(write(&report, args.json))?;
    Ok(if ok { exit::SUCCESS } else { ExitCode::from(exit::FAILED) })
}

/// The hash of each file, as far as somebody published it.
fn published(paths: &[PathBuf], given: &[String]) -> Result<Vec<Option<Published>>, CliError> {
    if given.is_empty() {
        return Ok(paths.iter().map(|path| Published::find(path)).collect());
    }
    if given.len() != paths.len() {
        let (what, got) = ("--sha256".to_owned(), format!("given {} times", given.len()));
        return Err(CliError::Argument { what, got, expected: format!("one for each of {} files", paths.len()) });
    }
    given.iter().map(|text| Published::given(text).map(Some)).collect()
}

fn write(report: &Report, as_json: bool) -> Result<(), CliError> {
    let mut output = Output::new();
    if as_json {
        output.json(report)?;
    } else {
        print_report(&mut output, report)?;
    }
    output.finish()
}

fn print_report(output: &mut Output, report: &Report) -> Result<(), CliError> {
    for check in &report.checks {
        output.line(format_args!(
            "{:4}  {:10}  {}",
            if check.ok { "ok" } else { "FAIL" },
            check.check,
            check.detail
        ))?;
        for problem in check.problems.iter().take(LISTED_PROBLEMS) {
            output.line(format_args!("      - {problem}"))?;
        }
        for note in &check.notes {
            output.line(format_args!("      note: {note}"))?;
        }
        if check.problems.len() > LISTED_PROBLEMS {
            output.line(format_args!("      and {} more; --json lists all", check.problems.len() - LISTED_PROBLEMS))?;
        }
    }
    output.line(format_args!("{}: {}", report.path, report.verdict()))
}

/// Runs all checks; those that need the result of a failed one are left out.
fn check_all(paths: &[PathBuf]) -> Result<Vec<Check>, CliError> {
    let (mut parts, mut problems) = (Vec::new(), Vec::new());
    for path in paths {
        match open(path) {
            Ok(part) => parts.push(part),
            Err(error) => problems.push(error.to_string()),
        }
    }
    let mut header = Check::new("header", described(&parts), problems);
    header.notes = parts.iter().flat_map(|part| file_notes(&part.gguf)).collect();
    let mut checks = vec![header];
    if parts.is_empty() {
        return Ok(checks);
    }
    let joined = join(&parts, paths.len());
    if paths.len() > 1 || joined.is_err() {
        let detail = format!("{} of {} parts, {} tensors", parts.len(), paths.len(), tensors(&parts).count());
        checks.push(Check::new("parts", detail, joined.as_ref().err().cloned().into_iter().collect()));
    }
    checks.push(check_layout(&parts));
    checks.extend(check_numbers(&parts)?);
    if let Ok(joined) = &joined {
        checks.push(model::check_model(joined));
        checks.push(model::check_tokenizer(joined));
    }
    Ok(checks)
}

/// The header of one file: counts, lengths, shapes, offsets, overlaps and truncation are the reader's work.
fn open(path: &Path) -> Result<Part, CliError> {
    let source = FileSource::open(path)?;
    let gguf = read_header(&source)?.map_err(|error| CliError::gguf(path, error))?;
    Ok(Part { name: source.name().to_owned(), source, gguf })
}

fn described(parts: &[Part]) -> String {
    let describe = |Part { name, gguf, .. }: &Part| {
        let (version, keys, tensors) = (gguf.version, gguf.metadata.len(), gguf.tensors.len());
        format!("{name}: version {version}, {keys} keys, {tensors} tensors, {} bytes", gguf.file_len)
    };
    match parts {
        [] => "cannot be read".to_owned(),
        parts => parts.iter().map(describe).collect::<Vec<_>>().join("; "),
    }
}

/// The joint header of all parts, or why they are no whole model.
fn join(parts: &[Part], count: usize) -> Result<Gguf, String> {
    if parts.len() < count {
        return Err(format!("{} of {count} parts cannot be read", count - parts.len()));
    }
    Gguf::join(parts.iter().map(|part| (part.name.clone(), part.gguf.clone())).collect())
        .map_err(|error| error.to_string())
}

fn tensors(parts: &[Part]) -> impl Iterator<Item = &TensorInfo> {
    parts.iter().flat_map(|part| &part.gguf.tensors)
}

/// Checks that tensor data is laid out as ggml demands: one behind the other, padded to the alignment, and nothing
/// behind the last.
fn check_layout(parts: &[Part]) -> Check {
    let mut problems = Vec::new();
    for part in parts {
        let gguf = &part.gguf;
        // Tensors without weights lie nowhere.
        let mut by_offset: Vec<&TensorInfo> = gguf.tensors.iter().filter(|tensor| !tensor.is_empty()).collect();
        by_offset.sort_by_key(|tensor| tensor.offset);
        let mut expected = gguf.data_offset;
        for tensor in by_offset {
            if tensor.offset != expected {
                problems.push(format!(
                    "{}: {} begins at byte {}; expected {expected}, where the one before it ends",
                    part.name, tensor.name, tensor.offset
                ));
            }
            expected = (tensor.offset + tensor.size_bytes).next_multiple_of(gguf.alignment);
        }
        if gguf.file_len > expected {
            let surplus = gguf.file_len - expected;
            problems.push(format!("{}: {surplus} bytes follow behind the last tensor; expected none", part.name));
        }
    }
    let bytes: u64 = tensors(parts).map(|tensor| tensor.size_bytes).sum();
    Check::new("layout", format!("{} tensors, {bytes} bytes of data", tensors(parts).count()), problems)
}

/// Checks that every scale and every plain weight is finite, and that all bytes make sense where they are. Reads
/// everything.
fn check_numbers(parts: &[Part]) -> Result<[Check; 2], CliError> {
    let total = tensors(parts).map(|tensor| tensor.size_bytes).sum();
    let bar = progress::bytes("reading", total);
    let (mut problems, mut nonsense, mut blocks) = (Vec::new(), Vec::new(), 0);
    for part in parts {
        let sense = Sense::new(&part.gguf);
        for tensor in part.gguf.tensors.iter().filter(|tensor| !tensor.is_empty()) {
            match check_tensor(part, tensor, &sense, &mut nonsense, &bar)? {
                Ok(checked) => blocks += checked,
                Err(problem) => problems.push(problem),
            }
        }
    }
    bar.finish_and_clear();
    let detail = format!("{blocks} blocks, {total} bytes");
    Ok([Check::new("numbers", detail.clone(), problems), Check::new("sense", detail, nonsense)])
}

/// Number of blocks checked, or the problem. The first bytes that make no sense go to `nonsense`.
fn check_tensor(
    part: &Part,
    tensor: &TensorInfo,
    sense: &Sense,
    nonsense: &mut Vec<String>,
    bar: &ProgressBar,
) -> Result<Result<u64, String>, CliError> {
    // The type that Ollama's first files have under another number is stored in blocks as MXFP4 is.
    let early = tensor.kind == TensorType::EARLY_OLLAMA_MXFP4 && tensor.size_bytes > 0;
    let kind = if early { TensorType::Mxfp4 } else { tensor.kind };
    let (Some(block_bytes), Some(numbers)) = (kind.block_bytes(), numbers_of(kind)) else {
        return Ok(Err(format!("{} is of type {}, whose scales cannot be checked", tensor.name, tensor.kind)));
    };
    let (mut bad, mut first, mut blocks, mut odd) = (0, None, 0, None);
    let chunk_bytes = CHUNK_BYTES / block_bytes * block_bytes;
    read_chunks(&part.source, tensor.offset, tensor.size_bytes, chunk_bytes, |offset, bytes| {
        if odd.is_none() {
            let copy = |at: u64, to: &mut [u8]| to.copy_from_slice(&bytes[(at - offset) as usize..][..to.len()]);
            odd = sense.check(offset..offset + bytes.len() as u64, Sampling::EVERYTHING, copy).err();
        }
        let (count, at) = bad_blocks(bytes, block_bytes as usize, numbers);
        bad += count;
        first = first.or(at.map(|at| blocks + at));
        blocks += bytes.len() as u64 / block_bytes;
        bar.inc(bytes.len() as u64);
        Ok(())
    })?;
    nonsense.extend(odd.map(|odd| format!("{}: {odd}", part.name)));
    Ok(match first {
        None => Ok(blocks),
        Some(first) => Err(format!(
            "{} ({}): {bad} of {blocks} blocks hold an infinite scale or none, the first is block {first}, at byte {} of {}",
            tensor.name,
            tensor.kind,
            tensor.offset + first * block_bytes,
            part.name
        )),
    })
}
