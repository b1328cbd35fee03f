//! The forward pass as prebuilt launches: every pipeline, bind group and buffer of a token is made here, once.
//!
//! ```text
//! per layer:  attn_norm → q k v → rope, cache → attention → output + residual → post_attention_norm → router
//!             → gate, up → down            (the experts half: run again after a miss)
//!             → combine + residual
//! head:       output_norm → output → sample
//! ```

use std::rc::Rc;

use gptoss_gguf::WeightType;
use gptoss_kernels::attention::{self, Attention};
use gptoss_kernels::experts::{self, Experts, SlotLayout};
use gptoss_kernels::matmul::{self, Matmul};
use gptoss_kernels::repack::RepackKernels;
use gptoss_kernels::rms_norm::{self, RmsNorm};
use gptoss_kernels::rope::{self, Rope};
use gptoss_kernels::router::{self, Router};
use gptoss_kernels::sample::{self, CANDIDATES_BYTES, Sample};
use gptoss_kernels::self_check::{Report, SelfCheck};
use gptoss_kernels::{Gpu, GpuBuffer, Launch, Status, Step};
use gptoss_model::ops::rope::HALF_DIM;
use gptoss_model::ops::router::Route;
use gptoss_model::{CacheFormat, GpuError, Inventory, ModelConfig};

use crate::plan::MemoryPlan;
use crate::residency::Residency;
use crate::weights::{GpuLayer, LayerWeights, Weights};

/// Every compiled kernel that a model needs.
pub struct Kernels {
    rms_norm: RmsNorm,
    matmuls: Vec<Matmul>,
    rope: Rope,
    attention: Attention,
    router: Router,
    /// By the formats of gate, up and down.
    experts: Vec<Experts>,
    sample: Sample,
    cache: CacheFormat,
    /// Used at load, and when experts come and go.
    pub repack: Rc<RepackKernels>,
}

impl Kernels {
    /// Compiles the kernels for the formats that this file has.
    pub fn new(gpu: &Gpu, inventory: &Inventory, cache: CacheFormat) -> Self {
        let mut matmuls: Vec<Matmul> = Vec::new();
        let dense = inventory.layers.iter().flat_map(|layer| layer.qkv.iter().chain([&layer.attn_output]));
        for tensor in dense.chain([&inventory.output]) {
            if !matmuls.iter().any(|known| known.format() == tensor.format) {
                matmuls.push(Matmul::new(gpu, tensor.format));
            }
        }
        let mut experts: Vec<Experts> = Vec::new();
        for layer in &inventory.layers {
            let formats = layer.expert_formats();
            if !experts.iter().any(|known| known.formats() == formats) {
                experts.push(Experts::new(gpu, formats));
            }
        }
        Self {
            rms_norm: RmsNorm::new(gpu),
            matmuls,
            rope: Rope::new(gpu, cache),
            attention: Attention::new(gpu, cache),
            router: Router::new(gpu),
            experts,
            sample: Sample::new(gpu),
            cache,
            repack: Rc::new(RepackKernels::new(gpu, &inventory.gpu_formats())),
        }
    }

    /// Runs known vectors through all of them, as this model will use them.
    pub async fn self_check(&self, gpu: &Gpu, config: &ModelConfig, plan: &MemoryPlan) -> Result<Report, GpuError> {
        let mut check = SelfCheck::new(gpu, plan.kv_capacity - 1);
        check.repack(&self.repack);
        check.rms_norm(&self.rms_norm);
        for matmul in &self.matmuls {
            check.matmul(matmul, &self.repack);
        }
        check.rope(&self.rope, self.cache, &config.yarn);
        check.attention(&self.attention, self.cache, config.query_heads / config.kv_heads);
        check.router(&self.router, config.experts, config.experts_per_token);
        for experts in &self.experts {
            check.experts(experts, &self.repack);
        }
        check.sample(&self.sample);
        check.run().await
    }

    fn matmul(&self, format: WeightType) -> &Matmul {
        self.matmuls.iter().find(|known| known.format() == format).expect("compiled for every format of the file")
    }

    fn experts(&self, slot: &SlotLayout) -> &Experts {
        let formats = slot.formats();
        self.experts
            .iter()
            .find(|known| known.formats() == formats)
            .expect("compiled for all that the file has together")
    }
}

/// Activations and state, shared by all layers.
pub struct Scratch {
    pub step: GpuBuffer,
    pub status: GpuBuffer,
    /// Residual stream [tokens, hidden].
    pub x: GpuBuffer,
    normed: GpuBuffer,
    qkv: GpuBuffer,
    attended: GpuBuffer,
    expert_hidden: GpuBuffer,
    expert_out: GpuBuffer,
    routes: GpuBuffer,
    pub logits: GpuBuffer,
    pub candidates: GpuBuffer,
    rope_table: GpuBuffer,
}

