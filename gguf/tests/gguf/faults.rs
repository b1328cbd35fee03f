//! Every error variant, provoked.

use gptoss_gguf::{Array, ForeignFile, GgufError, MAX_HEADER_BYTES, Progress, TensorType, Value, parse};

use crate::parse_whole;
use crate::writer::*;

fn fault(file: &Writer) -> GgufError {
    parse_whole(&file.bytes()).expect_err("the file is faulty")
}

#[test]
fn header_longer_than_the_file() {
    let error = parse(&[0; 10], 9).unwrap_err();
    assert_eq!(error, GgufError::HeaderLongerThanFile { header_len: 10, file_len: 9 });
}

#[test]
fn not_a_gguf_file() {
    let error = parse_whole(b"\x12<DO\x01\x02").unwrap_err();
    assert_eq!(error, GgufError::NotGguf { found: *b"\x12<DO" });
    assert!(error.to_string().contains("\"\\x12<DO\""), "{error}");
    let error = parse_whole(b"<!DOCTYPE html>").unwrap_err();
    assert_eq!(error, GgufError::Foreign { what: ForeignFile::WebPage });
    // Four bytes are enough to say so, even of a huge file.
    assert!(matches!(parse(b"PK\x03\x04", 1 << 40).unwrap_err(), GgufError::Foreign { .. }));
}

#[test]
fn big_endian_files_are_recognised_by_their_swapped_version() {
    for version in [2u32, 3] {
        assert_eq!(fault(&Writer { version: version.swap_bytes(), ..writer() }), GgufError::BigEndian);
    }
    assert_eq!(fault(&Writer { magic: *b"FUGG", ..writer() }), GgufError::BigEndian);
}

#[test]
fn versions_other_than_2_and_3_are_refused() {
    for version in [0, 1, 4, 0x0001_0003] {
        assert_eq!(fault(&Writer { version, ..writer() }), GgufError::UnsupportedVersion { version });
    }
    for version in [2, 3] {
        assert_eq!(parse_whole(&Writer { version, ..writer() }.bytes()).unwrap().version, version);
    }
}

#[test]
fn a_file_cut_inside_its_header() {
    let header = rich_file().header();
    for len in 0..header.len() {
        match parse_whole(&header[..len]).unwrap_err() {
            GgufError::HeaderTruncated { needed_len, file_len, .. } => {
                assert_eq!(file_len, len as u64);
                assert!(needed_len > file_len);
            }
            // Known from the count alone, before the end is reached.
            GgufError::CountTooLarge { .. } => {}
            other => panic!("cut to {len} bytes: {other}"),
        }
    }
}

#[test]
fn a_length_that_would_make_an_endless_header() {
    let mut value = (1u64 << 33).to_le_bytes().to_vec();
    value.extend_from_slice(b"begin");
    let file = writer().pair("k", STRING, &value).bytes();
    match parse(&file, 1 << 34).unwrap_err() {
        GgufError::HeaderTooLarge { what, needed_len, limit } => {
            assert_eq!(what, "the value of key \"k\"");
            assert_eq!(limit, MAX_HEADER_BYTES);
            assert_eq!(needed_len, 24 + 9 + 4 + 8 + (1 << 33));
        }
        other => panic!("{other}"),
    }
}

#[test]
fn counts_beyond_the_file() {
    let expect = |file: &Writer, name: &str| match fault(file) {
        GgufError::CountTooLarge { what, count, most } => {
            assert_eq!(what, name);
            assert!(count > most, "{count} {most}");
        }
        other => panic!("{other}"),
    };
    expect(&Writer { tensor_count: Some(u64::MAX), ..writer() }, "the tensor count");
    expect(&Writer { pair_count: Some(u64::MAX), ..writer() }, "the metadata count");
    // Room for the tensors at first sight, but not after the metadata.
    expect(&Writer { tensor_count: Some(3), ..writer().str("k", &"x".repeat(100)) }, "the tensor count");
    for element in [U8, I8, U16, I16, U32, I32, F32, BOOL, STRING, ARRAY, U64, I64, F64] {
        expect(&writer().pair("k", ARRAY, &array(element, u64::MAX / 2, &[])), "the length of array \"k\"");
    }
}

