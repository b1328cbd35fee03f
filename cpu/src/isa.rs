//! Instruction sets, and functions compiled once for each of them.

use std::fmt;
use std::str::FromStr;

/// Instruction sets that kernels are compiled for; the best one is found at run time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Isa {
    /// Plain Rust, for every processor.
    Portable,
    /// x86-64 with AVX2 alone.
    Avx2,
    /// x86-64 with AVX2, FMA and F16C.
    Avx2Fma,
    /// The same with 8-bit dot products of 256 bits (AVX-VNNI).
    AvxVnni,
    /// x86-64 with AVX-512 (F, BW, DQ, VL) and no 8-bit dot products.
    Avx512,
    /// The same with 8-bit dot products of 512 bits (AVX-512 VNNI).
    Avx512Vnni,
    /// AArch64 with NEON, which every such processor has.
    Neon,
    /// The same with 8-bit dot products.
    NeonDotprod,
    /// The same with 8-bit products of small matrices (i8mm).
    NeonI8mm,
}

impl Isa {
    /// All instruction sets, from slow to fast for each kind of processor.
    pub const ALL: [Self; 9] = [
        Self::Portable,
        Self::Avx2,
        Self::Avx2Fma,
        Self::AvxVnni,
        Self::Avx512,
        Self::Avx512Vnni,
        Self::Neon,
        Self::NeonDotprod,
        Self::NeonI8mm,
    ];

    /// The best instruction set of this processor.
    pub fn detect() -> Self {
        *Self::available().last().expect("portable code runs everywhere")
    }

    /// Every instruction set of this processor, from slow to fast.
    pub fn available() -> Vec<Self> {
        Self::ALL.into_iter().filter(|isa| isa.is_available()).collect()
    }

    /// Whether this processor has the instruction set.
    #[cfg(target_arch = "x86_64")]
    pub fn is_available(self) -> bool {
        use std::arch::is_x86_feature_detected as has;
        match self {
            Self::Portable => true,
            Self::Avx2 => has!("avx2"),
            Self::Avx2Fma => Self::Avx2.is_available() && has!("fma") && has!("f16c"),
            Self::AvxVnni => Self::Avx2Fma.is_available() && has!("avxvnni"),
            Self::Avx512 => {
                Self::Avx2Fma.is_available()
                    && has!("avx512f")
                    && has!("avx512bw")
                    && has!("avx512dq")
                    && has!("avx512vl")
            }
            Self::Avx512Vnni => Self::Avx512.is_available() && has!("avx512vnni"),
            Self::Neon | Self::NeonDotprod | Self::NeonI8mm => false,
        }
    }

    /// Whether this processor has the instruction set.
    #[cfg(target_arch = "aarch64")]
    pub fn is_available(self) -> bool {
        use std::arch::is_aarch64_feature_detected as has;
        match self {
            Self::Portable => true,
            Self::Neon => has!("neon"),
            Self::NeonDotprod => has!("neon") && has!("dotprod"),
            Self::NeonI8mm => Self::NeonDotprod.is_available() && has!("i8mm"),
            Self::Avx2 | Self::Avx2Fma | Self::AvxVnni | Self::Avx512 | Self::Avx512Vnni => false,
        }
    }

    /// Whether this processor has the instruction set.
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    pub fn is_available(self) -> bool {
        self == Self::Portable
    }

    /// The name by which options choose it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Portable => "portable",
            Self::Avx2 => "avx2",
            Self::Avx2Fma => "avx2-fma",
            Self::AvxVnni => "avx-vnni",
            Self::Avx512 => "avx512",
            Self::Avx512Vnni => "avx512-vnni",
            Self::Neon => "neon",
            Self::NeonDotprod => "neon-dotprod",
            Self::NeonI8mm => "neon-i8mm",
        }
    }
}

impl fmt::Display for Isa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Portable => "portable",
            Self::Avx2 => "AVX2",
            Self::Avx2Fma => "AVX2 with FMA",
            Self::AvxVnni => "AVX-VNNI",
            Self::Avx512 => "AVX-512",
            Self::Avx512Vnni => "AVX-512 VNNI",
            Self::Neon => "NEON",
            Self::NeonDotprod => "NEON with dot products",
            Self::NeonI8mm => "NEON with 8-bit matrix products",
        })
    }
}

/// A name that no instruction set has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownIsa(String);

