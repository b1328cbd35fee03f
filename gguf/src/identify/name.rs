//! What names say: pieces of a file that was cut, and downloads that did not end.

pub(crate) const JOIN_ADVICE: &str = "Put all pieces, in their order, together into one file (cat m.gguf.part1of2 m.gguf.part2of2 > m.gguf; on Windows copy /b \
     m.gguf.part1of2 + m.gguf.part2of2 m.gguf), and use that.";

pub(crate) const FINISH_ADVICE: &str =
    "Let the download finish in the program that began it, or download the file again.";

/// Suffixes that download tools give to an unfinished file.
const UNFINISHED: [&str; 15] = [
    ".crdownload",         // Chromium
    ".part",               // Firefox, yt-dlp, KDE
    ".partial",            // Internet Explorer, aria2's friends
    ".download",           // Safari
    ".opdownload",         // Opera
    ".incomplete",         // huggingface_hub
    ".downloadinprogress", // llama.cpp
    "-partial",            // Ollama
    ".aria2",
    ".aria2__temp",
    ".!qb", // qBittorrent
    ".!ut", // µTorrent
    ".bc!", // BitComet
    ".tmp",
    ".temp",
];

/// Words that announce the number of a piece.
const WORDS: [&str; 6] = ["part", "split", "piece", "chunk", "vol", "volume"];

/// Whether the name is one that download tools give to an unfinished file.
pub fn is_unfinished_name(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    UNFINISHED.iter().any(|ending| name.len() > ending.len() && name.ends_with(ending))
}

/// The name of the whole file if `name` is one that tools give to a piece of a file that was cut by bytes:
/// `m.gguf.part1of2`, `m.gguf-split-a`, `m.gguf.001`, `m.gguf.part_00`, `m.gguf.aa`, `m-part-2.gguf`. `None` for any
/// other name, the parts `m-00001-of-00002.gguf` that llama.cpp's splitter writes included: each of those is a GGUF
/// file.
pub fn piece_stem(name: &str) -> Option<&str> {
    const EXTENSION: &str = ".gguf";
    // Lowering ASCII letters moves no byte.
    let lower = name.to_ascii_lowercase();
    let end = lower.rfind(EXTENSION).map_or(name.len(), |at| at + EXTENSION.len());
    if end < name.len() {
        return is_piece_number(&lower[end..], false).then(|| &name[..end]);
    }
    let stem = lower.strip_suffix(EXTENSION).unwrap_or(&lower);
    let word = WORDS.iter().filter_map(|word| stem.rfind(word)).max()?;
    let before = stem[..word].trim_end_matches(SEPARATORS);
    (before.len() < word && !before.is_empty() && is_piece_number(&stem[word..], true)).then(|| &name[..before.len()])
}

const SEPARATORS: [char; 4] = ['.', '-', '_', ' '];

/// Matches `.part1of2`, `-split-a`, `.001`, `.part_00` and `.aa`. Without a word before it a number needs at least two
/// digits, because wget names the second download of `m.gguf` `m.gguf.1`; letters must be two.
fn is_piece_number(suffix: &str, needs_word: bool) -> bool {
    let bare = suffix.trim_start_matches(SEPARATORS);
    let word = WORDS.iter().filter_map(|word| bare.strip_prefix(word)).min_by_key(|rest| rest.len());
    if word.is_none() && needs_word {
        return false;
    }
    let number = word.unwrap_or(bare).trim_start_matches(SEPARATORS);
    let index = match number.split_once("of") {
        Some((index, count)) => {
            let count = count.trim_start_matches(SEPARATORS);
            if count.is_empty() || !is_digits(count) {
                return false;
            }
            index.trim_end_matches(SEPARATORS)
        }
        None => number,
    };
    match word {
        Some(_) => is_digits(index) || is_letters(index),
        None => {
            (is_digits(index) && index.len() >= 2) || (is_letters(index) && index.starts_with('a') && index.len() == 2)
        }
    }
}

fn is_digits(text: &str) -> bool {
    (1..=5).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit())
}

fn is_letters(text: &str) -> bool {
    (1..=2).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_lowercase())
}
