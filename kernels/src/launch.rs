//! Calls of operations as data, the kernels compiled for them, and launches: a call bound to its buffers, ready to be
//! recorded any number of times.

use std::ops::{Deref, RangeInclusive};
use std::rc::Rc;

use bytemuck::NoUninit;
use gptoss_protocol::Tier;

use crate::gpu::{Gpu, GpuBuffer};
use crate::operation::{Geometry, Operation};
use crate::step::Step;

/// One use of an operation, with its operands. `B` is a buffer, or stands for one that is not allocated yet.
#[derive(Clone, Debug, PartialEq)]
pub struct Call<B> {
    /// The operation.
    pub operation: Operation,
    /// Buffers in the order of the bindings: the step, and after the parameters all others.
    pub buffers: Vec<B>,
    /// Contents of the uniform buffer for parameters.
    pub params: Vec<u8>,
    /// Workgroups along x.
    pub x: Extent,
    /// Workgroups along y.
    pub y: Extent,
}

impl<B> Call<B> {
    pub(crate) fn new<P: NoUninit>(
        operation: Operation,
        params: &P,
        buffers: impl Into<Vec<B>>,
        (x, y): (Extent, Extent),
    ) -> Self {
        let buffers = buffers.into();
        assert_eq!(buffers.len() + 1, operation.accesses().len(), "{operation:?} binds them all");
        Self { operation, buffers, params: bytemuck::bytes_of(params).to_vec(), x, y }
    }
}

impl<B> Call<B> {
    /// The same call on other buffers.
    pub fn map<C>(&self, buffer: impl Fn(&B) -> C) -> Call<C> {
        let Self { operation, ref buffers, ref params, x, y } = *self;
        Call { operation, buffers: buffers.iter().map(buffer).collect(), params: params.clone(), x, y }
    }
}

/// A compiled operation: one layout, and the pipelines of its chosen variants. They differ only in source and
/// constants, so that one bind group serves all.
struct Kernel {
    operation: Operation,
    layout: wgpu::BindGroupLayout,
    pipelines: Rc<[Pipeline]>,
}

struct Pipeline {
    tokens: RangeInclusive<u32>,
    compiled: wgpu::ComputePipeline,
}

impl Kernel {
    fn compile(gpu: &Gpu, operation: Operation, tier: Tier) -> Self {
        let layout = gpu.bind_group_layout(operation.name(), operation.accesses());
        let geometry = Geometry { lanes_per_row: gpu.lanes_per_row() };
        let pipelines = operation
            .chosen(geometry, tier)
            .into_iter()
            .map(|variant| {
                let constants: Vec<_> =
                    variant.constants.iter().map(|&(name, value)| (name, f64::from(value))).collect();
                let compiled = gpu.pipeline(operation.name(), &variant.source, &layout, &constants);
                Pipeline { tokens: variant.tokens, compiled }
            })
            .collect();
        Self { operation, layout, pipelines }
    }
}

/// The kernels of some operations, compiled for one device.
pub struct Kernels(Vec<Kernel>);

impl Kernels {
    /// Compiles each operation once.
    pub fn compile(gpu: &Gpu, operations: impl IntoIterator<Item = Operation>) -> Self {
        Self::compile_at(gpu, gpu.tier(), operations)
    }

    /// Compiles each operation once, as a device of `tier` would, which is at most that of the device at hand.
    ///
    /// # Panics
    /// The device lacks what the tier needs.
    pub fn compile_at(gpu: &Gpu, tier: Tier, operations: impl IntoIterator<Item = Operation>) -> Self {
        assert!(tier <= gpu.tier(), "kernels of {tier} on a device of {}", gpu.tier());
        let mut kernels: Vec<Kernel> = Vec::new();
        for operation in operations {
            if !kernels.iter().any(|known| known.operation == operation) {
                kernels.push(Kernel::compile(gpu, operation, tier));
            }
        }
        Self(kernels)
    }

    /// The compiled operations, each once.
    pub fn operations(&self) -> impl Iterator<Item = Operation> {
        self.0.iter().map(|kernel| kernel.operation)
    }

    /// Binds a call to its buffers and allocates its parameters.
    ///
    /// # Panics
    /// The operation was not compiled.
    pub fn bind<B: Deref<Target = GpuBuffer>>(&self, gpu: &Gpu, call: &Call<B>) -> Launch {
        let name = call.operation.name();
        let kernel = self.0.iter().find(|kernel| kernel.operation == call.operation);
        let Kernel { layout, pipelines, .. } = kernel.expect("compiled for every operation of the recipe");
        let params = gpu.uniform_bytes(name, &call.params);
        let mut resources: Vec<_> = call.buffers.iter().map(|buffer| buffer.whole()).collect();
        resources.insert(1, params.whole());
        Launch {
            name,
            pipelines: Rc::clone(pipelines),
            bind_group: gpu.bind_group(name, layout, &resources),
            x: call.x.on(gpu.rows_per_group()),
            y: call.y.on(gpu.rows_per_group()),
            _params: params,
        }
    }
}

