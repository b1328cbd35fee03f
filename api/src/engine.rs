//! The seam above the tokens: commands in, events out, whatever computes.
//!
//! A node is on a thread of its own: its futures never leave that thread, and whoever answers HTTP requests sits on others. An
//! engine elsewhere ([`Remote`]) has a future for each request, beside those.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use futures_util::future::select;
use gptoss_node::{Node, Platform, Teller};
use gptoss_protocol::{Command, Envelope, Event, Failure, Prompt, Request, RequestId, Stage, Watch};
use tokio::sync::{broadcast, mpsc, oneshot};

use crate::metrics::{Metrics, Progress};
use crate::standing::Standing;

/// What the thread is told.
enum Told<A> {
    Begin {
        request: Box<Request>,
        attachment: A,
        listener: Listener,
    },
    /// Stops one request, or all of them.
    Stop(Option<RequestId>),
    /// Somebody looks at this from now on.
    Watch(Watch),
}

/// Events of no single request that a watcher may be behind; who is behind further misses some.
const NEWS: usize = 1024;

/// Who wants to know of a request, and how far it is.
struct Listener {
    events: mpsc::UnboundedSender<Event>,
    progress: Progress,
}

/// Who wants to know of a request, by request.
type Listeners = Rc<RefCell<HashMap<RequestId, Listener>>>;

/// What computes elsewhere, and answers each request by itself.
pub trait Remote: Send + Sync + 'static {
    /// Does what is asked, and tells `tell` of it as a node does, but for STOP, which drops the future, and for what it fails
    /// with. What it has begun elsewhere ends with it.
    fn run(
        &self,
        command: Command,
        tell: &(dyn Fn(Event) + Send + Sync),
    ) -> impl Future<Output = Result<(), (Stage, Failure)>> + Send;
}

/// The way to what computes, a node or a [`Remote`]; clones lead to the same one, which ends with the last of them.
pub struct Engine<A> {
    told: mpsc::UnboundedSender<Told<A>>,
    counters: Arc<Counters>,
}

impl<A> Clone for Engine<A> {
    fn clone(&self) -> Self {
        Self { told: self.told.clone(), counters: Arc::clone(&self.counters) }
    }
}

struct Counters {
    requests: AtomicU64,
    open: AtomicUsize,
    metrics: Arc<Metrics>,
    standing: Mutex<Standing>,
    /// What happens to the node as a whole, and the request that it happened for.
    news: broadcast::Sender<News>,
}

/// An event that is every watcher's business, and the request that it was told of.
pub(crate) type News = (Option<RequestId>, Event);

impl Default for Counters {
    fn default() -> Self {
        Self {
            requests: AtomicU64::default(),
            open: AtomicUsize::default(),
            metrics: Arc::default(),
            standing: Mutex::default(),
            news: broadcast::Sender::new(NEWS),
        }
    }
}

