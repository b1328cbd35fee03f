//! What the processor can do, and functions compiled once for each level of it.

use std::fmt;

/// Instruction sets that kernels are compiled for; the best one is found at run time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Isa {
    /// Plain Rust. On AArch64 the compiler turns it into NEON, which every such processor has.
    Portable,
    /// x86-64 with AVX2, FMA and F16C.
    Avx2,
    /// x86-64 with AVX-512 (F, BW, DQ, VL) and its 8-bit dot products (VNNI).
    Avx512Vnni,
}

impl Isa {
    /// The best level of this processor.
    pub fn detect() -> Self {
        *Self::available().last().expect("portable code runs everywhere")
    }

    /// Every level of this processor, from slow to fast.
    pub fn available() -> Vec<Self> {
        #[cfg_attr(not(target_arch = "x86_64"), allow(unused_mut))]
        let mut levels = vec![Self::Portable];
        #[cfg(target_arch = "x86_64")]
        {
            use std::arch::is_x86_feature_detected as has;
            if has!("avx2") && has!("fma") && has!("f16c") {
                levels.push(Self::Avx2);
                if has!("avx512f") && has!("avx512bw") && has!("avx512dq") && has!("avx512vl") && has!("avx512vnni") {
                    levels.push(Self::Avx512Vnni);
                }
            }
        }
        levels
    }
}

impl fmt::Display for Isa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Portable if cfg!(target_arch = "aarch64") => "NEON",
            Self::Portable => "portable",
            Self::Avx2 => "AVX2",
            Self::Avx512Vnni => "AVX-512 VNNI",
        })
    }
}

/// Operations that differ between levels in otherwise equal code.
pub(crate) trait Level {
    /// Computes `a · b + c`; fused where the processor does that in one instruction (elsewhere `mul_add` is a slow
    /// function).
    fn mul_add(a: f32, b: f32, c: f32) -> f32;

    /// Converts sixteen halves to floats.
    fn widen(halves: &[u16; 16]) -> [f32; 16];
}

pub(crate) struct Portable;

impl Level for Portable {
    #[inline(always)]
    fn mul_add(a: f32, b: f32, c: f32) -> f32 {
        if cfg!(target_arch = "aarch64") { a.mul_add(b, c) } else { a * b + c }
    }

    #[inline(always)]
    fn widen(halves: &[u16; 16]) -> [f32; 16] {
        halves.map(|bits| half::f16::from_bits(bits).to_f32())
    }
}

/// AVX2 and up, which have FMA and F16C.
#[cfg(target_arch = "x86_64")]
pub(crate) struct X86;

#[cfg(target_arch = "x86_64")]
impl Level for X86 {
    #[inline(always)]
    fn mul_add(a: f32, b: f32, c: f32) -> f32 {
        a.mul_add(b, c)
    }

    #[inline(always)]
    #[expect(unsafe_code, reason = "loads and stores through pointers")]
    fn widen(halves: &[u16; 16]) -> [f32; 16] {
        use std::arch::x86_64::{_mm_loadu_si128, _mm256_cvtph_ps, _mm256_storeu_ps};
        let mut floats = [0.0f32; 16];
        // SAFETY: only code compiled for AVX2 with F16C uses this level (`by_isa`); both loads and both stores lie inside
        // the arrays.
        unsafe {
            for half in 0..2 {
                let packed = _mm_loadu_si128(halves.as_ptr().add(8 * half).cast());
                _mm256_storeu_ps(floats.as_mut_ptr().add(8 * half), _mm256_cvtph_ps(packed));
            }
        }
        floats
    }
}

/// Declares `pub(crate) fn name(isa, …)`, which runs `body::<L>(…)` compiled for the level `isa`; with `name[B:
/// Bound](…)` a generic one, which runs `body::<L, B>(…)`. `body` must be `#[inline(always)]`, so that it is compiled
/// with the features of its caller.
macro_rules! by_isa {
    (
        $(#[$meta:meta])* $name:ident $([$generic:ident: $bound:path])? ($($arg:ident: $ty:ty),* $(,)?) $(-> $ret:ty)?,
        $($body:tt)+
    ) => {
        $(#[$meta])*
        #[cfg_attr(target_arch = "x86_64", expect(unsafe_code, reason = "calls code for instructions that were found"))]
        pub(crate) fn $name $(<$generic: $bound>)? (isa: $crate::isa::Isa, $($arg: $ty),*) $(-> $ret)? {
            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx2,fma,f16c")]
                fn avx2 $(<$generic: $bound>)? ($($arg: $ty),*) $(-> $ret)? {
                    $($body)+::<$crate::isa::X86 $(, $generic)?>($($arg),*)
                }
                #[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
                fn avx512 $(<$generic: $bound>)? ($($arg: $ty),*) $(-> $ret)? {
                    $($body)+::<$crate::isa::X86 $(, $generic)?>($($arg),*)
                }
                match isa {
                    // SAFETY: `Isa::available` found these features on this processor.
                    $crate::isa::Isa::Avx512Vnni => return unsafe { avx512 $(::<$generic>)? ($($arg),*) },
                    // SAFETY: as above.
                    $crate::isa::Isa::Avx2 => return unsafe { avx2 $(::<$generic>)? ($($arg),*) },
                    $crate::isa::Isa::Portable => {}
                }
            }
            #[cfg(not(target_arch = "x86_64"))]
            let _ = isa;
            $($body)+::<$crate::isa::Portable $(, $generic)?>($($arg),*)
        }
    };
}

pub(crate) use by_isa;

#[cfg(test)]
mod tests {
    use super::*;

    #[inline(always)]
    fn widen_body<L: Level>(halves: &[u16; 16]) -> [f32; 16] {
        L::widen(halves)
    }

    by_isa!(widen(halves: &[u16; 16]) -> [f32; 16], widen_body);

    #[test]
    fn every_half_widens_to_itself_on_every_level() {
        for isa in Isa::available() {
            for first in (0..=u16::MAX - 15).step_by(16) {
                let halves: [u16; 16] = std::array::from_fn(|i| first + i as u16);
                for (bits, got) in halves.into_iter().zip(widen(isa, &halves)) {
                    let want = half::f16::from_bits(bits).to_f32();
                    assert!(got.to_bits() == want.to_bits() || (got.is_nan() && want.is_nan()), "{isa}: {bits:04x}");
                }
            }
        }
    }
}
