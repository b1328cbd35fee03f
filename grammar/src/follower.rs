//! A grammar that follows an answer, on a thread of its own: while the engine computes the next logits, it works out which tokens
//! may come.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;

use gptoss_model::{AllowedTokens, EngineError, Restriction, Restrictions};
use gptoss_protocol::AnswerShape;
use gptoss_text::Tokenizer;
use llguidance::Matcher;

use crate::compiled::{Compiler, OPENING};
use crate::vocabulary::{end, factory, words};

/// Grammars for the vocabulary of one model.
pub struct Grammars {
    compiler: Arc<Compiler>,
    vocabulary: usize,
}

impl Grammars {
    /// Begins to make what grammars need of a vocabulary, on a thread of its own. The first request that has a shape waits for it.
    pub fn new(tokenizer: &Tokenizer) -> Self {
        let (words, end) = (words(tokenizer), end(tokenizer));
        let opening = tokenizer.encode_with_specials(OPENING);
        let grammars = Self { compiler: Arc::new(Compiler::new(opening)), vocabulary: words.len() };
        let compiler = Arc::clone(&grammars.compiler);
        let make = move || compiler.set_factory(factory(&words, end));
        if let Err(error) = std::thread::Builder::new().name("vocabulary".into()).spawn(make) {
            grammars.compiler.set_factory(Err(format!("no thread can be started: {error}")));
        }
        grammars
    }
}

impl Restrictions for Grammars {
    fn begin(&self, shape: &AnswerShape) -> Result<Box<dyn Restriction>, EngineError> {
        Ok(Box::new(Follower::begin(&self.compiler, shape, self.vocabulary)?))
    }
}

fn refused(reason: String) -> EngineError {
    EngineError::Shape { reason }
}

/// Vocabularies of fewer tokens are followed without a thread: handing a token over takes longer than their masks do.
const LEAST_FOR_THREAD: usize = 16_384;

/// One answer, followed.
enum Follower {
    /// Whoever draws the tokens follows it, too.
    Here { matcher: Box<Matcher>, error: Option<String> },
    /// A thread follows it.
    Beside {
        tokens: Option<Sender<u32>>,
        masks: Receiver<Result<AllowedTokens, String>>,
        thread: Option<JoinHandle<()>>,
    },
}

impl Follower {
    fn begin(compiler: &Arc<Compiler>, shape: &AnswerShape, vocabulary: usize) -> Result<Self, EngineError> {
        if vocabulary < LEAST_FOR_THREAD {
            let matcher = compiler.matcher(shape).map_err(refused)?;
            return Ok(Self::Here { matcher: Box::new(matcher), error: None });
        }
        let (tokens, taken) = channel();
        let (told, masks) = channel();
        let (compiler, shape) = (Arc::clone(compiler), shape.clone());
        // It is compiled there, too: other answers do not wait for that, and the prompt is read meanwhile.
        let follow = move || match compiler.matcher(&shape) {
            Ok(matcher) => follow(matcher, &taken, &told),
            // If nobody listens any more, nobody wants to know.
            Err(reason) => drop(told.send(Err(reason))),
        };
        let thread = std::thread::Builder::new().name("grammar".into()).spawn(follow);
        let thread = thread.map_err(|error| refused(error.to_string()))?;
        Ok(Self::Beside { tokens: Some(tokens), masks, thread: Some(thread) })
    }
}

/// Tells which tokens may come, until nobody listens, for every token that came.
fn follow(mut matcher: Matcher, taken: &Receiver<u32>, told: &Sender<Result<AllowedTokens, String>>) {
    loop {
        let is_told = told.send(mask(&mut matcher)).is_ok();
        let Some(token) = is_told.then(|| taken.recv().ok()).flatten() else { return };
        if let Err(error) = matcher.consume_token(token) {
            // If nobody listens any more, nobody wants to know.
            let _ = told.send(Err(format!("{error:#}")));
            return;
        }
    }
}

