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

    /// Takes the next piece of text. Returns what can be shown now, and whether a sequence was completed; the sequence
    /// itself and what follows it are never shown. If several are there, the one that begins first counts.
    pub fn push(&mut self, text: &str) -> (String, bool) {
        self.held.push_str(text);
        if let Some(at) = self.sequences.iter().filter_map(|sequence| self.held.find(sequence.as_str())).min() {
            let shown = self.held[..at].to_owned();
            self.held.clear();
            return (shown, true);
        }
        let keep = self.sequences.iter().map(|sequence| self.overlap(sequence)).max().unwrap_or(0);
        let rest = self.held.split_off(self.held.len() - keep);
        (std::mem::replace(&mut self.held, rest), false)
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

    fn stream(sequences: &[&str], pieces: &[&str]) -> (Vec<String>, bool) {
        let sequences: Vec<String> = sequences.iter().map(|sequence| (*sequence).to_owned()).collect();
        let mut filter = StopFilter::new(&sequences);
        let mut shown = Vec::new();
        for piece in pieces {
            let (text, stopped) = filter.push(piece);
            shown.push(text);
            if stopped {
                return (shown, true);
            }
        }
        shown.push(filter.finish());
        (shown, false)
    }

    #[test]
    fn a_sequence_across_pieces_ends_the_text_before_it() {
        assert_eq!(stream(&["END"], &["a E", "N", "D b"]), (vec!["a ".into(), String::new(), String::new()], true));
    }

    #[test]
    fn what_only_looks_like_a_sequence_comes_out_later() {
        let (shown, stopped) = stream(&["END"], &["EN", "EN", "x"]);
        assert_eq!((shown.concat().as_str(), stopped), ("ENENx", false));
        let (shown, stopped) = stream(&["END"], &["a", "E"]);
        assert_eq!((shown, stopped), (vec!["a".into(), String::new(), "E".into()], false));
    }

    #[test]
    fn the_first_of_several_counts_and_empty_ones_do_not() {
        assert_eq!(stream(&["c", "b", ""], &["abc"]), (vec!["a".into()], true));
        assert_eq!(stream(&[""], &["abc"]), (vec!["abc".into(), String::new()], false));
    }

    #[test]
    fn letters_of_several_bytes_stay_whole() {
        let (shown, stopped) = stream(&["日本"], &["今日", "は"]);
        assert_eq!((shown, stopped), (vec!["今".into(), "日は".into(), String::new()], false));
    }
}
