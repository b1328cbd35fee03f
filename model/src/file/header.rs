//! The header of a model: read, understood, and told to the host.

use std::collections::BTreeMap;

use gptoss_gguf::{Gguf, GgufError, Progress as HeaderProgress, TensorInfo, parse};
use gptoss_protocol::{Event, FileMap, ModelInfo, TensorPlace};
use gptoss_source::Source;

use super::notes::file_notes;
use super::progress::HeaderTelling;
use crate::config::ModelConfig;
use crate::error::EngineError;
use crate::host::Host;
use crate::inventory::Inventory;
use crate::waiting::{AwaitPoint, until_stopped};

/// First read of a header, in bytes. Each read after it brings four times as much as is there: five reads for the 13 MB
/// of gpt-oss-20b, and little beyond the header for small models, whose weights would otherwise be fetched twice.
const FIRST_HEADER_BYTES: u64 = 64 << 10;
const HEADER_GROWTH: u64 = 4;

/// A model's header, read and understood.
pub struct Header {
    /// The model's shape.
    pub config: ModelConfig,
    /// Where each tensor is.
    pub inventory: Inventory,
    /// The header itself, with all metadata.
    pub gguf: Gguf,
}

/// Reads the header of a model from a source: of one file, or of all parts that the source joins.
pub async fn read_header(source: &dyn Source, host: &dyn Host) -> Result<Header, EngineError> {
    let gguf = read_gguf(source, host).await?;
    let config = ModelConfig::from_gguf(&gguf)?;
    let inventory = Inventory::from_gguf(&gguf, &config)?;
    Ok(Header { config, inventory, gguf })
}

/// Reads the header of a GGUF file, whatever it is of, or of all parts that the source joins.
pub async fn read_gguf(source: &dyn Source, host: &dyn Host) -> Result<Gguf, EngineError> {
    Ok(Gguf::join(read_parts(source, host).await?)?)
}

/// Reads the headers of all parts that the source joins, or the one of a single file, each with the name of its file.
pub async fn read_parts(source: &dyn Source, host: &dyn Host) -> Result<Vec<(String, Gguf)>, EngineError> {
    let mut headers = Vec::new();
    let mut telling = HeaderTelling::new(source, host);
    match source.parts() {
        [] => headers.push((source.name().to_owned(), read_file_header(source, &mut telling, host).await?)),
        parts => {
            for part in parts {
                headers.push((part.name().to_owned(), read_file_header(part.as_ref(), &mut telling, host).await?));
            }
        }
    }
    Ok(headers)
}

/// Reads the header of one file: as many bytes as it takes, no more than one read too many.
async fn read_file_header(
    source: &dyn Source,
    telling: &mut HeaderTelling<'_>,
    host: &dyn Host,
) -> Result<Gguf, EngineError> {
    let named = |error: GgufError| {
        // Cached bytes of it would be no better the next time.
        source.distrust(0);
        EngineError::Gguf { name: source.name().to_owned(), error: error.of_file(source.name()) }
    };
    let file_bytes = source.len_bytes();
    let mut bytes = Vec::new();
    let mut wanted = FIRST_HEADER_BYTES.min(file_bytes);
    loop {
        // Reads only what is missing.
        let have = bytes.len() as u64;
        let read = telling.wait_for(source.read(have, wanted - have), wanted - have);
        let more = until_stopped(host, AwaitPoint::Header, read).await??;
        bytes.extend(more.to_vec(0..more.len()));
        match parse(&bytes, file_bytes).map_err(named)? {
            HeaderProgress::Ready(gguf) => return Ok(*gguf),
            HeaderProgress::NeedMore { at_least } => {
                wanted = at_least.max(HEADER_GROWTH * bytes.len() as u64).min(file_bytes)
            }
        }
    }
}

/// Reports to the host what the header says about the model, of which `layers_run` layers are run, where its tensors are,
/// and notes about the file.
pub fn announce(header: &Header, layers_run: u32, host: &dyn Host) {
    host.emit(Event::Model(model_info(header, layers_run)));
    host.emit(Event::FileMap(file_map(header)));
    for text in file_notes(&header.gguf) {
        host.emit(Event::FileNote { text });
    }
}

/// Where the tensors are. Those without weights have no place.
fn file_map(Header { inventory, gguf, .. }: &Header) -> FileMap {
    let of_experts: BTreeMap<&str, u32> = (0..)
        .zip(&inventory.layers)
        .flat_map(|(layer, tensors)| {
            tensors.expert_tensors().into_iter().map(move |experts| (experts.tensor.name.as_str(), layer))
        })
        .collect();
    let place = |tensor: &TensorInfo| TensorPlace {
        name: tensor.name.clone(),
        format: tensor.kind.name().to_owned(),
        offset_bytes: tensor.offset,
        bytes: tensor.size_bytes,
        experts_of_layer: of_experts.get(tensor.name.as_str()).copied(),
    };
    let mut tensors: Vec<_> = gguf.tensors.iter().filter(|tensor| tensor.size_bytes > 0).map(place).collect();
    tensors.sort_by_key(|tensor| tensor.offset_bytes);
    let header_bytes = tensors.first().map_or(gguf.file_len, |tensor| tensor.offset_bytes);
    FileMap { file_bytes: gguf.file_len, header_bytes, tensors }
}

fn model_info(header: &Header, layers_run: u32) -> ModelInfo {
    let config = &header.config;
    let mut formats: Vec<(String, u32, u64)> = Vec::new();
    for tensor in &header.gguf.tensors {
        let name = tensor.kind.name();
        match formats.iter_mut().find(|(known, ..)| known == name) {
            Some((_, count, bytes)) => {
                *count += 1;
                *bytes += tensor.size_bytes;
            }
            None => formats.push((name.to_owned(), 1, tensor.size_bytes)),
        }
    }
    ModelInfo {
        name: config.name.clone(),
        architecture: config.architecture.clone(),
        file_bytes: header.gguf.file_len,
        tensors: header.gguf.tensors.len() as u32,
        layers: config.layers,
        hidden: config.hidden,
        query_heads: config.query_heads,
        kv_heads: config.kv_heads,
        experts: config.experts,
        experts_per_token: config.experts_per_token,
        vocabulary: config.vocabulary,
        context_tokens: config.context_tokens,
        window_tokens: config.window_tokens,
        sliding: config.sliding.clone(),
        layers_run,
        formats,
    }
}
