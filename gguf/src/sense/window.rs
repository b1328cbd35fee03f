//! A window of a tensor's bytes, by itself.
//!
//! Nothing here asks what weights are usual: limits are those that no weight of any model comes near (a trained one has
//! weights of about 0.01 to 1). They suffice, since a scale at a wrong place has random bits: a half is negative every
//! second time, and beyond the limit two times of five; a code byte of MXFP4 is a possible exponent one time of three.
//! No block of a sound file is odd; some may be, for whatever reason, before a window is.

use std::collections::BTreeSet;

use crate::numbers::{Encoding, Number, numbers_of, power_of_two};
use crate::{TensorInfo, TensorType};

/// A window is at fault if at least this many of its blocks are odd, and at least one block in [`ODD_ONE_IN`].
const LEAST_ODD: usize = 4;
const ODD_ONE_IN: usize = 8;

/// Limit for the weights of a matrix. Sound files stay two orders of magnitude below it.
const LARGEST_WEIGHT: f64 = 256.0;
/// Limits of MXFP4 scales, 2^-63 and 2^13. MXFP4 comes from training, not from a quantiser, and wide limits are enough.
const MXFP4_SCALES: (f64, f64) = (power_of_two(-63), power_of_two(13));
/// Limit for biases, norms and masks, which are stored as they are and may be large. Random floats exceed it often,
/// because their exponents are evenly spread.
const LARGEST_PLAIN: f64 = power_of_two(40);
/// Limit for halves. Random ones pass it one time in five.
const LARGEST_PLAIN_HALF: f64 = 1024.0;
/// Smaller floats that are not zero come from bytes at a wrong place.
const SMALLEST_PLAIN: f64 = power_of_two(-96);

/// Fewer bytes than this are no evidence of text.
const LEAST_TEXT_BYTES: usize = 256;
/// Share of printable bytes that makes a window text: in text nearly all bytes are printable, in weights about a third.
const TEXT_SHARE: (usize, usize) = (7, 8);
/// How many different bytes text has at least, at each place within a number.
const LEAST_TEXT_ALPHABET: usize = 10;
const PHASES: usize = 4;
/// How many bytes of a text are shown.
const SHOWN_TEXT_BYTES: usize = 24;

/// What a window should have held, and what it holds.
pub(super) struct Fault {
    pub expected: String,
    pub got: String,
}

/// The limits that the windows of a tensor are judged by.
#[derive(Debug, Clone)]
pub(super) struct WindowKind {
    limits: Vec<Limit>,
    block_bytes: usize,
    quantised: bool,
    /// Whether the tensor has rows.
    is_matrix: bool,
    /// Whether zeros are suspicious: a norm of zero silences what it scales.
    zero_is_odd: bool,
}

/// The values that a number in a block can have.
#[derive(Debug, Clone, Copy)]
struct Limit {
    number: Number,
    /// Smallest magnitude apart from zero.
    least: f64,
    below: f64,
}

impl Limit {
    fn of(kind: TensorType, number: Number) -> Self {
        let (least, below) = match (kind, number.encoding) {
            (TensorType::Mxfp4, _) => MXFP4_SCALES,
            (TensorType::F16, _) => (0.0, LARGEST_PLAIN_HALF),
            (TensorType::F32 | TensorType::BF16 | TensorType::F64, _) => (SMALLEST_PLAIN, LARGEST_PLAIN),
            _ => (0.0, LARGEST_WEIGHT / number.reach),
        };
        Self { number, least, below }
    }

    fn allows(&self, value: f64) -> bool {
        let magnitude = value.abs();
        magnitude == 0.0
            || (magnitude >= self.least && magnitude < self.below && (value > 0.0 || self.number.may_be_negative))
    }

    fn described(&self) -> String {
        let what = match self.number.encoding {
            Encoding::E8m0 => "exponents",
            _ if self.number.reach == 1.0 => "values",
            _ => "scales",
        };
        if self.number.encoding == Encoding::E8m0 {
            return format!("{what} from {} to {}", exponent(self.least), exponent(self.below) - 1);
        }
        let lower = if self.number.may_be_negative { -self.below } else { 0.0 };
        format!("{what} between {lower} and {}", self.below)
    }
}

