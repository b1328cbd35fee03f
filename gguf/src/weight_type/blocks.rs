//! What the bytes of a block mean, run by run: the exact decoding of every quantised type, written once for the
//! reference and for the CPU's products with 8-bit activations.

/// How many weights are unpacked at a time. A row is a whole number of such runs, and so is a block of any type.
pub const RUN_WEIGHTS: usize = 32;

/// 32 neighbouring weights: `code · scale + minimum`, with a scale for each 16.
#[derive(Clone, Copy, Debug)]
pub struct Run {
    /// Whole-number codes of the weights, in order.
    pub codes: [i8; RUN_WEIGHTS],
    /// Scales of the first and the last 16 weights.
    pub scales: [f32; 2],
    /// Added to each scaled code; −0 for types without a minimum, because adding −0 changes nothing, not even a zero's
    /// sign.
    pub minimum: f32,
}

impl Run {
    #[inline(always)]
    pub(super) fn new(codes: [i8; RUN_WEIGHTS], scale: f32) -> Self {
        Self { codes, scales: [scale; 2], minimum: -0.0 }
    }

    /// Decodes the run: its 32 weights in order.
    #[inline(always)]
    pub fn values(&self) -> [f32; RUN_WEIGHTS] {
        std::array::from_fn(|j| f32::from(self.codes[j]) * self.scales[j / (RUN_WEIGHTS / 2)] + self.minimum)
    }
}

/// Block format of a quantised type.
pub trait Blocks {
    /// The bytes of one block: an array, so that the compiler knows their number and makes vector code of the loops
    /// over them.
    type Block: 'static;
    /// Bytes of one block.
    const BYTES: usize;
    /// Runs of [`RUN_WEIGHTS`] weights in one block.
    const RUNS: usize;
    /// The largest magnitude of a code, which decides in how many bits products can be added up.
    const LARGEST_CODE: u8;
    /// Different scales in a run: 1 or 2.
    const SCALES: usize;
    /// Whether runs have minima.
    const MINIMA: bool;

    /// The whole blocks in `bytes`.
    fn blocks(bytes: &[u8]) -> &[Self::Block];

    /// Run `s` of [`Self::RUNS`] of a block.
    fn run(block: &Self::Block, s: usize) -> Run;

    /// Decodes run `s` of a block.
    fn values(block: &Self::Block, s: usize) -> [f32; RUN_WEIGHTS] {
        Self::run(block, s).values()
    }
}

/// Declares the blocks of types: their name, bytes and runs, what a run is made of, and the unpacking of run `s` of
/// `block`.
macro_rules! blocks {
    ($($name:ident:
        $bytes:literal bytes, $runs:literal runs,
        codes to $largest:literal, $scales:literal scales, minima $minima:literal,
        |$block:ident, $s:pat_param| $run:expr;
    )*) => {
        $(
            pub struct $name;

            impl Blocks for $name {
                type Block = [u8; $bytes];
                const BYTES: usize = $bytes;
                const RUNS: usize = $runs;
                const LARGEST_CODE: u8 = $largest;
                const SCALES: usize = $scales;
                const MINIMA: bool = $minima;

                #[inline(always)]
                fn blocks(bytes: &[u8]) -> &[Self::Block] {
                    bytes.as_chunks().0
                }

                #[inline(always)]
                fn run($block: &Self::Block, $s: usize) -> Run {
                    $run
                }
            }
        )*
    };
}