fn mask(matcher: &mut Matcher) -> Result<AllowedTokens, String> {
    let mask = matcher.compute_mask_or_eos().map_err(|error| format!("{error:#}"))?;
    Ok(AllowedTokens::from_words(mask.as_slice().to_vec()))
}

impl Restriction for Follower {
    fn accept(&mut self, token: u32) {
        match self {
            Self::Here { matcher, error } => {
                *error = matcher.consume_token(token).err().map(|error| format!("{error:#}"))
            }
            // If the thread has ended, it has said why, and `allowed` tells.
            Self::Beside { tokens, .. } => drop(tokens.as_ref().map(|tokens| tokens.send(token))),
        }
    }

    fn allowed(&mut self) -> Result<AllowedTokens, EngineError> {
        let mask = match self {
            Self::Here { error: Some(error), .. } => Err(error.clone()),
            Self::Here { matcher, .. } => mask(matcher),
            Self::Beside { masks, .. } => {
                masks.recv().unwrap_or_else(|_| Err("the thread that follows the grammar has ended".into()))
            }
        };
        mask.map_err(refused)
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        if let Self::Beside { tokens, thread, .. } = self {
            *tokens = None;
            // It ends as soon as it asks for a token; that it panicked was told as its end.
            let _ = thread.take().map(JoinHandle::join);
        }
    }
}

#[cfg(test)]
mod tests {
    use gptoss_protocol::TextShape;
    use serde_json::json;

    use super::*;
    use crate::vocabulary::tests::nano;

    /// Large vocabularies are followed by a thread, which the demo model's is too small for.
    #[test]
    fn a_thread_says_the_same_as_whoever_draws() {
        let tokenizer = nano();
        let compiler = Arc::new(Compiler::new(tokenizer.encode_with_specials(OPENING)));
        compiler.set_factory(factory(&words(&tokenizer), end(&tokenizer)));
        let schema = json!({"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]});
        let shape = AnswerShape { answer: Some(TextShape::JsonSchema(schema)), calls: Vec::new() };
        let follower = |vocabulary| Follower::begin(&compiler, &shape, vocabulary).expect("a follower");
        let (mut here, mut beside) = (follower(LEAST_FOR_THREAD - 1), follower(LEAST_FOR_THREAD));
        assert!(matches!((&here, &beside), (Follower::Here { .. }, Follower::Beside { .. })));
        let turn = "<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant<|channel|>final<|message|>{\"a\": 12";
        for token in tokenizer.encode_with_specials(turn) {
            let allowed = here.allowed().expect("known");
            assert!(allowed.allows(token) && allowed == beside.allowed().expect("known"));
            here.accept(token);
            beside.accept(token);
        }
        // What is not allowed ends both with a reason, and dropping a thread that has not been asked ends it.
        let wrong = tokenizer.special_id(gptoss_text::Special::Start);
        for follower in [&mut here, &mut beside] {
            assert!(!follower.allowed().expect("known").allows(wrong));
            follower.accept(wrong);
            assert!(matches!(follower.allowed(), Err(EngineError::Shape { .. })));
            assert!(matches!(follower.allowed(), Err(EngineError::Shape { .. })));
        }
        drop(follower(LEAST_FOR_THREAD));
    }

    /// The check before would have refused it; whatever gets past that is told where the first token is drawn.
    #[test]
    fn a_shape_that_cannot_be_used_ends_the_answer_with_its_reason() {
        let tokenizer = nano();
        let compiler = Arc::new(Compiler::new(Vec::new()));
        compiler.set_factory(factory(&words(&tokenizer), end(&tokenizer)));
        let shape = AnswerShape { answer: Some(TextShape::Regex("(".into())), calls: Vec::new() };
        let here = Follower::begin(&compiler, &shape, LEAST_FOR_THREAD - 1).err().expect("refused at once");
        let mut beside = Follower::begin(&compiler, &shape, LEAST_FOR_THREAD).expect("a thread");
        let told = beside.allowed().expect_err("refused at the first token");
        assert!(matches!(&here, EngineError::Shape { reason } if !reason.is_empty()));
        assert_eq!(here.to_string(), told.to_string());
    }
}
