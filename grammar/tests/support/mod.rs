//! The demo model's tokenizer, and whether a turn is allowed token by token.

use gptoss_grammar::Grammars;
use gptoss_model::Restrictions;
use gptoss_protocol::AnswerShape;
use gptoss_text::Tokenizer;

/// The tokenizer of the demo model: Harmony's specials, and 1,280 tokens in all.
pub fn nano() -> Tokenizer {
    let file = include_bytes!("../../../models/nano/gpt-oss-nano.gguf");
    let Ok(gptoss_gguf::Progress::Ready(gguf)) = gptoss_gguf::parse(file, file.len() as u64) else {
        panic!("the demo model is a whole GGUF file");
    };
    let tokens = gguf.metadata.string_array("tokenizer.ggml.tokens").expect("tokens");
    let merges = gguf.metadata.string_array("tokenizer.ggml.merges").expect("merges");
    let types = gguf.metadata.i32_array("tokenizer.ggml.token_type").expect("types");
    Tokenizer::new(tokens.iter(), &types, merges.iter()).expect("a tokenizer")
}

/// What of `turn` is allowed: all of it, or so much of its beginning.
pub fn allowed(tokenizer: &Tokenizer, grammars: &Grammars, shape: &AnswerShape, turn: &str) -> Result<(), String> {
    let mut restriction = grammars.begin(shape).expect("a shape that can be enforced");
    let mut beginning = Vec::new();
    for token in tokenizer.encode_with_specials(turn) {
        if !restriction.allowed().expect("known").allows(token) {
            return Err(tokenizer.decode(&beginning).expect("tokens"));
        }
        beginning.push(token);
        restriction.accept(token);
    }
    Ok(())
}