/// The exponent of a power of two as E8M0 encodes it.
fn exponent(value: f64) -> i32 {
    value.log2() as i32 + 127
}

impl WindowKind {
    pub fn of(tensor: &TensorInfo) -> Self {
        let kind = tensor.kind;
        let numbers = numbers_of(kind).unwrap_or_default();
        Self {
            limits: numbers.iter().map(|&number| Limit::of(kind, number)).collect(),
            block_bytes: kind.block_bytes().unwrap_or(1) as usize,
            quantised: kind.block_len().is_some_and(|weights| weights > 1),
            is_matrix: tensor.shape.len() > 1,
            zero_is_odd: tensor.name.ends_with("norm.weight"),
        }
    }

    /// How many blocks a window has: enough for a verdict.
    pub fn blocks(&self) -> u64 {
        match (self.quantised, self.block_bytes) {
            (false, _) => 128,
            (true, ..=40) => 32,
            (true, _) => 16,
        }
    }

    /// What is wrong with a window of whole blocks, if anything.
    pub fn fault(&self, kind: TensorType, window: &[u8]) -> Option<Fault> {
        self.text(window).or_else(|| self.filling(window)).or_else(|| self.odd_blocks(kind, window))
    }

    fn text(&self, window: &[u8]) -> Option<Fault> {
        let is_text = |byte: &u8| byte.is_ascii_graphic() || matches!(byte, b' ' | b'\n' | b'\r' | b'\t');
        let printable = window.iter().filter(|byte| is_text(byte)).count();
        let (share, of) = TEXT_SHARE;
        if window.len() < LEAST_TEXT_BYTES || printable * of < window.len() * share {
            return None;
        }
        // In numbers of two or four bytes the bytes with the exponents take few values, which may all be printable:
        // norms near 1 in BF16, for example.
        let is_varied = (0..PHASES).all(|phase| {
            let alphabet: BTreeSet<&u8> = window.iter().skip(phase).step_by(PHASES).collect();
            alphabet.len() >= LEAST_TEXT_ALPHABET
        });
        is_varied.then(|| Fault {
            expected: "weights".to_owned(),
            got: format!("text: {:?}", String::from_utf8_lossy(&window[..SHOWN_TEXT_BYTES])),
        })
    }

    /// Finds a window that repeats one byte. Zeros are judged elsewhere.
    fn filling(&self, window: &[u8]) -> Option<Fault> {
        let first = *window.first()?;
        let may_be_one = first == 0 || (!self.quantised && !self.is_matrix);
        (!may_be_one && window.iter().all(|&byte| byte == first)).then(|| Fault {
            expected: "weights".to_owned(),
            got: format!("the byte {first:#04x} {} times in a row", window.len()),
        })
    }

    fn odd_blocks(&self, kind: TensorType, window: &[u8]) -> Option<Fault> {
        let blocks = window.len() / self.block_bytes;
        let (mut odd, mut masked, mut first, mut last) = (0, 0, None, None);
        for block in window.chunks_exact(self.block_bytes) {
            let found = self.limits.iter().find_map(|limit| {
                let value = limit.number.value_in(block);
                (!limit.allows(value) || (self.zero_is_odd && value == 0.0)).then_some((limit, value))
            });
            let Some((limit, value)) = found.filter(|_| !is_empty_mxfp4(kind, block)) else { continue };
            // A repeated value is a deliberate mask: a router without some of its experts, for example.
            let is_mask = !self.quantised && last == Some(value) && value != 0.0;
            last = Some(value);
            first.get_or_insert((*limit, value));
            if is_mask { masked += 1 } else { odd += 1 }
        }
        // A mask that covers everything is a fault.
        if odd + masked == blocks {
            odd = blocks;
        }
        let (limit, value) = first.filter(|_| odd >= LEAST_ODD && odd * ODD_ONE_IN >= blocks)?;
        let value = match limit.number.encoding {
            Encoding::E8m0 if value.is_nan() => "255".to_owned(),
            Encoding::E8m0 => exponent(value).to_string(),
            _ if !value.is_finite() => format!("{value}, which is not finite"),
            _ => format!("{value:e}"),
        };
        let of = if self.quantised { "blocks" } else { "values" };
        Some(Fault { expected: limit.described(), got: format!("others in {odd} of {blocks} {of}, the first {value}") })
    }
}

