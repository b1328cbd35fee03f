//! How long each launch takes, by the clock of the GPU.

use crate::gpu::{Gpu, GpuBuffer};
use crate::launch::Launch;
use crate::step::Step;
use gptoss_model::GpuError;

/// Most launches of a submission that are timed: WebGPU allows 4096 values in a query set, and each launch needs two.
const MOST_LAUNCHES: u32 = 2048;

/// Time of all launches of one operation, each in a pass of its own.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Timing {
    /// Name of the operation, see [`crate::Operation::name`].
    pub name: &'static str,
    /// Number of launches.
    pub launches: u32,
    /// Time of all of them together.
    pub nanoseconds: f64,
}

/// Times the launches that it records. Each has a pass of its own, so that nothing overlaps; together they take longer
/// than in one pass.
pub struct Stopwatch {
    queries: wgpu::QuerySet,
    /// Buffer for two values of eight bytes per launch.
    resolved: GpuBuffer,
    nanoseconds_per_tick: f64,
    /// Launches that were timed since the last [`Stopwatch::resolve`].
    names: Vec<&'static str>,
    /// Submissions whose times are not read yet: names of the launches, and the buffer with the times.
    recorded: Vec<(Vec<&'static str>, GpuBuffer)>,
}

impl Stopwatch {
    /// Bytes that tell the time of one launch.
    pub const LAUNCH_BYTES: u64 = 16;
    /// Most bytes that tell the times of a submission.
    pub const MOST_BYTES: u64 = MOST_LAUNCHES as u64 * Self::LAUNCH_BYTES;

    /// `None` where the device cannot tell the time.
    pub fn new(gpu: &Gpu) -> Option<Self> {
        let device = gpu.device();
        if !device.features().contains(wgpu::Features::TIMESTAMP_QUERY) {
            return None;
        }
        let queries = device.create_query_set(&wgpu::QuerySetDescriptor {
            label: Some("stopwatch"),
            ty: wgpu::QueryType::Timestamp,
            count: 2 * MOST_LAUNCHES,
        });
        let usage = wgpu::BufferUsages::QUERY_RESOLVE | wgpu::BufferUsages::COPY_SRC;
        Some(Self {
            queries,
            resolved: gpu.buffer("stopwatch", u64::from(2 * MOST_LAUNCHES) * 8, usage),
            nanoseconds_per_tick: f64::from(gpu.queue().get_timestamp_period()),
            names: Vec::new(),
            recorded: Vec::new(),
        })
    }

    /// Records launches in order, behind those that were timed since the last [`Stopwatch::resolve`]; of all of them only the
    /// first 2048 are timed.
    pub fn time<'a>(
        &mut self,
        gpu: &Gpu,
        encoder: &mut wgpu::CommandEncoder,
        step: &Step,
        launches: impl IntoIterator<Item = &'a Launch>,
    ) {
        let mut count = 0;
        for launch in launches.into_iter().filter(|launch| launch.has_work(step)) {
            let index = self.names.len() as u32;
            let is_timed = index < MOST_LAUNCHES;
            let writes = wgpu::ComputePassTimestampWrites {
                query_set: &self.queries,
                beginning_of_pass_write_index: Some(2 * index),
                end_of_pass_write_index: Some(2 * index + 1),
            };
            let descriptor = wgpu::ComputePassDescriptor {
                label: Some(launch.name()),
                timestamp_writes: is_timed.then_some(writes),
            };
            launch.record(&mut encoder.begin_compute_pass(&descriptor), step);
            count += 1;
            if is_timed {
                self.names.push(launch.name());
            }
        }
        gpu.count_dispatches(count);
    }

    /// Has the ticks of all launches that were timed copied to `into`, from byte `at` on: [`Stopwatch::LAUNCH_BYTES`] for each.
    /// Returns their names.
    pub fn resolve(&mut self, encoder: &mut wgpu::CommandEncoder, into: &GpuBuffer, at: u64) -> Vec<&'static str> {
        let names = std::mem::take(&mut self.names);
        if !names.is_empty() {
            let bytes = names.len() as u64 * Self::LAUNCH_BYTES;
            encoder.resolve_query_set(&self.queries, 0..2 * names.len() as u32, self.resolved.raw(), 0);
            encoder.copy_buffer_to_buffer(self.resolved.raw(), 0, into.raw(), at, bytes);
        }
        names
    }

    /// Records launches in order, to be [`read`](Self::read) together with others; those beyond the first 2048 are not timed.
    pub fn record<'a>(
        &mut self,
        gpu: &Gpu,
        encoder: &mut wgpu::CommandEncoder,
        step: &Step,
        launches: impl IntoIterator<Item = &'a Launch>,
    ) {
        self.time(gpu, encoder, step, launches);
        if self.names.is_empty() {
            return;
        }
        let staging = gpu.staging("stopwatch", self.names.len() as u64 * Self::LAUNCH_BYTES);
        let names = self.resolve(encoder, &staging, 0);
        self.recorded.push((names, staging));
    }

    /// Waits for everything that was recorded, and adds times up by operation, in order of first use.
    ///
    /// # Errors
    /// Those of the device.
    pub async fn read(&mut self, gpu: &Gpu) -> Result<Vec<Timing>, GpuError> {
        let mut timings: Vec<Timing> = Vec::new();
        for (names, staging) in std::mem::take(&mut self.recorded) {
            let bytes = gpu.read_mapped(&staging, staging.size_bytes()).await?;
            self.add(&mut timings, &names, &bytes);
        }
        Ok(timings)
    }

    /// Adds the times of launches, given what [`Stopwatch::resolve`] had copied, to those of their operations.
    pub fn add(&self, timings: &mut Vec<Timing>, names: &[&'static str], bytes: &[u8]) {
        let ticks: Vec<u64> = bytemuck::pod_collect_to_vec(bytes);
        for (&name, pair) in names.iter().zip(ticks.as_chunks::<2>().0) {
            // The clocks of some drivers go back by a tick.
            let nanoseconds = pair[1].saturating_sub(pair[0]) as f64 * self.nanoseconds_per_tick;
            match timings.iter_mut().find(|timing| timing.name == name) {
                Some(timing) => {
                    timing.launches += 1;
                    timing.nanoseconds += nanoseconds;
                }
                None => timings.push(Timing { name, launches: 1, nanoseconds }),
            }
        }
    }
}
