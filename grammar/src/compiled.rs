//! What makes matchers: the vocabulary, and grammars that were compiled, kept for requests that ask for the same shape again.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use gptoss_protocol::AnswerShape;
use llguidance::{Matcher, ParserFactory, TokenParser};

use crate::turn::grammar;

/// So many grammars are kept, those that were asked for last. Clients ask for few different ones, and for them at every turn.
const MOST_KEPT: usize = 8;

/// How most turns begin. What a new grammar needs for it is worked out once, not at the beginning of every answer.
pub(crate) const OPENING: &str = "<|channel|>analysis<|message|>I.<|end|><|start|>assistant<|channel|>final<|message|>";

/// A vocabulary, once it is ready, and grammars over it.
#[derive(Default)]
pub(crate) struct Compiler {
    factory: OnceLock<Result<ParserFactory, String>>,
    /// The tokens of [`OPENING`].
    opening: Vec<u32>,
    /// The most recently used first. The name of each is its shape as JSON: shapes whose properties have another order are other
    /// ones, although they are equal as values.
    kept: Mutex<VecDeque<(String, Arc<TokenParser>)>>,
}

impl Compiler {
    /// One that waits for its vocabulary. `opening`: the tokens of [`OPENING`].
    pub fn new(opening: Vec<u32>) -> Self {
        Self { opening, ..Self::default() }
    }

    /// Matchers wait until this was called; a second call is for nothing.
    pub fn set_factory(&self, factory: Result<ParserFactory, String>) {
        let _ = self.factory.set(factory);
    }

    /// What follows an answer of this shape, before the first token. Compiling takes a millisecond and more, as the shape is; where
    /// it was compiled before, a tenth of that.
    ///
    /// # Errors
    /// llguidance's words: the vocabulary or the shape cannot be used.
    pub fn matcher(&self, shape: &AnswerShape) -> Result<Matcher, String> {
        let factory = self.factory.wait().as_ref().map_err(Clone::clone)?;
        let name = serde_json::to_string(shape).map_err(|error| error.to_string())?;
        let parser = match self.kept(&name) {
            Some(parser) => parser,
            None => {
                let parser = factory.create_parser(grammar(shape)).map_err(|error| format!("{error:#}"))?;
                self.walk(&parser);
                self.keep(name, parser)
            }
        };
        // What a plain clone has of the lexer it shares with all others: their states, and what limits those.
        Ok(Matcher::new(Ok(parser.deep_clone())))
    }

    /// Fills the lexer of `parser` with what [`OPENING`] needs, as far as the grammar allows that. A clone does the walking: it has
    /// the lexer of the original, which itself stays at the beginning.
    fn walk(&self, parser: &TokenParser) {
        let mut clone = Matcher::new(Ok(parser.clone()));
        for token in &self.opening {
            // It ends where an answer of this grammar would have to go another way; an error comes again to whoever follows one.
            if clone.compute_mask().is_err() || clone.try_consume_tokens(&[*token]).ok() != Some(1) {
                return;
            }
        }
        let _ = clone.compute_mask();
    }

    fn kept(&self, name: &str) -> Option<Arc<TokenParser>> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let at = kept.iter().position(|(kept, _)| kept == name)?;
        let found = kept.remove(at)?;
        let parser = Arc::clone(&found.1);
        kept.push_front(found);
        Some(parser)
    }

    fn keep(&self, name: String, parser: TokenParser) -> Arc<TokenParser> {
        let parser = Arc::new(parser);
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.push_front((name, Arc::clone(&parser)));
        kept.truncate(MOST_KEPT);
        parser
    }
}

#[cfg(test)]
mod tests {
    use gptoss_protocol::TextShape;
    use gptoss_text::Tokenizer;
    use serde_json::{Value, json};

    use super::*;
    use crate::vocabulary::{end, factory, tests::nano, words};

    fn compiler(tokenizer: &Tokenizer) -> Compiler {
        let compiler = Compiler::new(tokenizer.encode_with_specials(OPENING));
        compiler.set_factory(factory(&words(tokenizer), end(tokenizer)));
        compiler
    }

    fn shape(schema: Value) -> AnswerShape {
        AnswerShape { answer: Some(TextShape::JsonSchema(schema)), calls: Vec::new() }
    }

