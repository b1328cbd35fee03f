//! What a `Command::Gate` asks for: which gates run, in which order, and on what.

use std::rc::Rc;

use gptoss_gguf::{Gguf, TensorType};
use gptoss_kernels::{Gpu, GpuOptions};
use gptoss_model::{EngineError, Host, StageError, in_stage, milliseconds_since, read_parts};
use gptoss_protocol::{Event, GateSlice, GateVerdict, GateWhole, Stage};
use gptoss_source::Source;
use web_time::Instant;

use crate::determinism::{self, Reopen};
use crate::error::GateError;
use crate::file::{GatedFile, Part};
use crate::report::Report;
use crate::slice::{Slice, Tiers};
use crate::whole::{self, Reach, Size, Subject, correctness, logits};
use crate::{index, limits, mxfp4, slice as gate_c};

/// What gates are to look at.
#[derive(Clone, Copy)]
pub struct Wanted<'a> {
    /// Where the file is.
    pub path: &'a str,
    /// A slice of a tensor.
    pub slice: Option<&'a GateSlice>,
    /// The whole model.
    pub whole: Option<&'a GateWhole>,
    /// Opens the file anew.
    pub again: &'a dyn Reopen,
}

/// Runs gates on the file behind `source`, and on what is wanted of it; tells a report of each and gives the worst of their
/// verdicts. The device that is opened for it goes with it.
///
/// # Errors
/// STOP. Everything else is a verdict.
pub async fn run(source: Rc<dyn Source>, wanted: Wanted<'_>, host: &dyn Host) -> Result<GateVerdict, StageError> {
    let begin = Instant::now();
    let mut ends = Ends { path: wanted.path, verdict: GateVerdict::Pass };
    let done = run_all(&source, wanted, &mut ends, host).await;
    if let Err(GateError::Engine(error @ EngineError::Cancelled)) = done {
        return Err(StageError { stage: Stage::WeightsFetch, error });
    }
    let elapsed_ms = milliseconds_since(begin);
    host.emit(Event::GatesEnded { verdict: ends.verdict, elapsed_ms });
    Ok(ends.verdict)
}

/// How gates end.
struct Ends<'a> {
    path: &'a str,
    /// The worst verdict so far.
    verdict: GateVerdict,
}

impl Ends<'_> {
    fn begin(&self, gate: char, title: &'static str) -> Report {
        Report::new(gate, title, self.path.to_owned())
    }

    /// A gate is over: an error before its end is a verdict as well.
    ///
    /// # Errors
    /// STOP.
    fn end(&mut self, mut report: Report, done: Result<(), GateError>, host: &dyn Host) -> Result<(), GateError> {
        match done {
            Ok(()) => {}
            Err(GateError::Engine(EngineError::Cancelled)) => return Err(EngineError::Cancelled.into()),
            Err(error) => {
                let message = error.message(self.path);
                report.advise(error.advice());
                if error.is_missing() {
                    report.could_not_run(message);
                } else {
                    report.check("runs to its end", false, message);
                }
            }
        }
        self.verdict = match (self.verdict, report.verdict()) {
            (GateVerdict::Fail, _) | (_, GateVerdict::Fail) => GateVerdict::Fail,
            (GateVerdict::CouldNotRun, _) | (_, GateVerdict::CouldNotRun) => GateVerdict::CouldNotRun,
            (GateVerdict::Pass, GateVerdict::Pass) => GateVerdict::Pass,
        };
        host.emit(report.finish().to_event());
        Ok(())
    }
}

async fn run_all(
    source: &Rc<dyn Source>,
    wanted: Wanted<'_>,
    ends: &mut Ends<'_>,
    host: &dyn Host,
) -> Result<(), GateError> {
    let mut report = ends.begin('a', index::TITLE);
    let read = in_stage(host, Stage::GgufHeader, read_parts(source.as_ref(), host)).await.map_err(GateError::of_stage);
    let joined = read.and_then(|parts| {
        let gguf = Gguf::join(parts.clone()).map_err(EngineError::from)?;
        Ok((parts, gguf))
    });
    let (parts, gguf) = match joined {
        Ok(headers) => headers,
        Err(error) => return ends.end(report, Err(error), host),
    };
    host.emit(Event::GateTensors { tensors: gate_c::described(&gguf) });
    let parts: Vec<Part<'_>> = parts.iter().map(|(name, gguf)| Part { name, gguf }).collect();
    let file = GatedFile { source, gguf: &gguf, parts: &parts };
    let done = index::check(&file, index::USUAL_LIMIT, &mut report);
    ends.end(report, done, host)?;

    if wanted.whole.is_some() {
        let mut report = ends.begin('b', determinism::TITLE);
        let read = determinism::check(&file, wanted.again, determinism::USUAL_READINGS, &mut report, host).await;
        ends.end(report, read.map(drop), host)?;
    }
    let slices = match wanted.slice {
        None if wanted.whole.is_none() => return Ok(()),
        None => Vec::new(),
        Some(slice) if slice.tensor.is_some() => vec![slice.clone()],
        Some(slice) => of_each_type(&gguf, slice.tolerance),
    };
    let mut report = ends.begin('e', limits::TITLE);
    let gpu = match limits::open_device(&GpuOptions::default(), &mut report, host).await {
        Ok(gpu) => gpu,
        // Without a device there is nothing that the others could do.
        Err(error) => return ends.end(report, Err(error), host),
    };
    let done = limits::check(&gguf, &gpu, &mut report, host).await;
    ends.end(report, done, host)?;
    for asked in &slices {
        run_slice(&file, asked, &gpu, ends, host).await?;
    }
    match wanted.whole {
        Some(asked) => run_whole(&file, asked, &gpu, ends, host).await,
        None => Ok(()),
    }
}

