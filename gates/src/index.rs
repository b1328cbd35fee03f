//! Gate A: the index. Header and tensor table, and that they describe a whole gpt-oss model.

use gptoss_model::{Inventory, ModelConfig};
use serde_json::{Value, json};

use crate::error::GateError;
use crate::file::{GatedFile, Part};
use crate::report::Report;

/// What the gate is about.
pub const TITLE: &str = "the index: header and tensor table describe a whole gpt-oss model";

/// Tensors that are listed unless somebody wants more.
pub const USUAL_LIMIT: usize = 5;

/// Checks hyperparameters, names, types and shapes of all tensors, that there are no others, and that their sizes add up
/// to the size of the file. Lists the first `limit` of them.
///
/// # Errors
/// The hyperparameters are not those of a gpt-oss model.
pub fn check(file: &GatedFile<'_>, limit: usize, report: &mut Report) -> Result<(), GateError> {
    let gguf = file.gguf;
    report.fact("files", file.parts.len());
    report.fact("version", gguf.version);
    report.fact("data offset", gguf.data_offset);
    report.fact("file bytes", gguf.file_len);
    let rows = gguf.tensors.iter().take(limit).map(|tensor| {
        json!({
            "name": tensor.name,
            "type": tensor.kind.to_string(),
            "shape": tensor.shape,
            "offset": tensor.offset,
            "bytes": tensor.size_bytes,
        })
    });
    report.fact("tensors", rows.collect::<Value>());

    let config = ModelConfig::from_gguf(gguf)?;
    let described = format!(
        "{}: {} layers, hidden {}, {} experts of which {} are chosen, {} tokens in the vocabulary",
        config.architecture, config.layers, config.hidden, config.experts, config.experts_per_token, config.vocabulary
    );
    report.check("hyperparameters", true, described);
    match Inventory::from_gguf(gguf, &config) {
        Ok(inventory) => {
            report.check("names, types and shapes", true, "every tensor of the model is there");
            let (count, used) = (gguf.tensors.len(), inventory.names().len());
            report.check(
                "no tensor besides",
                count == used,
                format!("the file has {count}, the model is made of {used}"),
            );
        }
        Err(error) => report.check("names, types and shapes", false, error.to_string()),
    }
    for part in file.parts {
        check_sizes(part, report);
    }
    Ok(())
}

/// Checks that header and tensors fill the file exactly.
fn check_sizes(part: &Part<'_>, report: &mut Report) {
    let gguf = part.gguf;
    let padded: u64 = gguf.tensors.iter().map(|tensor| tensor.size_bytes.next_multiple_of(gguf.alignment)).sum();
    let end = gguf.data_offset + padded;
    // The padding behind the last tensor may be left out.
    let last = gguf.tensors.iter().map(|tensor| tensor.offset + tensor.size_bytes).max().unwrap_or(gguf.data_offset);
    report.check(
        "sizes add up",
        gguf.file_len == end || gguf.file_len == last,
        format!("header and padded tensors end at byte {end}; {} has {}", part.name, gguf.file_len),
    );
}
