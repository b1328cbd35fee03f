//! Which features of a device kernels may use.

/// Each tier has what those before it have, and more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Tier {
    /// Nothing but core WebGPU.
    #[default]
    Baseline,
    /// `shader-f16`.
    F16,
    /// `shader-f16` and `subgroups`.
    F16Subgroups,
}
