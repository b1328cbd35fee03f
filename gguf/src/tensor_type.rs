use std::fmt;

/// Writes the enum and its lookups from one table, so that a type cannot be in one and missing in another.
macro_rules! tensor_types {
    ($($variant:ident = $id:literal, $name:literal, $block_len:literal, $block_bytes:literal;)*) => {
        /// Storage format of a tensor: `ggml_type`, without the ids that ggml has retired.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum TensorType {
            $(#[doc = concat!("ggml type ", $id, ", `", $name, "`: ", $block_len, " weights in ", $block_bytes, " bytes.")]
            $variant,)*
            /// A ggml type id that is not in the table; the id as found in the file.
            Unknown(u32),
        }

        impl TensorType {
            /// Every type in the table, by ascending id.
            pub const ALL: &[TensorType] = &[$(TensorType::$variant),*];

            /// The type with this ggml id; [`TensorType::Unknown`] if there is none.
            pub const fn from_id(id: u32) -> Self {
                match id {
                    $($id => Self::$variant,)*
                    other => Self::Unknown(other),
                }
            }

            /// The ggml type id.
            pub const fn id(self) -> u32 {
                match self {
                    $(Self::$variant => $id,)*
                    Self::Unknown(id) => id,
                }
            }

            /// ggml's name of the type, `unknown` for an id that is not in the table.
            /// The `Display` form adds the id in that case.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                    Self::Unknown(_) => "unknown",
                }
            }

            /// Weights in one block (1 for types that are not quantised in blocks).
            pub const fn block_len(self) -> Option<u64> {
                match self {
                    $(Self::$variant => Some($block_len),)*
                    Self::Unknown(_) => None,
                }
            }

            /// Bytes of one block.
            pub const fn block_bytes(self) -> Option<u64> {
                match self {
                    $(Self::$variant => Some($block_bytes),)*
                    Self::Unknown(_) => None,
                }
            }
        }
    };
}

// id, name, weights per block, bytes per block: ggml/src/ggml.c `type_traits` and ggml-common.h.
tensor_types! {
    F32 = 0, "F32", 1, 4;
    F16 = 1, "F16", 1, 2;
    Q4_0 = 2, "Q4_0", 32, 18;
    Q4_1 = 3, "Q4_1", 32, 20;
    Q5_0 = 6, "Q5_0", 32, 22;
    Q5_1 = 7, "Q5_1", 32, 24;
    Q8_0 = 8, "Q8_0", 32, 34;
    Q8_1 = 9, "Q8_1", 32, 40;
    Q2K = 10, "Q2_K", 256, 84;
    Q3K = 11, "Q3_K", 256, 110;
    Q4K = 12, "Q4_K", 256, 144;
    Q5K = 13, "Q5_K", 256, 176;
    Q6K = 14, "Q6_K", 256, 210;
    Q8K = 15, "Q8_K", 256, 292;
    Iq2Xxs = 16, "IQ2_XXS", 256, 66;
    Iq2Xs = 17, "IQ2_XS", 256, 74;
    Iq3Xxs = 18, "IQ3_XXS", 256, 98;
    Iq1S = 19, "IQ1_S", 256, 50;
    Iq4Nl = 20, "IQ4_NL", 32, 18;
    Iq3S = 21, "IQ3_S", 256, 110;
    Iq2S = 22, "IQ2_S", 256, 82;
    Iq4Xs = 23, "IQ4_XS", 256, 136;
    I8 = 24, "I8", 1, 1;
    I16 = 25, "I16", 1, 2;
    I32 = 26, "I32", 1, 4;
    I64 = 27, "I64", 1, 8;
    F64 = 28, "F64", 1, 8;
    Iq1M = 29, "IQ1_M", 256, 56;
    BF16 = 30, "BF16", 1, 2;
    Tq1_0 = 34, "TQ1_0", 256, 54;
    Tq2_0 = 35, "TQ2_0", 256, 66;
    Mxfp4 = 39, "MXFP4", 32, 17;
    Nvfp4 = 40, "NVFP4", 64, 36;
    Q1_0 = 41, "Q1_0", 128, 18;
}

impl TensorType {
    /// Type id of MXFP4 in Ollama's first gpt-oss files, of August 2025: an id that ggml removed before GGUF existed.
    /// Blocks have MXFP4's size, but the codes are in another order. Only architecture `gptoss` gives
    /// the id this meaning.
    pub const EARLY_OLLAMA_MXFP4: Self = Self::Unknown(4);

    /// The name that an unknown type had before ggml removed it, from `GGMLQuantizationType` and ggml.h, where the ids
    /// stay reserved.
    pub fn removed_name(self) -> Option<&'static str> {
        match self {
            Self::Unknown(4) => Some("Q4_2"),
            Self::Unknown(5) => Some("Q4_3"),
            Self::Unknown(31) => Some("Q4_0_4_4"),
            Self::Unknown(32) => Some("Q4_0_4_8"),
            Self::Unknown(33) => Some("Q4_0_8_8"),
            Self::Unknown(36) => Some("IQ4_NL_4_4"),
            Self::Unknown(37) => Some("IQ4_NL_4_8"),
            Self::Unknown(38) => Some("IQ4_NL_8_8"),
            _ => None,
        }
    }
}

impl fmt::Display for TensorType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown(id) => write!(f, "unknown type {id}"),
            known => f.write_str(known.name()),
        }
    }
}
