//! Stop sequences: text that ends an answer, found as the text streams out.

/// Looks for stop sequences in a stream of text, and holds back what may yet become one.
#[derive(Clone, Debug, Default)]
pub(crate) struct StopFilter {
    sequences: Vec<String>,
    /// The end of the text so far that is the beginning of a sequence.
    held: String,
}

impl StopFilter {
    /// Empty sequences are ignored: they would end every answer before it begins.
    pub fn new(sequences: &[String]) -> Self {
        let sequences = sequences.iter().filter(|sequence| !sequence.is_empty()).cloned().collect();
        Self { sequences, held: String::new() }
    }

    /// Takes the next piece of text. Returns what can be shown now, and the sequence that was completed, if one was; the
    /// sequence itself and what follows it are never shown.
    ///
    /// If several are there, the one that ends first counts, and of those that end together the longest: so it does not
    /// matter at which letters the text was cut into pieces.
    pub fn push(&mut self, text: &str) -> (String, Option<String>) {
        self.held.push_str(text);
        let found = self.sequences.iter().filter_map(|sequence| Some((self.held.find(sequence.as_str())?, sequence)));
        if let Some((at, sequence)) = found.min_by_key(|(at, sequence)| (at + sequence.len(), *at)) {
            let (shown, sequence) = (self.held[..at].to_owned(), sequence.clone());
            self.held.clear();
            return (shown, Some(sequence));
        }
        let keep = self.sequences.iter().map(|sequence| self.overlap(sequence)).max().unwrap_or(0);
        let rest = self.held.split_off(self.held.len() - keep);
        (std::mem::replace(&mut self.held, rest), None)
    }

    /// What was held back when the text ended without completing a sequence.
    pub fn finish(&mut self) -> String {
        std::mem::take(&mut self.held)
    }

    /// Bytes of the longest beginning of `sequence` that the held text ends with.
    fn overlap(&self, sequence: &str) -> usize {
        sequence.char_indices().map(|(at, _)| at).rev().find(|&len| self.held.ends_with(&sequence[..len])).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stream(sequences: &[&str], pieces: &[&str]) -> (Vec<String>, Option<String>) {
        let sequences: Vec<String> = sequences.iter().map(|sequence| (*sequence).to_owned()).collect();
        let mut filter = StopFilter::new(&sequences);
        let mut shown = Vec::new();
        for piece in pieces {
            let (text, stopped) = filter.push(piece);
            shown.push(text);
            if stopped.is_some() {
                return (shown, stopped);
            }
        }
        shown.push(filter.finish());
        (shown, None)
    }

    fn by(sequence: &str) -> Option<String> {
        Some(sequence.to_owned())
    }

    #[test]
    fn a_sequence_across_pieces_ends_the_text_before_it() {
        assert_eq!(
            stream(&["END"], &["a E", "N", "D b"]),
            (vec!["a ".into(), String::new(), String::new()], by("END"))
        );
    }

    #[test]
    fn what_only_looks_like_a_sequence_comes_out_later() {
        let (shown, stopped) = stream(&["END"], &["EN", "EN", "x"]);
        assert_eq!((shown.concat().as_str(), stopped), ("ENENx", None));
        let (shown, stopped) = stream(&["END"], &["a", "E"]);
        assert_eq!((shown, stopped), (vec!["a".into(), String::new(), "E".into()], None));
    }

    #[test]
    fn the_first_of_several_counts_and_empty_ones_do_not() {
        assert_eq!(stream(&["c", "b", ""], &["abc"]), (vec!["a".into()], by("b")));
        assert_eq!(stream(&[""], &["abc"]), (vec!["abc".into(), String::new()], None));
    }

    /// Models cut the same text into other tokens; the answer and the sequence that is named are the same.
    #[test]
    fn what_ends_first_counts_then_the_longest_wherever_the_text_is_cut() {
        for (sequences, text, shown, sequence) in [
            (&["abcd", "c"][..], "xabcde", "xab", Some("c")),
            (&["c", "abcd"], "xabcde", "xab", Some("c")),
            (&["c", "abc", "bc"], "xabcde", "x", Some("abc")),
            (&["bc", "ab"], "xabcde", "x", Some("ab")),
            (&["aab", "ab"], "aaab", "a", Some("aab")),
            (&["abx", "bcy", "de"], "abcde", "abc", Some("de")),
            (&["abcdef", "cdf"], "abcde", "abcde", None),
            (&["語", "日本"], "今日本語", "今", Some("日本")),
        ] {
            let letters: Vec<char> = text.chars().collect();
            // Each bit is a place between two letters, where the text is cut or not.
            for cuts in 0..1_u32 << (letters.len() - 1) {
                let mut pieces = vec![String::new()];
                for (at, letter) in letters.iter().enumerate() {
                    if at > 0 && cuts >> (at - 1) & 1 == 1 {
                        pieces.push(String::new());
                    }
                    pieces.last_mut().expect("it begins with one").push(*letter);
                }
                let pieces: Vec<&str> = pieces.iter().map(String::as_str).collect();
                let (told, stopped) = stream(sequences, &pieces);
                assert_eq!((told.concat().as_str(), stopped.as_deref()), (shown, sequence), "{sequences:?} {pieces:?}");
            }
        }
    }

    #[test]
    fn letters_of_several_bytes_stay_whole() {
        let (shown, stopped) = stream(&["日本"], &["今日", "は"]);
        assert_eq!((shown, stopped), (vec!["今".into(), "日は".into(), String::new()], None));
    }
}
