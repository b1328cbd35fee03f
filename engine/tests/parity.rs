//! Whole models against Transformers' logits (tests/goldens): both YaRN modes, prompts longer than the window, every
//! expert pool, both cache formats, sharded weights.

use crate::support::{Setup, assert_f16_cache_parity, assert_f32_parity, distance, load_model, npy, token_ids};
use gptoss_model::Backend;
use gptoss_protocol::LoadOptions;

macro_rules! golden {
    ($file:literal) => {
        include_bytes!(concat!("../../tests/goldens/", $file))
    };
}

/// One prompt and what Transformers makes of it.
struct Golden {
    name: &'static str,
    model: &'static [u8],
    tokens: &'static str,
    logits: &'static [u8],
    yarn_truncate: bool,
}

const ODD_150: Golden = Golden {
    name: "odd.150",
    model: golden!("odd.gguf"),
    tokens: include_str!("../../tests/goldens/odd.150.tokens.txt"),
    logits: golden!("odd.150.hf_f32.openai_yarn.npy"),
    yarn_truncate: false,
};
const ODD_150_TRUNCATED: Golden = Golden {
    name: "odd.150 truncated",
    logits: golden!("odd.150.hf_f32.llama_yarn.npy"),
    yarn_truncate: true,
    ..ODD_150
};
const TINY_48: Golden = Golden {
    name: "tiny.48",
    model: golden!("tiny.gguf"),
    tokens: include_str!("../../tests/goldens/tiny.48.tokens.txt"),
    logits: golden!("tiny.48.hf_f32.openai_yarn.npy"),
    yarn_truncate: false,
};
#[cfg(not(target_arch = "wasm32"))]
const TINY_300: Golden = Golden {
    name: "tiny.300",
    tokens: include_str!("../../tests/goldens/tiny.300.tokens.txt"),
    logits: golden!("tiny.300.hf_f32.openai_yarn.npy"),
    ..TINY_48
};
#[cfg(not(target_arch = "wasm32"))]
const TINY_300_TRUNCATED: Golden = Golden {
    name: "tiny.300 truncated",
    logits: golden!("tiny.300.hf_f32.llama_yarn.npy"),
    yarn_truncate: true,
    ..TINY_300
};
#[cfg(not(target_arch = "wasm32"))]
const TINY_700: Golden = Golden {
    name: "tiny.700",
    tokens: include_str!("../../tests/goldens/tiny.700.tokens.txt"),
    logits: golden!("tiny.700.hf_f32.openai_yarn.npy"),
    ..TINY_48
};

fn f32_cache(golden: &Golden) -> Setup {
    let options = LoadOptions { kv_f32: true, yarn_truncate: golden.yarn_truncate, ..LoadOptions::default() };
    Setup { options, all_logits: true, ..Setup::default() }
}

/// Logits of every position.
async fn logits(golden: &Golden, setup: &Setup) -> Vec<f32> {
    let mut model = load_model(golden.name, golden.model, setup).await;
    let logits = model.logits(&token_ids(golden.tokens)).await.expect("logits");
    let work = model.work_counters();
    assert_eq!(work.weights_fetched_bytes, work.weights_used_bytes, "{}: nothing is thrown away", golden.name);
    logits
}

async fn f32_parity(golden: &Golden, setup: &Setup) -> Vec<f32> {
    let (want, columns) = npy(golden.logits);
    let got = logits(golden, setup).await;
    assert_f32_parity(&format!("{} {setup:?}", golden.name), distance(&got, &want, columns));
    got
}

/// The pool with as few slots as a token needs: every batch evicts, and prefill takes turns. Bit for bit the same.
async fn any_pool_gives_the_same(golden: &Golden, pools: &[u32]) {
    let full = f32_parity(golden, &f32_cache(golden)).await;
    for &slots in pools {
        let paged = logits(golden, &Setup { slots: Some(slots), ..f32_cache(golden) }).await;
        assert_eq!(full, paged, "{} with {slots} slots per layer differs from full residency", golden.name);
    }
}

