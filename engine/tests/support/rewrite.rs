//! Changing the tensors of a GGUF file: for files that no writer at hand makes.

use gptoss_gguf::{Gguf, Progress, parse};

/// A tensor with its bytes.
pub struct RawTensor {
    pub name: String,
    pub shape: Vec<u64>,
    /// ggml's number of the type.
    pub kind: u32,
    pub data: Vec<u8>,
}

/// `file` with its tensors changed by `change`; metadata stay as they are.
pub fn rewrite(file: &[u8], change: impl FnOnce(&mut Vec<RawTensor>)) -> Vec<u8> {
    let Ok(Progress::Ready(gguf)) = parse(file, file.len() as u64) else { panic!("not a whole GGUF file") };
    let mut tensors = raw_tensors(&gguf, file);
    change(&mut tensors);

    // Magic, version, number of tensors, number of keys: then the keys, up to the first tensor's length-prefixed name.
    let first = length_prefixed(&gguf.tensors[0].name);
    let keys_end = file.windows(first.len()).position(|window| window == first).expect("the file holds its tensors");
    let mut out = file[..keys_end].to_vec();
    out[8..16].copy_from_slice(&(tensors.len() as u64).to_le_bytes());
    let mut offset_bytes = 0u64;
    for tensor in &tensors {
        out.extend(length_prefixed(&tensor.name));
        out.extend((tensor.shape.len() as u32).to_le_bytes());
        out.extend(tensor.shape.iter().flat_map(|dimension| dimension.to_le_bytes()));
        out.extend(tensor.kind.to_le_bytes());
        out.extend(offset_bytes.to_le_bytes());
        offset_bytes += (tensor.data.len() as u64).next_multiple_of(gguf.alignment);
    }
    for tensor in &tensors {
        out.resize(out.len().next_multiple_of(gguf.alignment as usize), 0);
        out.extend(&tensor.data);
    }
    out
}

fn raw_tensors(gguf: &Gguf, file: &[u8]) -> Vec<RawTensor> {
    let raw = |tensor: &gptoss_gguf::TensorInfo| RawTensor {
        name: tensor.name.clone(),
        shape: tensor.shape.clone(),
        kind: tensor.kind.id(),
        data: file[tensor.offset as usize..][..tensor.size_bytes as usize].to_vec(),
    };
    gguf.tensors.iter().map(raw).collect()
}

fn length_prefixed(text: &str) -> Vec<u8> {
    [&(text.len() as u64).to_le_bytes(), text.as_bytes()].concat()
}