impl fmt::Display for UnknownIsa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = Isa::ALL.map(Isa::name).join(", ");
        write!(f, "no instruction set is named {}: choose one of {names}", self.0)
    }
}

impl std::error::Error for UnknownIsa {}

impl FromStr for Isa {
    type Err = UnknownIsa;

    fn from_str(name: &str) -> Result<Self, UnknownIsa> {
        Self::ALL.into_iter().find(|isa| isa.name() == name).ok_or_else(|| UnknownIsa(name.into()))
    }
}

/// Declares `pub(crate) fn name(isa, …)`, which runs `body::<S>(…)` compiled for the instruction set `isa`, where `S` is
/// its type in `crate::simd`; with `name[B: Bound](…)` a generic one, which runs `body::<S, B>(…)`. `body` must be
/// `#[inline(always)]`, so that it is compiled with the features of its caller.
macro_rules! by_isa {
    (
        $(#[$meta:meta])* $name:ident $([$generic:ident: $bound:path])? ($($arg:ident: $ty:ty),* $(,)?) $(-> $ret:ty)?,
        $($body:tt)+
    ) => {
        $(#[$meta])*
        #[cfg_attr(
            any(target_arch = "x86_64", target_arch = "aarch64"),
            expect(unsafe_code, reason = "calls code for instructions that were found")
        )]
        pub(crate) fn $name $(<$generic: $bound>)? (isa: $crate::isa::Isa, $($arg: $ty),*) $(-> $ret)? {
            /// Compiles the body for one instruction set, and calls it.
            #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
            macro_rules! compiled {
                ($features:literal, $set:ty) => {{
                    #[target_feature(enable = $features)]
                    fn compiled $(<$generic: $bound>)? ($($arg: $ty),*) $(-> $ret)? {
                        $($body)+::<$set $(, $generic)?>($($arg),*)
                    }
                    // SAFETY: callers pass instruction sets that `Isa::is_available` found on this processor.
                    unsafe { compiled $(::<$generic>)? ($($arg),*) }
                }};
            }
            match isa {
                #[cfg(target_arch = "x86_64")]
                $crate::isa::Isa::Avx2 => compiled!("avx2", $crate::simd::Avx2<false, { $crate::simd::NO_DOT }>),
                #[cfg(target_arch = "x86_64")]
                $crate::isa::Isa::Avx2Fma => compiled!("avx2,fma,f16c", $crate::simd::Avx2<true, { $crate::simd::NO_DOT }>),
                #[cfg(target_arch = "x86_64")]
                $crate::isa::Isa::AvxVnni => compiled!("avx2,fma,f16c,avxvnni", $crate::simd::Avx2<true, { $crate::simd::AVX_VNNI }>),
                #[cfg(target_arch = "x86_64")]
                $crate::isa::Isa::Avx512 => {
                    compiled!("avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl", $crate::simd::Avx512<false>)
                }
                #[cfg(target_arch = "x86_64")]
                $crate::isa::Isa::Avx512Vnni => {
                    compiled!("avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni", $crate::simd::Avx512<true>)
                }
                #[cfg(target_arch = "aarch64")]
                $crate::isa::Isa::Neon => compiled!("neon", $crate::simd::Neon<{ $crate::simd::NEON_ALONE }>),
                #[cfg(target_arch = "aarch64")]
                $crate::isa::Isa::NeonDotprod => compiled!("neon,dotprod", $crate::simd::Neon<{ $crate::simd::NEON_DOTPROD }>),
                #[cfg(target_arch = "aarch64")]
                $crate::isa::Isa::NeonI8mm => compiled!("neon,dotprod,i8mm", $crate::simd::Neon<{ $crate::simd::NEON_I8MM }>),
                _ => $($body)+::<$crate::simd::Portable $(, $generic)?>($($arg),*),
            }
        }
    };
}

pub(crate) use by_isa;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_instruction_set_is_found_by_its_name_and_one_is_always_here() {
        for isa in Isa::ALL {
            assert_eq!(isa.name().parse(), Ok(isa));
        }
        let error = "avx1024".parse::<Isa>().expect_err("no such set").to_string();
        assert!(error.contains("avx1024") && error.contains("avx512-vnni"), "{error}");
        assert!(Isa::Portable.is_available() && Isa::detect().is_available());
    }
}
