//! The forward pass as data: which buffers there are, and which operations work on them in which order.
//!
//! ```text
//! begin:      embedding, ½ attn_norm
//! per layer:  ½ attn_norm, q k v → rope, cache → attention → output + residual, ½ post_attention_norm
//!             → ½ post_attention_norm, router
//!             → ½ post_attention_norm, gate, up → down     (the experts half: run again after a miss)
//!             → combine + residual, ½ next attn_norm
//! head:       ½ output_norm, output → sample
//! ```
//!
//! A norm has no calls of its own: its halves are parts of those that write the residual stream, and of those that read
//! it ([`gptoss_kernels::norm`]).
//!
//! Made from header, plan and limits, without a GPU. Everything else is a fold over it: the bytes of the plan and the
//! allocation over [`Recipe::buffers`], the kernels that are compiled and checked over the operations of its calls, and
//! the launches over the calls themselves. A fusion is a change of `layer.rs` and of the kernels that it names.

mod buffers;
mod layer;

use gptoss_kernels::experts::{self, Arena, SlotLayout};
use gptoss_kernels::gpu::Limits;
use gptoss_kernels::weights::Matrix;
use gptoss_kernels::{Call, Operation};
use gptoss_model::ops::experts::ExpertFormats;
use gptoss_model::{GpuError, Inventory, ModelConfig};

use self::buffers::Buffers;
pub use self::buffers::{Buffer, BufferId, BufferPurpose, Filled, Shared, Squares};
use self::layer::Pass;
use crate::plan::MemoryPlan;
use crate::weights::DenseLayer;

/// A forward pass of one model on one device.
pub struct Recipe {
    /// All buffers, in the order of their ids.
    pub buffers: Vec<Buffer>,
    /// Buffers that all layers use.
    pub shared: Shared,
    /// Buffers and calls of each layer.
    pub layers: Vec<LayerRecipe>,
    /// Weight of the norm before the output matrix.
    pub output_norm: BufferId,
    /// Matrix that gives the logits.
    pub output: Matrix<BufferId>,
    /// Calls before the first layer.
    pub begin: Vec<Call<BufferId>>,
    /// Calls after the last layer.
    pub head: Vec<Call<BufferId>>,
}

/// The weights and the cache of a layer on the GPU.
pub struct LayerBuffers {
    pub dense: DenseLayer<Matrix<BufferId>, BufferId>,
    pub slot: SlotLayout,
    pub arenas: Vec<Arena<BufferId>>,
    /// [blocks, 64 positions, kv_heads, 64].
    pub keys: BufferId,
    pub values: BufferId,
}

/// The buffers of one layer, and the calls that use them.
pub struct LayerRecipe {
    pub buffers: LayerBuffers,
    /// Attention and the router.
    pub attend: Vec<Call<BufferId>>,
    /// Gate, up and down of the chosen experts; may run several times.
    pub experts: Vec<Call<BufferId>>,
    /// Weighted sum of the experts' results.
    pub combine: Vec<Call<BufferId>>,
    /// What one head looks at, after `attend`; runs for those who watch it.
    pub attention_row: Call<BufferId>,
}

impl Recipe {
    /// The forward pass that `plan` describes.
    ///
    /// # Errors
    /// A row, a slot or an activation that no buffer or binding of this device can hold.
    pub fn new(
        config: &ModelConfig,
        inventory: &Inventory,
        plan: &MemoryPlan,
        limits: &Limits,
    ) -> Result<Self, GpuError> {
        let buffers = Buffers::new(limits);
        let shared = Shared::new(&buffers, config, inventory, plan)?;
        let output_norm = buffers.values(BufferPurpose::Dense, "output norm", inventory.output_norm.f32_bytes())?;
        let output = buffers.matrix("output", &inventory.output)?;
        let pass = Pass { config, plan, limits, buffers: &buffers, shared: &shared };
        let weights = (0..plan.layers)
            .map(|layer| pass.weights(layer, &inventory.layers[layer as usize]))
            .collect::<Result<Vec<_>, _>>()?;
        // A kernel that writes the residual stream also writes the first half of the next norm.
        let norms: Vec<_> = weights.iter().map(|weights| weights.dense.attn_norm).chain([output_norm]).collect();
        let layers = (0..).zip(weights).map(|(layer, weights)| pass.layer(layer, weights, norms[layer as usize + 1]));
        let layers = layers.collect();
        let (begin, head) = (pass.begin(norms[0]), pass.head(&output));
        Ok(Self { buffers: buffers.into_list(), shared, layers, output_norm, output, begin, head })
    }

    /// All calls of a pass that nobody watches, in their order.
    pub fn calls(&self) -> impl Iterator<Item = &Call<BufferId>> {
        let layers =
            self.layers.iter().flat_map(|layer| layer.attend.iter().chain(&layer.experts).chain(&layer.combine));
        self.begin.iter().chain(layers).chain(&self.head)
    }

    /// All calls that run for those who watch the layers they are in.
    pub fn watching_calls(&self) -> impl Iterator<Item = &Call<BufferId>> {
        self.layers.iter().map(|layer| &layer.attention_row)
    }

    /// The operations of all calls, repeated as often as they are called.
    pub fn operations(&self) -> impl Iterator<Item = Operation> {
        self.calls().chain(self.watching_calls()).map(|call| call.operation)
    }

    /// The combinations of formats that experts of the layers have, each once.
    pub fn expert_formats(&self) -> Vec<ExpertFormats> {
        let mut all = Vec::new();
        for formats in self.layers.iter().map(|layer| layer.buffers.slot.formats()) {
            if !all.contains(&formats) {
                all.push(formats);
            }
        }
        debug_assert!(
            all.iter().flat_map(|&formats| experts::operations(formats)).all(|it| self.operations().any(|of| of == it))
        );
        all
    }
}
