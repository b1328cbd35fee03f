//! The checks of what reads the rows buffer pass here, whatever the last position. That they notice faults is for the
//! engine's tests to show.

use gptoss_kernels::self_check::SelfCheck;
use gptoss_kernels::{GpuOptions, Kernels, Operation};
use gptoss_model::CacheFormat;

use crate::rope::YARN;
use crate::support::seam::{self, gpu_test};

/// Fewer positions than the batch has tokens; before, at and after a boundary of blocks; the last one of gpt-oss.
const LAST_POSITIONS: [u32; 8] = [0, 40, 63, 64, 65, 66, 1000, 131_071];

gpu_test! {
    async fn checks_pass_at_any_last_position() {
        let gpu = seam::open(&GpuOptions::default()).await;
        for format in [CacheFormat::F32, CacheFormat::F16] {
            let operations =
                [Operation::Rope(format), Operation::Attention(format), Operation::AttentionRow(format), Operation::Sample];
            let kernels = Kernels::compile(&gpu, operations);
            for last_position in LAST_POSITIONS {
                let mut check = SelfCheck::new(&gpu, &kernels, last_position);
                check.rope(format, &YARN);
                check.attention(format, 3);
                check.sample();
                let report = check.run().await.unwrap_or_else(|error| panic!("{last_position}: {error}"));
                seam::print(&format!("{format:?}, last position {last_position}: {report:?}"));
                assert_eq!(report.kernels, 6);
            }
        }
    }
}
