//! The device itself: calls are counted where they are made, faults are reported, and they stay.

use gptoss_kernels::sample::{self, Buffers};
use gptoss_kernels::{GpuOptions, Kernels, Operation, Row, Sampled, Step};
use gptoss_model::GpuError;

use crate::support::bench::{Bench, batch};
use crate::support::seam::{self, gpu_test};

gpu_test! {
    async fn counters_count_the_calls() {
        let gpu = seam::open(&GpuOptions::default()).await;
        assert_eq!(gpu.counters(), Default::default());
        let kernels = Kernels::compile(&gpu, [Operation::Sample]);
        let bench = Bench::new(&gpu, Step { head_tokens: 1, ..batch(1) });
        let row = Row { position: 0, table: 0, inverse_temperature: 1.0, padding: 0 };
        let (logits, rows) = (gpu.storage_from("logits", &[1.0f32; 3]), gpu.storage_from("rows", &[row]));
        let sampled = gpu.storage("sampled", Sampled::SIZE_BYTES);
        let buffers = Buffers { step: &bench.step_buffer, logits: &logits, rows: &rows, sampled: &sampled };
        let before = gpu.counters();
        // Step 16, status 32, logits 12, rows 16, sampled 544 bytes.
        assert_eq!((before.pipelines_created, before.buffers_created, before.allocated_bytes), (1, 5, 620));

        let launch = kernels.bind(&gpu, &sample::call(&buffers, 3));
        let launches = [launch];
        bench.run(&launches);
        bench.run(&launches);
        let after = gpu.counters();
        assert_eq!(after.submits - before.submits, 2);
        assert_eq!(after.dispatches - before.dispatches, 2);
        assert_eq!(after.bind_groups_created - before.bind_groups_created, 1);
        // The parameters belong to the launch and go with it.
        assert_eq!(after.allocated_bytes, 620 + 16);
        gpu.finished().await.expect("the device works");
        drop(launches);
        assert_eq!(gpu.counters().allocated_bytes, 620);
    }
}

gpu_test! {
    async fn a_rejected_call_is_reported_from_then_on() {
        let gpu = seam::open(&GpuOptions::default()).await;
        gpu.check().expect("nothing happened yet");
        let buffer = gpu.storage_from("small", &[0u32; 4]);
        let error = gpu.read(&buffer, 8, 16).await.expect_err("8 bytes past the end");
        assert!(matches!(error, GpuError::Validation { .. }), "{error:?}");
        assert_eq!(gpu.check(), Err(error));
    }
}

gpu_test! {
    async fn a_destroyed_device_is_reported_as_lost() {
        let gpu = seam::open(&GpuOptions::default()).await;
        let buffer = gpu.storage_from("some", &[0u32; 4]);
        gpu.finished().await.expect("the device works");
        gpu.destroy();
        let error = gpu.read(&buffer, 0, 16).await.expect_err("nothing can be read from a lost device");
        assert!(matches!(error, GpuError::DeviceLost { .. }), "{error:?}");
    }
}

gpu_test! {
    async fn a_probe_reports_what_it_could_not_get_and_the_device_lives_on() {
        let gpu = seam::open(&GpuOptions::default()).await;
        let too_much = gpu.limits().max_buffer_bytes + 4;
        let error = gpu
            .probe_memory("far too much", too_much, || gpu.storage("far too much", too_much))
            .await
            .err()
            .expect("more than any buffer may hold");
        assert!(matches!(&error, GpuError::OutOfMemory { bytes, .. } if *bytes == too_much), "{error:?}");
        gpu.probe_memory("a little", 64, || gpu.storage("a little", 64)).await.expect("64 bytes");
        gpu.check().expect("a failed probe is no fault of the device");
    }
}

gpu_test! {
    async fn default_limits_are_what_every_webgpu_device_has() {
        let gpu = seam::open(&GpuOptions { default_limits: true, ..GpuOptions::default() }).await;
        assert_eq!(gpu.limits().max_binding_bytes, 128 << 20);
        assert_eq!(gpu.limits().max_buffer_bytes, 256 << 20);
        assert_eq!(gpu.limits().max_workgroup_storage_bytes, 16384);
    }
}
