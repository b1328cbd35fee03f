//! Values of keys as they are in a file, and weights in the plainest types.

use std::borrow::Cow;

use gptoss_gguf::weight_type::{self, Blocks};
use gptoss_gguf::{TensorType, WeightType};
use half::f16;

/// The format's ids of value types that are not numbers.
const BOOL: u32 = 7;
const STRING: u32 = 8;
const ARRAY: u32 = 9;

/// A metadata value as it is in a file.
#[derive(Clone, Debug, PartialEq)]
pub struct RawValue {
    /// The format's id of the value type.
    pub kind: u32,
    /// The value's bytes, without the type.
    pub bytes: Vec<u8>,
}

impl RawValue {
    /// A string of any bytes, UTF-8 or not.
    pub fn string_of_bytes(bytes: &[u8]) -> Self {
        let mut value = Self { kind: STRING, bytes: Vec::new() };
        string(&mut value.bytes, bytes);
        value
    }

    /// An array of strings of any bytes.
    pub fn strings_of_bytes(strings: &[&[u8]]) -> Self {
        let mut elements = Vec::new();
        strings.iter().for_each(|bytes| string(&mut elements, bytes));
        Self::array(STRING, strings.len(), elements)
    }

    fn array(element_kind: u32, len: usize, elements: impl IntoIterator<Item = u8>) -> Self {
        let mut bytes = element_kind.to_le_bytes().to_vec();
        bytes.extend((len as u64).to_le_bytes());
        bytes.extend(elements);
        Self { kind: ARRAY, bytes }
    }

    /// The text of a string.
    pub(super) fn text(&self) -> Cow<'_, str> {
        assert_eq!(self.kind, STRING, "not a string");
        String::from_utf8_lossy(&self.bytes[8..])
    }
}

macro_rules! from_numbers {
    ($($type:ty = $kind:literal),*) => {$(
        impl From<$type> for RawValue {
            fn from(value: $type) -> Self {
                Self { kind: $kind, bytes: value.to_le_bytes().to_vec() }
            }
        }

        impl From<&[$type]> for RawValue {
            fn from(values: &[$type]) -> Self {
                Self::array($kind, values.len(), values.iter().flat_map(|value| value.to_le_bytes()))
            }
        }
    )*};
}

from_numbers!(u8 = 0, i8 = 1, u16 = 2, i16 = 3, u32 = 4, i32 = 5, f32 = 6, u64 = 10, i64 = 11, f64 = 12);

impl From<bool> for RawValue {
    fn from(value: bool) -> Self {
        Self { kind: BOOL, bytes: vec![value.into()] }
    }
}

impl From<&[bool]> for RawValue {
    fn from(values: &[bool]) -> Self {
        Self::array(BOOL, values.len(), values.iter().map(|&value| value.into()))
    }
}

impl From<&str> for RawValue {
    fn from(value: &str) -> Self {
        Self::string_of_bytes(value.as_bytes())
    }
}

impl From<&[&str]> for RawValue {
    fn from(values: &[&str]) -> Self {
        Self::strings_of_bytes(&values.iter().map(|text| text.as_bytes()).collect::<Vec<_>>())
    }
}

pub(super) fn string(out: &mut Vec<u8>, text: &[u8]) {
    out.extend((text.len() as u64).to_le_bytes());
    out.extend(text);
}

/// Reads the fields of a header.
pub(super) struct Reader<'a> {
    pub bytes: &'a [u8],
    pub at: usize,
}

impl<'a> Reader<'a> {
    pub fn take(&mut self, bytes: usize) -> &'a [u8] {
        self.at += bytes;
        &self.bytes[self.at - bytes..self.at]
    }

    pub fn u32(&mut self) -> u32 {
        u32::from_le_bytes(self.take(4).try_into().expect("four bytes"))
    }

    pub fn u64(&mut self) -> u64 {
        u64::from_le_bytes(self.take(8).try_into().expect("eight bytes"))
    }

    pub fn string(&mut self) -> Vec<u8> {
        let len = self.u64() as usize;
        self.take(len).to_vec()
    }

    pub fn value(&mut self) -> RawValue {
        let kind = self.u32();
        let first = self.at;
        self.skip(kind);
        RawValue { kind, bytes: self.bytes[first..self.at].to_vec() }
    }

    fn skip(&mut self, kind: u32) {
        match kind {
            STRING => {
                self.string();
            }
            ARRAY => {
                let (element_kind, count) = (self.u32(), self.u64());
                (0..count).for_each(|_| self.skip(element_kind));
            }
            number => {
                let bytes = match number {
                    0 | 1 | BOOL => 1,
                    2 | 3 => 2,
                    4..=6 => 4,
                    10..=12 => 8,
                    other => panic!("no value has the type {other}"),
                };
                self.take(bytes);
            }
        }
    }
}

pub(super) fn decode(kind: TensorType, data: &[u8]) -> Vec<f32> {
    let weights = WeightType::of(kind).unwrap_or_else(|| panic!("weights of type {kind} are not read here"));
    weights.decode(data)
}

pub(super) fn encode(kind: TensorType, values: &[f32]) -> Vec<u8> {
    let weights = WeightType::of(kind).unwrap_or_else(|| panic!("weights of type {kind} are not written here"));
    let mut bytes = Vec::new();
    weights.encode(values, &mut bytes);
    bytes
}

/// The same weights in Q8_0: the doubled codes are whole numbers, and the scale is a power of two.
pub(super) fn q8_0_of_mxfp4(data: &[u8]) -> Vec<u8> {
    let block = |block| {
        let run = weight_type::Mxfp4::run(block, 0);
        let scale = f16::from_f32(run.scales[0]).to_le_bytes();
        [&scale[..], &run.codes.map(|code| code as u8)].concat()
    };
    weight_type::Mxfp4::blocks(data).iter().flat_map(block).collect()
}
