//! An answer as text for a terminal: the channels one below the other, as the tokens come.

use gptoss_protocol::{Channel, TokenInfo};

/// Formats an answer for printing. Pure: it returns text and prints nothing.
#[derive(Clone, Debug, Default)]
pub struct Transcript {
    /// Whether to print the reasoning, too, and name the channels.
    show_analysis: bool,
    /// Whether to print the text unchanged, without added line breaks.
    raw: bool,
    /// Channel of the message that is being printed.
    open: Option<Channel>,
    /// Whether nothing was printed since the last line break.
    at_line_start: bool,
    /// Text of the final channel that was printed.
    final_text: String,
}

impl Transcript {
    pub fn new(show_analysis: bool) -> Self {
        Self { show_analysis, at_line_start: true, ..Self::default() }
    }

    /// A transcript that leaves text as it is.
    pub fn raw() -> Self {
        Self { raw: true, ..Self::new(false) }
    }

    /// The text that a token adds.
    pub fn push(&mut self, token: &TokenInfo) -> String {
        let mut shown = String::new();
        // The token that ends a message may bring the end of its text, and belongs to no channel itself.
        if let Some(channel) = token.channel.or(self.open).filter(|_| !token.text.is_empty()) {
            self.say(channel, token.recipient.as_deref(), &token.text, &mut shown);
        }
        if token.channel.is_none() {
            self.open = None;
        }
        shown
    }

    /// The rest of a finished answer: the end of the final text that no token completed, and a line break.
    pub fn finish(&mut self, final_text: &str) -> String {
        let mut shown = String::new();
        if let Some(rest) = final_text.strip_prefix(self.final_text.as_str()).filter(|rest| !rest.is_empty()) {
            let rest = rest.to_owned();
            self.say(Channel::Final, None, &rest, &mut shown);
        }
        shown + &self.interrupt()
    }

    /// A line break, unless the last line is complete.
    pub fn interrupt(&mut self) -> String {
        self.open = None;
        if std::mem::replace(&mut self.at_line_start, true) || self.raw { String::new() } else { "\n".to_owned() }
    }

    /// Text of the final channel that was printed so far.
    pub fn final_text(&self) -> &str {
        &self.final_text
    }

    fn say(&mut self, channel: Channel, recipient: Option<&str>, text: &str, shown: &mut String) {
        if channel == Channel::Analysis && !self.show_analysis {
            return;
        }
        if self.open != Some(channel) {
            shown.push_str(&self.interrupt());
            match (channel, self.show_analysis) {
                (Channel::ToolCall, _) => shown.push_str(&format!("[call {}] ", recipient.unwrap_or("of a tool"))),
                (Channel::Analysis, _) => shown.push_str("[analysis]\n"),
                (Channel::Commentary, true) => shown.push_str("[commentary]\n"),
                (Channel::Final, true) => shown.push_str("[final]\n"),
                (_, false) => {}
            }
            self.open = Some(channel);
        }
        if channel == Channel::Final {
            self.final_text.push_str(text);
        }
        shown.push_str(text);
        self.at_line_start = text.ends_with('\n');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(channel: Option<Channel>, text: &str) -> TokenInfo {
        let recipient = (channel == Some(Channel::ToolCall)).then(|| "functions.f".to_owned());
        TokenInfo {
            index: 0,
            id: 0,
            text: text.into(),
            channel,
            recipient,
            probability: None,
            entropy_nats: 0.0,
            top: Vec::new(),
            elapsed_ms: 0.0,
            decode_tokens_per_second: None,
        }
    }

    fn printed(show_analysis: bool, tokens: &[(Option<Channel>, &str)], final_text: &str) -> String {
        let mut transcript = Transcript::new(show_analysis);
        let mut text: String = tokens.iter().map(|&(channel, text)| transcript.push(&token(channel, text))).collect();
        text.push_str(&transcript.finish(final_text));
        text
    }

    const ANSWER: [(Option<Channel>, &str); 6] = [
        (None, ""),
        (Some(Channel::Analysis), "Hm"),
        (None, "m."),
        (Some(Channel::Final), "4"),
        (Some(Channel::Final), "2"),
        (None, ""),
    ];

    #[test]
    fn only_the_answer_is_printed_unless_the_reasoning_is_wanted() {
        assert_eq!(printed(false, &ANSWER, "42"), "42\n");
        assert_eq!(printed(true, &ANSWER, "42"), "[analysis]\nHmm.\n[final]\n42\n");
    }

    #[test]
    fn preamble_call_and_answer_stand_on_lines_of_their_own() {
        let tokens = [
            (Some(Channel::Commentary), "Let me look."),
            (None, ""),
            (Some(Channel::ToolCall), "{}"),
            (None, ""),
            (Some(Channel::Final), "Done.\n"),
        ];
        assert_eq!(printed(false, &tokens, "Done.\n"), "Let me look.\n[call functions.f] {}\nDone.\n");
    }

    #[test]
    fn what_no_token_completed_comes_at_the_end() {
        assert_eq!(printed(false, &ANSWER[..4], "4EN"), "4EN\n");
        assert_eq!(printed(false, &[], ""), "");
    }
}
