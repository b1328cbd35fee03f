//! The adapter's own compiler takes every kernel: in a browser that is another one than naga.

use gptoss_kernels::operation::Geometry;
use gptoss_kernels::{GpuOptions, Operation, sources};

use crate::support::compare::Difference;
use crate::support::report::Report;
use crate::support::seam::{self, gpu_test};

gpu_test! {
    async fn every_kernel_compiles_here() {
        let gpu = seam::open(&GpuOptions::default()).await;
        seam::print(&format!("adapter: {:?}, limits: {:?}", gpu.adapter(), gpu.limits()));
        let mut report = Report::new("compile");
        let geometry = Geometry { lanes_per_row: gpu.lanes_per_row() };
        let variants = Operation::all().into_iter().flat_map(|operation| {
            operation.variants(geometry).into_iter().map(move |variant| (operation.to_string(), variant.source))
        });
        let granted = gpu.granted();
        let is_missing = |source: &str| {
            let needs_f16 = source.contains("enable f16;") && !granted.shader_f16;
            needs_f16 || source.contains("enable subgroups;") && !granted.subgroups
        };
        let mut seen = Vec::new();
        for (name, source) in variants.chain([("repack".to_owned(), sources::repack())]) {
            // Some operations differ in constants only.
            if seen.contains(&source) {
                continue;
            }
            seen.push(source.clone());
            if is_missing(&source) {
                seam::print(&format!("NOT TESTED HERE: {name} with features that the adapter lacks: {granted:?}"));
                continue;
            }
            let scope = gpu.device().push_error_scope(wgpu::ErrorFilter::Validation);
            let module = gpu.device().create_shader_module(wgpu::ShaderModuleDescriptor {
                label: Some(&name),
                source: wgpu::ShaderSource::Wgsl(seam::wgsl(&source).into()),
            });
            let messages = module.get_compilation_info().await.messages;
            let outcome = match scope.pop().await {
                Some(error) => Err(format!("{error}\n{messages:#?}")),
                None => Ok(Difference::default()),
            };
            report.row(&name, outcome);
        }
        report.finish();
    }
}