blocks! {
    Q8_0: 34 bytes, 1 runs, codes to 128, 1 scales, minima false, |block, _| Run::new(codes(|j| block[2 + j] as i8), f16_at(block, 0));
    Q4_0: 18 bytes, 1 runs, codes to 8, 1 scales, minima false, |block, _| Run::new(nibbles(&block[2..], |_, nibble| nibble as i8 - 8), f16_at(block, 0));
    Q4_1: 20 bytes, 1 runs, codes to 15, 1 scales, minima true, |block, _| Run {
        minimum: f16_at(block, 2),
        ..Run::new(nibbles(&block[4..], |_, nibble| nibble as i8), f16_at(block, 0))
    };
    Q5_0: 22 bytes, 1 runs, codes to 16, 1 scales, minima false, |block, _| {
        let code = |j, nibble| (nibble | fifth_bit(&block[2..6], j)) as i8 - 16;
        Run::new(nibbles(&block[6..], code), f16_at(block, 0))
    };
    Q5_1: 24 bytes, 1 runs, codes to 31, 1 scales, minima true, |block, _| {
        let code = |j, nibble| (nibble | fifth_bit(&block[4..8], j)) as i8;
        Run { minimum: f16_at(block, 2), ..Run::new(nibbles(&block[8..], code), f16_at(block, 0)) }
    };
    Q4K: 144 bytes, 8 runs, codes to 15, 1 scales, minima true, |block, s| k_run(block, s, k_nibbles(&block[16..], s, |_, nibble| nibble as i8));
    Q5K: 176 bytes, 8 runs, codes to 31, 1 scales, minima true, |block, s| {
        let (high, bit) = (&block[16..48], 1 << s);
        let fifth = |l: usize| if high[l] & bit == 0 { 0 } else { 16 };
        k_run(block, s, k_nibbles(&block[48..], s, |l, nibble| (nibble | fifth(l)) as i8))
    };
    // Runs 0 to 3 take their low nibbles from the first 64 bytes (runs 0 and 2 share 32 of them, 1 and 3 the others)
    // and their high bits from the first 32 bytes of those, two bits a run; runs 4 to 7 likewise from the second
    // halves.
    Q6K: 210 bytes, 8 runs, codes to 32, 2 scales, minima false, |block, s| {
        let (half, r) = (s / 4, s % 4);
        let low = &block[half * 64 + r % 2 * 32..][..RUN_WEIGHTS];
        let high = &block[128 + half * 32..][..RUN_WEIGHTS];
        let code = |l: usize| ((low[l] >> (4 * (r / 2)) & 15) | (high[l] >> (2 * r) & 3) << 4) as i8 - 32;
        let d = f16_at(block, 208);
        let scales = [0, 1].map(|part| d * f32::from(block[192 + 2 * s + part] as i8));
        Run { scales, ..Run::new(codes(code), d) }
    };
    // Byte j of the first eight bytes of scales has the low four bits of scale j and, above them, of scale j + 8; byte
    // j of the next four has the upper two bits of scales j, j + 4, j + 8 and j + 12.
    Q3K: 110 bytes, 8 runs, codes to 4, 2 scales, minima false, |block, s| {
        let low = &block[32 + s / 4 * 32..][..RUN_WEIGHTS];
        let code = |l: usize| ((low[l] >> (2 * (s % 4)) & 3) | (block[l] >> s & 1) << 2) as i8 - 4;
        let packed = &block[96..108];
        let scale = |j: usize| (packed[j % 8] >> (4 * (j / 8)) & 15) | (packed[8 + j % 4] >> (2 * (j / 4)) & 3) << 4;
        let d = f16_at(block, 108);
        let scales = [0, 1].map(|part| d * (f32::from(scale(2 * s + part)) - 32.0));
        Run { scales, ..Run::new(codes(code), d) }
    };
    Iq4Nl: 18 bytes, 1 runs, codes to 127, 1 scales, minima false, |block, _| {
        Run::new(nibbles(&block[2..], |_, nibble| IQ4_NL[usize::from(nibble)]), f16_at(block, 0))
    };
    Iq4Xs: 136 bytes, 8 runs, codes to 127, 1 scales, minima false, |block, s| {
        let low = block[4 + s / 2] >> (4 * (s % 2)) & 15;
        let high = block[2 + s / 4] >> (2 * (s % 4)) & 3;
        let scale = f16_at(block, 0) * (f32::from(low | high << 4) - 32.0);
        Run::new(nibbles(&block[8 + 16 * s..], |_, nibble| IQ4_NL[usize::from(nibble)]), scale)
    };
}

/// Blocks of MXFP4: 17 bytes for 32 weights, an E8M0 exponent and 16 bytes of E2M1 codes.
pub struct Mxfp4;

impl Blocks for Mxfp4 {
    type Block = [u8; 17];
    const BYTES: usize = 17;
    const RUNS: usize = 1;
    const LARGEST_CODE: u8 = 12;
    const SCALES: usize = 1;
    const MINIMA: bool = false;

    #[inline(always)]
    fn blocks(bytes: &[u8]) -> &[Self::Block] {
        bytes.as_chunks().0
    }

    #[inline(always)]
    fn run(block: &Self::Block, _: usize) -> Run {
        Run::new(nibbles(&block[1..], |_, nibble| E2M1_DOUBLED[usize::from(nibble)]), e8m0_half(block[0]))
    }

    /// Decodes with the negative zero, which the whole-number codes of [`Blocks::run`] cannot express.
    fn values(block: &Self::Block, _: usize) -> [f32; RUN_WEIGHTS] {
        nibbles(&block[1..], |_, nibble| E2M1_DOUBLED_F32[usize::from(nibble)] * e8m0_half(block[0]))
    }
}

