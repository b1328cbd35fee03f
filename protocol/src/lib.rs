#![doc = include_str!("../README.md")]

mod answer;
mod cache;
mod command;
mod conversation;
mod counters;
mod date;
mod event;
mod failure;
mod gate;
mod inside;
mod loading;
pub mod options;
mod recording;
mod shape;
mod stage;
mod tier;
mod tunnel;
pub mod units;

pub use answer::{Channel, FinishReason, StoppedBy, TokenInfo, ToolCall, TopToken};
pub use cache::{CacheNotice, CacheNoticeKind, CacheReport, CacheState, CachedContents, CachedModel};
pub use command::{
    Allowed, Attention, CacheAction, CacheMode, CacheOptions, Command, DeviceOptions, Effort, ExpertLoading,
    LoadOptions, LoadSettings, ModelLocation, NetworkOptions, Prompt, PromptFormat, PromptIds, Sampling,
};
pub use conversation::{Chat, ChatMessage, Function};
pub use counters::{CacheCounters, WorkCounters};
pub use date::is_date;
pub use event::Event;
pub use failure::{Failure, FailureKind, InputError, RefusedOption};
pub use gate::{
    Expect, GateCheck, GateComparison, GateFacts, GateProgress, GateReport, GateSlice, GateStep, GateTensor,
    GateVerdict, GateWhole, SliceFigures, TierFigures, WorstValue,
};
pub use inside::{
    AttentionRow, ExpertMoves, ExpertPlace, FileMap, FileRange, Head, KvBlocks, OperationTime, PlacesInUse, Reads,
    Residual, Route, Routes, TensorPlace, Watch,
};
pub use loading::{
    AdapterInfo, MemoryPlan, Missing, ModelInfo, NextAttempt, Prefetch, SelfCheck, Trouble, TroubleKind,
};
pub use options::OptionId;
pub use recording::{Recording, RecordingError, Replay};
pub use shape::{AnswerShape, CallShape, LogitChanges, ResponseFormat, TextShape};
pub use stage::{Stage, StageStatus};
pub use tier::Tier;
pub use tunnel::{
    ALIVE_EVERY_MS, FromNode, MOST_MESSAGE_BYTES, SILENCE_MS, TUNNEL_PATH, TUNNEL_VERSION, ToNode, TunnelHello,
    TunnelRefusal, TunnelResume, TunnelStage, TunnelWelcome,
};

use serde::{Deserialize, Serialize};

/// Raised whenever a field changes its meaning or is removed. A reader that meets another version says so and stops.
pub const PROTOCOL_VERSION: u32 = 3;

/// Tells a request from others of the same sender.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RequestId(pub u64);

/// One command on the wire.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Request {
    /// [`PROTOCOL_VERSION`] of the writer.
    pub version: u32,
    /// Goes with every event of this request.
    pub id: RequestId,
    /// What is asked.
    pub command: Command,
}

impl Request {
    /// A request of this version.
    pub fn new(id: RequestId, command: Command) -> Self {
        Self { version: PROTOCOL_VERSION, id, command }
    }

    /// JSON text, as it is posted to a worker or sent to a node.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("every command serialises: no maps with non-string keys, no failing impls")
    }

    /// Reads one request back.
    ///
    /// # Errors
    /// It is of another version, or it is none; the error says what was wrong.
    pub fn from_json(text: &str) -> Result<Self, ProtocolError> {
        from_json(text)
    }
}

/// One event on the wire, and one line of a [`Recording`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Envelope {
    /// [`PROTOCOL_VERSION`] of the writer.
    pub version: u32,
    /// Tells the runs of writers apart: a worker, a process, a page.
    pub run_id: u64,
    /// Counts up by one from 0 within a run; a gap means that events were dropped.
    pub sequence: u64,
    /// Milliseconds since the run began.
    pub at_ms: f64,
    /// The request that the event belongs to; `None` where it belongs to no single one.
    #[serde(default)]
    pub request: Option<RequestId>,
    /// What happened.
    pub event: Event,
}

