//! Kernels made once, and launches: a kernel bound to its buffers, ready to be recorded any number of times.

use std::rc::Rc;

use crate::gpu::{Access, Gpu, GpuBuffer};
use crate::step::Step;

/// A compiled kernel: one layout, and a pipeline each for one token and for many.
///
/// The two differ in override constants only (how many tokens a workgroup handles), so a bind group serves both.
pub struct Kernel {
    name: &'static str,
    layout: wgpu::BindGroupLayout,
    one_token: Rc<wgpu::ComputePipeline>,
    many_tokens: Rc<wgpu::ComputePipeline>,
}

impl Kernel {
    /// A kernel that is the same for any number of tokens.
    pub fn new(gpu: &Gpu, name: &'static str, source: &str, accesses: &[Access]) -> Self {
        let layout = gpu.bind_group_layout(name, accesses);
        let pipeline = Rc::new(gpu.pipeline(name, source, &layout, &[]));
        Self { name, layout, one_token: Rc::clone(&pipeline), many_tokens: pipeline }
    }

    /// A kernel that multiplies rows: `LANES_PER_ROW` lanes to a row, as suits the adapter ([`Gpu::lanes_per_row`]).
    pub fn by_rows(gpu: &Gpu, name: &'static str, source: &str, accesses: &[Access]) -> Self {
        Self::by_rows_with(gpu, name, source, accesses, None)
    }

    /// The same with an override constant of its own.
    pub fn by_rows_with(
        gpu: &Gpu,
        name: &'static str,
        source: &str,
        accesses: &[Access],
        constant: Option<(&'static str, u32)>,
    ) -> Self {
        let layout = gpu.bind_group_layout(name, accesses);
        let lanes = ("LANES_PER_ROW", gpu.lanes_per_row());
        let constants: Vec<_> =
            constant.into_iter().chain([lanes]).map(|(name, value)| (name, f64::from(value))).collect();
        let pipeline = Rc::new(gpu.pipeline(name, source, &layout, &constants));
        Self { name, layout, one_token: Rc::clone(&pipeline), many_tokens: pipeline }
    }

    /// The same with a `TOKENS_PER_GROUP` of 1 for decode and of `tokens_per_group` for prefill.
    pub fn batched(gpu: &Gpu, name: &'static str, source: &str, accesses: &[Access], tokens_per_group: u32) -> Self {
        let layout = gpu.bind_group_layout(name, accesses);
        let lanes = f64::from(gpu.lanes_per_row());
        let pipeline = |tokens: u32| {
            let constants = [("TOKENS_PER_GROUP", f64::from(tokens)), ("LANES_PER_ROW", lanes)];
            Rc::new(gpu.pipeline(name, source, &layout, &constants))
        };
        let (one_token, many_tokens) = (pipeline(1), pipeline(tokens_per_group));
        Self { name, layout, one_token, many_tokens }
    }

    /// Binds the kernel to its buffers. `x` and `y` are the grid; see [`Extent`].
    pub fn launch(&self, gpu: &Gpu, resources: &[wgpu::BindingResource<'_>], x: Extent, y: Extent) -> Launch {
        Launch {
            name: self.name,
            one_token: Rc::clone(&self.one_token),
            many_tokens: Rc::clone(&self.many_tokens),
            bind_group: gpu.bind_group(self.name, &self.layout, resources),
            x,
            y,
            kept: Vec::new(),
        }
    }
}

/// Workgroups along one axis of the grid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    Fixed(u32),
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

    fn groups(self, step: &Step) -> u32 {
        let grouped = |tokens: u32, per_group: u32| if tokens == 1 { 1 } else { tokens.div_ceil(per_group) };
        match self {
            Self::Fixed(groups) => groups,
            Self::Tokens { per_group, times } => grouped(step.tokens, per_group) * times,
            Self::HeadTokens { per_group } => grouped(step.head_tokens, per_group),
            Self::Threads { items, threads } => (step.tokens * items).div_ceil(threads),
        }
    }

    fn is_head(self) -> bool {
        matches!(self, Self::HeadTokens { .. })
    }
}

/// A kernel bound to buffers.
pub struct Launch {
    name: &'static str,
    one_token: Rc<wgpu::ComputePipeline>,
    many_tokens: Rc<wgpu::ComputePipeline>,
    bind_group: wgpu::BindGroup,
    x: Extent,
    y: Extent,
    /// Buffers that only this launch uses: they live as long as it does.
    kept: Vec<GpuBuffer>,
}

impl Launch {
    pub(crate) fn keep(mut self, buffer: GpuBuffer) -> Self {
        self.kept.push(buffer);
        self
    }

    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Records the launch for a batch; nothing is recorded when the batch has no work for it.
    fn record(&self, pass: &mut wgpu::ComputePass<'_>, step: &Step) -> bool {
        let (x, y) = (self.x.groups(step), self.y.groups(step));
        if x == 0 || y == 0 {
            return false;
        }
        let tokens = if self.x.is_head() || self.y.is_head() { step.head_tokens } else { step.tokens };
        pass.set_pipeline(if tokens == 1 { &self.one_token } else { &self.many_tokens });
        pass.set_bind_group(0, &self.bind_group, &[]);
        pass.dispatch_workgroups(x, y, 1);
        true
    }
}

/// Records launches in order into one pass of `encoder`.
pub fn record<'a>(
    gpu: &Gpu,
    encoder: &mut wgpu::CommandEncoder,
    step: &Step,
    launches: impl IntoIterator<Item = &'a Launch>,
) {
    let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
    let recorded = launches.into_iter().filter(|launch| launch.record(&mut pass, step)).count();
    gpu.count_dispatches(recorded as u64);
}
