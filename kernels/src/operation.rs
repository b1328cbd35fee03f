//! The operations of a forward pass as this crate computes them, and the kernels that can compute each.

use std::fmt;
use std::ops::RangeInclusive;

use gptoss_gguf::WeightType;
use gptoss_model::CacheFormat;
use gptoss_protocol::Tier;

use crate::gpu::Access;
use crate::{attention, attention_row, experts, matmul, matmul_residual, rope, router, sample};

/// An operation, with the formats of its operands. All kernels that compute it have the same bindings and parameters;
/// [`gptoss_model::ops`] specifies the result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Operation {
    /// Product with weights of this format.
    Matmul(WeightType),
    /// Product with weights of this format, added to the residual stream.
    MatmulResidual(WeightType),
    /// Rotary embedding of queries and keys, and the write to a cache of this format.
    Rope(CacheFormat),
    /// Attention over a cache of this format.
    Attention(CacheFormat),
    /// What one head looks at in a cache of this format, for whoever wants to see it.
    AttentionRow(CacheFormat),
    /// Choice of each token's experts.
    Router,
    /// Gate and up of the chosen experts with their activation, if both have this format.
    ExpertsGateUp(WeightType),
    /// Gate of the chosen experts.
    ExpertsGate(WeightType),
    /// Up of the chosen experts, with the activation.
    ExpertsUp(WeightType),
    /// Down of the chosen experts.
    ExpertsDown(WeightType),
    /// Weighted sum of the experts' results, added to the residual stream.
    ExpertsCombine,
    /// Statistics of the logits that sampling needs.
    Sample,
}

/// Geometry that a kernel is compiled for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Geometry {
    /// Lanes that share a row of weights: 8, or 1 where barriers cost more than arithmetic.
    pub lanes_per_row: u32,
}

/// A kernel for an operation.
#[derive(Clone, Debug, PartialEq)]
pub struct Variant {
    /// Level of optional features that it needs.
    pub tier: Tier,
    /// Batch sizes, in tokens, that it is for.
    pub tokens: RangeInclusive<u32>,
    /// WGSL source.
    pub source: String,
    /// Override constants by name.
    pub constants: Vec<(&'static str, u32)>,
}

impl Variant {
    /// A variant for any number of tokens on any device.
    pub fn baseline(source: String) -> Self {
        Self { tier: Tier::Baseline, tokens: 1..=u32::MAX, source, constants: Vec::new() }
    }

    /// Adds an override constant.
    #[must_use]
    pub fn with(mut self, constant: &'static str, value: u32) -> Self {
        self.constants.push((constant, value));
        self
    }
}

impl Operation {
    /// All operations, in every format.
    pub fn all() -> Vec<Self> {
        let mut all = vec![Self::Router, Self::ExpertsCombine, Self::Sample];
        for cache in [CacheFormat::F16, CacheFormat::F32] {
            all.extend([Self::Rope(cache), Self::Attention(cache), Self::AttentionRow(cache)]);
        }
        for format in WeightType::ALL {
            all.extend([Self::Matmul(format), Self::MatmulResidual(format)]);
            all.extend([Self::ExpertsGateUp(format), Self::ExpertsDown(format)]);
            all.extend([Self::ExpertsGate(format), Self::ExpertsUp(format)]);
        }
        all
    }

    /// Name without the formats: the label of its pipelines.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Matmul(_) => "matmul",
            Self::MatmulResidual(_) => "matmul_residual",
            Self::Rope(_) => "rope",
            Self::Attention(_) => "attention",
            Self::AttentionRow(_) => "attention_row",
            Self::Router => "router",
            Self::ExpertsGateUp(_) => "experts_gate_up",
            Self::ExpertsGate(_) => "experts_gate",
            Self::ExpertsUp(_) => "experts_up",
            Self::ExpertsDown(_) => "experts_down",
            Self::ExpertsCombine => "experts_combine",
            Self::Sample => "sample",
        }
    }

    /// GGUF's name of the format that it reads, if it has one.
    fn format(self) -> Option<&'static str> {
        match self {
            Self::Matmul(format)
            | Self::MatmulResidual(format)
            | Self::ExpertsGateUp(format)
            | Self::ExpertsGate(format)
            | Self::ExpertsUp(format)
            | Self::ExpertsDown(format) => Some(format.name()),
            Self::Rope(cache) | Self::Attention(cache) | Self::AttentionRow(cache) => Some(cache.name()),
            Self::Router | Self::ExpertsCombine | Self::Sample => None,
        }
    }

    /// Access to all bindings, in order: the step, the parameters, and the operands.
    pub const fn accesses(self) -> &'static [Access] {
        match self {
            Self::Matmul(_) => &matmul::ACCESSES,
            Self::MatmulResidual(_) => &matmul_residual::ACCESSES,
            Self::Rope(_) => &rope::ACCESSES,
            Self::Attention(_) => &attention::ACCESSES,
            Self::AttentionRow(_) => &attention_row::ACCESSES,
            Self::Router => &router::ACCESSES,
            Self::ExpertsGateUp(_) | Self::ExpertsGate(_) | Self::ExpertsUp(_) | Self::ExpertsDown(_) => {
                &experts::ACCESSES
            }
            Self::ExpertsCombine => &experts::COMBINE_ACCESSES,
            Self::Sample => &sample::ACCESSES,
        }
    }

    /// Every kernel that computes it.
    pub fn variants(self, geometry: Geometry) -> Vec<Variant> {
        match self {
            Self::Matmul(format) => matmul::variants(format, geometry),
            Self::MatmulResidual(format) => matmul_residual::variants(format, geometry),
            Self::Rope(cache) => rope::variants(cache),
            Self::Attention(cache) => attention::variants(cache),
            Self::AttentionRow(cache) => attention_row::variants(cache),
            Self::Router => router::variants(),
            Self::ExpertsGateUp(format) => experts::gate_up_variants(format, geometry),
            Self::ExpertsDown(format) => experts::matrix_variants(format, experts::DOWN, geometry),
            Self::ExpertsGate(format) => experts::matrix_variants(format, experts::GATE, geometry),
            Self::ExpertsUp(format) => experts::matrix_variants(format, experts::UP, geometry),
            Self::ExpertsCombine => experts::combine_variants(),
            Self::Sample => sample::variants(),
        }
    }

    /// The kernels that a device of `tier` uses: for each number of tokens the first one that covers it.
    pub fn chosen(self, geometry: Geometry, tier: Tier) -> Vec<Variant> {
        let mut within: Vec<_> = self.variants(geometry).into_iter().filter(|it| it.tier <= tier).collect();
        // The sort is stable, so variants of one tier stay in the order in which they are listed.
        within.sort_by_key(|variant| std::cmp::Reverse(variant.tier));
        let mut chosen: Vec<Variant> = Vec::new();
        for variant in within {
            let is_covered = |tokens: &u32| chosen.iter().any(|better| better.tokens.contains(tokens));
            if !(is_covered(variant.tokens.start()) && is_covered(variant.tokens.end())) {
                chosen.push(variant);
            }
        }
        chosen
    }
}

impl fmt::Display for Operation {
    /// Writes name and format, as in `matmul Q8_0`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())?;
        self.format().map_or(Ok(()), |format| write!(f, " {format}"))
    }
}
