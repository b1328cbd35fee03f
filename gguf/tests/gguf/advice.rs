//! What is said of files that are no models, or not whole: what they are, and what helps.

use gptoss_gguf::{ForeignFile, Gguf, GgufError, Role, SplitError};

use crate::parse_whole;
use crate::writer::*;

fn gguf(file: &Writer) -> Gguf {
    parse_whole(&file.bytes()).unwrap()
}

#[test]
fn what_is_no_model_is_known_by_its_keys_or_its_tensors() {
    let model = || writer().str("general.architecture", "gpt-oss");
    let with = |file: Writer, name: &str| file.tensor(name, &[32], 0, 0).data(128);
    for (file, role) in [
        (with(model().str("general.type", "adapter"), "x"), Some(Role::Adapter)),
        (with(model(), "blk.0.attn_q.weight.lora_a"), Some(Role::Adapter)),
        (with(model().str("adapter.type", "lora"), "x"), Some(Role::Adapter)),
        (with(writer().str("general.type", "imatrix"), "blk.0.attn_q.weight.in_sum2"), Some(Role::Imatrix)),
        (with(writer().u32("imatrix.chunk_count", 1), "x"), Some(Role::Imatrix)),
        (with(writer(), "blk.0.attn_q.weight.counts"), Some(Role::Imatrix)),
        (with(writer().str("general.architecture", "clip"), "v.blk.0"), Some(Role::Projector)),
        (with(model().str("general.type", "mmproj"), "x"), Some(Role::Projector)),
        (with(model(), "mm.0.weight"), Some(Role::Projector)),
        (with(writer().str("general.architecture", "controlvector"), "direction.1"), Some(Role::ControlVector)),
        (model().pair("tokenizer.ggml.tokens", ARRAY, &strings(&["a"])), Some(Role::VocabularyOnly)),
        (model(), Some(Role::MetadataOnly)),
        (with(model().str("general.type", "model"), "token_embd.weight"), None),
        (with(model(), "token_embd.weight"), None),
    ] {
        let got = gguf(&file).role();
        assert_eq!(got, role);
        assert!(role.is_none_or(|role| !role.advice().is_empty() && !role.to_string().is_empty()));
    }
}

fn part(no: u16, name: &str) -> Vec<u8> {
    let file = writer().pair("split.no", U16, &no.to_le_bytes()).pair("split.count", U16, &2u16.to_le_bytes()).pair(
        "split.tensors.count",
        I32,
        &2i32.to_le_bytes(),
    );
    file.tensor(name, &[32], 0, 0).data(128).bytes()
}

#[test]
fn parts_joined_with_cat_are_named() {
    let parts = [part(0, "a"), part(1, "b")];
    for order in [[0, 1], [1, 0]] {
        let joined = order.map(|index| parts[index].clone()).concat();
        for name in ["m.gguf", "m-00001-of-00002.gguf"] {
            let error = Gguf::join(vec![(name.into(), parse_whole(&joined).unwrap())]).expect_err("no model");
            assert!(matches!(error, SplitError::JoinedWithCat { count: 2, .. }), "{error}");
            assert!(error.to_string().contains(name) && error.advice().contains("as they were published"), "{error}");
        }
    }
    let alone = Gguf::join(vec![("m.gguf".into(), parse_whole(&parts[0]).unwrap())]).expect_err("a part alone");
    assert!(matches!(alone, SplitError::Renamed { .. }), "{alone}");
    let both = [("m-00001-of-00002.gguf", 0), ("m-00002-of-00002.gguf", 1)];
    Gguf::join(both.map(|(name, index)| (name.to_owned(), parse_whole(&parts[index]).unwrap())).into()).expect("whole");
}

#[test]
fn a_new_download_is_advised_only_where_it_helps() {
    let file = rich_file().bytes();
    let again = |error: &GgufError| error.advice().to_lowercase().contains("download the file again");
    // The file is cut in the header, and among the tensors.
    for cut in [file.len() / 3, file.len() - 1] {
        let error = || parse_whole(&file[..cut]).expect_err("cut");
        assert!(again(&error()), "{}", error());
        for name in ["m.gguf.part1of2", "folder/m.gguf-split-a", "C:\\m.gguf.001"] {
            let piece = error().of_file(name);
            assert!(matches!(piece, GgufError::Incomplete { is_piece: true, .. }), "{piece}");
            assert!(piece.to_string().contains("first piece") && !again(&piece), "{piece}");
            assert!(piece.advice().contains("cat "), "{}", piece.advice());
        }
        let unfinished = error().of_file("m.gguf.crdownload");
        assert!(matches!(unfinished, GgufError::Incomplete { is_piece: false, .. }), "{unfinished}");
        assert!(unfinished.advice().contains("finish"), "{}", unfinished.advice());
        assert_eq!(error().of_file("m.gguf"), error());
    }
    let later = parse_whole(b"\x12\x34\x56\x78\x9a\xbc").expect_err("no header");
    assert!(matches!(later, GgufError::NotGguf { .. }), "{later}");
    let later = later.of_file("m.gguf.part2of2");
    assert_eq!(later, GgufError::Foreign { what: ForeignFile::LaterPiece });
    assert!(later.advice().contains("cat ") && !again(&later));
    let page = parse_whole(b"<html>").expect_err("a page").of_file("m.gguf.part2of2");
    assert_eq!(page, GgufError::Foreign { what: ForeignFile::WebPage });
    let key = gguf(&writer()).metadata.str("general.architecture").expect_err("missing");
    assert!(!again(&key), "{}", key.advice());
}

#[test]
fn what_a_model_lacks_is_named() {
    let nano = || std::fs::read("../models/nano/gpt-oss-nano.gguf").unwrap();
    assert_eq!(parse_whole(&nano()).unwrap().gpt_oss_obstacle(), None);
    let renamed = |name: &str| {
        let mut file = nano();
        // The name is searched with its length before it, because other names end with it.
        let named = [&(name.len() as u64).to_le_bytes(), name.as_bytes()].concat();
        let at = file.windows(named.len()).position(|bytes| bytes == named).unwrap();
        file[at + 8] = b'x';
        parse_whole(&file).unwrap().gpt_oss_obstacle().expect("not whole")
    };
    for name in [
        "token_embd.weight",
        "output.weight",
        "blk.2.attn_v.weight",
        "blk.2.attn_k.bias",
        "blk.0.ffn_up_exps.weight",
        "blk.1.ffn_gate_exps.bias",
        "blk.3.ffn_down_exps.weight",
        "blk.4.ffn_gate_inp.bias",
        "blk.5.attn_sinks.weight",
    ] {
        assert_eq!(renamed(name), format!("it is not a whole gpt-oss model: tensor {name} missing"));
    }
    assert!(renamed("tokenizer.ggml.merges").starts_with("tokenizer.ggml.merges is missing"));
    assert!(renamed("tokenizer.ggml.tokens").contains("key tokenizer.ggml.tokens"));
    assert!(renamed("gpt-oss.block_count").contains("key gpt-oss.block_count"));
}