/// Runs gates d and g on one load of the model.
async fn run_whole(
    file: &GatedFile<'_>,
    asked: &GateWhole,
    gpu: &Rc<Gpu>,
    ends: &mut Ends<'_>,
    host: &dyn Host,
) -> Result<(), GateError> {
    let tolerance = asked.tolerance.unwrap_or(whole::USUAL_TOLERANCE);
    let size = Size { layers: asked.layers, ..Size::default() };
    let mut report = ends.begin('d', correctness::TITLE);
    limits::describe_device(gpu, &mut report);
    let subject = match Subject::new(file, &size, Reach::BeyondWindow, &mut report) {
        Ok(subject) => subject,
        Err(error) => return ends.end(report, Err(error), host),
    };
    let mut model = match subject.on_gpu(gpu, host).await {
        Ok(model) => model,
        // What gate g needs is the same.
        Err(error) => return ends.end(report, Err(error), host),
    };
    let expected = match correctness::check(&subject, &mut model, tolerance, &mut report, host).await {
        Ok(expected) => expected,
        Err(error) => return ends.end(report, Err(error), host),
    };
    ends.end(report, Ok(()), host)?;

    let mut report = ends.begin('g', logits::TITLE);
    let on_cpu = |shorter: &Subject<'_>| {
        // A token's logits depend on those before it alone: they were worked out already.
        debug_assert!(subject.tokens.starts_with(&shorter.tokens), "both run the same prompt");
        expected.after(&shorter.tokens, shorter.config.vocabulary)
    };
    let shorter = Subject::new(file, &size, Reach::Prompt, &mut report);
    let done = match shorter {
        Ok(shorter) => {
            report.fact("CPU", "scalar arithmetic, as in gate d");
            logits::check(&shorter, on_cpu(&shorter), Some(&mut model), tolerance, &mut report, host).await
        }
        Err(error) => Err(error),
    };
    ends.end(report, done, host)
}

/// Runs gate c on a slice, and gate f on the same bytes where they are of type 39.
async fn run_slice(
    file: &GatedFile<'_>,
    asked: &GateSlice,
    gpu: &Gpu,
    ends: &mut Ends<'_>,
    host: &dyn Host,
) -> Result<(), GateError> {
    let mut report = ends.begin('c', gate_c::TITLE);
    let slice = match Slice::asked_for(file, asked) {
        Ok(slice) => slice,
        Err(error) => return ends.end(report, Err(error), host),
    };
    let mut decoded = mxfp4::Decoded::default();
    let is_type_39 = mxfp4::is_of(slice.tensor);
    let mut look = |first_block: u64, bytes: &[u8]| {
        if is_type_39 {
            decoded.add(slice.tensor, first_block, bytes);
        }
    };
    let done = gate_c::check(file, &slice, gpu, Tiers::Each, &mut report, host, &mut look).await;
    let was_read = done.is_ok();
    let done = done.map(|figures| report.figures(figures));
    ends.end(report, done, host)?;
    if is_type_39 && was_read {
        let mut report = ends.begin('f', mxfp4::TITLE);
        mxfp4::tensors(file, &mut report);
        decoded.note(&mut report);
        ends.end(report, Ok(()), host)?;
    }
    Ok(())
}

/// The first matrix of each type, in the order of the file; one of a type that is not multiplied here is refused with the
/// reason. A type that only vectors have is none that anything multiplies.
fn of_each_type(gguf: &Gguf, tolerance: Option<f64>) -> Vec<GateSlice> {
    let mut kinds: Vec<TensorType> = Vec::new();
    let mut wanted = Vec::new();
    for tensor in gguf.tensors.iter().filter(|tensor| tensor.shape.len() > 1 && !tensor.is_empty()) {
        if !kinds.contains(&tensor.kind) {
            kinds.push(tensor.kind);
            wanted.push(GateSlice { tensor: Some(tensor.name.clone()), tolerance, ..GateSlice::default() });
        }
    }
    wanted
}
