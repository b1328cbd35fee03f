//! The keys under the architecture's prefix: which are read, and what the others must say for this engine's arithmetic
//! to be the model's. docs/FILES.md shows the table.
//!
//! What llama.cpp's loader of gpt-oss reads, it decides by; of keys that only other architectures have, those are
//! listed that would change the arithmetic if a gpt-oss file had them.

use super::WrongKey;
use crate::{Array, Gguf, Metadata, Value};

/// What this engine does with a metadata key.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Rule {
    /// Read by the engine, which checks it.
    Read,
    /// Nothing computed depends on it.
    Information,
    /// A number, or one number for each layer, which must be one of these. The engine computes the first; the others
    /// mean the same.
    Number(&'static [f64]),
    Truth(bool),
    /// The same value as another key of the file.
    Same(&'static str),
}

use Rule::{Information, Number, Read, Same, Truth};

/// The feature is off; 0 is also llama.cpp's "not set".
const NONE: Rule = Number(&[0.0]);
/// A factor without effect; 0 is llama.cpp's "not set".
const ONE: Rule = Number(&[1.0, 0.0]);
/// Counts that both mean that the feature is absent.
const AT_MOST_ONE: Rule = Number(&[0.0, 1.0]);

/// Each known key with the value that it must have, and the reason.
const RULES: &[(&str, Rule, &str)] = &[
    ("block_count", Read, "layers"),
    ("context_length", Read, "the longest context"),
    ("embedding_length", Read, "width of the residual stream"),
    ("feed_forward_length", Read, "width of an expert, where the next key is missing"),
    ("expert_feed_forward_length", Read, "width of an expert"),
    ("expert_count", Read, "experts of a layer"),
    ("expert_used_count", Read, "experts of a token"),
    ("vocab_size", Read, "must be the number of tokens"),
    ("attention.head_count", Read, "query heads; may be an array of equal numbers"),
    ("attention.head_count_kv", Read, "key-value heads; missing: as many as query heads"),
    ("attention.sliding_window", Read, "keys that a query of a sliding layer sees"),
    (
        "attention.sliding_window_pattern",
        Read,
        "which layers slide: layer % n < n − 1, or a boolean for each layer; missing: 2",
    ),
    ("attention.layer_norm_rms_epsilon", Read, "of RMSNorm"),
    ("rope.freq_base", Read, "of the angles"),
    ("rope.scaling.type", Read, "yarn; missing: yarn"),
    ("rope.scaling.factor", Read, "YaRN's"),
    ("rope.scaling.original_context_length", Read, "YaRN's"),
    ("rope.scaling.yarn_beta_fast", Read, "YaRN's; missing: 32"),
    ("rope.scaling.yarn_beta_slow", Read, "YaRN's; missing: 1"),
    ("rope.scaling.finetuned", Information, "whether the model was trained with the scaling"),
    ("tensor_data_layout", Information, "of llama models"),
    ("quantization_version", Information, "of the writer"),
    ("attention.key_length", Number(&[64.0]), "kernels are made for heads of 64"),
    ("attention.value_length", Number(&[64.0]), "kernels are made for heads of 64"),
    ("attention.causal", Truth(true), "a token sees those before it"),
    ("attention.scale", Number(&[0.125, 0.0]), "1/√64; 0 is not set"),
    ("attention.output_scale", ONE, "no such factor"),
    ("attention.value_scale", ONE, "no such factor"),
    ("attention.clamp_kqv", NONE, "queries, keys and values are not clamped"),
    ("attention.max_alibi_bias", NONE, "positions enter by rotation only"),
    ("attention.temperature_length", NONE, "queries are not scaled by position"),
    ("attention.temperature_scale", NONE, "queries are not scaled by position"),
    ("attention.layer_norm_epsilon", Same("attention.layer_norm_rms_epsilon"), "all norms are RMSNorm"),
    ("attention.group_norm_groups", NONE, "there is no group norm"),
    ("attention.q_lora_rank", NONE, "queries come from one matrix"),
    ("attention.kv_lora_rank", NONE, "keys and values come from one matrix each"),
    ("attention.shared_kv_layers", NONE, "each layer has keys and values of its own"),
    ("attention.relative_buckets_count", NONE, "positions enter by rotation only"),
    ("attn_logit_softcapping", NONE, "scores are not capped"),
    ("router_logit_softcapping", NONE, "the router's logits are not capped"),
    ("final_logit_softcapping", NONE, "logits are not capped"),
    ("rope.dimension_count", Number(&[64.0]), "all of a head is rotated"),
    ("rope.dimension_sections", NONE, "positions have one dimension"),
    ("rope.scale_linear", ONE, "positions are not scaled besides YaRN"),
    ("rope.scaling.alpha", ONE, "the base is not scaled"),
    ("rope.scaling.attn_factor", ONE, "cos and sin have YaRN's own factor, 0.1 · ln(factor) + 1"),
    ("rope.scaling.yarn_attn_factor", ONE, "cos and sin have YaRN's own factor"),
    ("rope.scaling.yarn_ext_factor", Number(&[1.0, -1.0]), "YaRN in full; −1 is not set"),
    ("rope.scaling.yarn_log_multiplier", NONE, "YaRN's own factor is 0.1 · ln(factor) + 1"),
    ("leading_dense_block_count", NONE, "every layer has experts"),
    ("moe_every_n_layers", AT_MOST_ONE, "every layer has experts"),
    ("interleave_moe_layer_step", AT_MOST_ONE, "every layer has experts"),
    ("expert_shared_count", NONE, "no expert works for all tokens"),
    ("expert_shared_feed_forward_length", NONE, "no expert works for all tokens"),
    ("expert_chunk_feed_forward_length", NONE, "experts are not grouped"),
    ("expert_group_count", AT_MOST_ONE, "experts are not grouped"),
    ("expert_group_used_count", AT_MOST_ONE, "experts are not grouped"),
    ("expert_group_scale", ONE, "experts are not grouped"),
    ("experts_per_group", NONE, "experts are not grouped"),
    ("expert_weights_scale", ONE, "weights of the chosen experts add up to 1"),
    ("expert_weights_norm", Information, "weights of the chosen experts add up to 1 with and without"),
    ("expert_gating_func", Number(&[3.0, 0.0]), "3: softmax over the chosen experts; 0 is not set"),
    ("swiglu_clamp_exp", Number(&[7.0]), "gate and up are clamped at 7"),
    ("swiglu_clamp_shexp", NONE, "no expert works for all tokens"),
    ("swiglu_limit", Number(&[7.0]), "gate and up are clamped at 7"),
    ("swiglu_alpha", Number(&[1.702f32 as f64, 1.702]), "of the gate's sigmoid"),
    ("use_parallel_residual", Truth(false), "experts follow attention"),
    ("logit_scale", ONE, "logits are not scaled"),
    ("residual_scale", ONE, "results are added as they are"),
    ("embedding_scale", ONE, "embeddings are used as they are"),
    ("nextn_predict_layers", NONE, "the model predicts one token"),
    ("pooling_type", NONE, "the model gives logits, not an embedding"),
];

/// Suffix of the keys about sliding layers, which compute the same as all others here.
const OF_SLIDING_LAYERS: &str = "_swa";

fn rule_of(name: &str) -> Option<Rule> {
    RULES.iter().find(|(key, ..)| *key == name).map(|(_, rule, _)| *rule)
}

/// A key of the file.
struct Found<'a> {
    metadata: &'a Metadata,
    prefix: &'a str,
    key: &'a str,
    /// The key without the architecture's prefix.
    name: &'a str,
    value: &'a Value,
}

