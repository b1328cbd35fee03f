//! A node on a thread of its own: its futures never leave that thread, and whoever answers HTTP requests sits on others.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use futures_util::future::select;
use gptoss_node::{Node, Platform, Teller};
use gptoss_protocol::{Command, Envelope, Event, Prompt, Request, RequestId};
use tokio::sync::mpsc;

/// What the thread is told.
enum Told<A> {
    Begin { request: Box<Request>, attachment: A, events: mpsc::UnboundedSender<Event> },
    Stop(RequestId),
}

/// Who wants to know of a request, by request.
type Listeners = Rc<RefCell<HashMap<RequestId, mpsc::UnboundedSender<Event>>>>;

/// The way to a node; clones lead to the same one, which ends with the last of them.
pub struct Engine<A> {
    told: mpsc::UnboundedSender<Told<A>>,
    counters: Arc<Counters>,
}

impl<A> Clone for Engine<A> {
    fn clone(&self) -> Self {
        Self { told: self.told.clone(), counters: Arc::clone(&self.counters) }
    }
}

#[derive(Default)]
struct Counters {
    requests: AtomicU64,
    open: AtomicUsize,
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
        let run = move || pollster::block_on(run(platform(), watch, inbox));
        std::thread::Builder::new().name("node".into()).spawn(run)?;
        Ok(Self { told, counters: Arc::default() })
    }

    /// Asks for something. What comes of it is stopped when its events are no longer wanted.
    pub fn begin(&self, command: Command, attachment: A) -> UnderWay<A> {
        let id = RequestId(self.counters.requests.fetch_add(1, Ordering::Relaxed));
        self.counters.open.fetch_add(1, Ordering::Relaxed);
        let (events, received) = mpsc::unbounded_channel();
        // If the thread is gone, so is the sender, and the events end at once.
        let _ = self.told.send(Told::Begin { request: Box::new(Request::new(id, command)), attachment, events });
        UnderWay { id, received, engine: self.clone(), has_ended: false }
    }

    /// Requests that have not ended.
    pub fn open_requests(&self) -> usize {
        self.counters.open.load(Ordering::Relaxed)
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
        // If the thread is gone, the request is, too.
        let _ = self.engine.told.send(Told::Stop(self.id));
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
) {
    let listeners = Listeners::default();
    let told = Rc::clone(&listeners);
    let teller = Teller::new(run_id(), move |envelope| {
        watch(&envelope);
        hand_out(&told, envelope);
    });
    let node = Node::new(Rc::new(platform), Rc::new(teller));
    let hear = async {
        while let Some(told) = inbox.recv().await {
            match told {
                Told::Begin { request, attachment, events } => {
                    listeners.borrow_mut().insert(request.id, events);
                    node.submit(*request, attachment);
                }
                Told::Stop(id) => {
                    node.submit(Request::new(id, Command::Stop { request: Some(id) }), P::Attachment::default())
                }
            }
        }
    };
    // Nobody is left who could ask: then the node ends where it stands.
    select(Box::pin(hear), Box::pin(node.run())).await;
}

/// Whoever asked is told; after what ends a request nothing comes.
fn hand_out(listeners: &Listeners, envelope: Envelope) {
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
    let is_heard = listeners.get(&id).is_some_and(|events| events.send(envelope.event).is_ok());
    if is_end || !is_heard {
        listeners.remove(&id);
    }
}

/// Milliseconds since 1970: another one for each run.
fn run_id() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}
