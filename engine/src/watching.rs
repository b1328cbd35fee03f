//! What a batch returns for those who watch it, besides its results: bytes of GPU buffers that are there anyway, copied behind
//! everything else that is read back. With nobody watching nothing is copied.

use gptoss_kernels::norm::combined_squares;
use gptoss_kernels::{GpuBuffer, Step};
use gptoss_model::ops::router::Route;
use gptoss_model::{Host, ModelConfig, routes_of_layer};
use gptoss_protocol::{AttentionRow, Event, Head, Residual, Routes, Watch};

use crate::model::Model;
use crate::plan::MemoryPlan;
use crate::recipe::Squares;

/// What is watched of one batch, as it was when the batch was given to the GPU.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Watched {
    pub routes: bool,
    pub residual: bool,
    pub attention: Option<Row>,
    /// Whether the launches are timed; the times come last.
    pub times: bool,
}

/// What a head looks at.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Row {
    pub head: Head,
    /// Position of the first key that it sees.
    pub first_position: u32,
    /// How many it sees.
    pub keys: u32,
}

/// Where in the readback buffer each of these is, in bytes.
#[derive(Clone, Copy)]
pub struct Places {
    /// Length of the routes, which come first.
    pub routes_bytes: u64,
    /// Length of what a head looks at, which follows.
    pub attention_bytes: u64,
    pub residual_at: u64,
    pub residual_bytes: u64,
}

impl Places {
    /// One past the last byte, where times begin.
    pub fn end(&self) -> u64 {
        self.residual_at + self.residual_bytes
    }
}

impl Watched {
    /// What can be told of what somebody looks at, but for times, of a batch whose last token is at `position`. A head that the model does not
    /// have says nothing.
    pub fn of(watch: Watch, position: u32, config: &ModelConfig, plan: &MemoryPlan) -> Self {
        let is_there = |head: &Head| head.layer < plan.layers && head.head < config.query_heads;
        let row = |head: Head| {
            let window = plan.window_of(config, head.layer);
            let keys = if window == 0 { position + 1 } else { window.min(position + 1) };
            Row { head, first_position: position + 1 - keys, keys }
        };
        let attention = watch.attention.filter(is_there).map(row);
        Self { routes: watch.routes, residual: watch.residual, attention, times: false }
    }

    /// All that can be watched at once, with a head that sees `keys` keys.
    pub fn all(keys: u32) -> Self {
        let attention = Some(Row { head: Head::default(), first_position: 0, keys });
        Self { routes: true, residual: true, attention, times: true }
    }

    /// Places for a batch of `tokens` tokens, from byte `first` on.
    pub fn places(self, config: &ModelConfig, plan: &MemoryPlan, tokens: u32, first: u64) -> Places {
        let layers = u64::from(plan.layers);
        let wanted = |is_wanted: bool, bytes: u64| if is_wanted { bytes } else { 0 };
        let routes_bytes = layers * u64::from(tokens) * u64::from(config.experts_per_token) * size_of::<Route>() as u64;
        let routes_bytes = wanted(self.routes, routes_bytes);
        let attention_bytes = self.attention.map_or(0, |row| (1 + u64::from(row.keys)) * 4);
        let residual_at = first + routes_bytes + attention_bytes;
        let residual_bytes = wanted(self.residual, (layers + 1) * squares_bytes(config));
        Places { routes_bytes, attention_bytes, residual_at, residual_bytes }
    }

    /// Tells what came of a batch whose last token is at `position`; `bytes` begin where its [`Places`] do.
    pub fn tell(self, config: &ModelConfig, plan: &MemoryPlan, told: (&Step, u32), bytes: &[u8], host: &dyn Host) {
        let (step, position) = told;
        let Places { routes_bytes, attention_bytes, residual_at, residual_bytes } =
            self.places(config, plan, step.tokens, 0);
        if self.routes {
            let routes: Vec<Route> = bytemuck::pod_collect_to_vec(&bytes[..routes_bytes as usize]);
            let of_layer = (step.tokens * config.experts_per_token) as usize;
            let layers = routes.chunks_exact(of_layer).map(routes_of_layer).collect();
            host.emit(Event::Routes(Routes { position, tokens: step.tokens, layers }));
        }
        if let Some(Row { head, first_position, .. }) = self.attention {
            let row = &bytes[routes_bytes as usize..][..attention_bytes as usize];
            let mut weights: Vec<f32> = bytemuck::pod_collect_to_vec(row);
            let sink = weights.remove(0);
            host.emit(Event::Attention(AttentionRow { head, position, first_position, weights, sink }));
        }
        if self.residual {
            let squares: Vec<f32> =
                bytemuck::pod_collect_to_vec(&bytes[residual_at as usize..][..residual_bytes as usize]);
            let norm = |squares: &[f32]| squares.iter().map(|&square| f64::from(square)).sum::<f64>().sqrt() as f32;
            let norms = squares.chunks_exact(combined_squares(config.hidden) as usize).map(norm).collect();
            host.emit(Event::Residual(Residual { position, norms }));
        }
    }
}

/// Sums of squares that stand for one token's residual stream, in bytes.
pub fn squares_bytes(config: &ModelConfig) -> u64 {
    u64::from(combined_squares(config.hidden)) * 4
}

impl Model {
    /// Copies the sums of squares of the batch's last token: of its embedding, and of its residual stream after each layer.
    pub(crate) fn copy_squares(
        &self,
        encoder: &mut wgpu::CommandEncoder,
        step: &Step,
        (staging, places): (&GpuBuffer, &Places),
    ) {
        let bytes = squares_bytes(&self.config);
        let squares = Squares::new(&self.config, &self.plan);
        let normed = self.buffer(self.shared.normed).raw();
        for row in 0..=self.plan.layers {
            let from = u64::from(squares.combined(row)) * 4 + u64::from(step.tokens - 1) * bytes;
            let to = places.residual_at + u64::from(row) * bytes;
            encoder.copy_buffer_to_buffer(normed, from, staging.raw(), to, bytes);
        }
    }
}
