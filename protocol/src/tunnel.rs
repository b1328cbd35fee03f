//! A node's tunnel: what goes over its WebSocket, one JSON text a message. `docs/TUNNEL.md` tells it to people.

use serde::{Deserialize, Serialize};

use crate::{Envelope, PROTOCOL_VERSION, Request};

/// Raised whenever a message of the tunnel changes its meaning or is removed. What travels inside has a version of its own.
pub const TUNNEL_VERSION: u32 = 1;

/// Where a node has its tunnel.
pub const TUNNEL_PATH: &str = "/tunnel";

/// What the watcher sends.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(clippy::large_enum_variant, reason = "each is written or read once, and none is kept in numbers")]
pub enum ToNode {
    /// The first message, and no other.
    Hello(TunnelHello),
    /// A command: load, generate, count, stop or watch.
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
    use crate::{Command, RequestId};

    #[test]
    fn messages_are_what_the_document_shows() {
        let resume = TunnelResume { session: "s".into(), next_sequence: 7 };
        let stop = Request::new(RequestId(3), Command::Stop { request: None });
        for (message, json) in [
            (
                ToNode::Hello(TunnelHello::new(None, Some(resume))),
                r#"{"hello":{"version":1,"protocol":3,"key":null,"resume":{"session":"s","next_sequence":7}}}"#,
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
        let short = r#"{"hello":{"version":1,"protocol":3}}"#;
        assert_eq!(ToNode::from_json(short), Ok(ToNode::Hello(TunnelHello::new(None, None))));
    }
}
