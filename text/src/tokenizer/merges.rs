//! The merge table: which two neighbouring tokens join into which, and in what order of preference.

use super::TokenizerError;
use super::vocab::Vocab;

/// All merges, grouped by their left token and sorted by their right one: 8 bytes per merge, 4 per token and rank.
///
/// **Rank.** Neighbouring merges of the file's list that make the same token share one rank. A vocabulary that came
/// from byte-pair ranks (o200k) lists, for each token in rank order, every pair that spells it; its encoder prefers by
/// the token alone, and the leftmost of equals. A vocabulary trained as merges lists one pair per token, and there
/// this is the plain position in the list.
#[derive(Debug)]
pub(super) struct MergeTable {
    /// `rights[starts[left]..starts[left + 1]]` are the tokens that may follow `left`, ascending.
    starts: Box<[u32]>,
    rights: Box<[u32]>,
    /// Rank of each entry of `rights`.
    ranks: Box<[u32]>,
    /// The token that a merge of each rank makes.
    tokens: Box<[u32]>,
}

/// One line of the list, resolved to ids.
struct Pair {
    left: u32,
    right: u32,
    rank: u32,
}

impl MergeTable {
    /// Resolves the merges `"left right"` of `written` against `vocab`.
    ///
    /// # Errors
    /// A merge that is not two tokens of the vocabulary, or whose result is not one.
    pub(super) fn new<M: AsRef<str>>(
        vocab: &Vocab,
        written: impl IntoIterator<Item = M>,
    ) -> Result<MergeTable, TokenizerError> {
        let mut pairs = Vec::new();
        let mut tokens = Vec::new();
        let mut bytes = Vec::new();
        for (index, merge) in written.into_iter().enumerate() {
            let merge = merge.as_ref();
            let (left, right, token) = resolve(vocab, merge, &mut bytes).map_err(|reason| TokenizerError::Merge {
                index,
                merge: merge.to_owned(),
                reason,
            })?;
            if tokens.last() != Some(&token) {
                tokens.push(token);
            }
            pairs.push(Pair { left, right, rank: tokens.len() as u32 - 1 });
        }
        // If two lines have the same pair, the earlier one counts.
        pairs.sort_unstable_by_key(|pair| (pair.left, pair.right, pair.rank));
        pairs.dedup_by_key(|pair| (pair.left, pair.right));

        let mut starts = vec![0; vocab.len() + 1];
        for pair in &pairs {
            starts[pair.left as usize + 1] += 1;
        }
        for token in 0..vocab.len() {
            starts[token + 1] += starts[token];
        }
        Ok(MergeTable {
            starts: starts.into(),
            rights: pairs.iter().map(|pair| pair.right).collect(),
            ranks: pairs.iter().map(|pair| pair.rank).collect(),
            tokens: tokens.into(),
        })
    }

    /// The rank of the merge of `left` followed by `right`, if there is one. Lower ranks are taken first.
    pub(super) fn rank(&self, left: u32, right: u32) -> Option<u32> {
        let (start, end) = (self.starts[left as usize] as usize, self.starts[left as usize + 1] as usize);
        let at = self.rights[start..end].binary_search(&right).ok()?;
        Some(self.ranks[start + at])
    }

    /// The token that merges of `rank`, one that [`MergeTable::rank`] gave, make.
    pub(super) fn merged(&self, rank: u32) -> u32 {
        self.tokens[rank as usize]
    }
}

/// The ids of both halves of `merge` and of what they make; `bytes` is scratch space.
fn resolve(vocab: &Vocab, merge: &str, bytes: &mut Vec<u8>) -> Result<(u32, u32, u32), &'static str> {
    let (left, right) = merge.split_once(' ').ok_or("it is not two tokens separated by a space")?;
    bytes.clear();
    super::alphabet::decode_into(left, bytes).map_err(|_character| "its left half is not in the byte alphabet")?;
    let middle = bytes.len();
    super::alphabet::decode_into(right, bytes).map_err(|_character| "its right half is not in the byte alphabet")?;
    Ok((
        vocab.find(&bytes[..middle]).ok_or("its left half is not a token")?,
        vocab.find(&bytes[middle..]).ok_or("its right half is not a token")?,
        vocab.find(bytes).ok_or("what it makes is not a token")?,
    ))
}