#[test]
fn names_beyond_the_limit() {
    let long = "n".repeat(65536);
    let expect = |file: &Writer, name: &str| {
        let expected = GgufError::NameTooLong { what: name.into(), len_bytes: 65536, limit_bytes: 65535 };
        assert_eq!(fault(file), expected);
    };
    expect(&writer().u32(&long, 1), "metadata key number 0");
    expect(&writer().tensor(&long, &[1], 0, 0).data(4), "the name of tensor number 0");
    assert!(parse_whole(&writer().u32(&long[1..], 1).bytes()).is_ok());
}

#[test]
fn names_that_are_not_utf8() {
    let expect = |file: &Writer, name: &str| assert_eq!(fault(file), GgufError::InvalidUtf8 { what: name.into() });
    expect(&writer().pair_of_bytes(b"\xff", U8, &[0]), "metadata key number 0");
}

/// Values that are not UTF-8 cost nothing but themselves: whoever asks for one is told its key.
#[test]
fn values_that_are_not_utf8() {
    let elements = |texts: [&[u8]; 2]| array(STRING, 2, &texts.map(string).concat());
    let file = writer()
        .str("before", "fine")
        .pair("k", STRING, &string(b"caf\xc3"))
        .pair("second", ARRAY, &elements([b"fine", b"\x80"]))
        // Valid together, but not each on its own: strings may not borrow bytes from their neighbours.
        .pair("split", ARRAY, &elements([b"\xc3", b"\xa4"]))
        .str("after", "fine");
    let gguf = parse_whole(&file.bytes()).expect("a header that can be read");
    let metadata = &gguf.metadata;
    assert_eq!((metadata.str("before"), metadata.str("after")), (Ok("fine"), Ok("fine")));
    assert_eq!(metadata.get("k"), Some(&Value::NotUtf8("caf\u{fffd}".into())));
    let message = metadata.str("k").expect_err("no text").to_string();
    assert!(
        message.contains("\"k\"") && message.contains("expected a string") && message.contains("UTF-8"),
        "{message}"
    );
    for (key, index, texts) in [("second", 1, ["fine", "\u{fffd}"]), ("split", 0, ["\u{fffd}"; 2])] {
        let Some(Value::Array(Array::NotUtf8 { lossy, first })) = metadata.get(key) else { panic!("{key} is read") };
        assert_eq!((*first, lossy.iter().collect::<Vec<_>>()), (index, texts.to_vec()));
        let message = metadata.string_array(key).expect_err("no texts").to_string();
        assert!(message.contains(key) && message.contains(&format!("element {index} is not UTF-8")), "{message}");
    }
}

/// A tensor without weights lies nowhere, whatever its offset says; ggml accepts it.
#[test]
fn dimensions_of_zero() {
    for (offset, shape) in [(0, &[0u64][..]), (32, &[4, 0, 2]), (64, &[0, 1 << 62, 1 << 62]), (1 << 20, &[16, 0])] {
        for kind in [0, 8, 4, 9999] {
            let file =
                writer().tensor("a", &[8], 0, 0).tensor("x", shape, kind, offset).tensor("b", &[8], 0, 32).data(64);
            let gguf = parse_whole(&file.bytes()).expect("a header that can be read");
            let x = gguf.tensor("x").expect("it is listed");
            assert!(x.is_empty() && x.size_bytes == 0 && x.shape == shape, "{x:?}");
            // Whoever asks where the data ends, or reads the bytes of each tensor, stays within the file.
            assert_eq!((x.offset, gguf.data_end()), (gguf.data_offset, gguf.data_offset + 64), "{x:?}");
        }
    }
}

/// Type 4 has a size only where it is Ollama's.
#[test]
fn the_type_of_early_ollama_files() {
    let file =
        |architecture| writer().str("general.architecture", architecture).tensor("t", &[64, 3], 4, 0).data(6 * 17);
    let size = |architecture| {
        let gguf = parse_whole(&file(architecture).bytes()).expect("sound");
        gguf.tensor("t").expect("there").size_bytes
    };
    assert_eq!((size("gptoss"), size("gpt-oss")), (6 * 17, 0));
    let cut = file("gptoss").data(6 * 17 - 1);
    assert!(matches!(fault(&cut), GgufError::FileTruncated { missing_bytes: 1, .. }));
}

