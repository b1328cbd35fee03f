//! Gate A: the index. Header and tensor table, and that they describe a whole gpt-oss model.

use std::path::Path;

use gptoss_gguf::Gguf;
use gptoss_model::{Inventory, ModelConfig};
use serde_json::json;

use super::Common;
use super::report::Report;
use crate::error::CliError;
use crate::gguf_file::GgufFile;
use crate::tensor_names::used_names;

pub const TITLE: &str = "the index: header and tensor table describe a whole gpt-oss model";

/// The index: header and tensor table describe a whole gpt-oss model
///
/// Reads the header, and checks hyperparameters, names, types and shapes of all tensors, that there are no others, and
/// that their sizes add up to the size of the file.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  pylon gate a models/nano/gpt-oss-nano.gguf")]
pub struct Args {
    #[command(flatten)]
    pub common: Common,
    /// Tensors to list
    #[arg(long, value_name = "N", default_value_t = 5)]
    limit: usize,
}

pub fn check(args: &Args, report: &mut Report) -> Result<(), CliError> {
    let file = GgufFile::open_model(&args.common.path)?;
    let gguf = &file.gguf;
    report.fact("files", file.parts.len());
    report.fact("version", gguf.version);
    report.fact("data offset", gguf.data_offset);
    report.fact("file bytes", gguf.file_len);
    let rows = gguf.tensors.iter().take(args.limit).map(|tensor| {
        json!({
            "name": tensor.name,
            "type": tensor.kind.to_string(),
            "shape": tensor.shape,
            "offset": tensor.offset,
            "bytes": tensor.size_bytes,
        })
    });
    report.fact("tensors", rows.collect::<serde_json::Value>());

    let config = ModelConfig::from_gguf(gguf)?;
    let described = format!(
        "{}: {} layers, hidden {}, {} experts of which {} are chosen, {} tokens in the vocabulary",
        config.architecture, config.layers, config.hidden, config.experts, config.experts_per_token, config.vocabulary
    );
    report.check("hyperparameters", true, described);
    match Inventory::from_gguf(gguf, &config) {
        Ok(inventory) => {
            report.check("names, types and shapes", true, "every tensor of the model is there");
            let (count, used) = (gguf.tensors.len(), used_names(&inventory).len());
            report.check(
                "no tensor besides",
                count == used,
                format!("the file has {count}, the model is made of {used}"),
            );
        }
        Err(error) => report.check("names, types and shapes", false, error.to_string()),
    }
    for part in &file.parts {
        check_sizes(&part.gguf, &part.path, report);
    }
    Ok(())
}

/// Checks that header and tensors fill the file exactly.
fn check_sizes(gguf: &Gguf, path: &Path, report: &mut Report) {
    let padded: u64 = gguf.tensors.iter().map(|tensor| tensor.size_bytes.next_multiple_of(gguf.alignment)).sum();
    let end = gguf.data_offset + padded;
    // The padding behind the last tensor may be left out.
    let last = gguf.tensors.iter().map(|tensor| tensor.offset + tensor.size_bytes).max().unwrap_or(gguf.data_offset);
    report.check(
        "sizes add up",
        gguf.file_len == end || gguf.file_len == last,
        format!(
            "header and padded tensors end at byte {end}; {} has {}",
            path.file_name().unwrap_or_default().display(),
            gguf.file_len
        ),
    );
}
