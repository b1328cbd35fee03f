//! Model and device as lists of facts, each with its name.

use gptoss_protocol::{AdapterInfo, ModelInfo};

use super::format::{bytes, count};

/// Facts from the header, for the model card.
pub fn model_facts(model: &ModelInfo) -> Vec<(String, String)> {
    let number = |value: u32| count(u64::from(value));
    let layers = if model.layers_run == model.layers {
        number(model.layers)
    } else {
        format!("{} of {} run", number(model.layers_run), number(model.layers))
    };
    let mut facts = vec![
        fact("Name", model.name.clone()),
        fact("Architecture", model.architecture.clone()),
        fact("File", bytes(model.file_bytes)),
        fact("Layers", layers),
        fact("Hidden size", number(model.hidden)),
        fact("Heads", format!("{} query, {} key/value", number(model.query_heads), number(model.kv_heads))),
        fact("Experts", format!("{}, {} per token", number(model.experts), number(model.experts_per_token))),
        fact("Vocabulary", format!("{} tokens", number(model.vocabulary))),
        fact("Context", format!("{} tokens", number(model.context_tokens))),
        fact("Sliding window", format!("{} tokens", number(model.window_tokens))),
    ];
    facts.extend(
        model
            .formats
            .iter()
            .map(|(name, tensors, size)| fact(name, format!("{} tensors, {}", number(*tensors), bytes(*size)))),
    );
    facts
}

/// Facts about the device, for its panel.
pub fn device_facts(adapter: &AdapterInfo) -> Vec<(String, String)> {
    let mut facts = vec![
        fact("GPU", adapter.name.clone()),
        fact("Backend", adapter.backend.clone()),
        fact("Kernel tier", adapter.tier.to_string()),
        fact("Largest buffer", bytes(adapter.max_buffer_bytes)),
        fact("Largest binding", bytes(adapter.max_binding_bytes)),
        fact("Workgroup memory", bytes(u64::from(adapter.max_workgroup_storage_bytes))),
    ];
    if adapter.software {
        facts.insert(1, fact("Kind", "software: it works, slowly".to_owned()));
    }
    facts.extend(TELLING_FEATURES.map(|feature| {
        let offered = adapter.features.iter().any(|offered| offered == feature);
        // The GPU may have the feature all the same, because browsers do not report every feature.
        fact(feature, if offered { "offered" } else { "not reported" }.to_owned())
    }));
    facts
}

/// The optional features that matter for speed or measurements; the event log has them all.
const TELLING_FEATURES: [&str; 3] = ["shader-f16", "subgroups", "timestamp-query"];

fn fact(name: &str, value: String) -> (String, String) {
    (name.to_owned(), value)
}