#[test]
fn booleans_other_than_0_and_1() {
    let expect = |file: &Writer, what: &str| {
        assert_eq!(fault(file), GgufError::InvalidBool { what: what.into(), found: 2 });
    };
    expect(&writer().pair("k", BOOL, &[2]), "the value of key \"k\"");
    expect(&writer().pair("k", ARRAY, &array(BOOL, 2, &[1, 2])), "element 1 of key \"k\"");
}

#[test]
fn value_types_beyond_the_format() {
    let expect = |file: &Writer, what: &str| {
        assert_eq!(fault(file), GgufError::UnknownValueType { what: what.into(), found: 13 });
    };
    expect(&writer().pair("k", 13, &[0; 8]), "the value of key \"k\"");
    expect(&writer().pair("k", ARRAY, &array(13, 0, &[])), "element 0 of key \"k\"");
}

#[test]
fn arrays_nested_too_deeply() {
    let nested = |levels: usize| (1..levels).fold(array(U8, 0, &[]), |inner, _| array(ARRAY, 1, &inner));
    assert!(parse_whole(&writer().pair("k", ARRAY, &nested(4)).bytes()).is_ok());
    let expected = GgufError::NestingTooDeep { key: "k".into(), limit: 4 };
    assert_eq!(fault(&writer().pair("k", ARRAY, &nested(5))), expected);
    assert_eq!(fault(&writer().pair("k", ARRAY, &nested(10_000))), expected);
}

#[test]
fn a_key_twice() {
    let file = writer().u32("b", 1).u32("a", 1).u32("b", 2);
    assert_eq!(fault(&file), GgufError::DuplicateKey { key: "b".into() });
}

#[test]
fn alignment_must_be_a_power_of_two_and_a_u32() {
    for found in [0, 3, 48] {
        let error = fault(&writer().u32("general.alignment", found));
        assert_eq!(error, GgufError::InvalidAlignment { found: found.into() });
    }
    let error = fault(&writer().str("general.alignment", "32"));
    assert!(matches!(error, GgufError::WrongType { ref key, .. } if key == "general.alignment"), "{error}");
}

#[test]
fn alignment_is_honoured() {
    let file = Writer { alignment: 4096, ..writer() }
        .u32("general.alignment", 4096)
        .tensor("a", &[8], 0, 0)
        .tensor("b", &[8], 0, 4096)
        .data(4096 + 32);
    let gguf = parse_whole(&file.bytes()).unwrap();
    assert_eq!((gguf.alignment, gguf.data_offset), (4096, 4096));
    assert_eq!(gguf.tensors.iter().map(|t| t.offset).collect::<Vec<_>>(), [4096, 8192]);
    let file = file.tensor("c", &[8], 0, 4096 + 32).data(9000);
    assert_eq!(fault(&file), GgufError::MisalignedOffset { tensor: "c".into(), offset: 4128, alignment: 4096 });
}

#[test]
fn a_tensor_twice() {
    let file = writer().tensor("t", &[8], 0, 0).tensor("s", &[8], 0, 32).tensor("t", &[8], 0, 64).data(96);
    assert_eq!(fault(&file), GgufError::DuplicateTensor { tensor: "t".into() });
}

#[test]
fn shapes_that_cannot_be() {
    let shaped = |shape: &[u64], kind| fault(&writer().tensor("t", shape, kind, 0).data(4096));
    let tensor = || "t".to_owned();
    assert_eq!(shaped(&[], 0), GgufError::NoDimensions { tensor: tensor() });
    assert_eq!(shaped(&[1; 5], 0), GgufError::TooManyDimensions { tensor: tensor(), found: 5 });
    let partial = GgufError::PartialBlock { tensor: tensor(), row_len: 48, kind: TensorType::Mxfp4, block_len: 32 };
    assert_eq!(shaped(&[48, 2], 39), partial);
    // Whole blocks in sum do not help: a row may not end inside one.
    assert!(matches!(shaped(&[16, 2], 8), GgufError::PartialBlock { row_len: 16, .. }));
    for (shape, kind) in [(vec![1 << 32, 1 << 32], 0), (vec![1 << 62, 1, 1, 1], 0), (vec![1 << 32; 4], 9999)] {
        assert_eq!(shaped(&shape, kind), GgufError::ShapeOverflow { tensor: tensor(), shape });
    }
}

