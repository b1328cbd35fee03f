//! The o200k pre-tokenizer split: text to pieces that BPE then merges within.
//!
//! The reference is a backtracking regular expression of seven alternatives, tried in this order at each position:
//!
//! | | pattern |
//! |---|---|
//! | 1 | `[^\r\n\p{L}\p{N}]?` `[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*` `[\p{Ll}\p{Lm}\p{Lo}\p{M}]+` `(?i:'s\|'t\|'re\|'ve\|'m\|'ll\|'d)?` |
//! | 2 | `[^\r\n\p{L}\p{N}]?` `[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+` `[\p{Ll}\p{Lm}\p{Lo}\p{M}]*` and the same ending |
//! | 3 | `\p{N}{1,3}` |
//! | 4 | ` ?[^\s\p{L}\p{N}]+[\r\n/]*` |
//! | 5 | `\s*[\r\n]+` |
//! | 6 | `\s+(?!\S)` |
//! | 7 | `\s+` |
//!
//! Written out by hand it needs no engine, runs in linear time on every input, and adds a few kB to the page. The
//! places where the engine would backtrack are commented. Tests compare it with such an engine.

use unicode_general_category::{GeneralCategory, get_general_category};

/// What the patterns ask of a character: a set of the bits below.
type Class = u8;

/// `[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]`
const UPPER: Class = 1;
/// `[\p{Ll}\p{Lm}\p{Lo}\p{M}]`. Modifier and other letters and marks are both [`UPPER`] and [`LOWER`].
const LOWER: Class = 1 << 1;
/// `\p{L}`
const LETTER: Class = 1 << 2;
/// `\p{N}`
const NUMBER: Class = 1 << 3;
/// `\s`
const SPACE: Class = 1 << 4;
/// `[\r\n]`, which is also [`SPACE`]
const NEWLINE: Class = 1 << 5;

const ASCII: [Class; 128] = {
    let mut classes = [0; 128];
    let mut code = 0;
    while code < 128 {
        classes[code] = match code as u8 {
            b'A'..=b'Z' => LETTER | UPPER,
            b'a'..=b'z' => LETTER | LOWER,
            b'0'..=b'9' => NUMBER,
            b'\r' | b'\n' => SPACE | NEWLINE,
            b'\t' | 0x0B | 0x0C | b' ' => SPACE,
            _ => 0,
        };
        code += 1;
    }
    classes
};

fn class_of(character: char) -> Class {
    use GeneralCategory::*;
    if let Some(&class) = ASCII.get(character as usize) {
        return class;
    }
    match get_general_category(character) {
        UppercaseLetter | TitlecaseLetter => LETTER | UPPER,
        LowercaseLetter => LETTER | LOWER,
        ModifierLetter | OtherLetter => LETTER | UPPER | LOWER,
        NonspacingMark | SpacingMark | EnclosingMark => UPPER | LOWER,
        DecimalNumber | LetterNumber | OtherNumber => NUMBER,
        _ if character.is_whitespace() => SPACE,
        _ => 0,
    }
}

/// Splits `text` as o200k does. The pieces are not empty and their concatenation is `text`.
///
/// ```
/// let pieces: Vec<&str> = gptoss_text::split_o200k("Don't stop: 12345  now").collect();
/// assert_eq!(pieces, ["Don't", " stop", ":", " ", "123", "45", " ", " now"]);
/// ```
pub fn split_o200k(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let length = piece_length(rest)?;
        let (piece, after) = rest.split_at(length);
        rest = after;
        Some(piece)
    })
}

/// Length in bytes of the first piece of `text`; `None` when `text` is empty.
fn piece_length(text: &str) -> Option<usize> {
    let first = text.chars().next()?;
    let class = class_of(first);
    if let Some(length) = word_length(text, first, class) {
        return Some(length);
    }
    Some(match class {
        NUMBER => text.chars().take(3).take_while(|&c| class_of(c) == NUMBER).map(char::len_utf8).sum(),
        _ => symbols_length(text).unwrap_or_else(|| space_length(text)),
    })
}

/// Alternatives 1 and 2, with their optional leading character.
fn word_length(text: &str, first: char, class: Class) -> Option<usize> {
    let may_lead = class & (NEWLINE | LETTER | NUMBER) == 0;
    let after_lead = if may_lead { Some(first.len_utf8()) } else { None };
    // The leading character is optional and greedy: each alternative is tried with it, then without. Without it
    // only a letter or a mark can start a word, and a mark may lead as well.
    let starts = [after_lead, (class & (UPPER | LOWER) != 0).then_some(0)];
    let end = starts.iter().flatten().find_map(|&start| lower_word_end(text, start));
    let end = end.or_else(|| starts.iter().flatten().find_map(|&start| upper_word_end(text, start)))?;
    Some(end + contraction_length(&text[end..]))
}

