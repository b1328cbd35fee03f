//! How much of a prompt was sent to a server before: its cache may have that still.

use std::collections::VecDeque;
use std::hash::{DefaultHasher, Hash, Hasher};

/// Prompts are compared by so many tokens at a time, as caches hold them.
const BLOCK_TOKENS: usize = 64;

/// Prompts that are remembered of each server.
const MOST_PROMPTS: usize = 64;

/// A prompt as hashes: each of all tokens up to the end of a block.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Blocks {
    hashes: Vec<u64>,
    /// Tokens of the prompt, those after its last whole block included.
    tokens: usize,
}

impl Blocks {
    /// The whole blocks of a prompt.
    pub fn of(prompt: &[u32]) -> Self {
        let mut before = 0_u64;
        let hashes = prompt.chunks_exact(BLOCK_TOKENS).map(|block| {
            let mut hasher = DefaultHasher::new();
            (before, block).hash(&mut hasher);
            before = hasher.finish();
            before
        });
        Self { hashes: hashes.collect(), tokens: prompt.len() }
    }

    /// Whether so many blocks are half of the prompt, or more.
    pub fn half_is(&self, blocks: usize) -> bool {
        blocks > 0 && blocks * BLOCK_TOKENS * 2 >= self.tokens
    }

    fn len(&self) -> usize {
        self.hashes.len()
    }

    fn shared(&self, other: &Self) -> usize {
        self.hashes.iter().zip(&other.hashes).take_while(|(own, others)| own == others).count()
    }
}

/// The prompts that a server was sent last.
#[derive(Debug, Default)]
pub(crate) struct RecentPrompts(VecDeque<Blocks>);

impl RecentPrompts {
    /// Remembers a prompt; what goes on from one that is remembered takes its place.
    pub fn add(&mut self, prompt: Blocks) {
        if prompt.len() == 0 {
            return;
        }
        self.0.retain(|known| known.shared(&prompt) < known.len());
        self.0.push_back(prompt);
        if self.0.len() > MOST_PROMPTS {
            self.0.pop_front();
        }
    }

    /// Blocks at the beginning of a prompt that one of them begins with, too.
    pub fn shared(&self, prompt: &Blocks) -> usize {
        self.0.iter().map(|known| known.shared(prompt)).max().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_beginning_counts_and_the_oldest_is_forgotten() {
        let prompt = |last: u32, blocks: usize| {
            let mut tokens = vec![1; BLOCK_TOKENS * blocks];
            *tokens.last_mut().expect("a token") = last;
            Blocks::of(&tokens)
        };
        let mut recent = RecentPrompts::default();
        assert_eq!(recent.shared(&prompt(5, 3)), 0);
        recent.add(prompt(5, 3));
        assert_eq!(
            (recent.shared(&prompt(5, 3)), recent.shared(&prompt(6, 3)), recent.shared(&prompt(1, 2))),
            (3, 2, 2)
        );
        recent.add(Blocks::of(&[1; BLOCK_TOKENS - 1]));
        assert_eq!(recent.0.len(), 1, "less than a block is no prefix");
        for number in 0..MOST_PROMPTS as u32 {
            recent.add(prompt(100 + number, 1));
        }
        assert_eq!(recent.shared(&prompt(5, 3)), 0, "the oldest");
    }

    #[test]
    fn half_of_a_prompt_is_half_of_its_tokens() {
        let blocks = Blocks::of(&[1; 3 * BLOCK_TOKENS - 1]);
        assert!(!blocks.half_is(0) && !blocks.half_is(1), "a third");
        assert!(blocks.half_is(2) && Blocks::of(&[1; 2 * BLOCK_TOKENS]).half_is(1));
    }

    #[test]
    fn a_prompt_that_goes_on_takes_the_place_of_its_beginning() {
        let mut recent = RecentPrompts::default();
        for blocks in 1..=MOST_PROMPTS {
            recent.add(Blocks::of(&vec![7; BLOCK_TOKENS * blocks]));
        }
        assert_eq!(recent.0.len(), 1);
    }
}
