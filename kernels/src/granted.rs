//! What a device has beyond core WebGPU, and which tier of kernels that makes.

use gptoss_model::GpuError;
use gptoss_protocol::Tier;

use crate::platform;

/// Lanes that kernels of [`Tier::F16Subgroups`] expect in a subgroup: those that share a row.
const SUBGROUP_LANES: u32 = 8;

/// Optional features of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Granted {
    /// Whether shaders can compute in half precision (`shader-f16`).
    pub shader_f16: bool,
    /// Whether shaders have subgroup operations (`subgroups`).
    pub subgroups: bool,
    /// Lanes of the smallest subgroup that a kernel may run in.
    pub subgroup_lanes: u32,
}

impl Granted {
    /// Features to request if the adapter has them, as far as wgpu has names for them.
    pub(crate) fn asked_for(wanted: Option<Tier>) -> wgpu::Features {
        match wanted {
            Some(Tier::Baseline) => wgpu::Features::empty(),
            Some(Tier::F16) => wgpu::Features::SHADER_F16,
            Some(Tier::F16Subgroups) | None => wgpu::Features::SHADER_F16 | wgpu::Features::SUBGROUP,
        }
    }

    pub(crate) fn on(device: &wgpu::Device, info: &wgpu::AdapterInfo) -> Self {
        let features = device.features();
        Self {
            shader_f16: features.contains(wgpu::Features::SHADER_F16),
            subgroups: features.contains(wgpu::Features::SUBGROUP) || platform::has_subgroups(device),
            subgroup_lanes: info.subgroup_min_size,
        }
    }

    /// The highest tier that can run, or the wanted one.
    ///
    /// # Errors
    /// The device lacks what that needs. `adapter` names it.
    pub fn tier(self, wanted: Option<Tier>, adapter: impl Fn() -> String) -> Result<Tier, GpuError> {
        let missing = |tier| self.missing(tier);
        match wanted {
            // A device that was opened supports the baseline, because `needs` checked that.
            None => Ok(Tier::ALL.into_iter().rfind(|&tier| missing(tier).is_none()).unwrap_or(Tier::Baseline)),
            Some(tier) => match missing(tier) {
                None => Ok(tier),
                Some(missing) => Err(GpuError::Tier { adapter: adapter(), tier, missing }),
            },
        }
    }

    /// What the tier needs and the device lacks, in words.
    pub fn missing(self, tier: Tier) -> Option<String> {
        let needs_f16 = tier >= Tier::F16 && !self.shader_f16;
        let needs_subgroups = tier >= Tier::F16Subgroups;
        match (needs_f16, needs_subgroups && !self.subgroups) {
            (true, true) => Some("shader-f16 and subgroups".into()),
            (true, false) => Some("shader-f16".into()),
            (false, true) => Some("subgroups".into()),
            (false, false) if needs_subgroups && self.subgroup_lanes < SUBGROUP_LANES => {
                let lanes = self.subgroup_lanes;
                Some(format!("subgroups of at least {SUBGROUP_LANES} lanes (it has some of {lanes})"))
            }
            (false, false) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: Granted = Granted { shader_f16: true, subgroups: true, subgroup_lanes: 32 };

    fn tier(granted: Granted, wanted: Option<Tier>) -> Result<Tier, String> {
        granted.tier(wanted, || "the GPU".into()).map_err(|error| error.to_string())
    }

    #[test]
    fn the_highest_tier_is_taken_that_the_device_has() {
        assert_eq!(tier(ALL, None), Ok(Tier::F16Subgroups));
        assert_eq!(tier(Granted { subgroups: false, ..ALL }, None), Ok(Tier::F16));
        assert_eq!(tier(Granted { subgroup_lanes: 4, ..ALL }, None), Ok(Tier::F16));
        assert_eq!(tier(Granted { shader_f16: false, ..ALL }, None), Ok(Tier::Baseline));
    }

    #[test]
    fn a_tier_that_was_asked_for_is_taken_or_what_it_lacks_is_said() {
        for wanted in Tier::ALL {
            assert_eq!(tier(ALL, Some(wanted)), Ok(wanted));
        }
        let refused = |granted, wanted| tier(granted, Some(wanted)).expect_err("refused");
        assert!(refused(Granted { shader_f16: false, ..ALL }, Tier::F16).contains("shader-f16"));
        let small = refused(Granted { subgroup_lanes: 4, ..ALL }, Tier::F16Subgroups);
        assert!(small.contains("at least 8 lanes") && small.contains("some of 4"), "{small}");
    }
}
