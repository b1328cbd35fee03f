//! Every tier of kernels that the adapter has gives the baseline's logits.

use std::rc::Rc;

use crate::support::memory;
use gptoss_engine::{LoadPolicy, load, open_gpu, preflight};
use gptoss_kernels::{GpuOptions, Tier};
use gptoss_model::{Backend, GpuError, Quiet};
use gptoss_protocol::LoadOptions;

const MODEL: &[u8] = include_bytes!("../../models/nano/gpt-oss-nano.gguf");
/// Longer than a batch and the window.
const TOKENS: usize = 70;
/// Sums of the same products in another order.
const MOST_APART: f32 = 2e-4;

/// Options with eight lanes per row, which shuffles are for.
fn options(tier: Tier) -> GpuOptions {
    GpuOptions { tier: Some(tier), lanes_per_row: Some(8), ..GpuOptions::default() }
}

async fn logits(tier: Tier, kv_f32: bool) -> Option<Vec<f32>> {
    let gpu = match gptoss_kernels::Gpu::open(&options(tier)).await {
        Ok(gpu) => Rc::new(gpu),
        Err(GpuError::Tier { missing, .. }) if tier > Tier::Baseline => {
            crate::support::print(&format!("NOT TESTED HERE: kernel tier {tier}: the adapter lacks {missing}"));
            return None;
        }
        Err(error) => panic!("{error}"),
    };
    assert_eq!(gpu.tier(), tier);
    let source = memory("nano", MODEL);
    let mut prepared =
        preflight(&gpu, source.as_ref(), &LoadOptions { kv_f32, ..LoadOptions::default() }, LoadPolicy::First, &Quiet)
            .await
            .expect("a plan");
    prepared.with_all_logits(&gpu.limits()).expect("a plan");
    let mut model =
        load(gpu, source, prepared, &Quiet).await.expect("nano loads, and its kernels pass their self-check");
    let tokens: Vec<u32> = (0..TOKENS as u32).map(|at| at * 7 % model.config().vocabulary).collect();
    Some(model.logits(&tokens).await.expect("logits"))
}

async fn every_tier_gives_the_baselines_logits() {
    // A cache in F16 is read to the bit by both; shuffles change sums in their last bits, which a cache in F16 would
    // round to one side or the other.
    for (tier, kv_f32, most) in [(Tier::F16, false, 0.0), (Tier::F16Subgroups, true, MOST_APART)] {
        let baseline = logits(Tier::Baseline, kv_f32).await.expect("every device has the baseline");
        let Some(got) = logits(tier, kv_f32).await else { continue };
        let apart = got.iter().zip(&baseline).map(|(got, want)| (got - want).abs()).fold(0.0, f32::max);
        crate::support::print(&format!("kernel tier {tier}: at most {apart:e} from the baseline"));
        assert!(apart <= most, "{tier}: {apart}");
    }
}

async fn a_tier_that_the_adapter_lacks_is_refused_with_what_it_lacks() {
    let granted = open_gpu(&GpuOptions::default(), &Quiet).await.expect("a GPU").granted();
    for tier in Tier::ALL {
        let opened = open_gpu(&options(tier), &Quiet).await;
        match granted.missing(tier) {
            None => assert_eq!(opened.expect("it has the tier").tier(), tier),
            Some(missing) => {
                let failure = opened.err().expect("it lacks something").failure();
                assert!(failure.message.contains(&missing) && failure.message.contains(tier.name()), "{failure:?}");
                assert_eq!(failure.parameter.map(|it| it.option), Some(gptoss_protocol::OptionId::Tier));
            }
        }
    }
}

everywhere!(same, every_tier_gives_the_baselines_logits());
everywhere!(refused, a_tier_that_the_adapter_lacks_is_refused_with_what_it_lacks());
