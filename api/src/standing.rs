//! What stands of a node: what its load told and what has changed since, for watchers that come later.

use std::collections::BTreeSet;

use gptoss_protocol::{CacheCounters, Envelope, Event, ExpertMoves, ExpertPlace, RequestId, WorkCounters};

/// A fold over the node's events. What comes of it loads a watcher's picture as the load itself would have.
#[derive(Debug, Default)]
pub(crate) struct Standing {
    load: Option<RequestId>,
    /// What the load told, in its order, without what only meant something at the time.
    told: Vec<Event>,
    ready: Option<Event>,
    resident: BTreeSet<ExpertPlace>,
    experts: Option<CacheCounters>,
    work: Option<WorkCounters>,
    gpu_memory: Option<Event>,
    kv_blocks: Option<Event>,
}

impl Standing {
    /// The load whose events count.
    pub fn begin_load(&mut self, load: RequestId) {
        *self = Self { load: Some(load), ..Self::default() };
    }

    /// Takes an event in.
    pub fn see(&mut self, envelope: &Envelope) {
        match &envelope.event {
            Event::ExpertMoves(ExpertMoves { evicted, arrived, .. }) => {
                self.resident.retain(|place| !evicted.contains(place));
                self.resident.extend(arrived);
            }
            Event::Experts(counters) => self.experts = Some(*counters),
            Event::Work(counters) => self.work = Some(*counters),
            Event::GpuMemory { .. } => self.gpu_memory = Some(envelope.event.clone()),
            Event::KvBlocks(_) => self.kv_blocks = Some(envelope.event.clone()),
            event if envelope.request == self.load => self.see_load(event),
            _ => {}
        }
    }

    fn see_load(&mut self, event: &Event) {
        match event {
            Event::Ready { .. } => self.ready = Some(event.clone()),
            // Of progress only the last word is true.
            Event::Header { .. } => self.replace(event, |earlier| matches!(earlier, Event::Header { .. })),
            Event::Fetch { .. } => self.replace(event, |earlier| matches!(earlier, Event::Fetch { .. })),
            // Nobody is to approve what is loaded.
            Event::Preflight { bytes_per_second, .. } => {
                self.told.push(Event::Preflight { waits: false, bytes_per_second: *bytes_per_second });
            }
            Event::Stage { .. }
            | Event::Adapter(_)
            | Event::Model(_)
            | Event::FileMap(_)
            | Event::FileNote { .. }
            | Event::Plan(_)
            | Event::SelfCheck(_)
            | Event::Tensor { .. }
            | Event::Mapped { .. }
            | Event::Kv { .. } => self.told.push(event.clone()),
            _ => {}
        }
    }

    fn replace(&mut self, event: &Event, is_same: impl Fn(&Event) -> bool) {
        match self.told.iter_mut().find(|earlier| is_same(earlier)) {
            Some(earlier) => *earlier = event.clone(),
            None => self.told.push(event.clone()),
        }
    }

    /// Everything that stands, [`Event::Ready`] last; `None` while no load has ended well.
    pub fn replay(&self) -> Option<Vec<Event>> {
        let ready = self.ready.clone()?;
        let arrived: Vec<_> = self.resident.iter().copied().collect();
        let moves = (!arrived.is_empty()).then(|| ExpertMoves { arrived, ..ExpertMoves::default() });
        let now = [
            self.gpu_memory.clone(),
            self.kv_blocks.clone(),
            moves.map(Event::ExpertMoves),
            self.experts.map(Event::Experts),
            self.work.map(Event::Work),
            Some(ready),
        ];
        Some(self.told.iter().cloned().chain(now.into_iter().flatten()).collect())
    }
}

#[cfg(test)]
mod tests {
    use gptoss_protocol::Sequencer;

    use super::*;

    #[test]
    fn a_load_stands_with_what_has_changed_since() {
        let mut sequencer = Sequencer::new(1);
        let mut standing = Standing::default();
        standing.begin_load(RequestId(4));
        let mut see = |standing: &mut Standing, request: Option<u64>, event: Event| {
            standing.see(&sequencer.wrap(0.0, request.map(RequestId), event));
        };
        let place = |expert| ExpertPlace { layer: 1, expert };
        let fetch = |fetched_bytes| Event::Fetch {
            fetched_bytes,
            needed_bytes: 9,
            requests: 1,
            wire_bytes: None,
            bytes_per_second: None,
        };
        let note = Event::FileNote { text: "n".into() };
        see(&mut standing, Some(4), Event::Queued { before: 1 });
        see(&mut standing, Some(4), fetch(3));
        see(&mut standing, Some(4), note.clone());
        see(&mut standing, Some(4), fetch(9));
        assert_eq!(standing.replay(), None, "it is not loaded");
        let arrived = ExpertMoves { arrived: vec![place(1), place(2)], ..ExpertMoves::default() };
        see(&mut standing, Some(4), Event::ExpertMoves(arrived));
        see(&mut standing, Some(4), Event::Ready { load_ms: 2.0 });
        let moved = ExpertMoves { evicted: vec![place(1)], arrived: vec![place(3)], ..ExpertMoves::default() };
        see(&mut standing, None, Event::ExpertMoves(moved));
        see(&mut standing, Some(5), fetch(1));
        let now = ExpertMoves { arrived: vec![place(2), place(3)], ..ExpertMoves::default() };
        let want = vec![fetch(9), note, Event::ExpertMoves(now), Event::Ready { load_ms: 2.0 }];
        assert_eq!(standing.replay(), Some(want));
    }
}
