//! Changing GGUF files: for tests, and for trying what files from elsewhere do.
//!
//! Reads what any writer could have written, sound or not, and writes whatever it is told: the checks are the reader's.
//!
//! ```
//! use gptoss_synth::{Spec, TensorType, edit::Edit};
//! let mut file = Edit::read(&Spec::tiny().layers(1).to_bytes()?);
//! file.set("general.name", "Renamed").remove("tokenizer.ggml.token_type");
//! file.retype("blk.0.ffn_gate_inp.weight", TensorType::F16).rename("output.weight", "head.weight");
//! let bytes = file.write();
//! # let gptoss_gguf::Progress::Ready(gguf) = gptoss_gguf::parse(&bytes, bytes.len() as u64).unwrap() else { panic!() };
//! # assert_eq!(gguf.metadata.str("general.name").unwrap(), "Renamed");
//! # assert_eq!(gguf.tensor("blk.0.ffn_gate_inp.weight").unwrap().kind, TensorType::F16);
//! # assert!(gguf.tensor("head.weight").is_some() && gguf.metadata.get("tokenizer.ggml.token_type").is_none());
//! # Ok::<(), gptoss_synth::SynthError>(())
//! ```

mod experts;
mod values;

use gptoss_gguf::TensorType;

pub use self::values::RawValue;

/// Where tensor data begin unless `general.alignment` says otherwise, in bytes.
const ALIGNMENT: u64 = 32;

/// A metadata key with its value, as in the file.
#[derive(Clone, Debug, PartialEq)]
pub struct RawKey {
    /// The name's bytes, since nothing forces a writer to UTF-8.
    pub name: Vec<u8>,
    /// The value, as in the file.
    pub value: RawValue,
}

/// A tensor with its data.
#[derive(Clone, Debug, PartialEq)]
pub struct RawTensor {
    /// ggml name of the tensor.
    pub name: String,
    /// Contiguous dimension first.
    pub shape: Vec<u64>,
    /// ggml's id of the type.
    pub kind: u32,
    /// The data without padding; their length need not fit type and shape.
    pub data: Vec<u8>,
}

/// Whether the rows of gate and up in a joint tensor lie one behind the other or alternate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FusedOrder {
    /// All rows of gate, then all of up, for each expert: llama.cpp's `--fuse-gate-up-exps`.
    GateFirst,
    /// Gate row 0, up row 0, gate row 1, …: Ollama's converter, as in OpenAI's own files.
    Alternating,
}

/// A whole file, taken apart so that its parts can be changed.
#[derive(Clone, Debug, PartialEq)]
pub struct Edit {
    /// Version of the format.
    pub version: u32,
    /// All keys, in file order.
    pub keys: Vec<RawKey>,
    /// All tensors, in file order; their data are laid out anew in this order.
    pub tensors: Vec<RawTensor>,
}

impl Edit {
    /// Takes a file apart.
    ///
    /// # Panics
    /// If the file ends early or is no GGUF file: what is edited must have been whole.
    pub fn read(file: &[u8]) -> Self {
        let mut reader = values::Reader { bytes: file, at: 0 };
        assert_eq!(reader.take(4), b"GGUF", "not a GGUF file");
        let version = reader.u32();
        let (tensors, keys) = (reader.u64(), reader.u64());
        let keys: Vec<RawKey> = (0..keys)
            .map(|_| {
                let name = reader.string();
                RawKey { name, value: reader.value() }
            })
            .collect();
        let heads: Vec<(RawTensor, u64)> = (0..tensors)
            .map(|_| {
                let name = String::from_utf8(reader.string()).expect("names of tensors are UTF-8");
                let dimensions = reader.u32();
                let shape = (0..dimensions).map(|_| reader.u64()).collect();
                let kind = reader.u32();
                (RawTensor { name, shape, kind, data: Vec::new() }, reader.u64())
            })
            .collect();
        let mut edit = Self { version, keys, tensors: Vec::new() };
        let data = reader.at.next_multiple_of(edit.alignment() as usize);
        let ends: Vec<u64> = heads.iter().map(|(_, offset)| *offset).chain([(file.len() - data) as u64]).collect();
        for (mut tensor, offset) in heads {
            // The size of an unknown type is not known, so the data extend up to whatever comes next.
            let next = ends.iter().copied().filter(|&end| end > offset).min().unwrap_or(offset);
            let bytes = tensor.known_bytes().unwrap_or(next - offset);
            tensor.data = file[data + offset as usize..][..bytes as usize].to_vec();
            edit.tensors.push(tensor);
        }
        edit
    }

    /// The whole file, with the tensors' data one after the other.
    pub fn write(&self) -> Vec<u8> {
        let alignment = self.alignment();
        let mut out = b"GGUF".to_vec();
        out.extend(self.version.to_le_bytes());
        out.extend((self.tensors.len() as u64).to_le_bytes());
        out.extend((self.keys.len() as u64).to_le_bytes());
        for RawKey { name, value } in &self.keys {
            values::string(&mut out, name);
            out.extend(value.kind.to_le_bytes());
            out.extend(&value.bytes);
        }
        let mut offset = 0u64;
        for tensor in &self.tensors {
            values::string(&mut out, tensor.name.as_bytes());
            out.extend((tensor.shape.len() as u32).to_le_bytes());
            out.extend(tensor.shape.iter().flat_map(|dimension| dimension.to_le_bytes()));
            out.extend(tensor.kind.to_le_bytes());
            out.extend(offset.to_le_bytes());
            offset += (tensor.data.len() as u64).next_multiple_of(alignment);
        }
        for tensor in &self.tensors {
            out.resize(out.len().next_multiple_of(alignment as usize), 0);
            out.extend(&tensor.data);
        }
        out.resize(out.len().next_multiple_of(alignment as usize), 0);
        out
    }

