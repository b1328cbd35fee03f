//! The table of tensor types against gguf-py's.

use gptoss_gguf::TensorType;

/// id, name, weights per block, bytes per block: `GGMLQuantizationType` and `GGML_QUANT_SIZES` of the Python package
/// gguf 0.19.0 (`gguf/constants.py`), printed from the package.
const GGUF_PY: &[(u32, &str, u64, u64)] = &[
    (0, "F32", 1, 4),
    (1, "F16", 1, 2),
    (2, "Q4_0", 32, 18),
    (3, "Q4_1", 32, 20),
    (6, "Q5_0", 32, 22),
    (7, "Q5_1", 32, 24),
    (8, "Q8_0", 32, 34),
    (9, "Q8_1", 32, 40),
    (10, "Q2_K", 256, 84),
    (11, "Q3_K", 256, 110),
    (12, "Q4_K", 256, 144),
    (13, "Q5_K", 256, 176),
    (14, "Q6_K", 256, 210),
    (15, "Q8_K", 256, 292),
    (16, "IQ2_XXS", 256, 66),
    (17, "IQ2_XS", 256, 74),
    (18, "IQ3_XXS", 256, 98),
    (19, "IQ1_S", 256, 50),
    (20, "IQ4_NL", 32, 18),
    (21, "IQ3_S", 256, 110),
    (22, "IQ2_S", 256, 82),
    (23, "IQ4_XS", 256, 136),
    (24, "I8", 1, 1),
    (25, "I16", 1, 2),
    (26, "I32", 1, 4),
    (27, "I64", 1, 8),
    (28, "F64", 1, 8),
    (29, "IQ1_M", 256, 56),
    (30, "BF16", 1, 2),
    (34, "TQ1_0", 256, 54),
    (35, "TQ2_0", 256, 66),
    (39, "MXFP4", 32, 17),
    (40, "NVFP4", 64, 36),
    (41, "Q1_0", 128, 18),
];

#[test]
fn the_table_is_gguf_pys() {
    let ours: Vec<_> = TensorType::ALL
        .iter()
        .map(|&t| (t.id(), t.name(), t.block_len().expect("known"), t.block_bytes().expect("known")))
        .collect();
    assert_eq!(ours, GGUF_PY);
}

#[test]
fn ids_lead_back_to_their_types() {
    for id in 0..100 {
        let kind = TensorType::from_id(id);
        assert_eq!(kind.id(), id);
        let known = GGUF_PY.iter().any(|row| row.0 == id);
        assert_eq!(kind == TensorType::Unknown(id), !known, "{id}");
        assert_eq!((kind.block_len().is_some(), kind.block_bytes().is_some()), (known, known));
    }
    assert_eq!(TensorType::Mxfp4.to_string(), "MXFP4");
    assert_eq!(TensorType::Unknown(36).to_string(), "unknown type 36");
}
