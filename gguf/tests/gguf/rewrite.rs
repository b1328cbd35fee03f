//! Headers that are taken apart and written again, as `pylon gguf quantize` does.

use gptoss_gguf::write::{Entry, Pairs, header};
use gptoss_gguf::{GgufError, raw_pairs};

use crate::parse_whole;
use crate::writer::{self, rich_file, writer};

/// The header of a file, written anew from what was read.
fn rewritten(file: &[u8]) -> Vec<u8> {
    let gguf = parse_whole(file).unwrap();
    let mut pairs = Pairs::default();
    let header_bytes = &file[..gguf.data_offset as usize];
    raw_pairs(header_bytes, gguf.file_len).unwrap().iter().for_each(|(_, pair)| pairs.raw(pair));
    let entries = gguf.tensors.iter().map(|tensor| Entry {
        name: &tensor.name,
        shape: &tensor.shape,
        kind: tensor.kind,
        size_bytes: tensor.size_bytes,
    });
    header(&pairs, &entries.collect::<Vec<_>>(), gguf.alignment)
}

#[test]
fn a_header_is_the_same_when_it_is_written_again() {
    let nano = std::fs::read(concat!(env!("CARGO_MANIFEST_DIR"), "/../models/nano/gpt-oss-nano.gguf")).unwrap();
    let odd = std::fs::read(concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/goldens/odd.gguf")).unwrap();
    let not_utf8 = writer().pair("general.name", writer::STRING, &writer::string(b"caf\xe9")).bytes();
    for (name, file) in [("nano", nano), ("odd", odd), ("not UTF-8", not_utf8)] {
        let data_offset = parse_whole(&file).unwrap().data_offset as usize;
        // A file that ends with its header has no padding.
        let end = data_offset.min(file.len());
        assert!(rewritten(&file)[..end] == file[..end], "{name}");
    }
    // Its tensors lie in another order than they are listed, so that only the pairs are the same.
    let rich = rich_file().bytes();
    let pairs_bytes: usize = raw_pairs(&rich, rich.len() as u64).unwrap().iter().map(|(_, pair)| pair.len()).sum();
    assert!(pairs_bytes > 500 && rewritten(&rich)[..24 + pairs_bytes] == rich[..24 + pairs_bytes]);
}

#[test]
fn pairs_are_found_with_their_keys_and_a_header_that_is_cut_is_refused() {
    let file = writer().str("a", "text").u32("b", 7).bytes();
    let pairs = raw_pairs(&file, file.len() as u64).unwrap();
    assert_eq!(pairs.iter().map(|(key, _)| *key).collect::<Vec<_>>(), ["a", "b"]);
    assert_eq!(pairs[1].1, [&writer::string(b"b")[..], &4u32.to_le_bytes(), &7u32.to_le_bytes()].concat());
    let cut = raw_pairs(&file[..40], file.len() as u64);
    assert!(matches!(cut, Err(GgufError::HeaderTruncated { .. })), "{cut:?}");
}