/// Whether all weights of an MXFP4 block are zero; its exponent may then be anything.
fn is_empty_mxfp4(kind: TensorType, block: &[u8]) -> bool {
    const CODE_WITHOUT_SIGN: u8 = 0x77;
    kind == TensorType::Mxfp4 && block[1..].iter().all(|codes| codes & CODE_WITHOUT_SIGN == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window_kind(name: &str, kind: TensorType) -> WindowKind {
        WindowKind::of(&TensorInfo { name: name.to_owned(), shape: vec![256, 4], kind, offset: 0, size_bytes: 0 })
    }

    fn fault(name: &str, kind: TensorType, window: &[u8]) -> Option<String> {
        window_kind(name, kind).fault(kind, window).map(|fault| format!("{}; {}", fault.expected, fault.got))
    }

    fn floats(values: impl IntoIterator<Item = f32>) -> Vec<u8> {
        values.into_iter().flat_map(f32::to_le_bytes).collect()
    }

    #[test]
    fn what_people_do_to_their_models_is_no_fault() {
        let router = |masked: f32| floats((0..128).map(|expert| if expert % 2 == 0 { masked } else { 0.1 }));
        for masked in [f32::NEG_INFINITY, -1e9, -1e30, 0.0] {
            assert_eq!(fault("blk.0.ffn_gate_inp.bias", TensorType::F32, &router(masked)), None, "{masked}");
        }
        assert!(fault("blk.0.ffn_gate_inp.bias", TensorType::F32, &router(f32::NAN)).is_some());
        // Both large and small values, but of one kind.
        let outliers = floats((0..128).map(|at| if at % 7 == 0 { 900.0 } else { 1e-12 * at as f32 }));
        assert_eq!(fault("blk.0.attn_k.bias", TensorType::F32, &outliers), None);
        // Blocks whose weights are all zero, with any exponent; tiny ones, in Q8_0.
        let empty: Vec<u8> = (0..32).flat_map(|block| [[block * 8].as_slice(), &[0x80; 16]].concat()).collect();
        assert_eq!(fault("x", TensorType::Mxfp4, &empty), None);
        let tiny: Vec<u8> = (0..32).flat_map(|block| [[block, 0].as_slice(), &[127; 32]].concat()).collect();
        assert_eq!(fault("x", TensorType::Q8_0, &tiny), None);
    }

    #[test]
    fn halves_that_can_all_be_printed_are_no_text() {
        // Norms between 0.6 and 1.2 in BF16, as nano has them: `?` every second byte, and most others printable.
        let norms: Vec<u8> = (0..128u16).flat_map(|at| (0x3f20 + at * 29 % 0x5c).to_le_bytes()).collect();
        assert_eq!(fault("blk.2.attn_norm.weight", TensorType::BF16, &norms), None);
        let page = "<!doctype html><title>Not found</title><p>The page that you asked for is not here. ".repeat(4);
        for kind in [TensorType::BF16, TensorType::F16, TensorType::F32, TensorType::Q8_0] {
            assert!(fault("x", kind, &page.as_bytes()[..272]).expect("a fault").contains("text"), "{kind}");
        }
    }

    #[test]
    fn a_few_odd_blocks_are_left_to_others() {
        let blocks = |odd: usize| -> Vec<u8> {
            let block = |at: usize| [[if at < odd { 7 } else { 120 }].as_slice(), &[0x1f; 16]].concat();
            (0..32).flat_map(block).collect()
        };
        assert_eq!(fault("x", TensorType::Mxfp4, &blocks(3)), None);
        let told = fault("x", TensorType::Mxfp4, &blocks(4)).expect("a fault");
        assert_eq!(told, "exponents from 64 to 139; others in 4 of 32 blocks, the first 7");
    }

    #[test]
    fn a_norm_of_zeros_is_odd_and_a_bias_is_not() {
        assert_eq!(fault("blk.0.attn_q.bias", TensorType::F32, &[0; 512]), None);
        assert!(fault("blk.0.attn_norm.weight", TensorType::F32, &[0; 512]).is_some());
    }
}
