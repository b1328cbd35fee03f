//! Known vectors through every kernel on the user's own adapter, before its results are trusted.
//!
//! Compilers and drivers have been seen to compute fluent nonsense. Each check runs a compiled kernel on small made-up
//! inputs and compares the result with the scalar reference. All of them together are one submission and one readback.
//!
//! The bound is about thirty times what the kernels' own tests allow, since adapters may round, fuse and approximate as
//! WGSL lets them; a wrong constant, index or sign is beyond it.

mod dense;
mod experts;
mod heads;
mod inputs;
mod sample;

use std::rc::Rc;

use gptoss_model::ops::router::Route;
use gptoss_model::{GpuError, WrongResult};
use half::f16;

use self::inputs::Random;
use crate::gpu::{Gpu, GpuBuffer};
use crate::launch::{self, Call, Kernels, Launch};
use crate::step::{Status, Step};

/// Allowed difference, relative to the root mean square of a result.
const TOLERANCE: f64 = 1e-4;
/// Allowed rounding of values in an F16 cache, relative to each value: WGSL leaves it to the device, one unit in the
/// last place.
const F16_ROUNDING: f64 = 1.0 / 1024.0;
/// Content of output buffers before a kernel runs.
const UNTOUCHED: f32 = 0.75;
/// Version of the checks, raised whenever they change: remembered results of older ones do not count.
const VERSION: u32 = 5;

/// The right result of a kernel, and how exactly it must be met.
enum Want {
    /// F32 values, within [`TOLERANCE`].
    Close(Vec<f32>),
    /// F16 values, within [`F16_ROUNDING`].
    Half(Vec<f32>),
    /// Words that must be equal to the bit.
    Exact(Vec<u32>),
    /// Experts that must be equal, with weights as F32 values.
    Routes(Vec<Route>),
}

impl Want {
    fn bytes(&self) -> u64 {
        (match self {
            Self::Close(values) => values.len() * 4,
            Self::Half(values) => values.len() * 2,
            Self::Exact(words) => words.len() * 4,
            Self::Routes(routes) => size_of_val(&routes[..]),
        }) as u64
    }
}

/// A buffer to be compared after the run.
struct Expected {
    kernel: String,
    what: &'static str,
    buffer: Rc<GpuBuffer>,
    offset_bytes: u64,
    want: Want,
}

/// The outcome of a passed check.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    /// Kernels that were checked; pipelines for one and for many tokens count once each.
    pub kernels: u32,
    /// The largest difference from the reference, relative to the root mean square of its result.
    pub worst_error: f64,
    /// The kernel with that difference, with its format.
    pub worst_kernel: String,
}

/// Collects checks, then runs them all.
pub struct SelfCheck<'a> {
    gpu: &'a Gpu,
    kernels: &'a Kernels,
    encoder: wgpu::CommandEncoder,
    random: Random,
    /// The batch that most checks use: nine tokens, one more than a group, and the logits of the last one.
    step: Step,
    step_buffer: Rc<GpuBuffer>,
    last_position: u32,
    running: Rc<GpuBuffer>,
    expected: Vec<Expected>,
    // Everything recorded must live until the submission is done.
    launches: Vec<Launch>,
    buffers: Vec<Rc<GpuBuffer>>,
}

/// Identifies what a remembered result applies to: these checks, this adapter with its driver, and everything compiled
/// for the device.
pub fn key(gpu: &Gpu) -> String {
    let build = env!("CARGO_PKG_VERSION");
    format!("self-check {VERSION} of {build}, pipelines {:016x}, on {}", gpu.pipelines_hash(), gpu.adapter().identity)
}

impl<'a> SelfCheck<'a> {
    /// Collects checks for a model that will be run at positions up to `last_position`.
    pub fn new(gpu: &'a Gpu, kernels: &'a Kernels, last_position: u32) -> Self {
        let tokens = 9;
        let step = Step { tokens, head_first: tokens - 1, head_tokens: 1, stamp: 7 };
        Self {
            gpu,
            kernels,
            encoder: gpu.encoder("self-check"),
            random: Random::new(20_26),
            step,
            step_buffer: Rc::new(gpu.uniform("step", &step)),
            last_position,
            running: Rc::new(gpu.storage_from("status", &[Status::running()])),
            expected: Vec::new(),
            launches: Vec::new(),
            buffers: Vec::new(),
        }
    }