impl Scratch {
    pub fn allocate(gpu: &Gpu, config: &ModelConfig, plan: &MemoryPlan) -> Self {
        let sizes = &plan.scratch;
        let values = |label: &str, count: u64| gpu.storage(label, count * 4);
        let table_bytes = u64::from(plan.kv_capacity) * HALF_DIM as u64 * 8;
        let rope_table = gpu.storage("rope table", table_bytes);
        gpu.write(&rope_table, 0, bytemuck::cast_slice(&config.yarn.table(plan.kv_capacity as usize)));
        Self {
            step: gpu.buffer(
                "step",
                size_of::<Step>() as u64,
                wgpu::BufferUsages::UNIFORM | wgpu::BufferUsages::COPY_DST,
            ),
            status: gpu.storage("status", Status::SIZE_BYTES),
            x: values("residual", sizes.hidden),
            normed: values("normed", sizes.hidden),
            qkv: values("qkv", sizes.qkv),
            attended: values("attended", sizes.attention),
            expert_hidden: values("expert hidden", sizes.expert_hidden),
            expert_out: values("expert out", sizes.expert_out),
            routes: gpu.storage("routes", sizes.routes * size_of::<Route>() as u64),
            logits: values("logits", sizes.logits),
            candidates: gpu.storage("candidates", CANDIDATES_BYTES),
            rope_table,
        }
    }
}

/// Keys and values of one layer, [capacity, kv_heads, 64].
pub struct LayerCache {
    pub keys: GpuBuffer,
    pub values: GpuBuffer,
}

impl LayerCache {
    pub fn allocate(gpu: &Gpu, config: &ModelConfig, plan: &MemoryPlan) -> Vec<Self> {
        (0..plan.layers)
            .map(|layer| plan.cache_bytes(config, layer))
            .map(|bytes| Self { keys: gpu.storage("keys", bytes), values: gpu.storage("values", bytes) })
            .collect()
    }
}

/// The launches of one layer.
pub struct LayerProgram {
    /// Attention, and the router.
    pub attend: Vec<Launch>,
    /// Gate, up and down of the chosen experts; may run several times.
    pub experts: Vec<Launch>,
    /// Weighs and adds their results.
    pub combine: Launch,
}

/// The launches of a forward pass.
pub struct Program {
    pub layers: Vec<LayerProgram>,
    pub head: Vec<Launch>,
}

/// Everything that launches are made of.
pub struct Parts<'a> {
    pub gpu: &'a Gpu,
    pub kernels: &'a Kernels,
    pub config: &'a ModelConfig,
    pub plan: &'a MemoryPlan,
    pub weights: &'a Weights,
    pub caches: &'a [LayerCache],
    pub scratch: &'a Scratch,
    pub residency: &'a Residency,
}

/// Layer index of the launches after the last layer: skipped when any layer halted.
const AFTER_ALL_LAYERS: u32 = Status::RUNNING - 1;

impl Program {
    pub fn new(parts: &Parts<'_>) -> Self {
        let layers = (0..parts.plan.layers)
            .map(|layer| {
                let weights = &parts.weights.layers[layer as usize];
                LayerProgram {
                    attend: parts.attend(layer, &weights.dense),
                    experts: parts.experts(layer, weights),
                    combine: parts.combine(layer, weights),
                }
            })
            .collect();
        Self { layers, head: parts.head() }
    }
}