#[test]
fn offsets_that_cannot_be() {
    let at = |offset| fault(&writer().tensor("t", &[8], 0, offset).data(4096));
    assert_eq!(at(33), GgufError::MisalignedOffset { tensor: "t".into(), offset: 33, alignment: 32 });
    let last = u64::MAX - 31;
    assert_eq!(at(last), GgufError::OffsetOverflow { tensor: "t".into(), offset: last });
    // The begin can be counted, the end cannot.
    let file = writer().tensor("t", &[1 << 61], 0, 1 << 63).data(64);
    assert_eq!(fault(&file), GgufError::OffsetOverflow { tensor: "t".into(), offset: 1 << 63 });
}

#[test]
fn overlapping_tensors() {
    // In file order, the tensor that comes later in the table begins first.
    let file = writer().tensor("late", &[8], 0, 32).tensor("early", &[9], 0, 0).data(64);
    let data_offset = file.header().len().next_multiple_of(32) as u64;
    let expected = GgufError::Overlap { first: "early".into(), second: "late".into(), offset: data_offset + 32 };
    assert_eq!(fault(&file), expected);
    let same_place = writer().tensor("a", &[8], 0, 0).tensor("b", &[8], 0, 0).data(32);
    assert!(matches!(fault(&same_place), GgufError::Overlap { .. }));
    // The place of a tensor of unknown type is known, even if its size is not.
    let unknown_inside = writer().tensor("a", &[64], 0, 0).tensor("b", &[8], 9999, 32).data(256);
    assert!(matches!(fault(&unknown_inside), GgufError::Overlap { .. }));
}

#[test]
fn a_truncated_file_says_how_much_is_missing_and_from_where() {
    let whole = rich_file().bytes();
    assert!(parse_whole(&whole).is_ok());
    let cut = |missing: u64| parse_whole(&whole[..whole.len() - missing as usize]).unwrap_err();
    let file_len = whole.len() as u64;
    let truncated = |tensor: &str, missing_bytes| GgufError::FileTruncated {
        tensor: tensor.into(),
        missing_bytes,
        file_len: file_len - missing_bytes,
    };
    // Data: norm 0..20, q 32..236, experts 384..690.
    assert_eq!(cut(1), truncated("experts", 1));
    assert_eq!(cut(690 - 236), truncated("experts", 690 - 236));
    assert_eq!(cut(690 - 235), truncated("q", 690 - 235));
    assert_eq!(cut(690), truncated("norm", 690));
    let message = cut(690).to_string();
    assert!(message.contains("690 more are missing") && message.contains("\"norm\""), "{message}");
}

#[test]
fn truncation_is_known_from_the_header_alone() {
    let file = writer().tensor("big", &[2880, 201_088], 8, 0);
    let header = file.bytes();
    let whole_len = header.len() as u64 + 615_329_280;
    assert!(matches!(parse(&header, whole_len), Ok(Progress::Ready(_))));
    let error = parse(&header, whole_len - 1000).unwrap_err();
    let expected = GgufError::FileTruncated { tensor: "big".into(), missing_bytes: 1000, file_len: whole_len - 1000 };
    assert_eq!(error, expected);
}

#[test]
fn split_keys_that_contradict_each_other() {
    let why = |file: &Writer| match fault(file) {
        GgufError::InvalidSplit { why } => why,
        other => panic!("{other}"),
    };
    assert!(why(&writer().u32("split.count", 2)).contains("expected all three"));
    let file = writer().u32("split.no", 2).u32("split.count", 2).u32("split.tensors.count", 9);
    assert_eq!(why(&file), "part 2, counted from 0, of 2");
}

#[test]
fn unknown_tensor_types_are_listed_not_refused() {
    let file = writer().tensor("a", &[8], 0, 0).tensor("b", &[7, 3], 9999, 32).tensor("c", &[8], 4, 64).data(96);
    let gguf = parse_whole(&file.bytes()).unwrap();
    let unknown: Vec<_> = gguf.unknown_types().map(|t| (t.name.as_str(), t.kind.to_string(), t.size_bytes)).collect();
    assert_eq!(unknown, [("b", "unknown type 9999".to_owned(), 0), ("c", "unknown type 4".to_owned(), 0)]);
    // Even then: past the end of the file is past the end of the file.
    let beyond = writer().tensor("b", &[7], 9999, 64).data(64);
    assert!(matches!(fault(&beyond), GgufError::FileTruncated { missing_bytes: 1, .. }));
}
