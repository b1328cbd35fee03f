//! What is said of a tensor whose type this engine does not run.

use gptoss_gguf::{CodeOrder, TensorInfo, TensorType, WeightType};

/// Formats of tensors that are widened to F32 when they are read.
const PLAIN: [WeightType; 3] = [WeightType::F32, WeightType::F16, WeightType::Bf16];

/// The architecture of Ollama's files.
const OLLAMA: &str = "gptoss";

/// The format of a matrix's weights, or what is wrong with its type. `experts`: whether the matrix belongs to the
/// experts.
pub(super) fn of_matrix(
    tensor: &TensorInfo,
    architecture: &str,
    experts: bool,
) -> Result<(WeightType, CodeOrder), String> {
    if tensor.kind == TensorType::EARLY_OLLAMA_MXFP4 {
        return match architecture {
            OLLAMA if experts => Ok((WeightType::Mxfp4, CodeOrder::Neighbours)),
            _ => Err(early_ollama(tensor, architecture)),
        };
    }
    match WeightType::of(tensor.kind) {
        Some(format) => Ok((format, CodeOrder::Halves)),
        None => Err(unsupported(tensor, &WeightType::supported_names())),
    }
}

/// The format of a norm, a bias or the sinks, or what is wrong with its type.
pub(super) fn of_plain(tensor: &TensorInfo) -> Result<WeightType, String> {
    let format = PLAIN.into_iter().find(|format| format.name() == tensor.kind.name());
    format.ok_or_else(|| unsupported(tensor, &PLAIN.map(WeightType::name).join(", ")))
}

fn unsupported(tensor: &TensorInfo, supported: &str) -> String {
    let TensorInfo { name, kind, .. } = tensor;
    match (kind, kind.removed_name()) {
        (TensorType::Unknown(id), Some(removed)) => {
            format!("{name} has type {id}, which was {removed} until ggml removed it; supported are {supported}")
        }
        (TensorType::Unknown(_), None) => format!("{name} has type {kind}; supported are {supported}"),
        _ if WeightType::of(*kind).is_some() => {
            format!("{name} has type {kind}; supported for it are {supported}")
        }
        _ => format!("{name} has type {kind}, which is known but not supported yet; supported are {supported}"),
    }
}

fn early_ollama(tensor: &TensorInfo, architecture: &str) -> String {
    let name = &tensor.name;
    if architecture == OLLAMA {
        return format!("{name} has type 4; Ollama's first files, of August 2025, have it for experts only");
    }
    format!(
        "{name} has type 4, which was Q4_2 until ggml removed it; only Ollama's first gpt-oss files, of August 2025, have it \
         for MXFP4, and their architecture is {OLLAMA}, not {architecture}: pull the model again, or convert it anew"
    )
}

/// Where only attention output has types that are known but not supported, the only matrix of gpt-oss with rows of
/// whole blocks of 256: a hint which other files of the same publisher run.
pub(super) fn hint(tensors: &[TensorInfo]) -> Option<String> {
    let unsupported =
        |tensor: &&TensorInfo| !matches!(tensor.kind, TensorType::Unknown(_)) && WeightType::of(tensor.kind).is_none();
    let mut found = tensors.iter().filter(|tensor| tensor.elements() > 0).filter(unsupported).peekable();
    found.peek()?;
    found.all(|tensor| tensor.name.contains("attn_out")).then(|| {
        "only attn_output has a type that is not supported: other quants of the same model, such as MXFP4, Q4_K_M or Q8_0, run"
            .to_owned()
    })
}

#[cfg(test)]
mod tests {
    use gptoss_gguf::{TensorUse, runs};

    use super::*;

    /// The server and the engine agree on which types run.
    #[test]
    fn types_that_run_are_those_that_headers_are_judged_by() {
        let kinds = TensorType::ALL.iter().copied().chain((0..=64).map(TensorType::from_id));
        for kind in kinds {
            let name = "blk.0.some.weight".to_owned();
            let tensor = TensorInfo { name, shape: vec![256], kind, offset: 0, size_bytes: 1 };
            for architecture in ["gpt-oss", OLLAMA] {
                for (used, is_good) in [
                    (TensorUse::Matrix, of_matrix(&tensor, architecture, false).is_ok()),
                    (TensorUse::Router, of_matrix(&tensor, architecture, false).is_ok()),
                    (TensorUse::Experts, of_matrix(&tensor, architecture, true).is_ok()),
                    (TensorUse::Plain, of_plain(&tensor).is_ok()),
                ] {
                    assert_eq!(runs(kind, used, architecture), is_good, "{kind} as {used:?} in {architecture}");
                }
            }
        }
    }
}
