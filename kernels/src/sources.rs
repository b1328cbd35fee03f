//! The WGSL texts: plain files, put together by prepending. Shared declarations first, then the format, then the kernel.

use crate::format::Format;

const COMMON: &str = include_str!("common.wgsl");
const BINDINGS_OF_WEIGHTS: [(Format, &str); 5] = [
    (Format::Q8_0, include_str!("weights/q8_0.wgsl")),
    (Format::Mxfp4, include_str!("weights/mxfp4.wgsl")),
    (Format::F32, include_str!("weights/f32.wgsl")),
    (Format::F16, include_str!("weights/f16.wgsl")),
    (Format::Bf16, include_str!("weights/bf16.wgsl")),
];

/// How the KV cache is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum CacheFormat {
    #[default]
    F16,
    /// For parity runs.
    F32,
}

impl CacheFormat {
    /// Bytes of one value.
    pub fn size_bytes(self) -> u64 {
        match self {
            Self::F16 => 2,
            Self::F32 => 4,
        }
    }
}

fn weights(format: Format) -> &'static str {
    BINDINGS_OF_WEIGHTS
        .iter()
        .find(|(known, _)| *known == format)
        .map(|(_, text)| *text)
        .expect("every format has a weights file")
}

pub fn rms_norm() -> String {
    [COMMON, include_str!("rms_norm.wgsl")].concat()
}

pub fn matmul(format: Format) -> String {
    [COMMON, weights(format), include_str!("matmul.wgsl")].concat()
}

pub fn rope(cache: CacheFormat) -> String {
    let store = match cache {
        CacheFormat::F16 => include_str!("cache/store_f16.wgsl"),
        CacheFormat::F32 => include_str!("cache/store_f32.wgsl"),
    };
    [COMMON, store, include_str!("rope.wgsl")].concat()
}

pub fn attention(cache: CacheFormat) -> String {
    let load = match cache {
        CacheFormat::F16 => include_str!("cache/load_f16.wgsl"),
        CacheFormat::F32 => include_str!("cache/load_f32.wgsl"),
    };
    [COMMON, load, include_str!("attention.wgsl")].concat()
}

pub fn router() -> String {
    [COMMON, include_str!("router.wgsl")].concat()
}

pub fn experts_gate_up(format: Format) -> String {
    [COMMON, weights(format), include_str!("experts_gate_up.wgsl")].concat()
}

pub fn experts_down(format: Format) -> String {
    [COMMON, weights(format), include_str!("experts_down.wgsl")].concat()
}

pub fn experts_combine() -> String {
    [COMMON, include_str!("experts_combine.wgsl")].concat()
}

pub fn sample() -> String {
    [COMMON, include_str!("sample.wgsl")].concat()
}

/// `None` for formats that are used as they are in the file.
pub fn repack(format: Format) -> Option<String> {
    let unpack = match format {
        Format::Q8_0 => include_str!("repack_q8_0.wgsl"),
        Format::Mxfp4 => include_str!("repack_mxfp4.wgsl"),
        Format::F32 | Format::F16 | Format::Bf16 => return None,
    };
    Some([unpack, include_str!("repack.wgsl")].concat())
}

/// Every kernel, by name: for validation.
pub fn all() -> Vec<(String, String)> {
    let mut kernels = vec![
        ("rms_norm".to_owned(), rms_norm()),
        ("router".to_owned(), router()),
        ("experts_combine".to_owned(), experts_combine()),
        ("sample".to_owned(), sample()),
    ];
    for cache in [CacheFormat::F16, CacheFormat::F32] {
        kernels.push((format!("rope {cache:?}"), rope(cache)));
        kernels.push((format!("attention {cache:?}"), attention(cache)));
    }
    for (format, _) in BINDINGS_OF_WEIGHTS {
        kernels.push((format!("matmul {format:?}"), matmul(format)));
        kernels.push((format!("experts_gate_up {format:?}"), experts_gate_up(format)));
        kernels.push((format!("experts_down {format:?}"), experts_down(format)));
        kernels.extend(repack(format).map(|source| (format!("repack {format:?}"), source)));
    }
    kernels
}
