//! Calls of operations as data, the kernels compiled for them, and launches: a call bound to its buffers, ready to be recorded
//! any number of times.

use std::ops::{Deref, RangeInclusive};
use std::rc::Rc;

use bytemuck::NoUninit;

use crate::gpu::{Gpu, GpuBuffer};
use crate::operation::{Geometry, Operation};
use crate::step::Step;

/// One use of an operation: on what, and how. `B` is a buffer, or stands for one that is not allocated yet.
#[derive(Clone, Debug, PartialEq)]
pub struct Call<B> {
    pub operation: Operation,
    /// In the order of the bindings: the step, and after the parameters all others.
    pub buffers: Vec<B>,
    /// Of its uniform buffer.
    pub params: Vec<u8>,
    /// The grid.
    pub x: Extent,
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
    /// The same on other buffers.
    pub fn map<C>(&self, buffer: impl Fn(&B) -> C) -> Call<C> {
        let Self { operation, ref buffers, ref params, x, y } = *self;
        Call { operation, buffers: buffers.iter().map(buffer).collect(), params: params.clone(), x, y }
    }
}

/// A compiled operation: one layout, and the pipelines of its chosen variants, which differ in source and constants only, so that
/// a bind group serves all.
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
    fn compile(gpu: &Gpu, operation: Operation) -> Self {
        let layout = gpu.bind_group_layout(operation.name(), operation.accesses());
        let geometry = Geometry { lanes_per_row: gpu.lanes_per_row() };
        let pipelines = operation
            .chosen(geometry, gpu.tier())
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
    /// Compiles each once.
    pub fn compile(gpu: &Gpu, operations: impl IntoIterator<Item = Operation>) -> Self {
        let mut kernels: Vec<Kernel> = Vec::new();
        for operation in operations {
            if !kernels.iter().any(|known| known.operation == operation) {
                kernels.push(Kernel::compile(gpu, operation));
            }
        }
        Self(kernels)
    }

    /// What was compiled, each once.
    pub fn operations(&self) -> impl Iterator<Item = Operation> {
        self.0.iter().map(|kernel| kernel.operation)
    }

    /// Binds a call to its buffers; its parameters get one of their own.
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

/// Workgroups along one axis of the grid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    Fixed(u32),
    /// Enough for so many rows of weights, as many to a workgroup as suits the adapter ([`Gpu::rows_per_group`]).
    Rows(u32),
    /// One for each `per_group` tokens of the batch (1 when there is one token), times `times`.
    Tokens {
        per_group: u32,
        times: u32,
    },
    /// As `Tokens`, over the tokens whose logits are wanted.
    HeadTokens {
        per_group: u32,
    },
    /// Enough for one thread per item, `items` for each token of the batch, in workgroups of `threads`.
    Threads {
        items: u32,
        threads: u32,
    },
}

impl Extent {
    pub const ONE: Self = Self::Fixed(1);
    /// One workgroup for each token.
    pub const EACH_TOKEN: Self = Self::Tokens { per_group: 1, times: 1 };
    /// One workgroup for each token whose logits are wanted.
    pub const EACH_HEAD_TOKEN: Self = Self::HeadTokens { per_group: 1 };

    /// How many there are for this batch, 0 where it has no work.
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

    /// With rows counted in workgroups of so many ([`Gpu::rows_per_group`]).
    #[must_use]
    pub fn on(self, rows_per_group: u32) -> Self {
        match self {
            Self::Rows(rows) => Self::Fixed(rows.div_ceil(rows_per_group)),
            other => other,
        }
    }

    /// Whether it counts the tokens whose logits are wanted.
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
    /// Lives as long as the launch.
    _params: GpuBuffer,
}

impl Launch {
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Whether a batch has any work for it.
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
