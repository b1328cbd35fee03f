//! What the tests share: the o200k_harmony tokenizer, and the rows of the vector files.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use gptoss_text::Tokenizer;
use serde_json::Value;

/// Number of o200k's byte-pair ranks: ids below it are ordinary tokens.
pub const RANKS: u32 = 199_998;
pub const VOCAB_SIZE: u32 = 201_088;

pub fn vectors() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors")
}

pub fn read(name: &str) -> String {
    let path = vectors().join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The rows of a JSON Lines file; `count` guards against a file that was cut.
pub fn rows(name: &str, count: usize) -> Vec<Value> {
    let rows: Vec<Value> = read(name).lines().map(|line| serde_json::from_str(line).expect("a JSON row")).collect();
    assert_eq!(rows.len(), count, "rows of {name}");
    rows
}

pub fn ids(value: &Value) -> Vec<u32> {
    value.as_array().expect("an array of ids").iter().map(|id| id.as_u64().expect("an id") as u32).collect()
}

pub fn string(value: &Value) -> String {
    value.as_str().expect("a string").to_owned()
}

/// The arrays that a gpt-oss GGUF holds, made from o200k's ranks.
pub struct Arrays {
    pub tokens: Vec<String>,
    pub token_types: Vec<i32>,
    pub merges: Vec<String>,
}

/// The bytes of every o200k token by id, from the vocabulary that `tiktoken-rs` carries.
pub fn o200k_bytes() -> Vec<Vec<u8>> {
    let oracle = tiktoken_rs::o200k_harmony_singleton();
    (0..RANKS).map(|id| oracle.decode_bytes(&[id]).expect("every rank has bytes")).collect()
}

/// The arrays of o200k as GGUF converters write them: for each token in rank order every pair of tokens that spells it,
/// ordered by the ranks of the pair; 446,189 merges.
pub fn o200k_arrays() -> Arrays {
    let bytes = o200k_bytes();
    let spelled: Vec<String> = bytes.iter().map(|bytes| spell(bytes)).collect();
    let rank: HashMap<&[u8], usize> = bytes.iter().enumerate().map(|(id, bytes)| (bytes.as_slice(), id)).collect();
    let mut merges = Vec::new();
    for token in &bytes {
        let splits = (1..token.len()).map(|middle| token.split_at(middle));
        let mut pairs: Vec<(usize, usize)> = splits.filter_map(|(l, r)| Some((*rank.get(l)?, *rank.get(r)?))).collect();
        pairs.sort_unstable();
        merges.extend(pairs.into_iter().map(|(left, right)| format!("{} {}", spelled[left], spelled[right])));
    }
    let mut tokens = spelled;
    let mut token_types = vec![1; tokens.len()];
    let names = special_names();
    tokens.extend((RANKS..VOCAB_SIZE).map(|id| names[&id].clone()));
    token_types.resize(tokens.len(), 3);
    Arrays { tokens, token_types, merges }
}

/// Names of the special ids; of the two that one id has, the one that is not `reserved`.
fn special_names() -> HashMap<u32, String> {
    let table: Value = serde_json::from_str(&read("tokenizer_o200k_harmony_specials.json")).expect("JSON");
    let mut names = HashMap::new();
    for (name, id) in table["special_tokens"].as_object().expect("a table") {
        let id = id.as_u64().expect("an id") as u32;
        if !names.contains_key(&id) || !name.contains("reserved") {
            names.insert(id, name.clone());
        }
    }
    names
}

/// Bytes in the byte-level alphabet.
fn spell(bytes: &[u8]) -> String {
    static ALPHABET: LazyLock<Vec<char>> = LazyLock::new(|| {
        let printable = |byte: u32| matches!(byte, 0x21..=0x7E | 0xA1..=0xAC | 0xAE..=0xFF);
        let mut others = 0x100..;
        let mut character = |byte| if printable(byte) { byte } else { others.next().expect("endless") };
        (0..256).map(|byte| char::from_u32(character(byte)).expect("a character")).collect()
    });
    bytes.iter().map(|&byte| ALPHABET[byte as usize]).collect()
}

/// The tokenizer of the real models, built once per test program.
pub fn o200k() -> &'static Tokenizer {
    static TOKENIZER: LazyLock<Tokenizer> = LazyLock::new(|| {
        let Arrays { tokens, token_types, merges } = o200k_arrays();
        Tokenizer::new(&tokens, &token_types, &merges).expect("o200k_harmony is a valid vocabulary")
    });
    &TOKENIZER
}
