//! Models with one number in one tensor that is NaN, infinite, or as large as its format can hold. Shared by the tests
//! of both backends.
#![allow(dead_code, reason = "each test target uses a part of it")]

use gptoss_gguf::numbers::Encoding;
use gptoss_gguf::{TensorType, WeightType};
use gptoss_synth::edit::{Edit, RawTensor};
use half::{bf16, f16};
use rand_xoshiro::SplitMix64;
use rand_xoshiro::rand_core::{Rng, SeedableRng};

/// What the number becomes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Value {
    Nan,
    Infinity,
    MinusInfinity,
    /// The largest number of the format, of either sign.
    Huge {
        negative: bool,
    },
}

impl Value {
    const ALL: [Self; 5] =
        [Self::Nan, Self::Infinity, Self::MinusInfinity, Self::Huge { negative: false }, Self::Huge { negative: true }];

    fn in_f32(self) -> f32 {
        match self {
            Self::Nan => f32::NAN,
            Self::Infinity => f32::INFINITY,
            Self::MinusInfinity => f32::NEG_INFINITY,
            Self::Huge { negative: false } => f32::MAX,
            Self::Huge { negative: true } => f32::MIN,
        }
    }

    fn in_f16(self) -> f16 {
        let value = f16::from_f32(self.in_f32());
        let largest = if value.is_sign_negative() { f16::MIN } else { f16::MAX };
        if matches!(self, Self::Huge { .. }) { largest } else { value }
    }

    fn in_bf16(self) -> bf16 {
        let value = bf16::from_f32(self.in_f32());
        let largest = if value.is_sign_negative() { bf16::MIN } else { bf16::MAX };
        if matches!(self, Self::Huge { .. }) { largest } else { value }
    }

    /// E8M0 has no infinity and no sign.
    fn in_e8m0(self) -> u8 {
        if matches!(self, Self::Huge { .. }) { 254 } else { 255 }
    }
}

/// A model with such a number.
pub struct Broken {
    pub file: Vec<u8>,
    pub tensor: String,
    pub value: Value,
    /// What is broken, for messages.
    pub what: String,
}

impl Broken {
    /// The layer that the tensor belongs to.
    pub fn layer(&self) -> Option<u32> {
        self.tensor.strip_prefix("blk.")?.split('.').next()?.parse().ok()
    }

    /// An expert may be kept from being chosen.
    pub fn is_pruned(&self) -> bool {
        self.tensor.ends_with("ffn_gate_inp.bias") && self.value == Value::MinusInfinity
    }
}

pub struct Random(SplitMix64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(SplitMix64::seed_from_u64(seed))
    }

    pub fn below(&mut self, count: usize) -> usize {
        (self.0.next_u64() % count as u64) as usize
    }
}

/// Breaks one number of `file`: any tensor is as likely as any other, whatever its size.
pub fn break_one(file: &[u8], random: &mut Random) -> Broken {
    let value = Value::ALL[random.below(Value::ALL.len())];
    let mut edit = Edit::read(file);
    let index = random.below(edit.tensors.len());
    let tensor = &mut edit.tensors[index];
    let place = put(tensor, value, random);
    let name = tensor.name.clone();
    Broken { file: edit.write(), what: format!("{value:?} in {place} of {name}"), tensor: name, value }
}

fn put(tensor: &mut RawTensor, value: Value, random: &mut Random) -> String {
    let kind = TensorType::from_id(tensor.kind);
    let format = WeightType::of(kind).expect("a type that is computed with");
    // An element, or a block with its scale and, in some types, a minimum.
    let unit = kind.block_bytes().expect("a known size") as usize;
    let at = random.below(tensor.data.len() / unit);
    let numbers = format.numbers();
    let index = random.below(numbers.len());
    let bytes = match numbers[index].encoding {
        Encoding::F32 => value.in_f32().to_le_bytes().to_vec(),
        Encoding::F16 => value.in_f16().to_le_bytes().to_vec(),
        Encoding::Bf16 => value.in_bf16().to_le_bytes().to_vec(),
        Encoding::E8m0 => vec![value.in_e8m0()],
        Encoding::F64 => unreachable!("no weights are stored so"),
    };
    tensor.data[at * unit + numbers[index].at..][..bytes.len()].copy_from_slice(&bytes);
    match format.is_quantised() {
        true => format!("number {index} of {} block {at}", format.name()),
        false => format!("{} element {at}", format.name()),
    }
}

/// `file` with one F32 number changed.
pub fn with_f32(file: &[u8], name: &str, changes: &[(usize, f32)]) -> Vec<u8> {
    let mut edit = Edit::read(file);
    let tensor = edit.tensors.iter_mut().find(|tensor| tensor.name == name).expect("the model has the tensor");
    assert_eq!(tensor.kind, TensorType::F32.id(), "{name}");
    for (at, value) in changes {
        tensor.data[4 * at..][..4].copy_from_slice(&value.to_le_bytes());
    }
    edit.write()
}
