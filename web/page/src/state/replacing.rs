//! Another model in place of the one that is loaded: until the new one is known to be good, nothing of the old one is lost.

use std::mem;

use gptoss_protocol::{Failure, FailureKind};

use super::{Answer, DownloadCache, Earlier, Phase, State};
use crate::format::bytes;

impl State {
    /// The user asked for a model. What is known about the one that is loaded stays until the worker lets go of it.
    pub(crate) fn load_requested(&mut self) {
        self.accept_inputs();
        let mut earlier = mem::take(self);
        let files = earlier.cache.files.clone();
        let mut cache = mem::take(&mut earlier.cache);
        cache.load_requested();
        *self = Self {
            phase: Phase::Loading,
            host_ready: earlier.host_ready,
            cache,
            // The worker is the same.
            wasm_heap_bytes: earlier.wasm_heap_bytes,
            missing_events: earlier.missing_events,
            next_sequences: mem::take(&mut earlier.next_sequences),
            refused: mem::take(&mut earlier.refused),
            ..Self::default()
        };
        if earlier.model_loaded {
            // It still takes its memory, and what it said can still be read.
            self.gpu_allocated_bytes = earlier.gpu_allocated_bytes;
            self.answer = mem::take(&mut earlier.answer);
            (self.turns, self.question) = (mem::take(&mut earlier.turns), earlier.question.take());
            earlier.cache.files = files;
            // Reading what nobody asked for ends with this.
            (earlier.prefetch, earlier.prefetch_problem, earlier.downloaded) = (None, None, None);
            self.before = Some(Box::new(earlier));
        } else {
            self.answer = earlier.answer;
            (self.turns, self.question) = (earlier.turns, earlier.question);
            self.end_turn();
        }
    }

    /// The user asked for a model to be cached, not loaded.
    pub(crate) fn download_requested(&mut self) {
        self.load_requested();
        self.downloading = true;
    }

    /// The model that was loaded is gone.
    pub(super) fn unload(&mut self) {
        self.model_loaded = false;
        if self.before.take().is_some() {
            self.gpu_allocated_bytes = None;
            self.end_turn();
        }
    }

    /// Nothing came of another model: the one before is still loaded.
    pub(super) fn restore(&mut self) {
        let Some(before) = self.before.take() else { return };
        let now = mem::replace(self, *before);
        self.phase = now.phase;
        self.host_ready = now.host_ready;
        self.cache = DownloadCache { files: mem::take(&mut self.cache.files), ..now.cache };
        self.wasm_heap_bytes = now.wasm_heap_bytes;
        self.answer = now.answer;
        (self.turns, self.question) = (now.turns, now.question);
        self.missing_events = now.missing_events;
        self.next_sequences = now.next_sequences;
        self.refused = now.refused;
        self.failure = now.failure;
        self.stopping = now.stopping;
    }

    /// A question was refused before anything came of it: the conversation is what it was.
    pub(super) fn restore_earlier_talk(&mut self) {
        if let Some(earlier) = self.earlier.take() {
            let Earlier { turns, question, answer } = *earlier;
            (self.turns, self.question) = (turns, question);
            self.answer = Answer { number: self.answer.number + 1, ..answer };
        }
    }

    /// A download is over. One that the browser did not keep whole has failed.
    pub(super) fn apply_downloaded(&mut self, cached_bytes: u64, model_bytes: u64) {
        self.restore();
        self.troubles.clear();
        self.downloading = false;
        if cached_bytes >= model_bytes {
            self.downloaded = Some(model_bytes);
            self.phase = if self.model_loaded { Phase::Ready } else { Phase::Idle };
            return;
        }
        let cached = match cached_bytes {
            0 => "nothing of it is".to_owned(),
            cached_bytes => format!("only {} of {} are", bytes(cached_bytes), bytes(model_bytes)),
        };
        // What stood in the way was told when it did.
        let (why, advice) = match self.cache.notices.last() {
            Some(notice) => (format!(": {}", notice.message), notice.advice.clone()),
            None => (String::new(), "Free disk space, or use the model without caching it.".to_owned()),
        };
        let message = format!("the model could not be cached, {cached} in this browser{why}");
        self.fail(Failure { kind: FailureKind::Storage, message, advice, parameter: None });
    }
}