impl Counters {
    fn with_standing<T>(&self, look: impl FnOnce(&mut Standing) -> T) -> T {
        look(&mut self.standing.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl<A: Default + Send + 'static> Engine<A> {
    /// Starts the thread. `platform` is made there; `watch` sees every event before whoever asked does.
    ///
    /// # Errors
    /// The system has no room for a thread.
    pub fn start<P>(
        platform: impl FnOnce() -> P + Send + 'static,
        watch: impl Fn(&Envelope) + Send + 'static,
    ) -> std::io::Result<Self>
    where
        P: Platform<Attachment = A> + 'static,
    {
        let (told, inbox) = mpsc::unbounded_channel();
        let counters = Arc::<Counters>::default();
        let shared = Arc::clone(&counters);
        let run = move || pollster::block_on(run(platform(), watch, inbox, shared));
        std::thread::Builder::new().name("node".into()).spawn(run)?;
        Ok(Self { told, counters })
    }

    /// An engine elsewhere in place of a node.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn remote(remote: Arc<impl Remote>) -> Self {
        let (told, inbox) = mpsc::unbounded_channel();
        let counters = Arc::<Counters>::default();
        tokio::spawn(run_remote(remote, inbox, Arc::clone(&counters.metrics)));
        Self { told, counters }
    }

    /// Asks for something. What comes of it is stopped when its events are no longer wanted.
    pub fn begin(&self, command: Command, attachment: A) -> UnderWay<A> {
        let id = RequestId(self.counters.requests.fetch_add(1, Ordering::Relaxed));
        self.counters.open.fetch_add(1, Ordering::Relaxed);
        if matches!(command, Command::Load { .. }) {
            self.counters.with_standing(|standing| standing.begin_load(id));
        }
        let (events, received) = mpsc::unbounded_channel();
        // If the thread is gone, so is the sender, and the events end at once.
        let listener = Listener { events, progress: Progress::new(Instant::now()) };
        let _ = self.told.send(Told::Begin { request: Box::new(Request::new(id, command)), attachment, listener });
        UnderWay { id, received, engine: self.clone(), has_ended: false }
    }

    /// Requests that have not ended.
    pub fn open_requests(&self) -> usize {
        self.counters.open.load(Ordering::Relaxed)
    }

    /// Stops everything that is under way or waits, as STOP does.
    pub fn stop_all(&self) {
        // If the thread is gone, so is all that it did.
        let _ = self.told.send(Told::Stop(None));
    }

    /// Says what is looked at from now on, by all watchers together.
    pub(crate) fn watch(&self, watch: Watch) {
        // If the thread is gone, there is nothing to be seen.
        let _ = self.told.send(Told::Watch(watch));
    }

    /// What the load told, as it stands now; `None` before a model is loaded.
    pub(crate) fn standing(&self) -> Option<Vec<Event>> {
        self.counters.with_standing(|standing| standing.replay())
    }

    /// What happens to the node as a whole from now on, whoever it happens for.
    pub(crate) fn news(&self) -> broadcast::Receiver<News> {
        self.counters.news.subscribe()
    }

    /// What is counted.
    pub(crate) fn metrics(&self) -> Arc<Metrics> {
        Arc::clone(&self.counters.metrics)
    }

    /// Asks a question.
    pub fn ask(&self, prompt: Prompt) -> UnderWay<A> {
        self.begin(Command::Generate { prompt }, A::default())
    }
}

/// A request and its events. Dropping it stops the request.
pub struct UnderWay<A> {
    id: RequestId,
    received: mpsc::UnboundedReceiver<Event>,
    engine: Engine<A>,
    has_ended: bool,
}

impl<A> UnderWay<A> {
    /// The next event; `None` after the one that ended the request.
    pub async fn next(&mut self) -> Option<Event> {
        let event = self.received.recv().await;
        self.has_ended |= event.is_none();
        event
    }

    /// Ends the request as STOP does; what it came to is still told.
    pub fn stop(&self) {
        self.stopper().stop();
    }

    /// What stops the request from elsewhere.
    pub(crate) fn stopper(&self) -> Stopper<A> {
        Stopper { id: self.id, told: self.engine.told.clone() }
    }
}

/// Stops one request.
pub(crate) struct Stopper<A> {
    id: RequestId,
    told: mpsc::UnboundedSender<Told<A>>,
}

impl<A> Stopper<A> {
    /// Ends the request as STOP does.
    pub fn stop(&self) {
        // If the thread is gone, the request is, too.
        let _ = self.told.send(Told::Stop(Some(self.id)));
    }