    /// Runs all collected checks and compares their results.
    ///
    /// # Errors
    /// The first wrong value, with adapter and kernel; or whatever else the device does wrong.
    pub async fn run(mut self) -> Result<Report, GpuError> {
        let total: u64 = self.expected.iter().map(|expected| expected.want.bytes()).sum();
        let staging = self.gpu.staging("self-check", total);
        let mut at = 0;
        for Expected { buffer, offset_bytes, want, .. } in &self.expected {
            let bytes = want.bytes();
            self.encoder.copy_buffer_to_buffer(buffer.raw(), *offset_bytes, staging.raw(), at, bytes);
            at += bytes;
        }
        self.gpu.submit(self.encoder);
        let read = self.gpu.read_mapped(&staging, total).await?;
        let mut rest = &read[..];
        let mut report = Report { kernels: 0, worst_error: 0.0, worst_kernel: String::new() };
        let mut before = "";
        for expected in &self.expected {
            let (got, later) = rest.split_at(expected.want.bytes() as usize);
            rest = later;
            let wrong = |Difference { index, expected: value, got }| {
                let (adapter, kernel) = (self.gpu.adapter().name.clone(), expected.kernel.clone());
                let what = expected.what;
                GpuError::Wrong(Box::new(WrongResult { adapter, kernel, what, index, expected: value, got }))
            };
            let error = compare(&expected.want, got).map_err(wrong)?;
            if error > report.worst_error || report.worst_kernel.is_empty() {
                report.worst_error = error;
                report.worst_kernel.clone_from(&expected.kernel);
            }
            report.kernels += u32::from(expected.kernel != before);
            before = &expected.kernel;
        }
        Ok(report)
    }

    fn keep(&mut self, buffer: GpuBuffer) -> Rc<GpuBuffer> {
        let buffer = Rc::new(buffer);
        self.buffers.push(Rc::clone(&buffer));
        buffer
    }

    fn storage<T: bytemuck::NoUninit>(&mut self, data: &[T]) -> Rc<GpuBuffer> {
        self.keep(self.gpu.storage_from("self-check", data))
    }

    /// A buffer of `count` values that no kernel has touched.
    fn output(&mut self, count: usize) -> Rc<GpuBuffer> {
        self.storage(&vec![UNTOUCHED; count])
    }

    /// Uploads a batch other than the shared one.
    fn batch(&mut self, step: Step) -> Rc<GpuBuffer> {
        self.keep(self.gpu.uniform("step", &step))
    }

    fn bind(&self, call: &Call<&GpuBuffer>) -> Launch {
        self.kernels.bind(self.gpu, call)
    }

    fn record(&mut self, step: Step, launches: Vec<Launch>) {
        launch::record(self.gpu, &mut self.encoder, &step, &launches);
        self.launches.extend(launches);
    }

    fn expect(&mut self, kernel: &str, what: &'static str, buffer: &Rc<GpuBuffer>, want: Want) {
        self.expect_at(kernel, what, buffer, 0, want);
    }

    fn expect_at(&mut self, kernel: &str, what: &'static str, buffer: &Rc<GpuBuffer>, offset_bytes: u64, want: Want) {
        let (kernel, buffer) = (kernel.to_owned(), Rc::clone(buffer));
        self.expected.push(Expected { kernel, what, buffer, offset_bytes, want });
    }
}

/// A wrong value.
struct Difference {
    index: usize,
    expected: String,
    got: String,
}

/// The largest error, or the first wrong value.
fn compare(want: &Want, got: &[u8]) -> Result<f64, Difference> {
    match want {
        Want::Close(want) => close(want, &bytemuck::pod_collect_to_vec::<u8, f32>(got), 0.0),
        Want::Half(want) => {
            let got = bytemuck::pod_collect_to_vec::<u8, f16>(got);
            close(want, &got.iter().map(|value| value.to_f32()).collect::<Vec<_>>(), F16_ROUNDING)
        }
        Want::Exact(want) => exact(want, &bytemuck::pod_collect_to_vec::<u8, u32>(got)),
        Want::Routes(want) => {
            let got = bytemuck::pod_collect_to_vec::<u8, Route>(got);
            let experts = |routes: &[Route]| routes.iter().map(|route| route.expert).collect::<Vec<_>>();
            let weights = |routes: &[Route]| routes.iter().map(|route| route.weight).collect::<Vec<_>>();
            exact(&experts(want), &experts(&got))?;
            close(&weights(want), &weights(&got), 0.0)
        }
    }
}

/// Compares values; `rounding` is allowed in addition to the tolerance, relative to each value.
fn close(want: &[f32], got: &[f32], rounding: f64) -> Result<f64, Difference> {
    let squares = want.iter().map(|&value| f64::from(value) * f64::from(value)).sum::<f64>();
    let scale = (squares / want.len() as f64).sqrt();
    let mut worst = 0.0f64;
    for (index, (&want, &got)) in want.iter().zip(got).enumerate() {
        let rounded = rounding * f64::from(want).abs();
        let apart = ((f64::from(want) - f64::from(got)).abs() - rounded) / scale;
        // NaN fails this comparison.
        let within = apart <= TOLERANCE;
        if !within {
            return Err(Difference { index, expected: format!("{want:e}"), got: format!("{got:e}") });
        }
        worst = worst.max(apart);
    }
    Ok(worst)
}

fn exact(want: &[u32], got: &[u32]) -> Result<f64, Difference> {
    match want.iter().zip(got).position(|(want, got)| want != got) {
        None => Ok(0.0),
        Some(index) => {
            let word = |words: &[u32]| format!("{:#010x}", words[index]);
            Err(Difference { index, expected: word(want), got: word(got) })
        }
    }
}
