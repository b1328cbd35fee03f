//! Where events go: numbered, timed and with the request that they belong to.

use std::cell::{Cell, RefCell};

use gptoss_model::Host;
use gptoss_protocol::{Envelope, Event, NextAttempt, RequestId, Sequencer, Trouble, TroubleKind, Watch};
use gptoss_source::retry::FaultKind;
use gptoss_source::{FetchNews, FetchObserver, FetchReport};
use web_time::Instant;

/// Puts events into envelopes and hands these to the transport.
pub struct Teller {
    begun: Instant,
    sequencer: RefCell<Sequencer>,
    /// What is being done, for events of which nobody knows what they are about: a source outlives the load that opened it.
    current: Cell<Option<RequestId>>,
    /// What somebody looks at of that which is not told unasked.
    watch: Cell<Watch>,
    send: Box<dyn Fn(Envelope)>,
    /// Asked after every event whether there is something else to tell.
    notice: Box<dyn Fn() -> Option<Event>>,
}

impl Teller {
    /// A teller whose envelopes go to `send`; `run_id` tells this run from others of the same watcher.
    pub fn new(run_id: u64, send: impl Fn(Envelope) + 'static) -> Self {
        Self {
            begun: Instant::now(),
            sequencer: RefCell::new(Sequencer::new(run_id)),
            current: Cell::new(None),
            watch: Cell::default(),
            send: Box::new(send),
            notice: Box::new(|| None),
        }
    }

    /// With `notice`, which is asked after every event whether there is something else to tell: a heap that has grown, say.
    #[must_use]
    pub fn noticing(self, notice: impl Fn() -> Option<Event> + 'static) -> Self {
        Self { notice: Box::new(notice), ..self }
    }

    /// Tells an event of whatever is being done.
    pub fn tell(&self, event: Event) {
        self.tell_of(self.current.get(), event);
    }

    /// Tells an event of a request.
    pub fn tell_of(&self, request: Option<RequestId>, event: Event) {
        self.send(request, event);
        if let Some(noticed) = (self.notice)() {
            self.send(None, noticed);
        }
    }

    fn send(&self, request: Option<RequestId>, event: Event) {
        let at_ms = self.begun.elapsed().as_secs_f64() * 1e3;
        let envelope = self.sequencer.borrow_mut().wrap(at_ms, request, event);
        (self.send)(envelope);
    }

    pub(crate) fn watch(&self) -> Watch {
        self.watch.get()
    }

    pub(crate) fn set_watch(&self, watch: Watch) {
        self.watch.set(watch);
    }

    pub(crate) fn set_current(&self, request: Option<RequestId>) {
        self.current.set(request);
    }
}

/// For what nobody can stop.
impl Host for Teller {
    fn emit(&self, event: Event) {
        self.tell(event);
    }

    fn cancelled(&self) -> bool {
        false
    }
}

impl FetchObserver for Teller {
    fn fetching(&self, report: &FetchReport<'_>) {
        let (file, offset_bytes, missing_bytes) = (report.file.to_owned(), report.offset_bytes, report.missing_bytes);
        let trouble =
            |what, next| Event::Trouble(Trouble { what, file: file.clone(), offset_bytes, missing_bytes, next });
        self.tell(match report.news {
            FetchNews::TryingAgain { kind, wait, attempt, attempts } => {
                let wait_ms = wait.as_secs_f64() * 1000.0;
                trouble(trouble_kind(kind), Some(NextAttempt { attempt, attempts, wait_ms }))
            }
            FetchNews::Offline => trouble(TroubleKind::Offline, None),
            FetchNews::GoingOn { attempts, elapsed } => {
                Event::TroubleOver { file, offset_bytes, attempts, elapsed_ms: elapsed.as_secs_f64() * 1000.0 }
            }
        });
    }
}

fn trouble_kind(kind: FaultKind) -> TroubleKind {
    match kind {
        FaultKind::NoAnswer => TroubleKind::NoAnswer,
        FaultKind::BrokenOff => TroubleKind::BrokenOff,
        FaultKind::ShortBody => TroubleKind::ShortBody,
        FaultKind::Stalled => TroubleKind::Stalled,
        FaultKind::HostFailed => TroubleKind::HostFailed,
        FaultKind::HostBusy => TroubleKind::HostBusy,
        FaultKind::Refused => TroubleKind::Refused,
    }
}