    /// Whether this is the request's id in the node.
    pub fn is_of(&self, id: RequestId) -> bool {
        self.id == id
    }
}

impl<A> Drop for UnderWay<A> {
    fn drop(&mut self) {
        if !self.has_ended {
            self.stop();
        }
        self.engine.counters.open.fetch_sub(1, Ordering::Relaxed);
    }
}

async fn run<P: Platform<Attachment: Default>>(
    platform: P,
    watch: impl Fn(&Envelope) + 'static,
    mut inbox: mpsc::UnboundedReceiver<Told<P::Attachment>>,
    counters: Arc<Counters>,
) {
    let listeners = Listeners::default();
    let told = Rc::clone(&listeners);
    let teller = Teller::new(run_id(), move |envelope| {
        watch(&envelope);
        counters.with_standing(|standing| standing.see(&envelope));
        hand_out(&told, &counters, envelope);
    });
    let node = Node::new(Rc::new(platform), Rc::new(teller));
    let hear = async {
        while let Some(told) = inbox.recv().await {
            match told {
                Told::Begin { request, attachment, listener } => {
                    listeners.borrow_mut().insert(request.id, listener);
                    node.submit(*request, attachment);
                }
                Told::Stop(request) => {
                    // A command of this kind tells nothing of itself, so that its own id means nothing.
                    let id = request.unwrap_or(RequestId(u64::MAX));
                    node.submit(Request::new(id, Command::Stop { request }), P::Attachment::default())
                }
                Told::Watch(watch) => {
                    let request = Request::new(RequestId(u64::MAX), Command::Watch { watch });
                    node.submit(request, P::Attachment::default());
                }
            }
        }
    };
    // Nobody is left who could ask: then the node ends where it stands.
    select(Box::pin(hear), Box::pin(node.run())).await;
}

/// Begins what is asked of an engine elsewhere, and stops it.
async fn run_remote<A>(remote: Arc<impl Remote>, mut inbox: mpsc::UnboundedReceiver<Told<A>>, metrics: Arc<Metrics>) {
    let mut stops: HashMap<RequestId, oneshot::Sender<()>> = HashMap::new();
    while let Some(told) = inbox.recv().await {
        match told {
            Told::Begin { request, listener, .. } => {
                let (stop, stopped) = oneshot::channel();
                stops.retain(|_, stop| !stop.is_closed());
                stops.insert(request.id, stop);
                let (remote, metrics) = (Arc::clone(&remote), Arc::clone(&metrics));
                tokio::spawn(answer_remotely(remote, request.command, (listener, metrics), stopped));
            }
            // Whoever has ended hears of it no more.
            Told::Stop(id) => {
                for (_, stop) in stops.extract_if(|known, _| id.is_none_or(|id| id == *known)) {
                    let _ = stop.send(());
                }
            }
            // Nothing of the inside is to be seen from here.
            Told::Watch(_) => {}
        }
    }
}

async fn answer_remotely(
    remote: Arc<impl Remote>,
    command: Command,
    (listener, metrics): (Listener, Arc<Metrics>),
    stopped: oneshot::Receiver<()>,
) {
    let listener = Mutex::new(listener);
    let tell = |event: Event| {
        let mut listener = listener.lock().unwrap_or_else(PoisonError::into_inner);
        listener.progress.see(&event, &metrics);
        // Nobody listens any more: then STOP is on its way.
        let _ = listener.events.send(event);
    };
    let end = tokio::select! {
        biased;
        // Its sender is dropped with the engine, when nobody is left who could ask.
        _ = stopped => Some(Event::Stopped { model_loaded: true }),
        done = remote.run(command, &tell) => done.err().map(|(stage, failure)| Event::Failed { stage, failure }),
    };
    end.into_iter().for_each(tell);
    listener.into_inner().unwrap_or_else(PoisonError::into_inner).progress.end(&metrics);
}

/// Whoever asked is told; after what ends a request nothing comes.
fn hand_out(listeners: &Listeners, counters: &Counters, envelope: Envelope) {
    let metrics = &counters.metrics;
    if is_news(&envelope.event) && counters.news.receiver_count() > 0 {
        // The last who watched may have left just now.
        let _ = counters.news.send((envelope.request, envelope.event.clone()));
    }
    if let Event::KvBlocks(blocks) = envelope.event {
        metrics.set_kv_blocks(blocks);
    }
    let Some(id) = envelope.request else { return };
    let mut listeners = listeners.borrow_mut();
    let is_end = matches!(
        envelope.event,
        Event::Finished { .. }
            | Event::Stopped { .. }
            | Event::Failed { .. }
            | Event::Ready { .. }
            | Event::Counted { .. }
    );
    let Some(listener) = listeners.get_mut(&id) else { return };
    listener.progress.see(&envelope.event, metrics);
    let is_heard = listener.events.send(envelope.event).is_ok();
    if let Some(listener) = (is_end || !is_heard).then(|| listeners.remove(&id)).flatten() {
        listener.progress.end(metrics);
    }
}

/// Whether an event is every watcher's business. What was routed and attended to is not: it is of somebody's text.
fn is_news(event: &Event) -> bool {
    matches!(
        event,
        Event::ExpertMoves(_)
            | Event::Experts(_)
            | Event::Work(_)
            | Event::GpuMemory { .. }
            | Event::KvBlocks(_)
            | Event::OperationTimes { .. }
    )
}

/// Milliseconds since 1970: another one for each run.
fn run_id() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}
