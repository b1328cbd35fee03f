//! What the server shows of the engines elsewhere that it asks, if it asks any.

use std::fmt;
use std::sync::Arc;

use serde::Serialize;

/// An engine elsewhere, as it is at this moment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct UpstreamState {
    /// Its address.
    pub id: String,
    /// Whether requests go to it.
    pub is_ready: bool,
    /// Why not.
    pub reason: Option<String>,
    /// Models that it serves.
    pub models: Vec<String>,
    /// Tokens that prompt and answer may have together, where it says so.
    pub context_tokens: Option<u32>,
    /// Requests that were sent to it.
    pub requests: u64,
    /// Requests that it is answering.
    pub in_flight: u64,
    /// Requests that it failed.
    pub errors: u64,
}

/// Tells of all of them.
#[derive(Clone)]
pub struct Upstreams(Arc<dyn Fn() -> Vec<UpstreamState> + Send + Sync>);

impl Upstreams {
    /// Asks `look` each time.
    pub fn new(look: impl Fn() -> Vec<UpstreamState> + Send + Sync + 'static) -> Self {
        Self(Arc::new(look))
    }

    /// The shortest context of those that are ready, if one of them tells it.
    pub fn context_tokens(&self) -> Option<u32> {
        self.states().into_iter().filter(|state| state.is_ready).filter_map(|state| state.context_tokens).min()
    }

    /// How they are now.
    pub fn states(&self) -> Vec<UpstreamState> {
        (self.0)()
    }
}

impl fmt::Debug for Upstreams {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.states()).finish()
    }
}
