//! Responses in the background: answered while nobody listens, looked at, followed and cancelled by id.

use std::convert::Infallible;
use std::sync::Arc;

use axum::response::sse::Sse;
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use serde_json::Value;
use tokio::sync::{Notify, watch};

use super::events::Writer;
use crate::answer::Answering;
use crate::server::Engaged;
use crate::sse::{Frame, Frames, event, keep_alive};

/// A response in the background, for all who ask about it.
#[derive(Debug)]
pub(crate) struct Background {
    progress: watch::Sender<Progress>,
    stop: Notify,
    /// Whether its events are kept for those who follow it.
    is_streamed: bool,
}

#[derive(Debug)]
struct Progress {
    /// The response with the items that are complete.
    object: Value,
    /// All events so far: the number of each is its place. Behind those of a response that has ended stands `[DONE]`.
    frames: Vec<Frame>,
    has_ended: bool,
}

impl Background {
    fn new(object: Value, is_streamed: bool) -> Self {
        let progress = Progress { object, frames: Vec::new(), has_ended: false };
        Self { progress: watch::Sender::new(progress), stop: Notify::new(), is_streamed }
    }

    /// The response, as far as it has come.
    pub fn object(&self) -> Value {
        self.progress.borrow().object.clone()
    }

    /// Whether nothing comes any more.
    pub fn has_ended(&self) -> bool {
        self.progress.borrow().has_ended
    }

    /// Whether it was asked for as a stream, and can be followed as one.
    pub fn is_streamed(&self) -> bool {
        self.is_streamed
    }

    /// Ends it, unless it has ended. Gives the response as it stands then.
    pub async fn cancel(&self) -> Value {
        self.stop.notify_one();
        let mut followed = self.progress.subscribe();
        // It cannot go away: this holds it.
        let ended = followed.wait_for(|progress| progress.has_ended).await;
        ended.map_or(Value::Null, |progress| progress.object.clone())
    }

    /// Its events from the one with number `first` on, those of the past at once. Whoever stops to listen stops nothing else.
    pub fn follow(self: Arc<Self>, first: usize) -> Response {
        let followed = self.progress.subscribe();
        let events = stream::unfold((self, followed, first), |(background, mut followed, at)| async move {
            let come = followed.wait_for(|progress| progress.frames.len() > at || progress.has_ended).await;
            let frame = come.ok()?.frames.get(at).cloned()?;
            Some((Ok::<_, Infallible>(event(frame)), (background, followed, at + 1)))
        });
        Sse::new(events).keep_alive(keep_alive()).into_response()
    }

    fn tell(&self, frames: Vec<Frame>, object: Option<Value>, has_ended: bool) {
        self.progress.send_modify(|progress| {
            if self.is_streamed {
                progress.frames.extend(frames);
            }
            if let Some(object) = object {
                progress.object = object;
            }
            progress.has_ended = has_ended;
        });
    }
}

/// Answers in the background.
pub(crate) fn run<A: Engaged>(
    mut answering: Answering<A>,
    mut writer: Writer<A>,
    is_streamed: bool,
) -> Arc<Background> {
    let background = Arc::new(Background::new(writer.object(), is_streamed));
    background.tell(writer.begin(), None, false);
    writer.keep_under_way(&background);
    let told = Arc::clone(&background);
    tokio::spawn(async move {
        let is_cancelled = loop {
            let pieces = tokio::select! {
                biased;
                () = told.stop.notified() => break true,
                pieces = answering.next() => pieces,
            };
            let Some(pieces) = pieces else { break false };
            let items = writer.items();
            let frames = pieces.into_iter().flat_map(|piece| writer.write(piece)).collect();
            let object = (writer.items() > items).then(|| writer.object());
            told.tell(frames, object, false);
        };
        let (usage, ending) = answering.into_ending();
        let frames = match is_cancelled {
            true => writer.cancelled(usage),
            false => writer.end(usage, ending),
        };
        told.tell(frames, Some(writer.object()), true);
    });
    background
}

#[cfg(test)]
mod tests {
    use axum::body::to_bytes;
    use serde_json::json;

    use super::*;

    fn frame(number: usize) -> Frame {
        (Some("response.output_text.delta"), json!({"sequence_number": number}).to_string())
    }

    #[tokio::test]
    async fn followers_hear_the_past_the_present_and_the_end() {
        let background = Arc::new(Background::new(json!({"status": "in_progress"}), true));
        background.tell(vec![frame(0), frame(1)], None, false);
        let from = |first| tokio::spawn(to_bytes(Arc::clone(&background).follow(first).into_body(), usize::MAX));
        let followers = [from(0), from(1), from(2), from(9)];
        tokio::task::yield_now().await;
        background.tell(vec![frame(2)], None, false);
        let cancelled = tokio::spawn({
            let background = Arc::clone(&background);
            async move { background.cancel().await }
        });
        background.stop.notified().await;
        assert!(!background.has_ended());
        background.tell(vec![(None, "[DONE]".into())], Some(json!({"status": "cancelled"})), true);
        assert_eq!(cancelled.await.expect("no panic"), json!({"status": "cancelled"}));
        for (follower, numbers) in followers.into_iter().zip([&[0, 1, 2][..], &[1, 2], &[2], &[]]) {
            let text = follower.await.expect("no panic").expect("a body");
            let text = String::from_utf8(text.to_vec()).expect("text");
            let heard: Vec<usize> = (0..3).filter(|number| text.contains(&frame(*number).1)).collect();
            assert_eq!(heard, numbers, "{text}");
            assert_eq!(text.ends_with("data: [DONE]\n\n"), !numbers.is_empty(), "{text}");
        }
        // What has ended is not cancelled again, and says how it ended.
        assert_eq!(background.cancel().await, json!({"status": "cancelled"}));
    }
}