/// Twice the value of each E2M1 code: all are whole numbers. Code 8 is the negative zero.
pub const E2M1_DOUBLED: [i8; 16] = [0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12];

/// [`E2M1_DOUBLED`] as floats.
pub const E2M1_DOUBLED_F32: [f32; 16] = {
    let mut values = [0.0; 16];
    let mut code = 0;
    while code < values.len() {
        values[code] = E2M1_DOUBLED[code] as f32;
        code += 1;
    }
    values[8] = -0.0;
    values
};

/// Values of the codes of IQ4_NL and IQ4_XS.
const IQ4_NL: [i8; 16] = [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113];

/// Half of 2^(exponent − 127), which makes up for the doubled codes; NaN for exponent 255 (OCP Microscaling, 5.4.1).
#[inline(always)]
pub fn e8m0_half(exponent: u8) -> f32 {
    /// A table look-up costs less than the branches that it replaces.
    static HALVES: [f32; 256] = {
        let mut halves = [f32::NAN; 256];
        let mut exponent = 0;
        while exponent < u8::MAX as u32 {
            let bits = if exponent < 2 { 0x0020_0000 << exponent } else { (exponent - 1) << 23 };
            halves[exponent as usize] = f32::from_bits(bits);
            exponent += 1;
        }
        halves
    };
    HALVES[usize::from(exponent)]
}

#[inline(always)]
pub(super) fn f16_at(bytes: &[u8], at: usize) -> f32 {
    half::f16::from_le_bytes([bytes[at], bytes[at + 1]]).to_f32()
}

/// The codes of a run. This is a plain loop because `array::from_fn` would be a function of its own, without the
/// instruction set of its caller.
#[inline(always)]
fn codes(code: impl Fn(usize) -> i8) -> [i8; RUN_WEIGHTS] {
    let mut codes = [0; RUN_WEIGHTS];
    for (j, place) in codes.iter_mut().enumerate() {
        *place = code(j);
    }
    codes
}

/// Calls `code(j, nibble)` for the 32 nibbles of 16 bytes: low nibbles first, then high ones.
#[inline(always)]
fn nibbles<T: Copy + Default>(packed: &[u8], code: impl Fn(usize, u8) -> T) -> [T; RUN_WEIGHTS] {
    let mut codes = [T::default(); RUN_WEIGHTS];
    let (low, high) = codes.split_at_mut(RUN_WEIGHTS / 2);
    for (j, &byte) in packed[..RUN_WEIGHTS / 2].iter().enumerate() {
        low[j] = code(j, byte & 15);
        high[j] = code(j + RUN_WEIGHTS / 2, byte >> 4);
    }
    codes
}

/// Calls `code(l, nibble)` for the 32 nibbles of run `s` of 8; two runs share 32 bytes. There is a loop for each of the
/// two, because a shift by a constant is cheaper.
#[inline(always)]
fn k_nibbles(packed: &[u8], s: usize, code: impl Fn(usize, u8) -> i8) -> [i8; RUN_WEIGHTS] {
    let packed = &packed[s / 2 * 32..][..RUN_WEIGHTS];
    if s.is_multiple_of(2) { codes(|l| code(l, packed[l] & 15)) } else { codes(|l| code(l, packed[l] >> 4)) }
}

/// Bit j of 32 bits in four bytes, in the place of a code's fifth bit.
#[inline(always)]
fn fifth_bit(bits: &[u8], j: usize) -> u8 {
    (bits[j / 8] >> (j % 8) & 1) << 4
}

/// Run `s` of a Q4_K or Q5_K block, with its six-bit scale and minimum from the 12 bytes behind d and dmin. Bytes 0 to
/// 3 hold the scales of runs 0 to 3 in their low six bits, bytes 4 to 7 the minima; bytes 8 to 11 hold the low four
/// bits of the scales (low nibble) and minima (high nibble) of runs 4 to 7, whose upper two bits are on top of bytes 0
/// to 7.
#[inline(always)]
fn k_run(block: &[u8], s: usize, codes: [i8; RUN_WEIGHTS]) -> Run {
    let packed = &block[4..16];
    let (scale, minimum) = if s < 4 {
        (packed[s] & 63, packed[s + 4] & 63)
    } else {
        let low = packed[s + 4];
        ((low & 15) | (packed[s - 4] >> 6) << 4, (low >> 4) | (packed[s] >> 6) << 4)
    };
    let minimum = -f16_at(block, 2) * f32::from(minimum);
    Run { minimum, ..Run::new(codes, f16_at(block, 0) * f32::from(scale)) }
}