everywhere!(odd_150_full_and_paged, any_pool_gives_the_same(&ODD_150, &[4]));
everywhere!(odd_150_with_rounded_yarn, async {
    f32_parity(&ODD_150_TRUNCATED, &f32_cache(&ODD_150_TRUNCATED)).await;
});
everywhere!(odd_150_with_f16_cache, f16_cache_parity(&ODD_150));
everywhere!(tiny_48, async {
    f32_parity(&TINY_48, &f32_cache(&TINY_48)).await;
});

async fn f16_cache_parity(golden: &Golden) {
    let mut setup = f32_cache(golden);
    setup.options.kv_f32 = false;
    let (want, columns) = npy(golden.logits);
    assert_f16_cache_parity(golden.name, distance(&logits(golden, &setup).await, &want, columns));
}

#[cfg(not(target_arch = "wasm32"))]
mod native {
    use gptoss_kernels::GpuOptions;
    use gptoss_model::reference::ReferenceModel;

    use super::*;
    use crate::support::{memory, run};

    async fn scalar_reference_parity(golden: &Golden) {
        let source = memory(golden.name, golden.model);
        let model = ReferenceModel::load(source.as_ref(), golden.yarn_truncate).await.expect("a valid file");
        let (want, columns) = npy(golden.logits);
        let got = model.logits(&token_ids(golden.tokens));
        assert_f32_parity(&format!("scalar {}", golden.name), distance(&got, &want, columns));
    }

    #[test]
    fn tiny_300_full_and_paged() {
        run(any_pool_gives_the_same(&TINY_300, &[4, 5, 7]));
    }

    #[test]
    fn tiny_300_with_rounded_yarn() {
        run(async {
            f32_parity(&TINY_300_TRUNCATED, &f32_cache(&TINY_300_TRUNCATED)).await;
        });
    }

    #[test]
    fn tiny_700() {
        run(async {
            f32_parity(&TINY_700, &f32_cache(&TINY_700)).await;
        });
    }

    #[test]
    fn tiny_300_with_f16_cache() {
        run(f16_cache_parity(&TINY_300));
    }

    #[test]
    fn the_two_yarn_modes_differ() {
        let (openai, columns) = npy(TINY_300.logits);
        let (llama, _) = npy(TINY_300_TRUNCATED.logits);
        let apart = distance(&openai, &llama, columns);
        assert!(apart.nmse > 1e-4, "the goldens must tell the modes apart: {apart:?}");
    }

    #[test]
    fn scalar_reference_matches_transformers() {
        run(async {
            scalar_reference_parity(&TINY_300).await;
            scalar_reference_parity(&ODD_150).await;
            scalar_reference_parity(&ODD_150_TRUNCATED).await;
        });
    }

    /// Bindings of 64 KiB cut every matrix into shards and the experts into arenas of one slot.
    #[test]
    fn sharded_weights_give_the_same() {
        run(async {
            let whole = logits(&ODD_150, &f32_cache(&ODD_150)).await;
            let gpu = GpuOptions { max_binding_bytes: Some(100 << 10), ..GpuOptions::default() };
            let options = LoadOptions { max_kv_tokens: Some(160), ..f32_cache(&ODD_150).options };
            let sharded = logits(&ODD_150, &Setup { options, gpu, ..f32_cache(&ODD_150) }).await;
            assert_eq!(whole, sharded);
        });
    }

    /// Batches of any size, a prompt that ends in the middle of one, and single tokens give the same logits.
    #[test]
    fn batch_size_does_not_matter() {
        run(async {
            let (want, columns) = npy(ODD_150.logits);
            for tokens in [1, 7, 150] {
                let setup = Setup { batch_tokens: Some(tokens), ..f32_cache(&ODD_150) };
                let got = logits(&ODD_150, &setup).await;
                assert_f32_parity(&format!("batches of {tokens}"), distance(&got, &want, columns));
            }
        });
    }
}
