//! GGUF version 3 headers: key-value pairs and tensor table, little-endian.
//! Format: <https://github.com/ggml-org/ggml/blob/master/docs/gguf.md>.

use crate::tensors::Tensor;

/// Where tensors and their data begin: at multiples of the format's default alignment, in bytes.
pub(crate) const ALIGNMENT: u64 = 32;

/// The format's ids of value types.
mod value_type {
    pub(super) const U16: u32 = 2;
    pub(super) const U32: u32 = 4;
    pub(super) const I32: u32 = 5;
    pub(super) const F32: u32 = 6;
    pub(super) const BOOL: u32 = 7;
    pub(super) const STRING: u32 = 8;
    pub(super) const ARRAY: u32 = 9;
}

/// Key-value pairs as they are in the file.
#[derive(Debug, Clone, Default)]
pub(crate) struct Pairs {
    bytes: Vec<u8>,
    count: u64,
}

impl Pairs {
    pub(crate) fn len_bytes(&self) -> u64 {
        self.bytes.len() as u64
    }

    pub(crate) fn append(&mut self, mut others: Pairs) {
        self.bytes.append(&mut others.bytes);
        self.count += others.count;
    }

    pub(crate) fn u16(&mut self, key: &str, value: u16) {
        self.scalar(key, value_type::U16, &value.to_le_bytes());
    }

    pub(crate) fn u32(&mut self, key: &str, value: u32) {
        self.scalar(key, value_type::U32, &value.to_le_bytes());
    }

    pub(crate) fn i32(&mut self, key: &str, value: i32) {
        self.scalar(key, value_type::I32, &value.to_le_bytes());
    }

    pub(crate) fn f32(&mut self, key: &str, value: f32) {
        self.scalar(key, value_type::F32, &value.to_le_bytes());
    }

    pub(crate) fn bool(&mut self, key: &str, value: bool) {
        self.scalar(key, value_type::BOOL, &[value.into()]);
    }

    pub(crate) fn string(&mut self, key: &str, value: &str) {
        self.key(key, value_type::STRING);
        string(&mut self.bytes, value);
    }

    pub(crate) fn strings<S: AsRef<str>>(&mut self, key: &str, values: &[S]) {
        self.array(key, value_type::STRING, values.len());
        for value in values {
            string(&mut self.bytes, value.as_ref());
        }
    }

    pub(crate) fn i32s(&mut self, key: &str, values: &[i32]) {
        self.array(key, value_type::I32, values.len());
        self.bytes.extend(values.iter().flat_map(|value| value.to_le_bytes()));
    }

    pub(crate) fn f32s(&mut self, key: &str, values: impl ExactSizeIterator<Item = f32>) {
        self.array(key, value_type::F32, values.len());
        self.bytes.extend(values.flat_map(f32::to_le_bytes));
    }

    fn scalar(&mut self, key: &str, value_type: u32, value: &[u8]) {
        self.key(key, value_type);
        self.bytes.extend_from_slice(value);
    }

    fn array(&mut self, key: &str, element_type: u32, len: usize) {
        self.key(key, value_type::ARRAY);
        self.bytes.extend_from_slice(&element_type.to_le_bytes());
        self.bytes.extend_from_slice(&(len as u64).to_le_bytes());
    }

    fn key(&mut self, key: &str, value_type: u32) {
        string(&mut self.bytes, key);
        self.bytes.extend_from_slice(&value_type.to_le_bytes());
        self.count += 1;
    }
}

fn string(out: &mut Vec<u8>, text: &str) {
    out.extend_from_slice(&(text.len() as u64).to_le_bytes());
    out.extend_from_slice(text.as_bytes());
}

/// Bytes of magic, version and the two counts.
const FIXED_BYTES: u64 = 4 + 4 + 8 + 8;

/// The table of these tensors, whose data lie in the same order.
fn table(tensors: &[Tensor]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut offset = 0u64;
    for tensor in tensors {
        string(&mut bytes, &tensor.name);
        bytes.extend_from_slice(&(tensor.shape.len() as u32).to_le_bytes());
        bytes.extend(tensor.shape.iter().flat_map(|dimension| dimension.to_le_bytes()));
        bytes.extend_from_slice(&tensor.kind.id().to_le_bytes());
        bytes.extend_from_slice(&offset.to_le_bytes());
        offset += tensor.size_bytes.next_multiple_of(ALIGNMENT);
    }
    bytes
}

/// Bytes of the header that these make, before it is padded to the alignment.
pub(crate) fn len_bytes(pairs: &Pairs, tensors: &[Tensor]) -> u64 {
    FIXED_BYTES + pairs.len_bytes() + table(tensors).len() as u64
}

/// The whole header, padded to where data begin.
pub(crate) fn encode(pairs: &Pairs, tensors: &[Tensor]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(pairs.bytes.len() + 128 * (tensors.len() + 1));
    bytes.extend_from_slice(b"GGUF");
    bytes.extend_from_slice(&3u32.to_le_bytes());
    bytes.extend_from_slice(&(tensors.len() as u64).to_le_bytes());
    bytes.extend_from_slice(&pairs.count.to_le_bytes());
    bytes.extend_from_slice(&pairs.bytes);
    bytes.extend(table(tensors));
    bytes.resize(bytes.len().next_multiple_of(ALIGNMENT as usize), 0);
    bytes
}
