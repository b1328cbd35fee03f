//! What the engine sees of a node: somewhere to send events, and whether to stop.

use std::cell::{Cell, RefCell};
use std::pin::{Pin, pin};
use std::rc::Rc;

use futures_util::future::select;
use gptoss_model::{Engine, Host, LoadProposal};
use gptoss_protocol::{Event, RequestId, Stage, StageStatus, Watch};
use web_time::Instant;

use crate::platform::Platform;
use crate::signal::Signal;
use crate::teller::Teller;

/// The host of one request.
pub(crate) struct RequestHost<P: Platform> {
    pub id: RequestId,
    pub stop: Signal,
    platform: Rc<P>,
    teller: Rc<Teller>,
    approval: Signal,
    /// The load waits for approval.
    waits: Cell<bool>,
    stage: Cell<Option<(Stage, Instant)>>,
    /// The model that a load may replace.
    before: RefCell<Option<Engine<P::Model>>>,
}

impl<P: Platform> RequestHost<P> {
    pub fn new(id: RequestId, platform: &Rc<P>, teller: &Rc<Teller>) -> Self {
        Self {
            id,
            stop: Signal::default(),
            platform: Rc::clone(platform),
            teller: Rc::clone(teller),
            approval: Signal::default(),
            waits: Cell::new(false),
            stage: Cell::new(None),
            before: RefCell::new(None),
        }
    }

    pub fn tell(&self, event: Event) {
        if let Event::Stage { stage, status, .. } = &event {
            self.stage.set((*status == StageStatus::Started).then(|| (*stage, Instant::now())));
        }
        self.teller.tell_of(Some(self.id), event);
    }

    /// The user approves of the load, if it waits for that.
    pub fn approve(&self) {
        if self.waits.get() {
            self.approval.request();
        }
    }

    /// Holds the model that is loaded until the load goes ahead.
    pub fn hold(&self, before: Option<Engine<P::Model>>) {
        self.before.replace(before);
    }

    /// The model that was held, if the load did not go ahead.
    pub fn take_held(&self) -> Option<Engine<P::Model>> {
        self.before.take()
    }

    /// Whether it holds a model.
    pub fn holds_model(&self) -> bool {
        self.before.borrow().is_some()
    }

    /// Ends the stage of a future that was dropped: it cannot report its own end any more.
    pub fn cancel_running_stage(&self) -> Stage {
        let Some((stage, begin)) = self.stage.get() else { return Stage::LOAD[0] };
        let elapsed_ms = Some(begin.elapsed().as_secs_f64() * 1000.0);
        self.tell(Event::Stage { stage, status: StageStatus::Cancelled, elapsed_ms });
        stage
    }

    async fn ask_for_approval(&self, proposal: LoadProposal<'_>) {
        let waits = proposal.is_less_than_expected() && !self.platform.approves();
        self.approval.clear();
        self.waits.set(waits);
        self.tell(Event::Preflight { waits, bytes_per_second: proposal.bytes_per_second });
        if waits {
            select(pin!(self.approval.requested()), pin!(self.stop.requested())).await;
            self.waits.set(false);
        }
    }
}

impl<P: Platform> Host for RequestHost<P> {
    fn emit(&self, event: Event) {
        self.tell(event);
    }

    fn cancelled(&self) -> bool {
        self.stop.is_requested() || self.platform.is_interrupted()
    }

    fn until_cancelled(&self) -> Pin<Box<dyn Future<Output = ()> + '_>> {
        Box::pin(self.stop.requested())
    }

    fn watch(&self) -> Watch {
        self.teller.watch()
    }

    fn approve<'a>(&'a self, proposal: LoadProposal<'a>) -> Pin<Box<dyn Future<Output = ()> + 'a>> {
        Box::pin(self.ask_for_approval(proposal))
    }

    fn load_begins(&self) {
        if self.before.take().is_some() {
            self.tell(Event::Unloaded);
        }
    }

    fn remembered(&self, key: &str) -> bool {
        self.platform.remembered(key)
    }

    fn remember(&self, key: &str) {
        if let Some(key) = self.platform.remember(key) {
            self.tell(Event::Remember { key });
        }
    }
}

/// For what belongs to no single request: several answers at once, the prefetch, the download cache. It ends when `end` is wanted.
pub(crate) struct CommonHost<'a, P> {
    pub platform: &'a P,
    pub teller: &'a Teller,
    pub request: Option<RequestId>,
    pub end: &'a Signal,
}

impl<P: Platform> Host for CommonHost<'_, P> {
    fn emit(&self, event: Event) {
        self.teller.tell_of(self.request, event);
    }

    fn cancelled(&self) -> bool {
        self.end.is_requested()
    }

    fn until_cancelled(&self) -> Pin<Box<dyn Future<Output = ()> + '_>> {
        Box::pin(self.end.requested())
    }

    fn watch(&self) -> Watch {
        self.teller.watch()
    }

    fn remembered(&self, key: &str) -> bool {
        self.platform.remembered(key)
    }

    fn remember(&self, key: &str) {
        if let Some(key) = self.platform.remember(key) {
            self.emit(Event::Remember { key });
        }
    }
}
