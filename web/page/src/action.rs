//! What presses in the views mean: `data-do` of an element has an action as text, and one listener for all of the page reads it.

use std::fmt;

use crate::panels::events::Group;

/// Something that the user does in a view.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Write the question of a turn anew.
    Edit(usize),
    /// Leave the question as it was.
    EndEdit,
    /// Ask the question as it was written anew, in place of the turn and all after it.
    AskEdited(usize),
    /// Answer a turn's question once more, in place of the turn and all after it.
    Again(usize),
    /// Copy the final text of a turn.
    Copy(usize),
    /// Forget a turn and all after it.
    Delete(usize),
    /// Begin another conversation.
    New,
    /// Give the model what the functions gave that a turn calls.
    SendResults(usize),
    /// Copy the code that the pressed button stands above.
    CopyCode,
    /// Look at one token of a turn.
    Token(usize, u32),
    /// Colour tokens by how unexpected they were, or not.
    Tint,
    /// Keep the conversation in this browser, or no longer.
    Keep,
    /// Take the pressed example for the prompt.
    Example,
    /// Save the conversation as a file.
    SaveTalk,
    /// Open a conversation from a file.
    OpenTalk,
    /// Show a tab of the drawer, or close the drawer.
    Tab(Tab),
    /// Something on the gate page.
    Gate(GatePress),
    /// Go to a moment of the recording.
    Moment(Moment),
    /// Save the recording of events as a file.
    SaveRecording,
    /// Open a recording from a file.
    OpenRecording,
    /// Copy the lines of the event log that match.
    CopyLog,
    /// Save the page's own recording, whatever is looked at.
    ExportLog,
    /// Show the events of one group only, or of all again.
    LogGroup(Group),
}

/// A way through time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// What is going on now.
    Live,
    /// The token before the one that is shown.
    Back,
    /// The token after it.
    On,
    /// Play from here, or stop playing.
    Play,
    /// Play faster, and after the fastest as slowly as it was.
    Faster,
}

/// Buttons of the gate page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GatePress {
    /// Run all gates on the slice that is chosen.
    Run,
    /// Stop.
    Stop,
    /// End the engine: for when STOP did not help.
    EndEngine,
    /// Read the header, for the list of tensors.
    Header,
    /// Run all gates on a slice of each type in the file.
    EachType,
    /// Run all gates that look at the whole model.
    WholeModel,
    /// Copy all reports as JSON.
    Copy,
}

impl GatePress {
    /// All of them.
    pub const ALL: [Self; 7] =
        [Self::Run, Self::Stop, Self::EndEngine, Self::Header, Self::EachType, Self::WholeModel, Self::Copy];

    /// The name, also of the button's id: `gate-stop`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Run => "run-slice",
            Self::Stop => "stop",
            Self::EndEngine => "end-engine",
            Self::Header => "header",
            Self::EachType => "each-type",
            Self::WholeModel => "whole-model",
            Self::Copy => "copy",
        }
    }
}

/// Parts of the drawer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tab {
    /// Memory: the plan and what is allocated.
    Memory,
    /// What comes over the network, and the download cache.
    Network,
    /// Stages of loading and answering.
    Stages,
    /// Work that the engine did.
    Work,
    /// GPU and model.
    Device,
    /// The event log.
    Events,
}

impl Tab {
    /// All tabs, in their order.
    pub const ALL: [Self; 6] = [Self::Memory, Self::Network, Self::Stages, Self::Work, Self::Device, Self::Events];

    /// The name, also of the tab's id: `tab-memory`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Network => "network",
            Self::Stages => "stages",
            Self::Work => "work",
            Self::Device => "device",
            Self::Events => "events",
        }
    }
}