impl Parts<'_> {
    fn attend(&self, layer: u32, dense: &GpuLayer) -> Vec<Launch> {
        let (gpu, scratch, config) = (self.gpu, self.scratch, self.config);
        let cache = &self.caches[layer as usize];
        let capacity = self.plan.cache_capacity(config, layer);
        let mut launches = vec![self.norm(layer, &dense.attn_norm, false)];
        for projection in &dense.qkv {
            for shard in &projection.matrix.shards {
                let buffers = matmul::Buffers {
                    step: &scratch.step,
                    x: &scratch.normed,
                    bias: Some(&projection.bias),
                    y: &scratch.qkv,
                    status: &scratch.status,
                };
                let target = matmul::Target {
                    y_first: projection.y_first,
                    y_stride: config.qkv_columns(),
                    layer,
                    residual: false,
                    head: false,
                };
                launches.push(self.kernels.matmul(projection.matrix.format).launch(gpu, shard, &buffers, target));
            }
        }
        launches.push(self.kernels.rope.launch(
            gpu,
            &rope::Buffers {
                step: &scratch.step,
                qkv: &scratch.qkv,
                table: &scratch.rope_table,
                keys: &cache.keys,
                values: &cache.values,
                status: &scratch.status,
            },
            rope::Params { query_heads: config.query_heads, kv_heads: config.kv_heads, capacity, layer },
        ));
        launches.push(self.kernels.attention.launch(
            gpu,
            &attention::Buffers {
                step: &scratch.step,
                qkv: &scratch.qkv,
                sinks: &dense.sinks,
                out: &scratch.attended,
                keys: &cache.keys,
                values: &cache.values,
                status: &scratch.status,
            },
            attention::Params {
                query_heads: config.query_heads,
                kv_heads: config.kv_heads,
                capacity,
                window: self.plan.window_of(config, layer),
                layer,
                padding: [0; 3],
            },
        ));
        for shard in &dense.attn_output.matrix.shards {
            let buffers = matmul::Buffers {
                step: &scratch.step,
                x: &scratch.attended,
                bias: Some(&dense.attn_output.bias),
                y: &scratch.x,
                status: &scratch.status,
            };
            let target = matmul::Target { y_first: 0, y_stride: config.hidden, layer, residual: true, head: false };
            let format = dense.attn_output.matrix.format;
            launches.push(self.kernels.matmul(format).launch(gpu, shard, &buffers, target));
        }
        launches.push(self.norm(layer, &dense.post_attention_norm, false));
        launches.push(self.kernels.router.launch(
            gpu,
            &router::Buffers {
                step: &scratch.step,
                x: &scratch.normed,
                weight: &dense.router,
                bias: &dense.router_bias,
                routes: &scratch.routes,
                page_table: &self.residency.page_table,
                last_used: &self.residency.last_used,
                status: &scratch.status,
            },
            router::Params {
                columns: config.hidden,
                experts: config.experts,
                experts_per_token: config.experts_per_token,
                layer,
            },
        ));
        launches
    }

    fn norm(&self, layer: u32, weight: &GpuBuffer, head: bool) -> Launch {
        let scratch = self.scratch;
        self.kernels.rms_norm.launch(
            self.gpu,
            &rms_norm::Buffers {
                step: &scratch.step,
                x: &scratch.x,
                weight,
                y: &scratch.normed,
                status: &scratch.status,
            },
            rms_norm::Params {
                columns: self.config.hidden,
                layer,
                head: u32::from(head),
                epsilon: self.config.epsilon,
            },
        )
    }

    fn expert_buffers<'a>(&'a self, weights: &'a LayerWeights) -> experts::Buffers<'a> {
        let scratch = self.scratch;
        experts::Buffers {
            step: &scratch.step,
            x: &scratch.normed,
            biases: &weights.dense.expert_biases,
            h: &scratch.expert_hidden,
            y: &scratch.expert_out,
            residual: &scratch.x,
            routes: &scratch.routes,
            page_table: &self.residency.page_table,
            status: &scratch.status,
        }
    }

    fn expert_shape(&self, layer: u32) -> experts::Shape {
        experts::Shape {
            layer,
            hidden: self.config.hidden,
            ff: self.config.ff,
            experts: self.config.experts,
            experts_per_token: self.config.experts_per_token,
        }
    }

    fn experts(&self, layer: u32, weights: &LayerWeights) -> Vec<Launch> {
        let slot = &weights.slot;
        let kernel = self.kernels.experts(slot);
        let (buffers, shape) = (self.expert_buffers(weights), self.expert_shape(layer));
        let gate_up =
            weights.arenas.iter().flat_map(|arena| kernel.launch_gate_up(self.gpu, arena, slot, &buffers, shape));
        let down = weights.arenas.iter().map(|arena| kernel.launch_down(self.gpu, arena, slot, &buffers, shape));
        gate_up.chain(down).collect()
    }

    fn combine(&self, layer: u32, weights: &LayerWeights) -> Launch {
        let kernel = self.kernels.experts(&weights.slot);
        kernel.launch_combine(self.gpu, &self.expert_buffers(weights), self.expert_shape(layer))
    }

    fn head(&self) -> Vec<Launch> {
        let (scratch, config) = (self.scratch, self.config);
        let output: &Rc<GpuBuffer> = &self.weights.output_norm;
        let mut launches = vec![self.norm(AFTER_ALL_LAYERS, output, true)];
        for shard in &self.weights.output.shards {
            let buffers = matmul::Buffers {
                step: &scratch.step,
                x: &scratch.normed,
                bias: None,
                y: &scratch.logits,
                status: &scratch.status,
            };
            let target = matmul::Target {
                y_first: 0,
                y_stride: config.vocabulary,
                layer: AFTER_ALL_LAYERS,
                residual: false,
                head: true,
            };
            let format = self.weights.output.format;
            launches.push(self.kernels.matmul(format).launch(self.gpu, shard, &buffers, target));
        }
        let buffers = sample::Buffers {
            step: &scratch.step,
            logits: &scratch.logits,
            candidates: &scratch.candidates,
            status: &scratch.status,
        };
        launches.push(self.kernels.sample.launch(self.gpu, &buffers, config.vocabulary));
        launches
    }
}
