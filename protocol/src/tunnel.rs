//! A node's tunnel: what goes over its WebSocket, one JSON text a message. `docs/TUNNEL.md` tells it to people.

use serde::{Deserialize, Serialize};

use crate::{Envelope, PROTOCOL_VERSION, Request};

/// Raised whenever a message of the tunnel changes its meaning or is removed, and whenever a command or an event is added: the
/// other end cannot read it. What is removed or changes its meaning inside raises [`PROTOCOL_VERSION`].
pub const TUNNEL_VERSION: u32 = 2;

/// Bytes of a message to a node: a prompt with a long history fits, and more is no prompt.
pub const MOST_MESSAGE_BYTES: usize = 32 << 20;

/// A node says that it is there at least this often, in milliseconds; whoever hears nothing for [`SILENCE_MS`] is not connected.
pub const ALIVE_EVERY_MS: u64 = 15_000;

/// Time without a word after which a connection is taken for broken, by either side, in milliseconds.
pub const SILENCE_MS: u64 = 45_000;

/// Where a node has its tunnel.
pub const TUNNEL_PATH: &str = "/tunnel";

/// What the watcher sends.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(clippy::large_enum_variant, reason = "each is written or read once, and none is kept in numbers")]
pub enum ToNode {
    /// The first message, and no other.
    Hello(TunnelHello),
    /// A command: load, generate, count, stop or watch. The requests of a session are counted, over all of its connections: the
    /// node tells how many it has taken, and those that it has not are sent again over the next connection.
    Request(Request),
    /// Every envelope with a lower sequence number is here, and need not be kept any longer.
    Seen {
        /// Sequence number of the first envelope that is not here.
        next_sequence: u64,
    },
    /// Nothing more will be asked: what is under way is stopped, and the session ends.
    Bye,
}

/// How a watcher introduces itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TunnelHello {
    /// [`TUNNEL_VERSION`] of the watcher.
    pub version: u32,
    /// [`PROTOCOL_VERSION`] of the watcher.
    pub protocol: u32,
    /// The node's API key, where it has one: pages cannot set headers of a WebSocket.
    #[serde(default)]
    pub key: Option<String>,
    /// The session that goes on; `None` begins one.
    #[serde(default)]
    pub resume: Option<TunnelResume>,
}

/// A session whose connection broke.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TunnelResume {
    /// [`TunnelWelcome::session`].
    pub session: String,
    /// Sequence number of the first envelope that did not come.
    pub next_sequence: u64,
}

/// What the node sends.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FromNode {
    /// The answer to a hello.
    Welcome(TunnelWelcome),
    /// Something happened. A session's envelopes have one run id and count up by one from 0, over all of its connections.
    Envelope(Box<Envelope>),
    /// The node is there, and nothing else had to be said.
    Alive {
        /// Requests of this session that the node has taken.
        taken_requests: u64,
    },
    /// Nothing more comes, and why. The session is over.
    Refused(TunnelRefusal),
}

/// The answer to a hello.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TunnelWelcome {
    /// [`TUNNEL_VERSION`] of the node.
    pub version: u32,
    /// [`PROTOCOL_VERSION`] of the node.
    pub protocol: u32,
    /// Names the session; whoever has it can go on with it.
    pub session: String,
    /// Id of the model that the node serves.
    pub model: String,
    /// How long a session is kept whose connection broke, in milliseconds.
    pub kept_ms: u64,
    /// Requests of this session that the node has taken: the first of a new one is the next.
    pub taken_requests: u64,
}

/// Why a tunnel ends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TunnelRefusal {
    /// What was wrong, naming what was expected and what was got.
    pub message: String,
    /// The step that failed.
    pub stage: TunnelStage,
    /// What the user can do about it.
    pub advice: String,
}

/// A step of a tunnel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TunnelStage {
    /// The watcher introduced itself.
    Hello,
    /// A session was to go on.
    Resume,
    /// Messages went to and fro.
    Open,
    /// The node is ending.
    Closing,
}

