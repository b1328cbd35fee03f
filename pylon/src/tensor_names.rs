//! Which tensors of a file a model is made of.

use std::collections::BTreeSet;

use gptoss_engine::Inventory;

/// The names, as the file has them, of all tensors that the engine uses. A tensor that holds query, key and value in one
/// counts once.
pub fn used_names(inventory: &Inventory) -> BTreeSet<&str> {
    let mut names = BTreeSet::from([
        inventory.token_embd.name.as_str(),
        inventory.output_norm.name.as_str(),
        inventory.output.name.as_str(),
    ]);
    for layer in &inventory.layers {
        let matrices = [&layer.attn_output, &layer.gate_exps, &layer.up_exps, &layer.down_exps];
        names.extend(layer.qkv.iter().chain(matrices).map(|matrix| matrix.name.as_str()));
        let plain = [
            &layer.attn_norm,
            &layer.attn_output_bias,
            &layer.attn_sinks,
            &layer.post_attention_norm,
            &layer.router,
            &layer.router_bias,
        ];
        names.extend(layer.qkv_bias.iter().chain(&layer.exps_bias).chain(plain).map(|tensor| tensor.name.as_str()));
    }
    names
}
