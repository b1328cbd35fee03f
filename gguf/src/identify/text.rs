//! Texts: pages, pointers, and what hosts say.

use super::ForeignFile;
use super::ForeignFile::{HostError, Json, LfsPointer, Pointer, Text, WebPage};

/// How many characters of an unknown text are shown.
const SHOWN_CHARACTERS: usize = 60;

/// Beginnings of HTML, in lower case; `<!--` and `<?xml` may come first.
const HTML: [&str; 8] = ["<!doctype", "<!do", "<html", "<head", "<title", "<body", "<script", "<meta"];

pub(super) fn identify(start: &[u8]) -> Option<ForeignFile> {
    let decoded = decode(start);
    let text = decoded.text.trim_start();
    let lower = text.to_ascii_lowercase();
    if is_html(&lower) {
        return Some(WebPage);
    }
    if lower.starts_with("version https://git-lfs") || lower.starts_with("version https://hawser") {
        return Some(LfsPointer);
    }
    if let Some(pointer) = pointer(text, &lower) {
        return Some(Pointer(pointer));
    }
    if lower.starts_with("<?xml") || lower.starts_with("<error") {
        return Some(HostError("XML"));
    }
    if !decoded.is_plain() {
        return None;
    }
    if text.starts_with('{') || text.starts_with("[{") {
        let is_error = ["\"error\"", "\"errors\"", "\"message\"", "\"detail\""].iter().any(|key| lower.contains(key));
        return Some(if is_error { HostError("JSON") } else { Json });
    }
    // Fewer bytes than these may be the beginning of anything.
    const LEAST_TEXT: usize = 5;
    (start.len() >= LEAST_TEXT && !text.is_empty()).then(|| Text(beginning(text)))
}

/// The beginning of a file as characters.
struct Decoded {
    text: String,
    /// Whether all bytes are text in a Unicode encoding.
    is_unicode: bool,
}

impl Decoded {
    /// Whether the text has only characters that people write.
    fn is_plain(&self) -> bool {
        self.is_unicode && self.text.chars().all(|c| !c.is_control() || c.is_ascii_whitespace())
    }
}

/// Reads UTF-8 as far as it is whole, UTF-16 with its byte order mark, and anything else as Latin-1, because a page in
/// an old encoding is still a page.
fn decode(start: &[u8]) -> Decoded {
    let wide = |bytes: &[u8], unit: fn([u8; 2]) -> u16| {
        let units = bytes.as_chunks::<2>().0.iter().map(|&pair| unit(pair));
        let text = char::decode_utf16(units).map(|unit| unit.unwrap_or(char::REPLACEMENT_CHARACTER)).collect();
        Decoded { text, is_unicode: true }
    };
    match start {
        [0xff, 0xfe, rest @ ..] => return wide(rest, u16::from_le_bytes),
        [0xfe, 0xff, rest @ ..] => return wide(rest, u16::from_be_bytes),
        _ => {}
    }
    let start = start.strip_prefix(b"\xef\xbb\xbf").unwrap_or(start);
    let whole = match std::str::from_utf8(start) {
        Ok(text) => Some(text),
        // The last character may be cut in two.
        Err(error) if error.error_len().is_none() => std::str::from_utf8(&start[..error.valid_up_to()]).ok(),
        Err(_) => None,
    };
    match whole {
        Some(text) => Decoded { text: text.to_owned(), is_unicode: true },
        None => Decoded { text: start.iter().map(|&byte| char::from(byte)).collect(), is_unicode: false },
    }
}

fn is_html(lower: &str) -> bool {
    let mut rest = lower;
    loop {
        rest = rest.trim_start();
        let skipped = ["<!--", "<?xml"].iter().find(|opening| rest.starts_with(**opening));
        match skipped {
            None => break,
            Some(&opening) => {
                let closing = if opening == "<!--" { "-->" } else { "?>" };
                let Some((_, after)) = rest.split_once(closing) else { return opening == "<!--" };
                rest = after;
            }
        }
    }
    HTML.iter().any(|opening| rest.starts_with(opening)) || lower.contains("<html")
}

fn pointer(text: &str, lower: &str) -> Option<&'static str> {
    let first_line = text.lines().next().unwrap_or_default();
    if first_line.contains("/blobs/") && first_line.starts_with("..") {
        return Some("a link of a hub cache that was copied as text");
    }
    if first_line.contains("annex/objects/") {
        return Some("a pointer of git-annex");
    }
    if lower.starts_with("outs:") {
        return Some("a pointer of DVC");
    }
    if lower.starts_with("# xet version") {
        return Some("a pointer of Xet");
    }
    if lower.starts_with("[internetshortcut]") {
        return Some("a shortcut to a web address");
    }
    None
}

fn beginning(text: &str) -> String {
    let line = text.lines().next().unwrap_or_default();
    let shown: String = line.chars().take(SHOWN_CHARACTERS).collect();
    if shown.len() < text.trim_end().len() { format!("{shown}…") } else { shown }
}