    /// Sets a key; a new key comes last.
    pub fn set(&mut self, key: &str, value: impl Into<RawValue>) -> &mut Self {
        let value = value.into();
        match self.keys.iter_mut().find(|known| known.name == key.as_bytes()) {
            Some(known) => known.value = value,
            None => self.keys.push(RawKey { name: key.as_bytes().to_vec(), value }),
        }
        self
    }

    /// The value of a key.
    ///
    /// # Panics
    /// Without such a key; so for all below.
    pub fn value(&self, key: &str) -> &RawValue {
        let found = self.keys.iter().find(|known| known.name == key.as_bytes());
        &found.unwrap_or_else(|| panic!("the file has no key {key}")).value
    }

    /// Removes a key.
    pub fn remove(&mut self, key: &str) -> &mut Self {
        self.value(key);
        self.keys.retain(|known| known.name != key.as_bytes());
        self
    }

    /// Changes `general.architecture` and the prefix of the keys that belong to it.
    pub fn architecture(&mut self, name: &str) -> &mut Self {
        let before = self.value("general.architecture").text().into_owned();
        for key in &mut self.keys {
            if let Some(rest) = key.name.strip_prefix(format!("{before}.").as_bytes()) {
                key.name = [name.as_bytes(), b".", rest].concat();
            }
        }
        self.set("general.architecture", name)
    }

    /// The tensor of that name.
    ///
    /// # Panics
    /// Without such a tensor; so for all below.
    pub fn tensor(&mut self, name: &str) -> &mut RawTensor {
        let found = self.tensors.iter_mut().find(|tensor| tensor.name == name);
        found.unwrap_or_else(|| panic!("the file has no tensor {name}"))
    }

    /// Removes a tensor and returns it.
    pub fn take(&mut self, name: &str) -> RawTensor {
        let found = self.tensors.iter().position(|tensor| tensor.name == name);
        self.tensors.remove(found.unwrap_or_else(|| panic!("the file has no tensor {name}")))
    }

    /// Gives a tensor another name.
    pub fn rename(&mut self, from: &str, to: &str) -> &mut Self {
        to.clone_into(&mut self.tensor(from).name);
        self
    }

    /// Converts the weights of a tensor to another type, see [`RawTensor::retype`].
    pub fn retype(&mut self, name: &str, kind: TensorType) -> &mut Self {
        self.tensor(name).retype(kind);
        self
    }

    /// Converts all tensors whose names fulfil `which` to another type; returns their number.
    pub fn retype_all(&mut self, which: impl Fn(&str) -> bool, kind: TensorType) -> usize {
        let chosen = self.tensors.iter_mut().filter(|tensor| which(&tensor.name));
        chosen.map(|tensor| tensor.retype(kind)).count()
    }

    fn alignment(&self) -> u64 {
        let found = self.keys.iter().find(|known| known.name == b"general.alignment");
        found.map_or(ALIGNMENT, |key| key.value.bytes.iter().rev().fold(0, |all, &byte| all << 8 | u64::from(byte)))
    }
}

impl RawTensor {
    /// A tensor of plain F32 values.
    pub fn of_f32(name: &str, shape: &[u64], values: &[f32]) -> Self {
        let data = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        Self { name: name.to_owned(), shape: shape.to_vec(), kind: TensorType::F32.id(), data }
    }

    /// Length of the data by type and shape, in bytes, if the type is known.
    fn known_bytes(&self) -> Option<u64> {
        let kind = TensorType::from_id(self.kind);
        Some(self.shape.iter().product::<u64>() / kind.block_len()? * kind.block_bytes()?)
    }

    /// Bytes of one row.
    pub fn row_bytes(&self) -> usize {
        let rows: u64 = self.shape[1..].iter().product();
        self.data.len() / rows as usize
    }

    /// Converts the weights to another type. From F16, BF16, Q8_0 and MXFP4 to F32, and from MXFP4 whose exponents fit
    /// a half to Q8_0, nothing is lost; otherwise weights are rounded to the nearest.
    ///
    /// # Panics
    /// From types that are not computed with, and to others than those of [`gptoss_gguf::WeightType::WRITTEN`].
    pub fn retype(&mut self, kind: TensorType) {
        self.data = match (TensorType::from_id(self.kind), kind) {
            (from, to) if from == to => return,
            (TensorType::Mxfp4, TensorType::Q8_0) => values::q8_0_of_mxfp4(&self.data),
            (from, to) => values::encode(to, &values::decode(from, &self.data)),
        };
        self.kind = kind.id();
    }

    /// The weights.
    ///
    /// # Panics
    /// For types other than those that [`RawTensor::retype`] reads.
    pub fn values(&self) -> Vec<f32> {
        values::decode(TensorType::from_id(self.kind), &self.data)
    }
}