/// Checks that no key asks for arithmetic that this engine does not do.
///
/// # Errors
/// The first key that does, with its value and the one that is expected.
pub fn check_keys(metadata: &Metadata, architecture: &str) -> Result<(), WrongKey> {
    of_architecture(metadata, architecture).try_for_each(|found| match rule_of(found.name) {
        Some(rule) => found.check(rule),
        None => match found.base() {
            Some((base, value)) => found.check_same(base, Some(value)),
            None => found.base_rule().map_or(Ok(()), |rule| found.check(rule)),
        },
    })
}

/// Keys under the architecture's prefix that this engine does not know, in file order. They may be harmless, or the
/// file may be newer than the engine.
pub fn unknown_keys(gguf: &Gguf) -> Vec<&str> {
    let Ok(architecture) = gguf.metadata.str("general.architecture") else { return Vec::new() };
    let unknown =
        |found: &Found<'_>| rule_of(found.name).is_none() && found.base().is_none() && found.base_rule().is_none();
    of_architecture(&gguf.metadata, architecture).filter(unknown).map(|found| found.key).collect()
}

fn of_architecture<'a>(metadata: &'a Metadata, prefix: &'a str) -> impl Iterator<Item = Found<'a>> {
    metadata.iter().filter_map(move |(key, value)| {
        let name = key.strip_prefix(prefix)?.strip_prefix('.')?;
        Some(Found { metadata, prefix, key, name, value })
    })
}

impl<'a> Found<'a> {
    fn key_of(&self, name: &str) -> String {
        format!("{}.{name}", self.prefix)
    }

    /// The key about all layers that this key about sliding layers refines, with its value.
    fn base(&self) -> Option<(&'a str, &'a Value)> {
        let base = self.name.strip_suffix(OF_SLIDING_LAYERS)?;
        rule_of(base)?;
        Some((base, self.metadata.get(&self.key_of(base))?))
    }

