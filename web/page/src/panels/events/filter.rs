//! Which events are shown: those of a group, and with words in their line.

use gptoss_protocol::Event;

use crate::describe::event_line;

/// Events that belong together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Group {
    /// What the user and the page did, and the engine's beginning and end.
    Page,
    /// Stages, and what is found out about model and device.
    Load,
    /// Bytes that come from host, file and cache.
    Bytes,
    /// Experts: routed to, missed, moved.
    Experts,
    /// Prompts and tokens, and what they took.
    Answer,
    /// What went wrong, or was worth a remark.
    Trouble,
}

impl Group {
    /// All groups, in their order.
    pub const ALL: [Self; 6] = [Self::Page, Self::Load, Self::Bytes, Self::Experts, Self::Answer, Self::Trouble];

    /// The group in one word.
    pub fn name(self) -> &'static str {
        match self {
            Self::Page => "page",
            Self::Load => "load",
            Self::Bytes => "bytes",
            Self::Experts => "experts",
            Self::Answer => "answer",
            Self::Trouble => "trouble",
        }
    }

    /// The group of an event.
    pub fn of(event: &Event) -> Self {
        match event {
            Event::HostReady
            | Event::Asked { .. }
            | Event::HostStarted
            | Event::HostEnded
            | Event::ConversationTaken { .. }
            | Event::TimePassed
            | Event::Queued { .. }
            | Event::Stopped { .. } => Self::Page,
            Event::Stage { .. }
            | Event::Adapter(_)
            | Event::Model(_)
            | Event::FileMap(_)
            | Event::Plan(_)
            | Event::Preflight { .. }
            | Event::SelfCheck(_)
            | Event::Remember { .. }
            | Event::Unloaded
            | Event::GpuMemory { .. }
            | Event::WasmHeap { .. }
            | Event::GateTensors { .. }
            | Event::GateProgress(_)
            | Event::GateReport { .. }
            | Event::GatesEnded { .. }
            | Event::Ready { .. } => Self::Load,
            Event::Header { .. }
            | Event::Fetch { .. }
            | Event::Reads(_)
            | Event::Tensor { .. }
            | Event::Mapped { .. }
            | Event::Downloaded { .. }
            | Event::Cached(_)
            | Event::Cache(_)
            | Event::CacheVerify { .. } => Self::Bytes,
            Event::Prefetch(_)
            | Event::PrefetchPaused
            | Event::Missing(_)
            | Event::ExpertMoves(_)
            | Event::Routes(_)
            | Event::Experts(_) => Self::Experts,
            Event::PromptEncoded { .. }
            | Event::Counted { .. }
            | Event::Prefill { .. }
            | Event::Token(_)
            | Event::Kv { .. }
            | Event::KvBlocks(_)
            | Event::Residual(_)
            | Event::Attention(_)
            | Event::OperationTimes { .. }
            | Event::Work(_)
            | Event::Finished { .. } => Self::Answer,
            Event::FileNote { .. }
            | Event::Trouble(_)
            | Event::TroubleOver { .. }
            | Event::PrefetchFailed(_)
            | Event::Recovering { .. }
            | Event::AwaitingGpu { .. }
            | Event::Recovered { .. }
            | Event::Failed { .. }
            | Event::CacheNotice(_)
            | Event::HostDied(_)
            | Event::InputsRefused { .. }
            | Event::WatcherFailed(_)
            | Event::FailureExplained(_) => Self::Trouble,
        }
    }
}

/// What is looked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Only events of this group; `None`: of all.
    pub group: Option<Group>,
    /// Words that must all be in the line. Capitals of the Latin alphabet are as good as small letters.
    words: Vec<String>,
}

impl Filter {
    /// What matches everything.
    pub const fn all() -> Self {
        Self { group: None, words: Vec::new() }
    }

    /// With the words of a typed text in place of those before.
    pub fn type_text(&mut self, text: &str) {
        self.words = text.split_whitespace().map(str::to_ascii_lowercase).collect();
    }

    /// Whether everything matches.
    pub fn is_all(&self) -> bool {
        self.group.is_none() && self.words.is_empty()
    }

    /// Whether an event is looked for.
    pub fn matches(&self, event: &Event) -> bool {
        if self.group.is_some_and(|group| group != Group::of(event)) {
            return false;
        }
        if self.words.is_empty() {
            return true;
        }
        let (kind, text) = event_line(event);
        let line = format!("{kind} {text}").to_ascii_lowercase();
        self.words.iter().all(|word| line.contains(word))
    }
}
