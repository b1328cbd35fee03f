//! A tokenizer's vocabulary as llguidance wants it.

use std::sync::Arc;

use gptoss_text::{Special, Tokenizer};
use llguidance::ParserFactory;
use llguidance::earley::SlicedBiasComputer;
use llguidance::toktrie::{ApproximateTokEnv, InferenceCapabilities, TokEnv, TokRxInfo, TokTrie};

/// The bytes of every token. Specials begin with a byte that no text has; a token that begins with it although it is none
/// (a byte by itself) can be part of no text, and has no bytes here.
pub(crate) fn words(tokenizer: &Tokenizer) -> Vec<Vec<u8>> {
    let word = |id: u32| {
        let bytes = tokenizer.token_bytes(id).unwrap_or_default();
        match tokenizer.is_special(id) {
            true => [&[TokTrie::SPECIAL_TOKEN_MARKER], bytes].concat(),
            false if bytes.first() == Some(&TokTrie::SPECIAL_TOKEN_MARKER) => Vec::new(),
            false => bytes.to_vec(),
        }
    };
    (0..tokenizer.vocab_size() as u32).map(word).collect()
}

/// The token that ends everything. No grammar here has it: turns end with `<|return|>` or `<|call|>`.
pub(crate) fn end(tokenizer: &Tokenizer) -> u32 {
    tokenizer.special_id(Special::EndOfText)
}

/// What makes parsers for a vocabulary. Takes some tenths of a second for 201,088 tokens.
pub(crate) fn factory(words: &[Vec<u8>], end: u32) -> Result<ParserFactory, String> {
    let trie = TokTrie::from(&TokRxInfo::new(words.len() as u32, end), words);
    // It finds tokens for forced text greedily, which is not how the tokenizer does. Nothing here forces tokens.
    let environment: TokEnv = Arc::new(ApproximateTokEnv::new(trie));
    let slices = SlicedBiasComputer::general_slices();
    let mut factory = ParserFactory::new(&environment, InferenceCapabilities::default(), &slices)
        .map_err(|error| format!("the vocabulary: {error:#}"))?;
    factory.quiet().limits_mut().verbose_errors = false;
    Ok(factory)
}

#[cfg(test)]
pub(crate) mod tests {
    use gptoss_text::Tokenizer;

    /// The tokenizer of the demo model: Harmony's specials, and 1,280 tokens in all.
    pub(crate) fn nano() -> Tokenizer {
        let file = include_bytes!("../../models/nano/gpt-oss-nano.gguf");
        let Ok(gptoss_gguf::Progress::Ready(gguf)) = gptoss_gguf::parse(file, file.len() as u64) else {
            panic!("the demo model is a whole GGUF file");
        };
        let tokens = gguf.metadata.string_array("tokenizer.ggml.tokens").expect("tokens");
        let merges = gguf.metadata.string_array("tokenizer.ggml.merges").expect("merges");
        let types = gguf.metadata.i32_array("tokenizer.ggml.token_type").expect("types");
        Tokenizer::new(tokens.iter(), &types, merges.iter()).expect("a tokenizer")
    }
}
