//! Serial steps: how often the busiest thread of a dispatch goes, one after the other, round the loops that read
//! weights, keys or logits. What a kernel's grid cannot hide.
//!
//! Each count mirrors loops of the WGSL. Their texts are looked for in the kernel, so that one that changed is not
//! counted by what it was.

use anyhow::{Result, ensure};
use gptoss_kernels::{Operation, attention, experts, matmul, matmul_residual, router, sample};
use gptoss_model::BLOCK_TOKENS;

use crate::kernels::GEOMETRY;

/// Lanes that share an expert in the router, and experts of a workgroup (`LANES`, `LANES_PER_EXPERT` of router.wgsl).
const ROUTER_LANES: u32 = 8;
const ROUTER_EXPERTS: u32 = 64 / ROUTER_LANES;
/// Lanes of sample.wgsl (`LANES`).
const SAMPLE_LANES: u32 = 256;
/// Lanes of attention_row.wgsl (`LANES`).
const ROW_LANES: u32 = 256;
/// First lanes of attention_row.wgsl, which bring together what all lanes have (`PARTS`).
const ROW_PARTS: u32 = 16;
/// Pairs of a key's 64 values.
const KEY_PAIRS: u64 = 32;
/// How often sample.wgsl reads the logits: the maximum, the sums, four bytes of the threshold, what is above it, and
/// what is at it. The last pass may end early.
pub const LOGIT_PASSES: u64 = 8;

const WEIGHTS: &[(&str, usize)] = &[("block < params.blocks_per_row; block += LANES_PER_ROW)", 1)];

/// The loops that an operation's count mirrors, each with how often it occurs in the kernel.
fn loops(operation: Operation) -> &'static [(&'static str, usize)] {
    match operation {
        Operation::Matmul(_)
        | Operation::MatmulResidual(_)
        | Operation::ExpertsGateUp(_)
        | Operation::ExpertsGate(_)
        | Operation::ExpertsUp(_)
        | Operation::ExpertsDown(_) => WEIGHTS,
        Operation::Router => &[
            ("first < params.experts; first += LANES / LANES_PER_EXPERT)", 1),
            ("i < params.columns; i += LANES_PER_EXPERT)", 1),
            ("const LANES = 64u;", 1),
            ("const LANES_PER_EXPERT = 8u;", 1),
        ],
        Operation::Attention(_) => {
            &[("tile <= position; tile += BLOCK_TOKENS)", 1), ("pair < 32u;", 1), ("i < keys_here;", 1)]
        }
        Operation::AttentionRow(_) => &[
            ("i < keys_seen; i += LANES)", 3),
            ("pair < 32u;", 1),
            ("i < LANES; i += PARTS)", 2),
            ("i < PARTS; i++)", 2),
            ("const LANES = 256u;", 1),
            ("const PARTS = 16u;", 1),
        ],
        Operation::Sample => &[
            ("i < params.vocabulary; i += LANES)", 3),
            ("shift_up < 32u; shift_up += 8u)", 1),
            ("i < last", 2),
            ("const LANES = 256u;", 1),
        ],
        Operation::Rope(_) | Operation::ExpertsCombine => &[],
    }
}

/// Checks that the kernel has the loops that are counted.
///
/// # Errors
/// It has others: the count has to be made anew.
pub fn check(operation: Operation, source: &str) -> Result<()> {
    for (text, times) in loops(operation) {
        let found = source.matches(text).count();
        ensure!(
            found == *times,
            "{operation}: `{text}` stands {found} times in its WGSL; serial steps are counted for {times} (costs/src/steps.rs)"
        );
    }
    Ok(())
}

/// Steps of a call for a batch whose last row sees the position `last`.
pub fn of_call(operation: Operation, params: &[u8], last: u32) -> u64 {
    let blocks = |blocks_per_row: u32| u64::from(blocks_per_row.div_ceil(GEOMETRY.lanes_per_row));
    match operation {
        Operation::Matmul(_) => blocks(bytemuck::pod_read_unaligned::<matmul::Params>(params).blocks_per_row),
        Operation::MatmulResidual(_) => {
            blocks(bytemuck::pod_read_unaligned::<matmul_residual::Params>(params).blocks_per_row)
        }
        Operation::ExpertsGateUp(_)
        | Operation::ExpertsGate(_)
        | Operation::ExpertsUp(_)
        | Operation::ExpertsDown(_) => blocks(bytemuck::pod_read_unaligned::<experts::Params>(params).blocks_per_row),
        Operation::Router => {
            let router::Params { columns, experts, .. } = bytemuck::pod_read_unaligned(params);
            u64::from(experts.div_ceil(ROUTER_EXPERTS) * columns.div_ceil(ROUTER_LANES))
        }
        Operation::Attention(_) => {
            let keys = keys_seen(params, last);
            // A lane scores one key of each tile, and adds up one value of all keys.
            u64::from(keys.div_ceil(BLOCK_TOKENS)) * KEY_PAIRS + u64::from(keys)
        }
        Operation::AttentionRow(_) => {
            let keys = keys_seen(params, last).div_ceil(ROW_LANES);
            // Each lane scores its keys and comes back to them twice. What all lanes have is brought together twice, in two steps.
            u64::from(keys) * (KEY_PAIRS + 2) + 2 * u64::from(ROW_LANES / ROW_PARTS + ROW_PARTS)
        }
        Operation::Sample => {
            let sample::Params { vocabulary, .. } = bytemuck::pod_read_unaligned(params);
            LOGIT_PASSES * u64::from(vocabulary.div_ceil(SAMPLE_LANES))
        }
        // These compute a few values per thread.
        Operation::Rope(_) | Operation::ExpertsCombine => 0,
    }
}

/// Keys that attention sees at position `last`.
fn keys_seen(params: &[u8], last: u32) -> u32 {
    let attention::Params { window, .. } = bytemuck::pod_read_unaligned(params);
    if window == 0 { last + 1 } else { window.min(last + 1) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every operation is checked in every variant, so that the counts are of the loops that exist.
    #[test]
    fn kernels_have_the_loops_that_are_counted() {
        for operation in Operation::all() {
            for variant in operation.variants(GEOMETRY) {
                check(operation, &variant.source).expect("as counted");
            }
        }
        let error = check(Operation::Sample, "fn main() {}").expect_err("nothing is there").to_string();
        assert!(error.contains("sample: `i < params.vocabulary; i += LANES)` stands 0 times"), "{error}");
    }

    /// The numbers of gpt-oss-20b by hand: 2880 columns are 90 blocks, 201,088 logits 786 for each lane.
    #[test]
    fn steps_of_20b() {
        let router = router::Params { columns: 2880, experts: 32, ..bytemuck::Zeroable::zeroed() };
        assert_eq!(of_call(Operation::Router, bytemuck::bytes_of(&router), 0), 1440);
        let sample = sample::Params { vocabulary: 201_088, ..bytemuck::Zeroable::zeroed() };
        assert_eq!(of_call(Operation::Sample, bytemuck::bytes_of(&sample), 0), 8 * 786);
        let cache = gptoss_model::CacheFormat::F16;
        let windowed = attention::Params { window: 128, ..bytemuck::Zeroable::zeroed() };
        assert_eq!(of_call(Operation::Attention(cache), bytemuck::bytes_of(&windowed), 1023), 2 * 32 + 128);
        let full = attention::Params { window: 0, ..windowed };
        assert_eq!(of_call(Operation::Attention(cache), bytemuck::bytes_of(&full), 1023), 16 * 32 + 1024);
    }
}
