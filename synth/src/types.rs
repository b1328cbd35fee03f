//! Which type each tensor has.

use std::str::FromStr;

use gptoss_gguf::WeightType;

use crate::tensors::Role;
use crate::{SynthError, TensorType};

/// The types that weights can be made in: all that the engine takes.
pub const SUPPORTED_TYPES: [TensorType; WeightType::ALL.len()] = WeightType::KINDS;

/// The types of a model's matrices. Norms, biases, sinks and the router are F32 in all of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TypeMix {
    /// Experts in MXFP4, all other matrices in Q8_0: the files of ggml-org, and Unsloth's `Q8_0`.
    Mxfp4,
    /// Experts in MXFP4, all other matrices in BF16: Ollama's files.
    Mxfp4Bf16,
    /// What llama.cpp's quantiser makes of the MXFP4 model as `Q4_K_M`: experts stay MXFP4; of the others, Q4_K and
    /// Q6_K where rows are whole blocks of 256, and Q5_0 and Q8_0 where they are not, as are 20b's rows of 2880.
    Q4KM,
    /// Every matrix, experts included, in one type. Where rows are not whole blocks of 256, the type that llama.cpp's
    /// quantiser falls back to: Q5_0 for Q4_K, Q5_1 for Q5_K, Q8_0 for Q6_K, IQ4_NL for
    /// those of 3 bits and IQ4_XS.
    Uniform(TensorType),
}

impl TypeMix {
    /// The value of `general.file_type`: llama.cpp's `llama_ftype`.
    pub(crate) fn file_type(self) -> u32 {
        match self {
            Self::Mxfp4 => 38,
            // What Ollama's files say.
            Self::Mxfp4Bf16 => 4,
            Self::Q4KM => 15,
            // "Guessed", as llama.cpp calls a mix without a name; such types are refused when rows are made.
            Self::Uniform(kind) => WeightType::of(kind).map_or(1024, WeightType::file_type),
        }
    }

    /// The type of a tensor of this role with rows of `columns` weights, in layer `layer` of `layers`.
    pub(crate) fn kind(self, role: Role, layer: u32, layers: u32, columns: u64) -> TensorType {
        if !role.is_matrix() {
            return TensorType::F32;
        }
        let wanted = match self {
            Self::Uniform(kind) => kind,
            _ if role.is_expert() => TensorType::Mxfp4,
            Self::Mxfp4 => TensorType::Q8_0,
            Self::Mxfp4Bf16 => TensorType::BF16,
            Self::Q4KM => match role {
                Role::Output => TensorType::Q6K,
                Role::Value if gets_more_bits(layer, layers) => TensorType::Q6K,
                _ => TensorType::Q4K,
            },
        };
        if columns.is_multiple_of(256) { wanted } else { fallback(wanted) }
    }
}

/// llama.cpp's `use_more_bits`: the first and last eighth of the layers, and every third between them.
fn gets_more_bits(layer: u32, layers: u32) -> bool {
    layer < layers / 8 || layer >= 7 * layers / 8 || (layer - layers / 8) % 3 == 2
}

/// What llama.cpp's quantiser takes in place of a type whose blocks of 256 do not fit the rows.
fn fallback(kind: TensorType) -> TensorType {
    match kind {
        TensorType::Q4K => TensorType::Q5_0,
        TensorType::Q5K => TensorType::Q5_1,
        TensorType::Q6K => TensorType::Q8_0,
        other if other.block_len() == Some(256) => TensorType::Iq4Nl,
        other => other,
    }
}

impl FromStr for TypeMix {
    type Err = SynthError;

    /// `mxfp4`, `mxfp4_bf16`, `q4_k_m`, or a type's name for all matrices.
    fn from_str(name: &str) -> Result<Self, SynthError> {
        match name.to_lowercase().as_str() {
            "mxfp4" => Ok(Self::Mxfp4),
            "mxfp4_bf16" => Ok(Self::Mxfp4Bf16),
            "q4_k_m" => Ok(Self::Q4KM),
            _ => parse_type(name).map(Self::Uniform),
        }
    }
}

/// The type of that name, in upper or lower case.
///
/// # Errors
/// No such type, or none that weights can be made in.
pub fn parse_type(name: &str) -> Result<TensorType, SynthError> {
    let found = SUPPORTED_TYPES.into_iter().find(|kind| kind.name().eq_ignore_ascii_case(name));
    found.ok_or_else(|| SynthError::UnknownType { name: name.to_owned() })
}

/// Whether `name` is like `pattern`, in which `*` stands for any text, also none.
pub(crate) fn matches(pattern: &str, name: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == name,
        Some((start, rest)) => name.strip_prefix(start).is_some_and(|tail| {
            tail.char_indices().map(|(at, _)| at).chain([tail.len()]).any(|at| matches(rest, &tail[at..]))
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_whole_names() {
        let name = "blk.10.ffn_up_exps.weight";
        for pattern in
            ["blk.10.ffn_up_exps.weight", "*", "*_exps.weight", "blk.*", "blk.*.ffn_*_exps.*", "*blk*weight*"]
        {
            assert!(matches(pattern, name), "{pattern}");
        }
        for pattern in ["", "blk.1.*", "*_exps", "exps", "blk.*.ffn_down*", "weight*"] {
            assert!(!matches(pattern, name), "{pattern}");
        }
    }

    #[test]
    fn names_are_read_in_either_case_and_faults_list_what_there_is() {
        assert_eq!(parse_type("q5_K").expect("a type"), TensorType::Q5K);
        assert_eq!("MXFP4".parse::<TypeMix>().expect("a mix"), TypeMix::Mxfp4);
        assert_eq!("iq4_nl".parse::<TypeMix>().expect("a type"), TypeMix::Uniform(TensorType::Iq4Nl));
        let message = "q2_k".parse::<TypeMix>().expect_err("not made here").to_string();
        assert!(message.contains("q2_k") && message.contains("q4_k") && message.contains("iq4_nl"), "{message}");
    }
}