impl Envelope {
    /// JSON text, as it is posted between worker and page and written to recordings.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("every event serialises: no maps with non-string keys, no failing impls")
    }

    /// Reads one envelope back.
    ///
    /// # Errors
    /// It is of another version, or it is none; the error says what was wrong.
    pub fn from_json(text: &str) -> Result<Self, ProtocolError> {
        from_json(text)
    }
}

/// Looks at the version first: what else is in a message of another version may mean anything.
fn from_json<T: serde::de::DeserializeOwned>(text: &str) -> Result<T, ProtocolError> {
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

/// Why an envelope or command could not be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProtocolError {
    /// The message is of another [`PROTOCOL_VERSION`].
    Version {
        /// Version that this build reads and writes.
        expected: u32,
        /// Version that the message says it has.
        got: u32,
    },
    /// The message is no JSON, or not of the expected shape; what was wrong, in the words of the parser.
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
    /// Numbers events from 0 on. `run_id` tells this run from others, and goes with every envelope.
    pub fn new(run_id: u64) -> Self {
        Self { run_id, next: 0 }
    }

    /// The envelope of the next event, which belongs to `request`.
    pub fn wrap(&mut self, at_ms: f64, request: Option<RequestId>, event: Event) -> Envelope {
        let sequence = self.next;
        self.next += 1;
        Envelope { version: PROTOCOL_VERSION, run_id: self.run_id, sequence, at_ms, request, event }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn envelopes_survive_the_wire_and_count_up() {
        let mut sequencer = Sequencer::new(7);
        for sequence in 0..3 {
            let sent = sequencer.wrap(
                1.5,
                Some(RequestId(3)),
                Event::Prefill { done_tokens: sequence as u32, total_tokens: 9, reused_tokens: 0, elapsed_ms: 2.25 },
            );
            let got = Envelope::from_json(&sent.to_json()).expect("round trip");
            assert_eq!(got, sent);
            assert_eq!(got.sequence, sequence);
        }
    }

    /// Recordings outlive the programs that wrote them: a field that came later has a default.
    #[test]
    fn what_ended_an_answer_crosses_the_border_and_is_not_asked_of_older_recordings() {
        let old = r#"{"reason":"return","new_tokens":3,"final_text":"A.","analysis_text":"","tool_calls":[],
            "prefill_tokens_per_second":null,"decode_tokens_per_second":null,"time_to_first_token_ms":null}"#;
        let of = |more: &str| {
            let event = format!(r#"{{"finished":{}}}"#, old.replacen('{', &format!("{{{more}"), 1));
            serde_json::from_str::<Event>(&event).expect("it can be read")
        };
        for (more, expected) in [
            ("", None),
            (r#""stopped_by":{"text":"\n"},"#, Some(StoppedBy::Text("\n".into()))),
            (r#""stopped_by":{"token":7},"#, Some(StoppedBy::Token(7))),
        ] {
            let event = of(more);
            let Event::Finished { stopped_by, .. } = &event else { panic!("{event:?}") };
            assert_eq!(stopped_by, &expected);
            let json = serde_json::to_string(&event).expect("JSON");
            assert_eq!(json.contains("stopped_by"), expected.is_some(), "{json}");
            assert_eq!(serde_json::from_str::<Event>(&json).expect("round trip"), event);
        }
    }

    #[test]
    fn another_version_is_refused_by_name() {
        let mut envelope = Sequencer::new(0).wrap(0.0, None, Event::GpuMemory { allocated_bytes: 1 });
        envelope.version = PROTOCOL_VERSION + 1;
        let error = Envelope::from_json(&envelope.to_json()).expect_err("version differs");
        assert_eq!(error, ProtocolError::Version { expected: PROTOCOL_VERSION, got: PROTOCOL_VERSION + 1 });
    }

    #[test]
    fn events_are_tagged_in_snake_case() {
        let json = Sequencer::new(0)
            .wrap(
                0.0,
                None,
                Event::Stage { stage: Stage::WeightsFetch, status: StageStatus::Started, elapsed_ms: None },
            )
            .to_json();
        assert!(json.contains(r#""event":{"stage":{"stage":"weights_fetch","status":"started""#), "{json}");
    }
}
