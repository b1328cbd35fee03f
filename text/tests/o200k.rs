//! The tokenizer with the real o200k_harmony vocabulary: recorded vectors, and a second implementation as oracle.

use std::time::{Duration, Instant};

use crate::common::{RANKS, VOCAB_SIZE, ids, o200k, rows, string};
use gptoss_text::{Special, StreamDecoder, Tokenizer, UnknownToken, split_o200k};
use rand_xoshiro::SplitMix64;
use rand_xoshiro::rand_core::{Rng, SeedableRng};

#[test]
fn recorded_ordinary_text() {
    for row in rows("tokenizer_o200k_harmony_encode.jsonl", 112) {
        let text = string(&row["text"]);
        let expected = ids(&row["tokens"]);
        assert_eq!(o200k().encode_ordinary(&text), expected, "{}: {text:?}", row["id"]);
        assert_eq!(o200k().decode(&expected).unwrap(), text, "{}", row["id"]);
    }
}

#[test]
fn recorded_text_with_specials() {
    for row in rows("tokenizer_o200k_harmony_special.jsonl", 10) {
        let text = string(&row["text"]);
        assert_eq!(o200k().encode_with_specials(&text), ids(&row["tokens_with_specials"]), "{}: {text:?}", row["id"]);
        assert_eq!(o200k().encode_ordinary(&text), ids(&row["tokens_ordinary"]), "{}: {text:?}", row["id"]);
    }
}

#[test]
fn the_special_table() {
    let table: serde_json::Value =
        serde_json::from_str(&crate::common::read("tokenizer_o200k_harmony_specials.json")).unwrap();
    for (name, id) in table["special_tokens"].as_object().unwrap() {
        // One id has two names; a vocabulary lists one of them.
        if name == "<|reserved_200018|>" {
            continue;
        }
        let id = id.as_u64().unwrap() as u32;
        assert_eq!(o200k().find_special(name), Some(id));
        assert_eq!(o200k().special_name(id), Some(name.as_str()));
        assert!(o200k().is_special(id));
    }
    assert_eq!(o200k().stop_ids(), [200_002, 200_012, 199_999]);
    assert!(!o200k().is_stop(o200k().special_id(Special::End)), "a turn goes on after <|end|>");
    assert!(!o200k().is_special(RANKS - 1));
    assert_eq!(o200k().special_name(1), None);
}

#[test]
fn ids_outside_the_vocabulary_are_errors() {
    let expected = UnknownToken { id: VOCAB_SIZE, vocab_size: VOCAB_SIZE as usize };
    assert_eq!(o200k().token_bytes(VOCAB_SIZE), Err(expected));
    assert_eq!(o200k().decode(&[13225, VOCAB_SIZE]), Err(expected));
    assert_eq!(StreamDecoder::new().push(o200k(), VOCAB_SIZE), Err(expected));
    assert!(!o200k().is_special(u32::MAX));
}

/// Every token's text, and every pair of neighbours in the vocabulary, as both implementations encode it.
#[test]
fn whole_vocabulary_against_the_oracle() {
    let oracle = tiktoken_rs::o200k_harmony_singleton();
    let mut last = String::new();
    for id in 0..RANKS {
        let Ok(text) = String::from_utf8(o200k().token_bytes(id).unwrap().to_vec()) else { continue };
        let both = format!("{last}{text}");
        assert_eq!(o200k().encode_ordinary(&text), oracle.encode_ordinary(&text), "{text:?}");
        assert_eq!(o200k().encode_ordinary(&both), oracle.encode_ordinary(&both), "{both:?}");
        last = text;
    }
}

/// Pieces drawn from every script, case, kind of space and symbol, by a small generator with a fixed seed.
#[test]
fn random_text_against_the_oracle() {
    let oracle = tiktoken_rs::o200k_harmony_singleton();
    let mut random = Random(SplitMix64::seed_from_u64(20_26));
    for round in 0..20_000 {
        let length = 1 + random.below(24) as usize;
        let text: String = (0..length).map(|_| random.fragment()).collect();
        assert_eq!(o200k().encode_ordinary(&text), oracle.encode_ordinary(&text), "round {round}: {text:?}");
    }
}

#[test]
fn long_runs_against_the_oracle() {
    let oracle = tiktoken_rs::o200k_harmony_singleton();
    for unit in
        ["a", "A", " ", "\n", "\r\n", "/", "=", "-", "7", "é", "界", "ą\u{301}", "aB", "😊", "ab ", "\t ", "e\u{301}E"]
    {
        for count in [7, 100, 3000] {
            let text = unit.repeat(count);
            assert_eq!(o200k().encode_ordinary(&text), oracle.encode_ordinary(&text), "{count} times {unit:?}");
        }
    }
}

/// The quadratic merge takes minutes for these; the limit leaves a slow, loaded machine without optimisation a wide
/// margin.
#[test]
fn long_runs_take_linear_time() {
    for unit in ["a", "A", "é", "界", " ", "\n", "=", "ab", "\u{301}", "\u{301}A"] {
        let text = unit.repeat(200_000 / unit.len());
        let start = Instant::now();
        let ids = o200k().encode_ordinary(&text);
        let elapsed = start.elapsed();
        assert_eq!(o200k().decode(&ids).unwrap(), text);
        assert!(elapsed < Duration::from_secs(2), "200 kB of {unit:?} took {elapsed:?}");
    }
}

#[test]
fn streaming_gives_the_same_text() {
    for row in rows("tokenizer_o200k_harmony_encode.jsonl", 112) {
        let mut decoder = StreamDecoder::new();
        let mut text = String::new();
        for id in ids(&row["tokens"]) {
            text.push_str(&decoder.push(o200k(), id).unwrap());
        }
        text.push_str(&decoder.finish());
        assert_eq!(text, string(&row["text"]), "{}", row["id"]);
    }
}

