//! What can go wrong with a server elsewhere.

use std::time::Duration;

use gptoss_protocol::{Failure, FailureKind};

/// Why a server did not give what it was asked for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say what the fields are")]
pub enum UpstreamError {
    /// No connection, or one that ended before an answer.
    #[error("{upstream} cannot be reached: {reason}")]
    Unreachable { upstream: String, reason: String },
    /// Nothing came for too long.
    #[error("{upstream} said nothing for {} s", .waited.as_secs())]
    Silent { upstream: String, waited: Duration },
    /// The server takes the request for wrong.
    #[error("{upstream} refused the request: {message}")]
    Refused { upstream: String, message: String },
    /// The server answered with a status that is none of success, and not about the request.
    #[error("{upstream} answered with status {status}: {message}")]
    Status { upstream: String, status: u16, message: String },
    /// The answer ended before its end.
    #[error("{upstream} broke off before the end of its answer")]
    BrokeOff { upstream: String },
    /// What came is no answer to what was asked.
    #[error("{upstream} sent what is no answer: {what}")]
    Nonsense { upstream: String, what: String },
    /// No server takes requests.
    #[error("no upstream is ready: {reasons}")]
    NoneReady { reasons: String },
}

impl UpstreamError {
    /// Whether the server had better be left alone until it says that it is well.
    pub(crate) fn is_about_the_server(&self) -> bool {
        matches!(self, Self::Unreachable { .. } | Self::Silent { .. } | Self::BrokeOff { .. })
    }

    /// The same for an event.
    pub fn failure(&self) -> Failure {
        let (kind, advice) = match self {
            Self::Refused { .. } => (FailureKind::Request, "Change the request as it says."),
            Self::Unreachable { .. } | Self::NoneReady { .. } | Self::Status { status: 429 | 503, .. } => {
                (FailureKind::Unavailable, "Try again in a moment.")
            }
            Self::Status { .. } | Self::Silent { .. } | Self::BrokeOff { .. } => {
                (FailureKind::Upstream, "Try again; if it happens again, look at the upstream's log.")
            }
            Self::Nonsense { .. } => {
                (FailureKind::Upstream, "Check with `pylon doctor --upstream` that it serves this model's completions.")
            }
        };
        Failure { kind, message: self.to_string(), advice: advice.into(), parameter: None }
    }
}
