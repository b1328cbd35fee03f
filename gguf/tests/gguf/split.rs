//! Models in several files.

use gptoss_gguf::{SplitInfo, split_name};

use crate::parse_whole;
use crate::writer::{I32, U16, writer};

#[test]
fn split_keys_as_llama_cpp_writes_them() {
    let file = writer().pair("split.no", U16, &1u16.to_le_bytes()).pair("split.count", U16, &3u16.to_le_bytes()).pair(
        "split.tensors.count",
        I32,
        &459i32.to_le_bytes(),
    );
    let split = parse_whole(&file.bytes()).unwrap().split();
    assert_eq!(split, Some(SplitInfo { no: 1, count: 3, tensors_count: 459 }));
}

#[test]
fn a_whole_file_is_no_split() {
    assert_eq!(parse_whole(&writer().bytes()).unwrap().split(), None);
    assert_eq!(parse_whole(&writer().u32("split.count", 0).bytes()).unwrap().split(), None);
}

#[test]
fn split_names() {
    assert_eq!(split_name("x-00001-of-00003.gguf"), Some(("x", 1, 3)));
    assert_eq!(split_name("gpt-oss-120b-mxfp4-00003-of-00003.gguf"), Some(("gpt-oss-120b-mxfp4", 3, 3)));
    assert_eq!(split_name("a-00001-of-00002-00002-of-00002.gguf"), Some(("a-00001-of-00002", 2, 2)));
    assert_eq!(split_name("x-100000-of-123456.gguf"), Some(("x", 100_000, 123_456)));
    for other in [
        "x.gguf",
        "x-00000-of-00003.gguf",
        "x-00004-of-00003.gguf",
        "x-1-of-3.gguf",
        "x-00001-of-00003.bin",
        "-00001-of-00003.gguf",
        "x-0000a-of-00003.gguf",
        "x-+0001-of-00003.gguf",
        "x-000001-of-00003.gguf",
        "x-00001-of-99999999999.gguf",
        "",
    ] {
        assert_eq!(split_name(other), None, "{other}");
    }
}
