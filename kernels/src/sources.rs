//! The WGSL texts: plain files, put together by prepending. Shared declarations first, then the format, then the
//! kernel.

use gptoss_gguf::WeightType;
use gptoss_model::CacheFormat;

const COMMON: &str = include_str!("common.wgsl");
const ROWS: &str = include_str!("rows.wgsl");
const SWIGLU: &str = include_str!("swiglu.wgsl");
const NOT_FINITE: &str = include_str!("not_finite.wgsl");
const NORM: &str = include_str!("norm.wgsl");
const NORM_VEC4: &str = include_str!("norm_vec4.wgsl");
const NORM_SHARES: &str = include_str!("norm_shares.wgsl");
const PRODUCTS: &str = include_str!("products.wgsl");
const F16_VALUE: &str = include_str!("weights/f16_value.wgsl");
const NIBBLES: &str = include_str!("weights/nibbles.wgsl");
const IQ4_VALUES: &str = include_str!("weights/iq4_values.wgsl");
const SCALE_HALVES: &str = include_str!("weights/scale_halves.wgsl");
const SIGNED_FOUR: &str = include_str!("weights/signed_four.wgsl");
const K_SCALES: &str = include_str!("weights/k_scales.wgsl");

/// The weights part that defines `load_block` for a format: shared parts come first.
fn weights(format: WeightType) -> String {
    let parts: &[&str] = match format {
        WeightType::F32 => &[include_str!("weights/f32.wgsl")],
        WeightType::F16 => &[include_str!("weights/f16.wgsl")],
        WeightType::Bf16 => &[include_str!("weights/bf16.wgsl")],
        WeightType::Q8_0 => &[F16_VALUE, include_str!("weights/q8_0.wgsl")],
        WeightType::Mxfp4 => &[include_str!("weights/mxfp4.wgsl")],
        WeightType::Q4_0 => &[F16_VALUE, NIBBLES, include_str!("weights/q4_0.wgsl")],
        WeightType::Q4_1 => &[F16_VALUE, NIBBLES, include_str!("weights/q4_1.wgsl")],
        WeightType::Q5_0 => &[F16_VALUE, NIBBLES, include_str!("weights/q5_0.wgsl")],
        WeightType::Q5_1 => &[F16_VALUE, NIBBLES, include_str!("weights/q5_1.wgsl")],
        WeightType::Q4K => &[F16_VALUE, K_SCALES, include_str!("weights/q4_k.wgsl")],
        WeightType::Q5K => &[F16_VALUE, K_SCALES, include_str!("weights/q5_k.wgsl")],
        WeightType::Q6K => &[F16_VALUE, include_str!("weights/q6_k.wgsl")],
        WeightType::Iq4Nl => &[F16_VALUE, NIBBLES, IQ4_VALUES, include_str!("weights/iq4_nl.wgsl")],
        WeightType::Q3K => &[F16_VALUE, SCALE_HALVES, include_str!("weights/q3_k.wgsl")],
        WeightType::Iq4Xs => &[F16_VALUE, NIBBLES, IQ4_VALUES, include_str!("weights/iq4_xs.wgsl")],
        WeightType::Iq3S => &[F16_VALUE, SCALE_HALVES, SIGNED_FOUR, include_str!("weights/iq3_s.wgsl")],
        WeightType::Iq3Xxs => &[F16_VALUE, SIGNED_FOUR, include_str!("weights/iq3_xxs.wgsl")],
    };
    parts.concat()
}

/// `matmul` for weights of a format.
pub fn matmul(format: WeightType) -> String {
    [&matmul_parts(format), NORM_SHARES, include_str!("matmul.wgsl")].concat()
}

/// Directive that a browser requires before a kernel may use subgroups. wgpu's own compiler does not know it, and does
/// not need it.
pub const ENABLE_SUBGROUPS: &str = "enable subgroups;\n";

/// `matmul` with subgroups, for weights of a format.
pub fn matmul_subgroups(format: WeightType) -> String {
    [ENABLE_SUBGROUPS, &matmul_parts(format), include_str!("matmul_subgroups.wgsl")].concat()
}

fn matmul_parts(format: WeightType) -> String {
    [COMMON, NORM, NORM_VEC4, &weights(format), PRODUCTS, include_str!("matmul_parts.wgsl")].concat()
}

/// `matmul_residual` for weights of a format.
pub fn matmul_residual(format: WeightType) -> String {
    [COMMON, &weights(format), PRODUCTS, include_str!("matmul_residual.wgsl")].concat()
}

/// `rope` for a cache of a format.
pub fn rope(cache: CacheFormat) -> String {
    let store = match cache {
        CacheFormat::F16 => include_str!("cache/store_f16.wgsl"),
        CacheFormat::F32 => include_str!("cache/store_f32.wgsl"),
    };
    [COMMON, ROWS, NOT_FINITE, store, include_str!("rope.wgsl")].concat()
}

/// `attention` for a cache of a format.
pub fn attention(cache: CacheFormat) -> String {
    [COMMON, ROWS, load(cache), include_str!("attention.wgsl")].concat()
}

/// `attention_row` for a cache of a format.
pub fn attention_row(cache: CacheFormat) -> String {
    [COMMON, ROWS, load(cache), include_str!("attention_row.wgsl")].concat()
}

fn load(cache: CacheFormat) -> &'static str {
    match cache {
        CacheFormat::F16 => include_str!("cache/load_f16.wgsl"),
        CacheFormat::F32 => include_str!("cache/load_f32.wgsl"),
    }
}

/// `attention` over a cache in F16, with `shader-f16`.
pub fn attention_f16() -> String {
    let load = include_str!("cache/load_f16_typed.wgsl");
    ["enable f16;\n", COMMON, ROWS, load, include_str!("attention.wgsl")].concat()
}

/// `router`.
pub fn router() -> String {
    [COMMON, NOT_FINITE, NORM, include_str!("router.wgsl")].concat()
}

/// `experts_gate_up` for weights of a format.
pub fn experts_gate_up(format: WeightType) -> String {
    [COMMON, NORM, NORM_VEC4, NORM_SHARES, SWIGLU, &weights(format), include_str!("experts_gate_up.wgsl")].concat()
}

/// `experts_down` for weights of a format, which also computes gate or up alone.
pub fn experts_down(format: WeightType) -> String {
    [COMMON, NORM, NORM_VEC4, NORM_SHARES, SWIGLU, &weights(format), include_str!("experts_down.wgsl")].concat()
}

/// `experts_combine`.
pub fn experts_combine() -> String {
    [COMMON, NOT_FINITE, include_str!("experts_combine.wgsl")].concat()
}

/// `sample`.
pub fn sample() -> String {
    [COMMON, ROWS, include_str!("sample.wgsl")].concat()
}

/// `repack`, the same for every format: the sizes of its blocks are override constants.
pub fn repack() -> String {
    include_str!("repack.wgsl").to_owned()
}
