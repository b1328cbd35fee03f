//! Typed access to metadata.

use std::borrow::Cow;

use gptoss_gguf::{Array, Gguf, GgufError, Value};

use crate::parse_whole;
use crate::writer::rich_file;

fn rich() -> Gguf {
    parse_whole(&rich_file().bytes()).unwrap()
}

#[test]
fn every_value_type_is_read_as_it_was_written() {
    let gguf = rich();
    let m = &gguf.metadata;
    assert_eq!(m.len(), 19);
    assert_eq!(m.iter().next(), Some(("general.architecture", &Value::String("gpt-oss".into()))));
    assert_eq!(m.get("of.u8"), Some(&Value::U8(200)));
    assert_eq!(m.get("of.i8"), Some(&Value::I8(-5)));
    assert_eq!(m.get("of.u16"), Some(&Value::U16(60000)));
    assert_eq!(m.get("of.i16"), Some(&Value::I16(-300)));
    assert_eq!(m.get("of.u32"), Some(&Value::U32(4_000_000_000)));
    assert_eq!(m.get("of.i32"), Some(&Value::I32(-70000)));
    assert_eq!(m.get("of.f32"), Some(&Value::F32(1e-5)));
    assert_eq!(m.get("of.bool"), Some(&Value::Bool(true)));
    assert_eq!(m.get("of.u64"), Some(&Value::U64(1 << 40)));
    assert_eq!(m.get("of.i64"), Some(&Value::I64(-(1 << 40))));
    assert_eq!(m.get("of.f64"), Some(&Value::F64(150000.0)));
    assert_eq!(m.get("array.bool"), Some(&Value::Array(Array::Bool(vec![false, true]))));
    assert_eq!(m.get("array.empty"), Some(&Value::Array(Array::F64(vec![]))));
    match m.get("array.nested") {
        Some(Value::Array(Array::Array(inner))) => {
            assert!(matches!(&inner[0], Array::String(s) if s.iter().eq(["x"])));
            assert_eq!(inner[1], Array::U16(vec![9]));
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(m.get("of"), None);
}

#[test]
fn string_arrays_keep_empty_strings_and_order() {
    let gguf = rich();
    let strings = gguf.metadata.string_array("array.string").unwrap();
    assert_eq!(strings.iter().collect::<Vec<_>>(), ["a", "", "Ġword", "<|end|>"]);
    assert_eq!((strings.len(), strings.is_empty()), (4, false));
    assert_eq!(
        (strings.get(0), strings.get(1), strings.get(3), strings.get(4)),
        (Some("a"), Some(""), Some("<|end|>"), None)
    );
    assert_eq!(&strings[2], "Ġword");
}

#[test]
fn integers_of_any_width_are_accepted_where_nothing_is_lost() {
    let gguf = rich();
    let m = &gguf.metadata;
    assert_eq!(m.u32("of.u8"), Ok(200));
    assert_eq!(m.u32("of.u16"), Ok(60000));
    assert_eq!(m.u64("of.u32"), Ok(4_000_000_000));
    assert_eq!(m.u64("of.u64"), Ok(1 << 40));
    assert_eq!(m.required::<i32>("of.i8"), Ok(-5));
    assert_eq!(m.required::<i64>("of.i64"), Ok(-(1 << 40)));
    assert_eq!(m.u32_array("array.u8"), Ok(Cow::Owned(vec![7, 255])));
    assert!(matches!(m.i32_array("array.i32"), Ok(Cow::Borrowed([1, -2, 3]))));
    assert_eq!(m.f32("of.f32"), Ok(1e-5));
    assert_eq!(m.f32("of.f64"), Ok(150000.0));
    assert_eq!(m.required::<&[f32]>("array.f32"), Ok(&[0.5, -2.0][..]));
    assert_eq!(m.bool("of.bool"), Ok(true));
    assert_eq!(m.str("general.architecture"), Ok("gpt-oss"));
}

#[test]
fn errors_name_the_key_the_expected_and_the_found_type() {
    let gguf = rich();
    let m = &gguf.metadata;
    let message = |result: Result<u32, GgufError>| result.unwrap_err().to_string();
    assert_eq!(message(m.u32("none")), "key \"none\" is missing, expected an integer that fits u32");
    assert_eq!(message(m.u32("of.u64")), "key \"of.u64\": expected an integer that fits u32, got u64 1099511627776");
    assert_eq!(message(m.u32("of.i8")), "key \"of.i8\": expected an integer that fits u32, got i8 -5");
    assert_eq!(message(m.u32("of.f32")), "key \"of.f32\": expected an integer that fits u32, got f32 0.00001");
    let error = m.str("array.string").unwrap_err().to_string();
    assert_eq!(error, "key \"array.string\": expected a string, got array of 4 x string");
    assert!(matches!(m.u32_array("array.i32"), Err(GgufError::WrongType { .. })), "-2 does not fit");
    assert!(matches!(m.string_array("array.u8"), Err(GgufError::WrongType { .. })));
    assert!(matches!(m.bool("of.u8"), Err(GgufError::WrongType { .. })));
    assert!(matches!(m.f32("of.u32"), Err(GgufError::WrongType { .. })));
}

#[test]
fn optional_tells_absent_from_wrong() {
    let gguf = rich();
    assert_eq!(gguf.metadata.optional::<u32>("none"), Ok(None));
    assert_eq!(gguf.metadata.optional::<u32>("of.u8"), Ok(Some(200)));
    assert!(gguf.metadata.optional::<u32>("of.bool").is_err());
}