impl TunnelHello {
    /// A hello of this version.
    pub fn new(key: Option<String>, resume: Option<TunnelResume>) -> Self {
        Self { version: TUNNEL_VERSION, protocol: PROTOCOL_VERSION, key, resume }
    }
}

impl ToNode {
    /// The message as it is sent.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("every message serialises: no maps with non-string keys, no failing impls")
    }

    /// Reads a message; the error is in the words of the parser.
    ///
    /// # Errors
    /// It is none of these messages.
    pub fn from_json(text: &str) -> Result<Self, String> {
        serde_json::from_str(text).map_err(|error| error.to_string())
    }
}

impl FromNode {
    /// The message as it is sent.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("every message serialises: no maps with non-string keys, no failing impls")
    }

    /// Reads a message; the error is in the words of the parser.
    ///
    /// # Errors
    /// It is none of these messages.
    pub fn from_json(text: &str) -> Result<Self, String> {
        serde_json::from_str(text).map_err(|error| error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Command, Event, RequestId};

    /// What a reader of this version knows. Whoever adds to this raises [`TUNNEL_VERSION`].
    #[test]
    fn another_command_or_event_is_another_version() {
        let known = |error: String| error.split_once("expected one of ").expect("names").1.to_owned();
        let unknown = r#""nothing of ours""#;
        let commands = known(serde_json::from_str::<Command>(unknown).expect_err("no command").to_string());
        let events = known(serde_json::from_str::<Event>(unknown).expect_err("no event").to_string());
        let names = |text: &str| text.split('`').skip(1).step_by(2).collect::<Vec<_>>().join(" ");
        assert_eq!((TUNNEL_VERSION, names(&commands).as_str(), names(&events).as_str()), (2, COMMANDS, EVENTS));
    }

    const COMMANDS: &str = "load download gate generate count approve stop watch cache";
    const EVENTS: &str = "host_ready stage adapter model file_map file_note plan preflight self_check remember header unloaded \
        fetch trouble trouble_over reads tensor mapped gpu_memory wasm_heap downloaded gate_tensors \
        gate_progress gate_report gates_ended ready prefetch prefetch_paused prefetch_failed recovering \
        awaiting_gpu recovered counted prompt_encoded prefill token kv kv_blocks missing expert_moves routes \
        residual attention operation_times experts work finished queued stopped failed cached cache_notice \
        cache cache_verify asked host_started host_ended host_died conversation_taken inputs_refused \
        watcher_failed failure_explained time_passed";

    #[test]
    fn messages_are_what_the_document_shows() {
        let resume = TunnelResume { session: "s".into(), next_sequence: 7 };
        let stop = Request::new(RequestId(3), Command::Stop { request: None });
        for (message, json) in [
            (
                ToNode::Hello(TunnelHello::new(None, Some(resume))),
                r#"{"hello":{"version":2,"protocol":3,"key":null,"resume":{"session":"s","next_sequence":7}}}"#,
            ),
            (ToNode::Request(stop), r#"{"request":{"version":3,"id":3,"command":{"stop":{"request":null}}}}"#),
            (ToNode::Seen { next_sequence: 9 }, r#"{"seen":{"next_sequence":9}}"#),
            (ToNode::Bye, r#""bye""#),
        ] {
            assert_eq!(message.to_json(), json);
            assert_eq!(ToNode::from_json(json).as_ref(), Ok(&message));
        }
        let refusal = TunnelRefusal { message: "m".into(), stage: TunnelStage::Resume, advice: "a".into() };
        let json = r#"{"refused":{"message":"m","stage":"resume","advice":"a"}}"#;
        assert_eq!(FromNode::Refused(refusal.clone()).to_json(), json);
        assert_eq!(FromNode::from_json(json), Ok(FromNode::Refused(refusal)));
        let alive = r#"{"alive":{"taken_requests":4}}"#;
        assert_eq!(FromNode::from_json(alive), Ok(FromNode::Alive { taken_requests: 4 }));
        let short = r#"{"hello":{"version":2,"protocol":3}}"#;
        assert_eq!(ToNode::from_json(short), Ok(ToNode::Hello(TunnelHello::new(None, None))));
    }
}