impl Action {
    /// Reads the value of `data-do`.
    pub fn parse(text: &str) -> Option<Self> {
        let mut words = text.split(' ');
        let name = words.next()?;
        let mut number = || words.next()?.parse::<u32>().ok();
        Some(match name {
            "edit" => Self::Edit(number()? as usize),
            "end-edit" => Self::EndEdit,
            "ask-edited" => Self::AskEdited(number()? as usize),
            "again" => Self::Again(number()? as usize),
            "copy" => Self::Copy(number()? as usize),
            "delete" => Self::Delete(number()? as usize),
            "new" => Self::New,
            "send-results" => Self::SendResults(number()? as usize),
            "copy-code" => Self::CopyCode,
            "token" => Self::Token(number()? as usize, number()?),
            "tint" => Self::Tint,
            "keep" => Self::Keep,
            "example" => Self::Example,
            "save-talk" => Self::SaveTalk,
            "open-talk" => Self::OpenTalk,
            "tab" => {
                let wanted = text.split_once(' ')?.1;
                Self::Tab(Tab::ALL.into_iter().find(|tab| tab.name() == wanted)?)
            }
            "gate" => {
                let wanted = text.split_once(' ')?.1;
                Self::Gate(GatePress::ALL.into_iter().find(|press| press.name() == wanted)?)
            }
            "live" => Self::Moment(Moment::Live),
            "back" => Self::Moment(Moment::Back),
            "on" => Self::Moment(Moment::On),
            "play" => Self::Moment(Moment::Play),
            "faster" => Self::Moment(Moment::Faster),
            "save-recording" => Self::SaveRecording,
            "open-recording" => Self::OpenRecording,
            "copy-log" => Self::CopyLog,
            "export-log" => Self::ExportLog,
            "log-group" => {
                let wanted = text.split_once(' ')?.1;
                Self::LogGroup(Group::ALL.into_iter().find(|group| group.name() == wanted)?)
            }
            _ => return None,
        })
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Edit(turn) => write!(f, "edit {turn}"),
            Self::EndEdit => f.write_str("end-edit"),
            Self::AskEdited(turn) => write!(f, "ask-edited {turn}"),
            Self::Again(turn) => write!(f, "again {turn}"),
            Self::Copy(turn) => write!(f, "copy {turn}"),
            Self::Delete(turn) => write!(f, "delete {turn}"),
            Self::New => f.write_str("new"),
            Self::SendResults(turn) => write!(f, "send-results {turn}"),
            Self::CopyCode => f.write_str("copy-code"),
            Self::Token(turn, place) => write!(f, "token {turn} {place}"),
            Self::Tint => f.write_str("tint"),
            Self::Keep => f.write_str("keep"),
            Self::Example => f.write_str("example"),
            Self::SaveTalk => f.write_str("save-talk"),
            Self::OpenTalk => f.write_str("open-talk"),
            Self::Tab(tab) => write!(f, "tab {}", tab.name()),
            Self::Gate(press) => write!(f, "gate {}", press.name()),
            Self::Moment(Moment::Live) => f.write_str("live"),
            Self::Moment(Moment::Back) => f.write_str("back"),
            Self::Moment(Moment::On) => f.write_str("on"),
            Self::Moment(Moment::Play) => f.write_str("play"),
            Self::Moment(Moment::Faster) => f.write_str("faster"),
            Self::SaveRecording => f.write_str("save-recording"),
            Self::OpenRecording => f.write_str("open-recording"),
            Self::CopyLog => f.write_str("copy-log"),
            Self::ExportLog => f.write_str("export-log"),
            Self::LogGroup(group) => write!(f, "log-group {}", group.name()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn actions_survive_the_document() {
        let mut all = vec![
            Action::Edit(3),
            Action::EndEdit,
            Action::AskEdited(0),
            Action::Again(1),
            Action::Copy(2),
            Action::Delete(4),
            Action::New,
            Action::SendResults(5),
            Action::CopyCode,
            Action::Token(7, 311),
            Action::Tint,
            Action::Keep,
            Action::Example,
            Action::SaveTalk,
            Action::OpenTalk,
            Action::SaveRecording,
            Action::OpenRecording,
            Action::CopyLog,
            Action::ExportLog,
        ];
        all.extend(Group::ALL.map(Action::LogGroup));
        all.extend(Tab::ALL.map(Action::Tab));
        all.extend(GatePress::ALL.map(Action::Gate));
        all.extend([Moment::Live, Moment::Back, Moment::On, Moment::Play, Moment::Faster].map(Action::Moment));
        for action in all {
            assert_eq!(Action::parse(&action.to_string()), Some(action), "{action}");
        }
        for none in ["", "edit", "edit x", "token 1", "tab nothing", "what"] {
            assert_eq!(Action::parse(none), None, "{none}");
        }
    }
}
