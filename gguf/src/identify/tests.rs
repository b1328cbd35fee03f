use super::*;

fn told(start: &[u8], name: &str) -> String {
    let file_len = (start.len() as u64).max(if start.is_empty() { 0 } else { 1 << 20 });
    identify(start, file_len, name).map_or_else(String::new, |what| what.to_string())
}

#[test]
fn what_people_save_in_place_of_a_model_is_named() {
    let wide: Vec<u8> =
        [0xfeff].into_iter().chain("<!DOCTYPE html>".encode_utf16()).flat_map(u16::to_le_bytes).collect();
    let mut tar = vec![b'x'; 512];
    tar[257..262].copy_from_slice(b"ustar");
    let mut imatrix = [2i32.to_le_bytes(), 18i32.to_le_bytes()].concat();
    imatrix.extend_from_slice(b"blk.0.attn_q.weight".split_at(1).1);
    let mut safetensors = 100u64.to_le_bytes().to_vec();
    safetensors.extend_from_slice(b"{\"a\":{}}");
    let cases: &[(&[u8], &str)] = &[
        (b"", "it is empty"),
        (&[0; 64], "zeros"),
        (b"<!doctype html><html>", "web page"),
        (b"<!DOCTYPE HTML PUBLIC", "web page"),
        (b"<!DO", "web page"),
        (b"\xef\xbb\xbf\r\n  <HTML lang=en>", "web page"),
        (b"<!-- saved from url=(0042) -->\n<html>", "web page"),
        (b"<?xml version=\"1.0\"?>\n<!DOCTYPE html>", "web page"),
        (b"\n\n<head><title>Sign in", "web page"),
        (b"<!doctype html><title>caf\xe9", "web page"),
        (&wide, "web page"),
        (b"From: <Saved by Blink>\r\nMIME-Version: 1.0", "web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:", "Git LFS pointer"),
        (b"version https://hawser.github.com/spec/v1\n", "Git LFS pointer"),
        (b"../../blobs/0123456789abcdef", "hub cache"),
        (b"/annex/objects/SHA256E-s1--2.gguf", "git-annex"),
        (b"outs:\n- md5: 1", "DVC"),
        (b"[InternetShortcut]\r\nURL=https://h/", "shortcut"),
        (b"{\"error\":\"Repository not found\"}", "error message of a host (JSON)"),
        (b"{\"architectures\":[\"GptOssForCausalLM\"]}", "it is JSON"),
        (b"<?xml version=\"1.0\"?><Error><Code>AccessDenied</Code></Error>", "error message of a host (XML)"),
        (b"Entry not found", "\"Entry not found\""),
        ("Datei nicht gefunden: ä".as_bytes(), "Datei nicht gefunden"),
        (b"PK\x03\x04\x14\0\0\0m.gguf", "ZIP archive"),
        (b"PK\x03\x04\0\0\x08\x08\0\0archive/data.pkl", "PyTorch"),
        (b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.", "PyTorch"),
        (b"\x1f\x8b\x08\0", "gzip"),
        (b"\x28\xb5\x2f\xfd\x04", "Zstandard"),
        (b"\xfd7zXZ\0", "xz"),
        (b"7z\xbc\xaf\x27\x1c", "7-Zip"),
        (b"Rar!\x1a\x07\x01", "RAR"),
        (b"BZh91AY", "bzip2"),
        (&tar, "tar archive"),
        (&safetensors, "safetensors"),
        (b"\x89HDF\r\n\x1a\n", "HDF5"),
        (b"lmgg\x01", "GGML"),
        (b"tjgg\x03", "GGJT"),
        (b"algg\x01", "adapter"),
        (&imatrix, "importance matrix"),
        (b"%PDF-1.7", "PDF"),
        (b"\x89PNG\r\n", "PNG"),
        (b"MZqFpD='\n", "llamafile"),
        (b"\x7fELF\x02", "Linux program"),
        (b"\0\x05\x16\x07\0\x02", "AppleDouble"),
        (b"d8:announce35:udp", "torrent"),
    ];
    for (start, words) in cases {
        let told = told(start, "m.gguf");
        assert!(told.contains(words), "{}: expected {words:?}, got {told:?}", start.escape_ascii());
    }
    let kinds: Vec<ForeignFile> = cases.iter().filter_map(|(start, _)| identify(start, 1 << 20, "")).collect();
    assert!(kinds.iter().all(|kind| !kind.advice().is_empty()));
}

#[test]
fn gguf_files_and_unknown_bytes_are_nobody_elses() {
    for start in [&b"GGUF\x03\0\0\0"[..], b"GGUF", b"GG", b"G", b"FUGG", b"\x12\x34\x56\x78\x9a\xbc", b"GGUX"] {
        assert_eq!(identify(start, 1 << 20, "m.gguf"), None, "{}", start.escape_ascii());
    }
    assert_eq!(identify(&[], 5, "m.gguf.part2of2"), None, "nothing was read yet");
    // Begins like text, but does not go on like it.
    assert_eq!(identify(b"{\x01\x02\xff\xfe\x80", 1 << 20, "m.gguf"), None);
}

#[test]
fn names_tell_pieces() {
    for (name, stem) in [
        ("x.gguf.part1of2", "x.gguf"),
        ("x.gguf.part2of2", "x.gguf"),
        ("X.GGUF.PART1OF2", "X.GGUF"),
        ("x.gguf-split-a", "x.gguf"),
        ("x.gguf-split-ab", "x.gguf"),
        ("x.gguf.001", "x.gguf"),
        ("x.gguf.part_00", "x.gguf"),
        ("x.gguf.part01", "x.gguf"),
        ("x.gguf.part-1", "x.gguf"),
        ("x.gguf.aa", "x.gguf"),
        ("x.ggufaa", "x.gguf"),
        ("x.gguf.chunk.3", "x.gguf"),
        ("x.gguf-00001-of-00003", "x.gguf"),
        ("x.gguf_part_1_of_3", "x.gguf"),
        ("x.part1of2.gguf", "x"),
        ("x-split-a.gguf", "x"),
        ("x.part1of2", "x"),
    ] {
        assert_eq!(piece_stem(name), Some(stem), "{name}");
    }
    for name in [
        "x.gguf",
        "x-00001-of-00002.gguf",
        "x.gguf.1",
        "x.gguf.part",
        "x.gguf.partial",
        "x.gguf.gz",
        "x.gguf.zip",
        "x.gguf.bak",
        "department-2.gguf",
        "gpt-oss-20b-split.gguf",
        "sha256-00",
        "",
    ] {
        assert_eq!(piece_stem(name), None, "{name}");
    }
}

#[test]
fn names_tell_downloads_that_did_not_end() {
    for name in [
        "x.gguf.crdownload",
        "x.gguf.part",
        "Unconfirmed 1.crdownload",
        "x.gguf.aria2",
        "sha256-ab-partial",
        "x.GGUF.!qB",
    ] {
        assert!(is_unfinished_name(name), "{name}");
    }
    for name in ["x.gguf", "part.gguf", ".part", "x.partly"] {
        assert!(!is_unfinished_name(name), "{name}");
    }
}

#[test]
fn a_later_piece_is_one_whatever_its_weights_look_like() {
    for start in [&b"\x12\x34\x56\x78\x9a\xbc"[..], b"\x80\x02\xff\xff", b"PK\x03\x04\xff\xff", &[0; 100]] {
        assert_eq!(identify(start, 1 << 20, "x.gguf.part2of2"), Some(ForeignFile::LaterPiece));
        assert_ne!(identify(start, 1 << 20, "x.gguf"), Some(ForeignFile::LaterPiece));
    }
    assert_eq!(identify(b"<html>", 1 << 20, "x.gguf.part2of2"), Some(ForeignFile::WebPage));
    assert_eq!(identify(b"\x12\x34\x56\x78\x9a", 1 << 20, "x.part"), Some(ForeignFile::Unfinished));
}
