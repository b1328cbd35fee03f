//! Shapes that no golden has, on the GPU against the scalar reference: query heads per key-value head 2, 3, 4 and 8, 12
//! and 32 experts, windows 32 and 128, prompts beyond the window, both YaRN modes.
#![cfg(not(target_arch = "wasm32"))]

use crate::support::{Setup, assert_f32_parity, distance, load_model, memory, run};
use gptoss_model::Backend;
use gptoss_model::reference::ReferenceModel;
use gptoss_protocol::LoadOptions;
use gptoss_synth::Spec;

struct Shape {
    query_heads: u32,
    kv_heads: u32,
    experts: u32,
    window_tokens: u32,
    prompt_tokens: u32,
}

async fn parity(shape: &Shape, yarn_truncate: bool) {
    let &Shape { query_heads, kv_heads, experts, window_tokens, prompt_tokens } = shape;
    let name = format!(
        "{query_heads}/{kv_heads} heads, {experts} experts, window {window_tokens}, YaRN rounded {yarn_truncate}"
    );
    let file = Spec::tiny()
        .layers(2)
        .hidden(96)
        .ff(64)
        .query_heads(query_heads)
        .kv_heads(kv_heads)
        .experts(experts)
        .window_tokens(window_tokens)
        .to_bytes()
        .expect("a model that can be made");
    let reference = ReferenceModel::load(memory(&name, &file).as_ref(), yarn_truncate).await.expect("a valid file");
    let vocabulary = reference.config.vocabulary;
    let prompt: Vec<u32> = (0..prompt_tokens).map(|at| (at * 7919 + 13) % vocabulary).collect();
    let want = reference.logits(&prompt);
    let options = LoadOptions { kv_f32: true, yarn_truncate, ..LoadOptions::default() };
    let setup = Setup { options, all_logits: true, ..Setup::default() };
    let got = load_model(&name, &file, &setup).await.logits(&prompt).await.expect("logits");
    assert_f32_parity(&name, distance(&got, &want, vocabulary as usize));
}

#[test]
fn other_shapes_in_both_yarn_modes() {
    run(async {
        for shape in [
            Shape { query_heads: 6, kv_heads: 2, experts: 12, window_tokens: 32, prompt_tokens: 50 },
            Shape { query_heads: 8, kv_heads: 1, experts: 32, window_tokens: 128, prompt_tokens: 140 },
            Shape { query_heads: 8, kv_heads: 2, experts: 12, window_tokens: 128, prompt_tokens: 133 },
            Shape { query_heads: 4, kv_heads: 2, experts: 32, window_tokens: 32, prompt_tokens: 70 },
        ] {
            for yarn_truncate in [false, true] {
                parity(&shape, yarn_truncate).await;
            }
        }
    });
}
