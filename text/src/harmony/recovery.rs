//! The rules by which malformed messages are read.

/// A rule that was applied to a message. docs/HARMONY.md has the reason and the source of each, by [`Recovery::name`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Recovery {
    /// The role is misspelled, doubled or has a word glued to it.
    RoleSpelling,
    /// A channel's name stands in the role's place.
    RoleIsChannel,
    /// A tool's name stands in the role's place, and the message is a call.
    RoleIsTool,
    /// An unknown word stands in the role's place; the message counts as the assistant's.
    RoleUnknown,
    /// The channel is misspelled, in other case, glued to other text, or a synonym.
    ChannelSpelling,
    /// There are several channels; the last known one counts.
    ChannelRepeated,
    /// A channel's name lacks its marker `<|channel|>`.
    ChannelUnmarked,
    /// A tool's name stands in the channel's place, and the message is a call.
    ChannelIsTool,
    /// The channel has an unknown name, or text in its place.
    ChannelUnknown,
    /// The recipient is quoted, spaced or glued to its arguments.
    RecipientSpelling,
    /// There are several recipients; the first counts.
    RecipientRepeated,
    /// A recipient's name lacks `to=`.
    RecipientUnmarked,
    /// The recipient is a channel's name, so that nobody is called.
    RecipientIsChannel,
    /// `<|constrain|>` stands before something that is no content type.
    ConstrainMisplaced,
    /// A marker is spelled in ordinary letters.
    MarkerAsText,
    /// Words without a place in a header are text.
    WordsInHeader,
    /// `<|message|>` is missing; text begins at the first word without a place in a header.
    MessageMissing,
    /// The whole header is missing, so that everything is text.
    HeaderMissing,
    /// The message ends as a call, or looks like one, but names no tool.
    CallUnnamed,
    /// Text of unknown purpose is reasoning, because the assistant went on.
    UnclearReasoning,
    /// Text of unknown purpose is the answer, because nothing followed.
    UnclearAnswer,
}

impl Recovery {
    /// Every rule.
    pub const ALL: [Recovery; 21] = [
        Recovery::RoleSpelling,
        Recovery::RoleIsChannel,
        Recovery::RoleIsTool,
        Recovery::RoleUnknown,
        Recovery::ChannelSpelling,
        Recovery::ChannelRepeated,
        Recovery::ChannelUnmarked,
        Recovery::ChannelIsTool,
        Recovery::ChannelUnknown,
        Recovery::RecipientSpelling,
        Recovery::RecipientRepeated,
        Recovery::RecipientUnmarked,
        Recovery::RecipientIsChannel,
        Recovery::ConstrainMisplaced,
        Recovery::MarkerAsText,
        Recovery::WordsInHeader,
        Recovery::MessageMissing,
        Recovery::HeaderMissing,
        Recovery::CallUnnamed,
        Recovery::UnclearReasoning,
        Recovery::UnclearAnswer,
    ];

    /// Name of the rule in docs/HARMONY.md and in `pylon harmony parse`.
    pub fn name(self) -> &'static str {
        match self {
            Recovery::RoleSpelling => "role-spelling",
            Recovery::RoleIsChannel => "role-is-channel",
            Recovery::RoleIsTool => "role-is-tool",
            Recovery::RoleUnknown => "role-unknown",
            Recovery::ChannelSpelling => "channel-spelling",
            Recovery::ChannelRepeated => "channel-repeated",
            Recovery::ChannelUnmarked => "channel-unmarked",
            Recovery::ChannelIsTool => "channel-is-tool",
            Recovery::ChannelUnknown => "channel-unknown",
            Recovery::RecipientSpelling => "recipient-spelling",
            Recovery::RecipientRepeated => "recipient-repeated",
            Recovery::RecipientUnmarked => "recipient-unmarked",
            Recovery::RecipientIsChannel => "recipient-is-channel",
            Recovery::ConstrainMisplaced => "constrain-misplaced",
            Recovery::MarkerAsText => "marker-as-text",
            Recovery::WordsInHeader => "words-in-header",
            Recovery::MessageMissing => "message-missing",
            Recovery::HeaderMissing => "header-missing",
            Recovery::CallUnnamed => "call-unnamed",
            Recovery::UnclearReasoning => "unclear-reasoning",
            Recovery::UnclearAnswer => "unclear-answer",
        }
    }
}
