//! A small GGUF writer, written from the format's description and sharing nothing with the reader. It writes what it
//! is told, however wrong: that is what the tests need.

/// Value type ids of the format.
pub const U8: u32 = 0;
pub const I8: u32 = 1;
pub const U16: u32 = 2;
pub const I16: u32 = 3;
pub const U32: u32 = 4;
pub const I32: u32 = 5;
pub const F32: u32 = 6;
pub const BOOL: u32 = 7;
pub const STRING: u32 = 8;
pub const ARRAY: u32 = 9;
pub const U64: u32 = 10;
pub const I64: u32 = 11;
pub const F64: u32 = 12;

pub struct Tensor {
    pub name: String,
    pub shape: Vec<u64>,
    pub kind: u32,
    pub offset: u64,
}

/// Contents of a file; `bytes` lays them out.
pub struct Writer {
    pub magic: [u8; 4],
    pub version: u32,
    pub alignment: usize,
    /// Overrides the true counts.
    pub tensor_count: Option<u64>,
    pub pair_count: Option<u64>,
    pub pairs: Vec<Vec<u8>>,
    pub tensors: Vec<Tensor>,
    /// Bytes after the (padded) header.
    pub data_len: usize,
}

pub fn writer() -> Writer {
    Writer {
        magic: *b"GGUF",
        version: 3,
        alignment: 32,
        tensor_count: None,
        pair_count: None,
        pairs: Vec::new(),
        tensors: Vec::new(),
        data_len: 0,
    }
}

pub fn string(text: &[u8]) -> Vec<u8> {
    let mut out = (text.len() as u64).to_le_bytes().to_vec();
    out.extend_from_slice(text);
    out
}

/// An array value: element type, count, elements as they are.
pub fn array(element_type: u32, count: u64, elements: &[u8]) -> Vec<u8> {
    let mut out = element_type.to_le_bytes().to_vec();
    out.extend_from_slice(&count.to_le_bytes());
    out.extend_from_slice(elements);
    out
}

pub fn strings(texts: &[&str]) -> Vec<u8> {
    array(STRING, texts.len() as u64, &texts.iter().flat_map(|t| string(t.as_bytes())).collect::<Vec<_>>())
}

impl Writer {
    pub fn pair(self, key: &str, value_type: u32, value: &[u8]) -> Self {
        self.pair_of_bytes(key.as_bytes(), value_type, value)
    }

    pub fn pair_of_bytes(mut self, key: &[u8], value_type: u32, value: &[u8]) -> Self {
        let mut pair = string(key);
        pair.extend_from_slice(&value_type.to_le_bytes());
        pair.extend_from_slice(value);
        self.pairs.push(pair);
        self
    }

    pub fn u32(self, key: &str, value: u32) -> Self {
        self.pair(key, U32, &value.to_le_bytes())
    }

    pub fn str(self, key: &str, value: &str) -> Self {
        self.pair(key, STRING, &string(value.as_bytes()))
    }

    pub fn tensor(mut self, name: &str, shape: &[u64], kind: u32, offset: u64) -> Self {
        self.tensors.push(Tensor { name: name.into(), shape: shape.to_vec(), kind, offset });
        self
    }

    pub fn data(mut self, len: usize) -> Self {
        self.data_len = len;
        self
    }

    /// The header without the padding after it.
    pub fn header(&self) -> Vec<u8> {
        let mut out = self.magic.to_vec();
        out.extend_from_slice(&self.version.to_le_bytes());
        out.extend_from_slice(&self.tensor_count.unwrap_or(self.tensors.len() as u64).to_le_bytes());
        out.extend_from_slice(&self.pair_count.unwrap_or(self.pairs.len() as u64).to_le_bytes());
        out.extend(self.pairs.iter().flatten());
        for tensor in &self.tensors {
            out.extend(string(tensor.name.as_bytes()));
            out.extend_from_slice(&(tensor.shape.len() as u32).to_le_bytes());
            out.extend(tensor.shape.iter().flat_map(|d| d.to_le_bytes()));
            out.extend_from_slice(&tensor.kind.to_le_bytes());
            out.extend_from_slice(&tensor.offset.to_le_bytes());
        }
        out
    }

    /// The whole file, with zeros for data.
    pub fn bytes(&self) -> Vec<u8> {
        let mut out = self.header();
        out.resize(out.len().next_multiple_of(self.alignment) + self.data_len, 0);
        out
    }
}

/// A small valid file that has something of everything: each value type, nested arrays, several tensor types.
pub fn rich_file() -> Writer {
    writer()
        .str("general.architecture", "gpt-oss")
        .pair("of.u8", U8, &[200])
        .pair("of.i8", I8, &(-5i8).to_le_bytes())
        .pair("of.u16", U16, &60000u16.to_le_bytes())
        .pair("of.i16", I16, &(-300i16).to_le_bytes())
        .u32("of.u32", 4_000_000_000)
        .pair("of.i32", I32, &(-70000i32).to_le_bytes())
        .pair("of.f32", F32, &1e-5f32.to_le_bytes())
        .pair("of.bool", BOOL, &[1])
        .pair("of.u64", U64, &(1u64 << 40).to_le_bytes())
        .pair("of.i64", I64, &(-(1i64 << 40)).to_le_bytes())
        .pair("of.f64", F64, &150000f64.to_le_bytes())
        .pair("array.string", ARRAY, &strings(&["a", "", "Ġword", "<|end|>"]))
        .pair("array.i32", ARRAY, &array(I32, 3, &[1i32, -2, 3].map(i32::to_le_bytes).concat()))
        .pair("array.u8", ARRAY, &array(U8, 2, &[7, 255]))
        .pair("array.bool", ARRAY, &array(BOOL, 2, &[0, 1]))
        .pair("array.f32", ARRAY, &array(F32, 2, &[0.5f32, -2.0].map(f32::to_le_bytes).concat()))
        .pair("array.empty", ARRAY, &array(F64, 0, &[]))
        .pair("array.nested", ARRAY, &array(ARRAY, 2, &[strings(&["x"]), array(U16, 1, &[9, 0])].concat()))
        .tensor("norm", &[5], 0, 0)
        .tensor("experts", &[96, 3, 2], 39, 384)
        .tensor("q", &[64, 3], 8, 32)
        .data(384 + 18 * 17)
}