    /// The rule of the key about all layers that this key about sliding layers refines.
    fn base_rule(&self) -> Option<Rule> {
        rule_of(self.name.strip_suffix(OF_SLIDING_LAYERS)?).filter(|rule| *rule != Read)
    }

    fn check(&self, rule: Rule) -> Result<(), WrongKey> {
        match rule {
            Read | Information => Ok(()),
            Same(other) => self.check_same(other, self.metadata.get(&self.key_of(other))),
            Truth(wanted) => match self.value {
                Value::Bool(found) if *found == wanted => Ok(()),
                found => Err(self.wrong(wanted.to_string(), shown(found))),
            },
            Number(accepted) => {
                let found = numbers(self.value);
                let wrong = found.as_ref().and_then(|all| all.iter().find(|number| !accepted.contains(number)));
                match (&found, wrong) {
                    (Some(_), None) => Ok(()),
                    (Some(all), Some(number)) if all.len() == 1 => {
                        Err(self.wrong(either(accepted), number.to_string()))
                    }
                    (Some(_), Some(number)) => {
                        Err(self
                            .wrong(format!("{} in all layers", either(accepted)), format!("an array with {number}")))
                    }
                    (None, _) => Err(self.wrong(either(accepted), shown(self.value))),
                }
            }
        }
    }

    fn check_same(&self, other: &str, value: Option<&Value>) -> Result<(), WrongKey> {
        let same = value.is_some_and(|value| match (numbers(value), numbers(self.value)) {
            (Some(one), Some(two)) => one == two,
            _ => value == self.value,
        });
        if same {
            return Ok(());
        }
        let other_value = value.map_or_else(|| "missing".to_owned(), shown);
        Err(self.wrong(format!("the same as {}, which is {other_value}", self.key_of(other)), shown(self.value)))
    }

    fn wrong(&self, expected: String, got: String) -> WrongKey {
        WrongKey { key: self.key.to_owned(), expected, got }
    }
}

fn either(accepted: &[f64]) -> String {
    accepted.iter().map(f64::to_string).collect::<Vec<_>>().join(" or ")
}

/// A number, or those of an array.
fn numbers(value: &Value) -> Option<Vec<f64>> {
    fn all<T: Copy>(numbers: &[T], to_f64: impl Fn(T) -> f64) -> Option<Vec<f64>> {
        Some(numbers.iter().map(|&number| to_f64(number)).collect())
    }
    match value {
        Value::U8(v) => all(&[*v], f64::from),
        Value::I8(v) => all(&[*v], f64::from),
        Value::U16(v) => all(&[*v], f64::from),
        Value::I16(v) => all(&[*v], f64::from),
        Value::U32(v) => all(&[*v], f64::from),
        Value::I32(v) => all(&[*v], f64::from),
        Value::U64(v) => all(&[*v], |v| v as f64),
        Value::I64(v) => all(&[*v], |v| v as f64),
        Value::F32(v) => all(&[*v], f64::from),
        Value::F64(v) => all(&[*v], f64::from),
        Value::Array(Array::U8(v)) => all(v, f64::from),
        Value::Array(Array::I8(v)) => all(v, f64::from),
        Value::Array(Array::U16(v)) => all(v, f64::from),
        Value::Array(Array::I16(v)) => all(v, f64::from),
        Value::Array(Array::U32(v)) => all(v, f64::from),
        Value::Array(Array::I32(v)) => all(v, f64::from),
        Value::Array(Array::U64(v)) => all(v, |v| v as f64),
        Value::Array(Array::I64(v)) => all(v, |v| v as f64),
        Value::Array(Array::F32(v)) => all(v, f64::from),
        Value::Array(Array::F64(v)) => all(v, f64::from),
        _ => None,
    }
}

/// The value in short form, for messages.
fn shown(value: &Value) -> String {
    match (value, numbers(value).as_deref()) {
        (Value::Array(array), _) => format!("an {array}"),
        (_, Some([number])) => number.to_string(),
        (Value::Bool(truth), _) => truth.to_string(),
        (Value::String(text), _) => format!("{:?}", text.chars().take(64).collect::<String>()),
        _ => "of another type".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_key_is_there_once_and_refers_to_keys_that_are_read() {
        for (index, (key, rule, why)) in RULES.iter().enumerate() {
            assert!(RULES[..index].iter().all(|(other, ..)| other != key), "{key} twice");
            assert!(!why.is_empty());
            if let Same(other) = rule {
                assert_eq!(rule_of(other), Some(Read), "{key}");
            }
        }
    }

    #[test]
    fn the_documentation_has_every_key() {
        let documentation = include_str!("../../../docs/FILES.md");
        for (key, _, why) in RULES {
            assert!(documentation.contains(&format!("`{key}`")), "docs/FILES.md lacks {key}: {why}");
        }
    }
}