#[test]
fn a_character_is_held_back_until_it_is_whole() {
    // Byte tokens of an emoji, which o200k has as longer tokens too.
    let byte_tokens = [0xF0, 0x9F, 0xA6, 0x84].map(|byte: u8| {
        (0..RANKS).find(|&id| o200k().token_bytes(id).unwrap() == [byte]).expect("all bytes are tokens")
    });
    let mut decoder = StreamDecoder::new();
    let parts = byte_tokens.map(|id| decoder.push(o200k(), id).unwrap());
    assert_eq!(parts, ["", "", "", "🦄"]);
    // Cut short by a special, then by the end.
    assert_eq!(decoder.push(o200k(), byte_tokens[0]).unwrap(), "");
    assert_eq!(decoder.push(o200k(), o200k().special_id(Special::End)).unwrap(), "\u{FFFD}<|end|>");
    assert_eq!(decoder.push(o200k(), byte_tokens[0]).unwrap(), "");
    assert_eq!(decoder.finish(), "\u{FFFD}");
}

/// A file's merges: as many as the public gpt-oss files have, and quick to build from.
#[test]
fn construction() {
    let crate::common::Arrays { tokens, token_types, merges } = crate::common::o200k_arrays();
    assert_eq!((tokens.len(), merges.len()), (201_088, 446_189));
    let start = Instant::now();
    let tokenizer = Tokenizer::new(&tokens, &token_types, &merges).unwrap();
    let elapsed = start.elapsed();
    assert_eq!(tokenizer.vocab_size(), 201_088);
    assert!(elapsed < Duration::from_secs(10), "took {elapsed:?}");
}

/// The split alone against a backtracking engine: every character of Unicode in contexts that show its class.
#[test]
fn split_of_every_character_against_a_regex_engine() {
    let regex = fancy_regex::Regex::new(O200K).unwrap();
    let contexts: [fn(char) -> String; 6] = [
        |c| format!("{c}"),
        |c| format!("aB{c}bC"),
        |c| format!("1{c}2{c}{c}A"),
        |c| format!("  {c} \n{c}\n"),
        |c| format!("!{c}?'{c} x'{c}e"),
        |c| format!("AB{c}{c}"),
    ];
    for context in contexts {
        // Batches, each character in a line of its own, keep it quick.
        // Planes 4 to 13 have no characters, the last two are for private use.
        let codes = (0..0x4_0000).chain(0xE_0000..0xE_1000).chain(0xF_0000..0xF_0100).chain(0x10_FF00..0x11_0000);
        let characters: Vec<char> = codes.filter_map(char::from_u32).collect();
        for batch in characters.chunks(1024) {
            let text: String = batch.iter().map(|&c| context(c) + "\n").collect();
            let expected: Vec<&str> = regex.find_iter(&text).map(|found| found.unwrap().as_str()).collect();
            let pieces: Vec<&str> = split_o200k(&text).collect();
            if pieces != expected {
                let at = pieces.iter().zip(&expected).position(|(a, b)| a != b).unwrap();
                panic!("from U+{:X}: {:?} is not {:?}", batch[0] as u32, &pieces[at..at + 3], &expected[at..at + 3]);
            }
        }
    }
}

/// OpenAI's pattern, as published with tiktoken.
const O200K: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";

struct Random(SplitMix64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0.next_u64() % limit
    }

    fn fragment(&mut self) -> String {
        const WORDS: [&str; 64] = [
            "the",
            "The",
            "THE",
            "iPhone",
            "don't",
            "WE'LL",
            "o'Re",
            "'s",
            "'S",
            "'ſ",
            "Straße",
            "naïve",
            "İstanbul",
            "ǅungla",
            "ʰa",
            "ªº",
            "Привет",
            "ΑΒΓ",
            "γειά",
            "שלום",
            "مرحبا",
            "नमस्ते",
            "สวัสดี",
            "こんにちは",
            "カタカナ",
            "ｶﾅ",
            "你好世界",
            "안녕",
            "ქართული",
            "Ⴀ",
            "አማርኛ",
            "𝒜𝓫",
            "𐐀𐐨",
            "e\u{301}",
            "\u{301}",
            "\u{20DD}",
            "1234567",
            "٣٤",
            "Ⅻ",
            "½",
            "²",
            "0x1F",
            "😊",
            "👨‍👩‍👧‍👦",
            "🇺🇸",
            "👋🏾",
            "\u{200B}",
            "\u{FEFF}",
            "\u{0}",
            "\u{1C}",
            "//",
            "/*",
            "--",
            "…",
            "«",
            "$",
            "<|end|>",
            "http://a.b/c?d=e",
            "fn main() {",
            "_",
            "\u{E000}",
            "\u{378}",
            "{\"a\": 1}",
            "\\n",
        ];
        const SPACES: [&str; 12] =
            [" ", "  ", "\n", "\r\n", "\t", "   ", "\n\n", " \n ", "\u{A0}", "\u{3000}", "\u{85}", "\u{2028}"];
        match self.below(10) {
            0..=5 => WORDS[self.below(WORDS.len() as u64) as usize].to_owned(),
            6..=7 => SPACES[self.below(SPACES.len() as u64) as usize].to_owned(),
            8 => char::from(self.below(128) as u8).to_string(),
            _ => loop {
                if let Some(character) = char::from_u32(self.below(0x3_2000) as u32) {
                    break character.to_string();
                }
            },
        }
    }
}