/// Number of workgroups along one axis of the grid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    /// The same number for every batch.
    Fixed(u32),
    /// Enough workgroups for this many rows of weights; a workgroup takes as many as suits the adapter
    /// ([`Gpu::rows_per_group`]).
    Rows(u32),
    /// One workgroup for each `per_group` tokens of the batch (for each token if there is only one), times `times`.
    Tokens {
        /// Tokens that one workgroup computes.
        per_group: u32,
        /// Factor of the number of workgroups.
        times: u32,
    },
    /// Like `Tokens`, but counts only the tokens whose logits are wanted.
    HeadTokens {
        /// Tokens that one workgroup computes.
        per_group: u32,
    },
    /// One thread for each item, with `items` per token of the batch.
    Threads {
        /// Items of one token.
        items: u32,
        /// Threads in a workgroup.
        threads: u32,
    },
}

impl Extent {
    /// A single workgroup.
    pub const ONE: Self = Self::Fixed(1);
    /// One workgroup for each token.
    pub const EACH_TOKEN: Self = Self::Tokens { per_group: 1, times: 1 };
    /// One workgroup for each token whose logits are wanted.
    pub const EACH_HEAD_TOKEN: Self = Self::HeadTokens { per_group: 1 };

    /// Number of workgroups for this batch, 0 if there is no work.
    ///
    /// # Panics
    /// Rows are not counted in workgroups yet ([`Extent::on`]).
    pub fn groups(self, step: &Step) -> u32 {
        let grouped = |tokens: u32, per_group: u32| if tokens == 1 { 1 } else { tokens.div_ceil(per_group) };
        match self {
            Self::Fixed(groups) => groups,
            Self::Rows(_) => unreachable!("counted in workgroups when it was bound"),
            Self::Tokens { per_group, times } => grouped(step.tokens, per_group) * times,
            Self::HeadTokens { per_group } => grouped(step.head_tokens, per_group),
            Self::Threads { items, threads } => (step.tokens * items).div_ceil(threads),
        }
    }

    /// Converts rows to workgroups, given how many rows a workgroup computes ([`Gpu::rows_per_group`]).
    #[must_use]
    pub fn on(self, rows_per_group: u32) -> Self {
        match self {
            Self::Rows(rows) => Self::Fixed(rows.div_ceil(rows_per_group)),
            other => other,
        }
    }

    /// Whether it counts only the tokens whose logits are wanted.
    pub fn is_head(self) -> bool {
        matches!(self, Self::HeadTokens { .. })
    }
}

/// A call bound to buffers.
pub struct Launch {
    name: &'static str,
    pipelines: Rc<[Pipeline]>,
    bind_group: wgpu::BindGroup,
    x: Extent,
    y: Extent,
    /// Kept alive as long as the launch.
    _params: GpuBuffer,
}

impl Launch {
    /// Name of the operation.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Whether a batch has any work for this launch.
    pub(crate) fn has_work(&self, step: &Step) -> bool {
        self.x.groups(step) > 0 && self.y.groups(step) > 0
    }

    /// Records the launch for a batch that has work for it.
    pub(crate) fn record(&self, pass: &mut wgpu::ComputePass<'_>, step: &Step) {
        let (x, y) = (self.x.groups(step), self.y.groups(step));
        let tokens = if self.x.is_head() || self.y.is_head() { step.head_tokens } else { step.tokens };
        let pipeline = self.pipelines.iter().find(|pipeline| pipeline.tokens.contains(&tokens));
        pass.set_pipeline(&pipeline.expect("there is a variant for any number of tokens").compiled);
        pass.set_bind_group(0, &self.bind_group, &[]);
        pass.dispatch_workgroups(x, y, 1);
    }
}

/// Records launches in order into one pass of `encoder`; those that the batch has no work for are left out.
pub fn record<'a>(
    gpu: &Gpu,
    encoder: &mut wgpu::CommandEncoder,
    step: &Step,
    launches: impl IntoIterator<Item = &'a Launch>,
) {
    let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
    for launch in launches.into_iter().filter(|launch| launch.has_work(step)) {
        launch.record(&mut pass, step);
        gpu.count_dispatches(1);
    }
}
