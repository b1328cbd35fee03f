//! Formats that begin with bytes of their own. Their numbers are those of file(1), and of the projects named.

use super::ForeignFile;
use super::ForeignFile::{
    Archive, BeforeGguf, Companion, OldAdapter, OldImatrix, Other, OtherWeights, Session, WebPage, Zeros,
};

/// File kinds by their first bytes. A longer magic stands before the shorter ones that it begins with.
const MAGICS: &[(&[u8], ForeignFile)] = &[
    // ggml's formats before GGUF: the magic is a number, so its letters are reversed on disk.
    (b"lmgg", BeforeGguf("GGML")),
    (b"fmgg", BeforeGguf("GGMF")),
    (b"tjgg", BeforeGguf("GGJT")),
    (b"algg", OldAdapter),
    (b"nsgg", Session),
    (b"qsgg", Session),
    // Weights.
    (b"\x89HDF\r\n\x1a\n", OtherWeights("HDF5 (Keras)")),
    (b"\x93NUMPY", OtherWeights("NumPy")),
    (b"\x80\x02", OtherWeights("PyTorch (pickle)")),
    (b"\x80\x03", OtherWeights("PyTorch (pickle)")),
    (b"\x80\x04", OtherWeights("PyTorch (pickle)")),
    (b"\x80\x05", OtherWeights("PyTorch (pickle)")),
    // Archives.
    (b"PK\x03\x04", Archive("a ZIP archive")),
    (b"PK\x05\x06", Archive("an empty ZIP archive")),
    (b"\x1f\x8b", Archive("compressed with gzip")),
    (b"\x28\xb5\x2f\xfd", Archive("compressed with Zstandard")),
    (b"\xfd7zXZ", Archive("compressed with xz")),
    (b"7z\xbc\xaf\x27\x1c", Archive("a 7-Zip archive")),
    (b"Rar!\x1a\x07", Archive("a RAR archive")),
    (b"BZh", Archive("compressed with bzip2")),
    (b"\x04\x22\x4d\x18", Archive("compressed with LZ4")),
    (b"LZIP", Archive("compressed with lzip")),
    // Documents, pictures, programs.
    (b"%PDF", Other("a PDF document")),
    (b"\x89PNG", Other("a PNG picture")),
    (b"\xff\xd8\xff", Other("a JPEG picture")),
    (b"GIF8", Other("a GIF picture")),
    (b"RIFF", Other("a picture, sound or film (RIFF)")),
    (b"SQLite format 3", Other("an SQLite database")),
    (b"MZqFpD", Other("a llamafile, a program with a model inside")),
    (b"MZ", Other("a Windows program")),
    (b"\x7fELF", Other("a Linux program")),
    (b"\xcf\xfa\xed\xfe", Other("a macOS program")),
    // What lies beside a file.
    (b"\x00\x05\x16\x07", Companion("what macOS stores beside a file (AppleDouble)")),
    (b"L\x00\x00\x00\x01\x14\x02\x00", Companion("a Windows shortcut to a file")),
    (b"d8:announce", Companion("a torrent, which says where to download a file")),
    (b"d10:created", Companion("a torrent, which says where to download a file")),
    (b"d13:announce-list", Companion("a torrent, which says where to download a file")),
];

/// Names by which PyTorch's own ZIP archives begin: `archive/data.pkl`, or with another folder.
const PYTORCH_ENTRY: &[u8] = b"/data.pkl";

pub(super) fn identify(start: &[u8], file_len: u64) -> Option<ForeignFile> {
    if !start.is_empty() && start.iter().all(|&byte| byte == 0) {
        return Some(Zeros);
    }
    if contains(&start[..start.len().min(256)], PYTORCH_ENTRY) {
        return Some(OtherWeights("PyTorch"));
    }
    if let Some((_, kind)) = MAGICS.iter().find(|(magic, _)| start.starts_with(magic)) {
        return Some(kind.clone());
    }
    if start.get(257..262) == Some(b"ustar") {
        return Some(Archive("a tar archive"));
    }
    if start.get(4..8) == Some(b"TFL3") {
        return Some(OtherWeights("TensorFlow Lite"));
    }
    if is_safetensors(start, file_len) {
        return Some(OtherWeights("safetensors"));
    }
    if is_old_imatrix(start) {
        return Some(OldImatrix);
    }
    // A page that a browser saved with all that belongs to it.
    (start.starts_with(b"From: <Saved by ")).then_some(WebPage)
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

/// The format begins with the length of a JSON object as u64, then that object:
/// <https://github.com/huggingface/safetensors>.
fn is_safetensors(start: &[u8], file_len: u64) -> bool {
    let Some((length, rest)) = start.split_first_chunk::<8>() else { return false };
    let fits = u64::from_le_bytes(*length).checked_add(8).is_some_and(|end| end <= file_len);
    fits && rest.trim_ascii_start().starts_with(b"{\"")
}

/// The format has a count of entries, then for each the length of a tensor's name, the name, and numbers: llama.cpp's
/// `imatrix.cpp` before it wrote GGUF.
fn is_old_imatrix(start: &[u8]) -> bool {
    let number = |at: usize| Some(i32::from_le_bytes(*start.get(at..)?.first_chunk()?));
    let (Some(entries), Some(length)) = (number(0), number(4)) else { return false };
    let name = usize::try_from(length).ok().and_then(|length| start.get(8..8 + length.min(256)));
    (1..1 << 20).contains(&entries) && name.is_some_and(|name| name.ends_with(b".weight"))
}
