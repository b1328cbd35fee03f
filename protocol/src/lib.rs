#![doc = include_str!("../README.md")]

mod command;
mod date;
mod event;
mod keeping;
pub mod options;
mod stage;
mod tier;
pub mod units;

pub use command::{
    Allowed, Attention, CacheOptions, Command, DeviceOptions, Effort, ExpertLoading, Keep, LoadOptions, LoadSettings,
    ModelLocation, NetworkOptions, Prompt, PromptFormat, Sampling, StorageAction,
};
pub use date::is_date;
pub use event::{
    AdapterInfo, CacheCounters, Channel, Event, Failure, FailureKind, FinishReason, MemoryPlan, Missing, ModelInfo,
    NextAttempt, Rest, SelfCheck, TokenInfo, ToolCall, TopToken, Trouble, TroubleKind, WorkCounters,
};
pub use keeping::{KeepNotice, KeepNoticeKind, KeptContents, KeptModel, KeptState, StorageReport};
pub use options::OptionId;
pub use stage::{Stage, StageStatus};
pub use tier::Tier;

use serde::{Deserialize, Serialize};

/// Raised whenever a field changes its meaning or is removed. A reader that meets another version says so and stops.
pub const PROTOCOL_VERSION: u32 = 1;

/// One event on the wire.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Envelope {
    /// [`PROTOCOL_VERSION`] of the writer.
    pub version: u32,
    /// Which run of the worker this belongs to: one per page load or process.
    pub run_id: u64,
    /// Counts up by one from 0 within a run; a gap means that events were dropped.
    pub sequence: u64,
    /// Milliseconds since the run began.
    pub at_ms: f64,
    pub event: Event,
}

impl Envelope {
    /// JSON text, as it is posted between worker and page and written to recordings.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("every event serialises: no maps with non-string keys, no failing impls")
    }

    /// Reads one envelope back; the error names what was wrong.
    pub fn from_json(text: &str) -> Result<Self, ProtocolError> {
        #[derive(Deserialize)]
        struct VersionOnly {
            version: u32,
        }
        let parse_error = |error: serde_json::Error| ProtocolError::Malformed(error.to_string());
        let VersionOnly { version } = serde_json::from_str(text).map_err(parse_error)?;
        if version != PROTOCOL_VERSION {
            return Err(ProtocolError::Version { expected: PROTOCOL_VERSION, got: version });
        }
        serde_json::from_str(text).map_err(parse_error)
    }
}

/// Why an envelope or command could not be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProtocolError {
    Version { expected: u32, got: u32 },
    Malformed(String),
}

impl std::fmt::Display for ProtocolError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Version { expected, got } => write!(
                f,
                "protocol version {got} cannot be read, this build speaks version {expected}: reload the page so that both sides match"
            ),
            Self::Malformed(detail) => write!(f, "malformed message: {detail}"),
        }
    }
}

impl std::error::Error for ProtocolError {}

/// Numbers envelopes. `at_ms` is given by the caller because this crate knows no clock.
#[derive(Clone, Debug)]
pub struct Sequencer {
    run_id: u64,
    next: u64,
}

impl Sequencer {
    pub fn new(run_id: u64) -> Self {
        Self { run_id, next: 0 }
    }

    pub fn wrap(&mut self, at_ms: f64, event: Event) -> Envelope {
        let sequence = self.next;
        self.next += 1;
        Envelope { version: PROTOCOL_VERSION, run_id: self.run_id, sequence, at_ms, event }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn envelopes_survive_the_wire_and_count_up() {
        let mut sequencer = Sequencer::new(7);
        for sequence in 0..3 {
            let sent =
                sequencer.wrap(1.5, Event::Prefill { done_tokens: sequence as u32, total_tokens: 9, elapsed_ms: 2.25 });
            let got = Envelope::from_json(&sent.to_json()).expect("round trip");
            assert_eq!(got, sent);
            assert_eq!(got.sequence, sequence);
        }
    }

    #[test]
    fn another_version_is_refused_by_name() {
        let mut envelope = Sequencer::new(0).wrap(0.0, Event::GpuMemory { allocated_bytes: 1 });
        envelope.version = PROTOCOL_VERSION + 1;
        let error = Envelope::from_json(&envelope.to_json()).expect_err("version differs");
        assert_eq!(error, ProtocolError::Version { expected: PROTOCOL_VERSION, got: PROTOCOL_VERSION + 1 });
    }

    #[test]
    fn events_are_tagged_in_snake_case() {
        let json = Sequencer::new(0)
            .wrap(0.0, Event::Stage { stage: Stage::WeightsFetch, status: StageStatus::Started, elapsed_ms: None })
            .to_json();
        assert!(json.contains(r#""type":"stage","stage":"weights_fetch","status":"started""#), "{json}");
    }
}
