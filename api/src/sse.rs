//! Server-sent events of an answer under way.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::time::Duration;

use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::stream;

use crate::answer::{Answering, error_of};
use crate::said::{Ending, Piece, Usage};
use crate::server::Engaged;

/// What ends a stream of data in OpenAI's dialect.
pub(crate) const DONE: &str = "[DONE]";

/// A comment is sent where nothing else was for so long: proxies take silence for death.
const KEEP_ALIVE: Duration = Duration::from_secs(10);

/// One frame: the name of the event, if it has one, and its data.
pub(crate) type Frame = (Option<&'static str>, String);

/// Writes a dialect.
pub(crate) trait Frames: Send + 'static {
    /// What comes before everything.
    fn begin(&mut self) -> Vec<Frame>;

    /// What a piece of the answer becomes; `so_far` has the tokens up to here.
    fn piece(&mut self, piece: Piece, so_far: Usage) -> Vec<Frame>;

    /// What comes last.
    fn end(&mut self, usage: Usage, ending: Ending) -> Vec<Frame>;
}

struct State<A, F> {
    answering: Option<Answering<A>>,
    frames: F,
    ready: VecDeque<Frame>,
}

/// The answer as a stream. A client that goes away drops it, which stops the engine.
pub(crate) fn stream<A: Engaged>(answering: Answering<A>, mut frames: impl Frames) -> Response {
    let ready = frames.begin().into();
    let events = stream::unfold(State { answering: Some(answering), frames, ready }, |mut state| async move {
        loop {
            if let Some((name, data)) = state.ready.pop_front() {
                return Some((Ok::<_, Infallible>(event((name, data))), state));
            }
            let mut answering = state.answering.take()?;
            match answering.next().await {
                Some(pieces) => {
                    let so_far = answering.usage();
                    state.answering = Some(answering);
                    state.ready.extend(pieces.into_iter().flat_map(|piece| state.frames.piece(piece, so_far)));
                }
                None => {
                    let (usage, ending) = answering.into_ending();
                    state.ready.extend(state.frames.end(usage, ending));
                }
            }
        }
    });
    Sse::new(events).keep_alive(keep_alive()).into_response()
}

/// A frame as it is sent.
pub(crate) fn event((name, data): Frame) -> Event {
    name.map_or_else(Event::default, |name| Event::default().event(name)).data(data)
}

/// What keeps proxies from taking silence for death.
pub(crate) fn keep_alive() -> KeepAlive {
    KeepAlive::new().interval(KEEP_ALIVE)
}

/// An ending that is no answer, as data.
pub(crate) fn error(ending: &Ending) -> String {
    serde_json::json!({ "error": error_of(ending).body() }).to_string()
}
