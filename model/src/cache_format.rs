//! What the KV cache holds.

/// Number format of the KV cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum CacheFormat {
    /// Half precision: 2 bytes a value, the default.
    #[default]
    F16,
    /// Single precision, for comparisons with other engines.
    F32,
}

impl CacheFormat {
    /// The largest number that the cache holds: `LARGEST_CACHED` in `cache/store_*.wgsl`.
    pub fn largest(self) -> f32 {
        match self {
            Self::F16 => half::f16::MAX.to_f32(),
            Self::F32 => f32::MAX,
        }
    }

    /// Name in options and messages.
    pub const fn name(self) -> &'static str {
        match self {
            Self::F16 => "F16",
            Self::F32 => "F32",
        }
    }

    /// Bytes of one value.
    pub fn size_bytes(self) -> u64 {
        match self {
            Self::F16 => 2,
            Self::F32 => 4,
        }
    }
}
