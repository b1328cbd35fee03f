//! Which tensors of a file a model is made of.

use std::collections::BTreeSet;

use gptoss_model::Inventory;

/// Names of all tensors in the file that the engine uses. A tensor that joins several (query, key and value; gate and
/// up) counts once.
pub fn used_names(inventory: &Inventory) -> BTreeSet<&str> {
    let mut names = BTreeSet::from([
        inventory.token_embd.name.as_str(),
        inventory.output_norm.name.as_str(),
        inventory.output.name.as_str(),
    ]);
    for layer in &inventory.layers {
        names.extend(layer.matrices().map(|matrix| matrix.name.as_str()));
        names.extend(layer.dense_plain().chain(&layer.exps_bias).map(|tensor| tensor.name.as_str()));
    }
    names
}
