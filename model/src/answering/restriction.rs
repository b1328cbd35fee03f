//! The seam at the sampler: what restricts the tokens of an answer. Who works out a grammar is not known here.

use gptoss_protocol::AnswerShape;

use crate::error::EngineError;

/// Tokens that may come next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AllowedTokens {
    words: Vec<u32>,
}

impl AllowedTokens {
    /// One bit for each token: bit `i % 32` of word `i / 32`.
    pub fn from_words(words: Vec<u32>) -> Self {
        Self { words }
    }

    /// Whether `token` may come next. Tokens beyond the last word may not.
    pub fn allows(&self, token: u32) -> bool {
        self.words.get(token as usize / 32).is_some_and(|word| word >> (token % 32) & 1 == 1)
    }
}

/// Follows one answer, and says which tokens may come next.
pub trait Restriction {
    /// This token came next. What may follow is worked out from now on, beside whatever the caller does meanwhile.
    fn accept(&mut self, token: u32);

    /// Which tokens may come next. Waits until that is known.
    ///
    /// # Errors
    /// [`EngineError::Shape`]: it became too hard to tell, or the shape cannot be enforced.
    fn allowed(&mut self) -> Result<AllowedTokens, EngineError>;
}

/// Makes restrictions for the vocabulary of one model.
pub trait Restrictions {
    /// What restricts an answer to `shape`, before its first token.
    ///
    /// # Errors
    /// [`EngineError::Shape`]: the shape asks for something that cannot be enforced. Where that takes long to find out,
    /// [`Restriction::allowed`] tells instead.
    fn begin(&self, shape: &AnswerShape) -> Result<Box<dyn Restriction>, EngineError>;
}
