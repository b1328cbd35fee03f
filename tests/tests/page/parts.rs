//! The nano model in several files, as llama.cpp's `gguf-split` writes them: the first has all metadata, each has the
//! table and data of its own tensors.

use std::path::{Path, PathBuf};

use gptoss_gguf::{Gguf, Progress, TensorInfo, parse};

/// Magic and version; after them the number of tensors, the number of keys, the keys.
const MAGIC_AND_VERSION: usize = 8;
const COUNTS_END: usize = MAGIC_AND_VERSION + 8 + 8;

/// The format's ids of the types of the `split.*` keys.
const U16: u32 = 2;
const I32: u32 = 5;

/// Writes `file` in `count` parts to `folder`; their paths in order.
pub fn write_parts(file: &[u8], count: usize, folder: &Path) -> Vec<PathBuf> {
    let Ok(Progress::Ready(gguf)) = parse(file, file.len() as u64) else { panic!("not a whole GGUF file") };
    let per_part = gguf.tensors.len().div_ceil(count);
    let parts = gguf.tensors.chunks(per_part).enumerate().map(|(index, tensors)| {
        let path = folder.join(format!("nano-{:05}-of-{count:05}.gguf", index + 1));
        std::fs::write(&path, part(file, &gguf, (index, count), tensors)).expect("a file can be written");
        path
    });
    parts.collect()
}

fn part(file: &[u8], gguf: &Gguf, (index, count): (usize, usize), tensors: &[TensorInfo]) -> Vec<u8> {
    let split_keys = [
        key("split.no", U16, &(index as u16).to_le_bytes()),
        key("split.count", U16, &(count as u16).to_le_bytes()),
        key("split.tensors.count", I32, &(gguf.tensors.len() as i32).to_le_bytes()),
    ];
    let (own_keys, own_count) = if index == 0 { (keys(file, gguf), gguf.metadata.len()) } else { (&[][..], 0) };
    let mut out = file[..MAGIC_AND_VERSION].to_vec();
    out.extend((tensors.len() as u64).to_le_bytes());
    out.extend(((own_count + split_keys.len()) as u64).to_le_bytes());
    out.extend(own_keys);
    out.extend(split_keys.concat());
    let mut offset_bytes = 0u64;
    for tensor in tensors {
        out.extend(length_prefixed(&tensor.name));
        out.extend((tensor.shape.len() as u32).to_le_bytes());
        out.extend(tensor.shape.iter().flat_map(|dimension| dimension.to_le_bytes()));
        out.extend(tensor.kind.id().to_le_bytes());
        out.extend(offset_bytes.to_le_bytes());
        offset_bytes += tensor.size_bytes.next_multiple_of(gguf.alignment);
    }
    for tensor in tensors {
        out.resize(out.len().next_multiple_of(gguf.alignment as usize), 0);
        out.extend(&file[tensor.offset as usize..][..tensor.size_bytes as usize]);
    }
    out
}

/// The keys as they are in the file: up to the first tensor's length-prefixed name.
fn keys<'f>(file: &'f [u8], gguf: &Gguf) -> &'f [u8] {
    let first = length_prefixed(&gguf.tensors[0].name);
    let end = file.windows(first.len()).position(|window| window == first).expect("the file holds its tensors");
    &file[COUNTS_END..end]
}

fn key(name: &str, value_type: u32, value: &[u8]) -> Vec<u8> {
    [&length_prefixed(name), &value_type.to_le_bytes()[..], value].concat()
}

fn length_prefixed(text: &str) -> Vec<u8> {
    [&(text.len() as u64).to_le_bytes(), text.as_bytes()].concat()
}
