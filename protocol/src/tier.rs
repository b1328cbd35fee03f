//! Which features of a GPU kernels may use.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Level of optional WebGPU features that kernels use. Each tier has the features of those before it, and more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Tier {
    /// Core WebGPU alone.
    #[default]
    #[serde(rename = "baseline")]
    Baseline,
    /// Adds `shader-f16`.
    #[serde(rename = "f16")]
    F16,
    /// Adds `subgroups` of at least 8 lanes.
    #[serde(rename = "f16+subgroups")]
    F16Subgroups,
}

impl Tier {
    /// All tiers, the least demanding first.
    pub const ALL: [Self; 3] = [Self::Baseline, Self::F16, Self::F16Subgroups];

    /// Name of the tier in options, events and messages.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Baseline => "baseline",
            Self::F16 => "f16",
            Self::F16Subgroups => "f16+subgroups",
        }
    }

    /// The tier with this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|tier| tier.name() == name)
    }
}

impl fmt::Display for Tier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tier_has_one_name_everywhere() {
        for tier in Tier::ALL {
            assert_eq!(Tier::from_name(tier.name()), Some(tier));
            assert_eq!(serde_json::to_string(&tier).expect("JSON"), format!("{:?}", tier.name()));
        }
        assert!(Tier::ALL.is_sorted(), "each is more than those before it");
    }
}