/// End of `UPPER* LOWER+` from byte `start`, or `None` when that does not match there.
fn lower_word_end(text: &str, start: usize) -> Option<usize> {
    let upper_end = run_end(text, start, UPPER);
    let lower_end = run_end(text, upper_end, LOWER);
    if lower_end > upper_end {
        return Some(lower_end);
    }
    // `UPPER*` gives characters back until one of them is LOWER too. What follows it is UPPER only, so `LOWER+`
    // matches that one character.
    let run = &text[start..upper_end];
    run.char_indices().rev().find(|&(_, c)| class_of(c) & LOWER != 0).map(|(at, c)| start + at + c.len_utf8())
}

/// End of `UPPER+ LOWER*` from byte `start`, or `None` when that does not match there.
fn upper_word_end(text: &str, start: usize) -> Option<usize> {
    let upper_end = run_end(text, start, UPPER);
    (upper_end > start).then(|| run_end(text, upper_end, LOWER))
}

/// Length of `(?i:'s|'t|'re|'ve|'m|'ll|'d)?` at the start of `text`.
fn contraction_length(text: &str) -> usize {
    let Some(letters) = text.strip_prefix('\'') else { return 0 };
    let mut letters = letters.chars();
    let mut next = || letters.next().map(|c| c.to_ascii_lowercase());
    match next() {
        Some('s' | 't' | 'm' | 'd') => 2,
        // U+017F, the long s, is an s to a matcher that ignores case.
        Some('ſ') => 1 + 'ſ'.len_utf8(),
        Some('r' | 'v') if next() == Some('e') => 3,
        Some('l') if next() == Some('l') => 3,
        _ => 0,
    }
}

/// Alternative 4: ` ?[^\s\p{L}\p{N}]+[\r\n/]*`. A slash is in both sets, so the second only adds what follows a
/// newline.
fn symbols_length(text: &str) -> Option<usize> {
    let start = usize::from(text.starts_with(' '));
    let end = scan(text, start, |c| class_of(c) & (SPACE | LETTER | NUMBER) == 0);
    (end > start).then(|| scan(text, end, |c| matches!(c, '\r' | '\n' | '/')))
}

/// Alternatives 5 to 7, at a whitespace character.
fn space_length(text: &str) -> usize {
    let end = run_end(text, 0, SPACE);
    let run = &text[..end];
    // 5: `\s*` gives back up to the last newline of the run; a newline is one byte.
    if let Some(newline) = run.rfind(['\r', '\n']) {
        return newline + 1;
    }
    // 6: at the end of the text the whole run; else all but the last character, which leads the next piece. 7: one
    // alone.
    match run.char_indices().next_back() {
        Some((last, _)) if end < text.len() && last > 0 => last,
        _ => end,
    }
}

fn run_end(text: &str, start: usize, wanted: Class) -> usize {
    scan(text, start, |c| class_of(c) & wanted != 0)
}

/// The first byte at or after `start` whose character is not `wanted`.
fn scan(text: &str, start: usize, wanted: impl Fn(char) -> bool) -> usize {
    text[start..].find(|c| !wanted(c)).map_or(text.len(), |at| start + at)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(text: &str) -> Vec<&str> {
        split_o200k(text).collect()
    }

    #[test]
    fn words_and_case() {
        assert_eq!(split("HelloWorld HTTPServer"), ["Hello", "World", " HTTPServer"]);
        assert_eq!(split("camelCase's"), ["camel", "Case's"]);
        assert_eq!(split("WE'LL we'll'll isn'T"), ["WE'LL", " we'll", "'ll", " isn'T"]);
        assert_eq!(split("it'ſ it'K"), ["it'ſ", " it", "'K"]);
    }

    #[test]
    fn marks_and_letters_without_case_end_an_upper_run() {
        // A, combining acute, B: `UPPER*` takes all three and gives B back.
        assert_eq!(split("A\u{301}B"), ["A\u{301}", "B"]);
        assert_eq!(split("你好ABC"), ["你好", "ABC"]);
        // A mark alone, and a mark that leads.
        assert_eq!(split("\u{301}"), ["\u{301}"]);
        assert_eq!(split("\u{301}!"), ["\u{301}", "!"]);
        assert_eq!(split("1\u{301}a"), ["1", "\u{301}a"]);
    }

    #[test]
    fn numbers_symbols_and_space() {
        assert_eq!(split("1234567"), ["123", "456", "7"]);
        assert_eq!(split("a  b"), ["a", " ", " b"]);
        assert_eq!(split("a \n\n b  "), ["a", " \n\n", " b", "  "]);
        assert_eq!(split("!!\n//x ?"), ["!!\n//", "x", " ?"]);
        assert_eq!(split("\r\n\t x"), ["\r\n", "\t", " x"]);
        assert_eq!(split(" 1"), [" ", "1"]);
        assert_eq!(split(""), Vec::<&str>::new());
    }
}
