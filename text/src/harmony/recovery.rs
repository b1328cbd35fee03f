//! The rules by which a message is read that is not as the format has it.

/// A rule that was applied to a message. docs/HARMONY.md has the reason and the source of each, by [`Recovery::name`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Recovery {
    RoleSpelling,
    RoleIsChannel,
    RoleIsTool,
    RoleUnknown,
    ChannelSpelling,
    ChannelRepeated,
    ChannelUnmarked,
    ChannelIsTool,
    ChannelUnknown,
    RecipientSpelling,
    RecipientRepeated,
    RecipientUnmarked,
    RecipientIsChannel,
    ConstrainMisplaced,
    MarkerAsText,
    WordsInHeader,
    MessageMissing,
    HeaderMissing,
    CallUnnamed,
    UnclearReasoning,
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

    /// Its name, as docs/HARMONY.md and `pylon harmony parse` have it.
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