    fn with_properties(properties: Value) -> AnswerShape {
        shape(
            json!({"type": "object", "properties": properties, "required": ["a", "b"], "additionalProperties": false}),
        )
    }

    /// The masks at every place of a turn, as far as it is allowed.
    fn masks(mut matcher: Matcher, tokenizer: &Tokenizer, turn: &str) -> Vec<Vec<u32>> {
        let mut masks = Vec::new();
        for token in tokenizer.encode_with_specials(turn) {
            masks.push(matcher.compute_mask_or_eos().expect("a mask").as_slice().to_vec());
            if matcher.try_consume_tokens(&[token]).expect("no error") == 0 {
                return masks;
            }
        }
        masks
    }

    const TURN: &str = "<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant<|channel|>final<|message|>{\"a\": 12, \"b\": \"x\"}\
                        <|return|>";

    #[test]
    fn a_grammar_that_was_kept_says_what_a_new_one_does() {
        let tokenizer = nano();
        let integers = with_properties(json!({"a": {"type": "integer"}, "b": {"type": "string"}}));
        let tested = compiler(&tokenizer);
        let new = || masks(compiler(&tokenizer).matcher(&integers).expect("a grammar"), &tokenizer, TURN);
        let expected = new();
        assert_eq!(expected.len(), tokenizer.encode_with_specials(TURN).len(), "all of the turn is allowed");
        // Each follows an answer to its end, and another one beside it has gone another way.
        for _ in 0..3 {
            let mut other = tested.matcher(&integers).expect("a grammar");
            let aside = tokenizer.encode_with_specials("<|channel|>commentary<|message|>");
            other.consume_tokens(&aside).expect("allowed");
            let again = masks(tested.matcher(&integers).expect("a grammar"), &tokenizer, TURN);
            assert!(again == expected, "the masks are those of the first answer");
            other.compute_mask().expect("a mask");
        }
        assert_eq!(tested.kept.lock().expect("no panic").len(), 1);
    }

    /// As values they are equal: the order of an object's fields is none of JSON's.
    #[test]
    fn another_order_of_properties_is_another_shape() {
        let tokenizer = nano();
        let tested = compiler(&tokenizer);
        let in_order = with_properties(json!({"a": {"type": "integer"}, "b": {"type": "string"}}));
        let turned = with_properties(json!({"b": {"type": "string"}, "a": {"type": "integer"}}));
        assert_eq!(in_order, turned);
        let all = tokenizer.encode_with_specials(TURN).len();
        for _ in 0..2 {
            assert_eq!(masks(tested.matcher(&in_order).expect("a grammar"), &tokenizer, TURN).len(), all);
            assert!(masks(tested.matcher(&turned).expect("a grammar"), &tokenizer, TURN).len() < all);
        }
    }

    #[test]
    fn those_that_were_asked_for_last_are_kept() {
        let tokenizer = nano();
        let tested = compiler(&tokenizer);
        let numbered = |number: usize| shape(json!({"const": number}));
        let names = || tested.kept.lock().expect("no panic").iter().map(|(name, _)| name.clone()).collect::<Vec<_>>();
        for number in 0..MOST_KEPT {
            tested.matcher(&numbered(number)).expect("a grammar");
        }
        tested.matcher(&numbered(0)).expect("a grammar");
        tested.matcher(&numbered(MOST_KEPT)).expect("a grammar");
        let kept = names();
        assert_eq!(kept.len(), MOST_KEPT);
        let is_kept = |number: usize| kept.contains(&serde_json::to_string(&numbered(number)).expect("JSON"));
        assert!(is_kept(0) && !is_kept(1) && (2..=MOST_KEPT).all(is_kept), "{kept:?}");
    }

    #[test]
    fn a_shape_that_cannot_be_used_is_not_kept_and_says_why_each_time() {
        let tokenizer = nano();
        let tested = compiler(&tokenizer);
        let wrong = AnswerShape { answer: Some(TextShape::Lark("start: (".into())), calls: Vec::new() };
        for _ in 0..2 {
            let reason = tested.matcher(&wrong).err().expect("no grammar");
            assert!(reason.contains("1("), "it names the place: {reason}");
        }
        assert!(tested.kept.lock().expect("no panic").is_empty());
    }
}
