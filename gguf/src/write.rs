//! Writing headers of GGUF version 3: key-value pairs and tensor table, little-endian. Tensor data are the caller's.
//! Format: <https://github.com/ggml-org/ggml/blob/master/docs/gguf.md>.
//!
//! ```
//! use gptoss_gguf::write::{Entry, Pairs, header};
//! use gptoss_gguf::{DEFAULT_ALIGNMENT, Progress, TensorType, parse};
//!
//! let mut pairs = Pairs::default();
//! pairs.string("general.architecture", "gpt-oss");
//! let tensor = Entry { name: "output_norm.weight", shape: &[64], kind: TensorType::F32, size_bytes: 256 };
//! let mut file = header(&pairs, &[tensor], DEFAULT_ALIGNMENT);
//! file.resize(file.len() + 256, 0);
//! let Progress::Ready(read) = parse(&file, file.len() as u64)? else { panic!("the file is whole") };
//! assert_eq!(read.tensors[0].offset + 256, file.len() as u64);
//! # Ok::<(), gptoss_gguf::GgufError>(())
//! ```

use crate::TensorType;

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

/// Key-value pairs as they are in a file, in their order.
#[derive(Debug, Clone, Default)]
pub struct Pairs {
    bytes: Vec<u8>,
    count: u64,
}

impl Pairs {
    /// Adds a pair that is there as bytes, as [`raw_pairs`](crate::raw_pairs) gives them.
    pub fn raw(&mut self, pair: &[u8]) {
        self.bytes.extend_from_slice(pair);
        self.count += 1;
    }

    /// Adds all pairs of another list.
    pub fn append(&mut self, mut others: Pairs) {
        self.bytes.append(&mut others.bytes);
        self.count += others.count;
    }

    /// Adds a 16-bit number.
    pub fn u16(&mut self, key: &str, value: u16) {
        self.scalar(key, value_type::U16, &value.to_le_bytes());
    }

    /// Adds a 32-bit number.
    pub fn u32(&mut self, key: &str, value: u32) {
        self.scalar(key, value_type::U32, &value.to_le_bytes());
    }

    /// Adds a signed 32-bit number.
    pub fn i32(&mut self, key: &str, value: i32) {
        self.scalar(key, value_type::I32, &value.to_le_bytes());
    }

    /// Adds an F32.
    pub fn f32(&mut self, key: &str, value: f32) {
        self.scalar(key, value_type::F32, &value.to_le_bytes());
    }

    /// Adds a boolean.
    pub fn bool(&mut self, key: &str, value: bool) {
        self.scalar(key, value_type::BOOL, &[value.into()]);
    }

    /// Adds a string.
    pub fn string(&mut self, key: &str, value: &str) {
        self.key(key, value_type::STRING);
        string(&mut self.bytes, value);
    }

    /// Adds an array of strings.
    pub fn strings<S: AsRef<str>>(&mut self, key: &str, values: &[S]) {
        self.array(key, value_type::STRING, values.len());
        for value in values {
            string(&mut self.bytes, value.as_ref());
        }
    }

    /// Adds an array of signed 32-bit numbers.
    pub fn i32s(&mut self, key: &str, values: &[i32]) {
        self.array(key, value_type::I32, values.len());
        self.bytes.extend(values.iter().flat_map(|value| value.to_le_bytes()));
    }

    /// Adds an array of F32.
    pub fn f32s(&mut self, key: &str, values: impl ExactSizeIterator<Item = f32>) {
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

/// A tensor as a header describes it.
#[derive(Debug, Clone, Copy)]
pub struct Entry<'a> {
    /// ggml name.
    pub name: &'a str,
    /// Dimensions in GGUF order, contiguous first.
    pub shape: &'a [u64],
    /// Storage type.
    pub kind: TensorType,
    /// Bytes of the data, without the padding that follows.
    pub size_bytes: u64,
}

/// The table of these tensors, whose data lie in the same order at multiples of `alignment` bytes.
fn table(tensors: &[Entry<'_>], alignment: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut offset = 0u64;
    for tensor in tensors {
        string(&mut bytes, tensor.name);
        bytes.extend_from_slice(&(tensor.shape.len() as u32).to_le_bytes());
        bytes.extend(tensor.shape.iter().flat_map(|dimension| dimension.to_le_bytes()));
        bytes.extend_from_slice(&tensor.kind.id().to_le_bytes());
        bytes.extend_from_slice(&offset.to_le_bytes());
        offset += tensor.size_bytes.next_multiple_of(alignment);
    }
    bytes
}

/// Bytes of the header that these make, before it is padded to the alignment.
pub fn header_bytes(pairs: &Pairs, tensors: &[Entry<'_>]) -> u64 {
    // No offset changes the table's length, so any alignment does.
    FIXED_BYTES + pairs.bytes.len() as u64 + table(tensors, crate::DEFAULT_ALIGNMENT).len() as u64
}

/// The whole header, padded to where data begin. `alignment`, in bytes, is that of `general.alignment` if the pairs have
/// it; the data of each tensor are padded to it, too.
pub fn header(pairs: &Pairs, tensors: &[Entry<'_>], alignment: u64) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(pairs.bytes.len() + 128 * (tensors.len() + 1));
    bytes.extend_from_slice(b"GGUF");
    bytes.extend_from_slice(&3u32.to_le_bytes());
    bytes.extend_from_slice(&(tensors.len() as u64).to_le_bytes());
    bytes.extend_from_slice(&pairs.count.to_le_bytes());
    bytes.extend_from_slice(&pairs.bytes);
    bytes.extend(table(tensors, alignment));
    bytes.resize(bytes.len().next_multiple_of(alignment as usize), 0);
    bytes
}
