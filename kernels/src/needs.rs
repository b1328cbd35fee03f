//! What the kernels need of a device, whatever the model is. A test holds these numbers to the kernels themselves.
//!
//! How large buffers and bindings may be is not here: it depends on the model, and the memory plan sees to it.

/// A limit that must not be lower than some value.
pub struct Need {
    /// The lowest value that the kernels can work with.
    pub needed: u32,
    granted: fn(&wgpu::Limits) -> u32,
    /// Description of the limit, with `{}` for its value.
    words: &'static str,
}

/// Storage buffers of one shader stage (`maxStorageBuffersPerShaderStage`).
pub const STORAGE_BUFFERS: Need = Need {
    needed: 8,
    granted: |limits| limits.max_storage_buffers_per_shader_stage,
    words: "lets a shader use {} storage buffers",
};
/// Uniform buffers of one shader stage (`maxUniformBuffersPerShaderStage`).
pub const UNIFORM_BUFFERS: Need = Need {
    needed: 2,
    granted: |limits| limits.max_uniform_buffers_per_shader_stage,
    words: "lets a shader use {} uniform buffers",
};
/// Bindings of one bind group (`maxBindingsPerBindGroup`).
pub const BINDINGS: Need = Need {
    needed: 10,
    granted: |limits| limits.max_bindings_per_bind_group,
    words: "lets a bind group have {} bindings",
};
/// Bind groups of one pipeline (`maxBindGroups`).
pub const BIND_GROUPS: Need =
    Need { needed: 1, granted: |limits| limits.max_bind_groups, words: "lets a shader use {} bind groups" };
/// Threads of one workgroup (`maxComputeInvocationsPerWorkgroup`).
pub const INVOCATIONS: Need = Need {
    needed: 256,
    granted: |limits| limits.max_compute_invocations_per_workgroup,
    words: "lets a workgroup have {} invocations",
};
/// Threads of a workgroup along x (`maxComputeWorkgroupSizeX`).
pub const WORKGROUP_WIDTH: Need = Need {
    needed: 256,
    granted: |limits| limits.max_compute_workgroup_size_x,
    words: "lets a workgroup be {} invocations wide",
};
/// Memory that a workgroup shares, in bytes (`maxComputeWorkgroupStorageSize`).
pub const WORKGROUP_MEMORY: Need = Need {
    needed: 8192,
    granted: |limits| limits.max_compute_workgroup_storage_size,
    words: "gives a workgroup {} bytes of memory",
};
/// Workgroups of a dispatch (`maxComputeWorkgroupsPerDimension`): WebGPU's own default, which no launch of any model
/// exceeds.
pub const WORKGROUPS: Need = Need {
    needed: 65_535,
    granted: |limits| limits.max_compute_workgroups_per_dimension,
    words: "runs {} workgroups in a row",
};

const ALL: [&Need; 8] = [
    &STORAGE_BUFFERS,
    &UNIFORM_BUFFERS,
    &BINDINGS,
    &BIND_GROUPS,
    &INVOCATIONS,
    &WORKGROUP_WIDTH,
    &WORKGROUP_MEMORY,
    &WORKGROUPS,
];

/// Lists every limit that is too low for the kernels: `lets a shader use 4 storage buffers; 8 are needed`.
pub fn shortages(offered: &wgpu::Limits) -> Vec<String> {
    let too_low = ALL.iter().filter(|need| (need.granted)(offered) < need.needed);
    too_low
        .map(|need| {
            let granted = (need.granted)(offered).to_string();
            format!("{}; {} are needed", need.words.replacen("{}", &granted, 1), need.needed)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_every_webgpu_device_has_is_enough() {
        assert_eq!(shortages(&wgpu::Limits::default()), Vec::<String>::new());
    }

    #[test]
    fn every_limit_that_is_too_low_is_named_with_both_numbers() {
        let compatibility = wgpu::Limits {
            max_storage_buffers_per_shader_stage: 4,
            max_compute_invocations_per_workgroup: 128,
            ..wgpu::Limits::default()
        };
        let named = [
            "lets a shader use 4 storage buffers; 8 are needed",
            "lets a workgroup have 128 invocations; 256 are needed",
        ];
        assert_eq!(shortages(&compatibility), named);
        let nothing = wgpu::Limits {
            max_bind_groups: 0,
            max_bindings_per_bind_group: 0,
            max_compute_invocations_per_workgroup: 0,
            max_compute_workgroup_size_x: 0,
            max_compute_workgroup_storage_size: 0,
            max_compute_workgroups_per_dimension: 0,
            max_storage_buffers_per_shader_stage: 0,
            max_uniform_buffers_per_shader_stage: 0,
            ..wgpu::Limits::default()
        };
        assert_eq!(shortages(&nothing).len(), ALL.len());
    }
}
