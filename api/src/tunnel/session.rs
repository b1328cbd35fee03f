//! One watcher: its requests, and what it was told.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use gptoss_protocol::{
    Command, DeviceOptions, Event, ExpertLoading, Failure, FailureKind, FromNode, LoadOptions, LoadSettings,
    PROTOCOL_VERSION, Prompt, Request, RequestId, Sequencer, Stage, TunnelRefusal, TunnelStage, Watch,
};
use serde::Serialize;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::watch;
use tokio::task::AbortHandle;

use super::hub::Hub;
use crate::engine::Stopper;
use crate::server::Engaged;

/// Bytes of messages that are kept for a watcher who takes none of them, or cannot.
const MOST_KEPT_BYTES: usize = 16 << 20;

/// A watcher's session, over all of its connections.
pub(super) struct Session<A> {
    pub id: String,
    begun: Instant,
    state: Mutex<State<A>>,
    /// Sequence number of the envelope that comes next.
    next: watch::Sender<u64>,
}

struct State<A> {
    sequencer: Sequencer,
    /// Messages that the watcher may still want, by sequence number.
    kept: VecDeque<(u64, String)>,
    kept_bytes: usize,
    /// Messages with lower numbers were sent on the present connection.
    sent: u64,
    /// The present connection, counted from 1.
    connection: u64,
    /// Requests that were taken, over all connections.
    taken_requests: u64,
    requests: HashMap<RequestId, UnderWay<A>>,
    /// What follows the node's own events.
    news: Option<AbortHandle>,
    watch: Watch,
    over: Option<TunnelRefusal>,
}

struct UnderWay<A> {
    stopper: Stopper<A>,
    telling: AbortHandle,
}

/// The fields of options that are not as usual, in words.
fn set_beside<T: Serialize>(options: &T, usual: &T) -> Vec<String> {
    let [options, usual] = [options, usual].map(|options| serde_json::to_value(options).unwrap_or_default());
    let fields = options.as_object().into_iter().flatten();
    let set = fields.filter(|(name, value)| usual.get(name) != Some(value));
    set.map(|(name, value)| format!("{} is {value}", name.replace('_', " "))).collect()
}

/// Another 64 bits for each session of a process, and another process has others.
fn random() -> u64 {
    getrandom::u64().unwrap_or_else(|_| crate::prompt::seconds_since_1970())
}

impl<A: Engaged> Session<A> {
    /// A session without a connection.
    pub fn new() -> Self {
        let state = State {
            // JavaScript reads whole numbers up to 2^53.
            sequencer: Sequencer::new(random() >> 11),
            kept: VecDeque::new(),
            kept_bytes: 0,
            sent: 0,
            connection: 0,
            taken_requests: 0,
            requests: HashMap::new(),
            news: None,
            watch: Watch::default(),
            over: None,
        };
        // Whoever can guess it could go on with somebody else's session.
        let id = format!("{:016x}{:016x}", random(), random());
        Self { id, begun: Instant::now(), state: Mutex::new(state), next: watch::Sender::new(0) }
    }

    fn state(&self) -> MutexGuard<'_, State<A>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A connection takes over, which is here from `next_sequence` on; gives its number.
    pub fn connect(&self, next_sequence: u64) -> u64 {
        let mut state = self.state();
        state.forget(next_sequence);
        state.sent = next_sequence;
        state.connection += 1;
        let connection = state.connection;
        drop(state);
        // Another connection that is still there learns that it is not the last.
        self.next.send_modify(|_| {});
        connection
    }

    /// Requests that were taken, over all connections.
    pub fn taken_requests(&self) -> u64 {
        self.state().taken_requests
    }

    /// Whether this connection is the last that there was.
    pub fn is_connected_by(&self, connection: u64) -> bool {
        self.state().connection == connection
    }

    /// Whether everything from here on is kept.
    pub fn has_from(&self, next_sequence: u64) -> bool {
        let state = self.state();
        let first = state.kept.front().map_or(*self.next.borrow(), |(sequence, _)| *sequence);
        (first..=*self.next.borrow()).contains(&next_sequence)
    }

    /// Changes whenever there is something to send.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.next.subscribe()
    }

    /// Messages that were not sent so far; the error ends the session.
    pub fn to_send(&self) -> Result<Vec<String>, TunnelRefusal> {
        let mut state = self.state();
        if let Some(refusal) = &state.over {
            return Err(refusal.clone());
        }
        let from = state.kept.partition_point(|(sequence, _)| *sequence < state.sent);
        let texts: Vec<String> = state.kept.range(from..).map(|(_, text)| text.clone()).collect();
        state.sent += texts.len() as u64;
        Ok(texts)
    }

    /// The watcher has everything before this.
    pub fn seen(&self, next_sequence: u64) {
        self.state().forget(next_sequence);
    }

    /// Whether nothing that it asked for is under way, and all was sent.
    pub fn is_idle(&self) -> bool {
        let state = self.state();
        state.requests.is_empty() && state.sent == *self.next.borrow()
    }

    /// What the watcher looks at.
    pub fn watch(&self) -> Watch {
        self.state().watch
    }

    /// Stops everything that it asked for; how that ended is still told.
    pub fn stop_all(&self) {
        self.state().requests.values().for_each(|under_way| under_way.stopper.stop());
    }

    /// Nobody wants to be told any more: what is under way is stopped.
    pub fn abandon(&self) {
        let mut state = self.state();
        state.requests.drain().for_each(|(_, under_way)| under_way.telling.abort());
        state.news.take().iter().for_each(AbortHandle::abort);
        state.watch = Watch::default();
    }

    /// Tells an event.
    fn tell(&self, request: Option<RequestId>, event: Event) {
        let at_ms = self.begun.elapsed().as_secs_f64() * 1e3;
        let mut state = self.state();
        let envelope = state.sequencer.wrap(at_ms, request, event);
        let sequence = envelope.sequence;
        let text = FromNode::Envelope(Box::new(envelope)).to_json();
        state.kept_bytes += text.len();
        state.kept.push_back((sequence, text));
        state.make_room();
        drop(state);
        self.next.send_modify(|next| *next = (*next).max(sequence + 1));
    }

    /// Tells that a request failed before anything was done.
    fn fail(&self, request: RequestId, stage: Stage, (message, advice): (String, &str)) {
        let failure = Failure { kind: FailureKind::Request, message, advice: advice.to_owned(), parameter: None };
        self.tell(Some(request), Event::Failed { stage, failure });
    }

    /// Ends the session with this once its connection looks.
    fn refuse(&self, message: String, advice: &str) {
        let refusal = TunnelRefusal { message, stage: TunnelStage::Open, advice: advice.to_owned() };
        self.state().over.get_or_insert(refusal);
        self.next.send_modify(|_| {});
    }

    /// Does what the watcher asks for, and counts it.
    pub fn take(self: &Arc<Self>, hub: &Arc<Hub<A>>, connection: u64, request: Request) {
        let mut state = self.state();
        if state.connection != connection {
            // The connection that took the session over was told that this had not come, and sends it again.
            return;
        }
        state.taken_requests += 1;
        drop(state);
        let Request { version, id, command } = request;
        if version != PROTOCOL_VERSION {
            let message =
                format!("a request has protocol version {version}, this node speaks version {PROTOCOL_VERSION}");
            return self.refuse(message, "Use a page and a pylon of the same version.");
        }
        if self.state().requests.contains_key(&id) {
            let message = format!("request {} is under way, and another has its id", id.0);
            return self.refuse(message, "Give each request of a session an id of its own.");
        }
        match command {
            Command::Load { options, prompt, .. } => self.load(hub, id, &options, prompt),
            Command::Generate { prompt } => self.begin(hub, id, Command::Generate { prompt }),
            Command::Count { prompt } => self.begin(hub, id, Command::Count { prompt }),
            Command::Stop { request: None } => self.stop_all(),
            Command::Stop { request: Some(wanted) } => {
                self.state().requests.get(&wanted).iter().for_each(|under_way| under_way.stopper.stop());
            }
            Command::Watch { watch } => {
                self.state().watch = watch;
                hub.watch();
            }
            // What is loaded needs no approval.
            Command::Approve { .. } => {}
            Command::Download { .. } | Command::Gate { .. } | Command::Cache { .. } => {
                let message = "a node's tunnel takes load, generate, count, stop and watch, and nothing else";
                let advice = "Downloads, gates and the download cache are for files that the page reads itself.";
                self.fail(id, Stage::RangeCheck, (message.to_owned(), advice));
            }
        }
    }

    /// Tells what the node's own load told, and answers the prompt that came with the command.
    fn load(self: &Arc<Self>, hub: &Arc<Hub<A>>, id: RequestId, options: &LoadSettings, prompt: Option<Prompt>) {
        // When experts are read, how patiently, and what is cached is the business of whoever reads the file.
        let asked = LoadOptions { experts: ExpertLoading::default(), ..options.engine.clone() };
        let mut set = set_beside(&asked, &LoadOptions::default());
        set.extend(set_beside(&options.gpu, &DeviceOptions::default()));
        if !set.is_empty() {
            let message = format!("the node has loaded its model already, and here {}", set.join(", "));
            let advice =
                "Set that back to its default, or start the node with it: pylon api --help has the options' names.";
            return self.fail(id, Stage::RangeCheck, (message, advice));
        }
        // From here on, so that nothing is missed between what stands and what changes.
        self.follow_news(hub);
        let Some(standing) = hub.engine.standing() else {
            let message = "the node has no model".to_owned();
            return self.fail(id, Stage::RangeCheck, (message, "Start the node again."));
        };
        standing.into_iter().for_each(|event| self.tell(Some(id), event));
        if let Some(prompt) = prompt {
            self.begin(hub, id, Command::Generate { prompt });
        }
    }

    /// Begins something of which the node tells.
    fn begin(self: &Arc<Self>, hub: &Arc<Hub<A>>, id: RequestId, command: Command) {
        let stage = Stage::PromptEncode;
        if *hub.closing().borrow() {
            let message = "the node is shutting down".to_owned();
            return self.fail(id, stage, (message, "Start it again, and load again."));
        }
        if let Some(open) = hub.room.full() {
            let message = format!("{open} requests are being answered or wait, which is as many as this node takes");
            return self.fail(id, stage, (message, "Try again later."));
        }
        let mut answer = hub.engine.begin(command, A::default());
        let stopper = answer.stopper();
        let session = Arc::clone(self);
        // Held until the request is known, which its end forgets.
        let mut state = self.state();
        let telling = tokio::spawn(async move {
            while let Some(event) = answer.next().await {
                session.tell(Some(id), event);
            }
            session.state().requests.remove(&id);
            session.next.send_modify(|_| {});
        });
        state.requests.insert(id, UnderWay { stopper, telling: telling.abort_handle() });
    }

    /// Tells what happens to the node as a whole from now on, whoever it happens for.
    fn follow_news(self: &Arc<Self>, hub: &Arc<Hub<A>>) {
        let mut state = self.state();
        if state.news.is_some() {
            return;
        }
        let (session, mut news) = (Arc::clone(self), hub.engine.news());
        let following = tokio::spawn(async move {
            loop {
                match news.recv().await {
                    Ok((request, event)) if !session.hears_of(request) => session.tell(None, event),
                    Ok(_) => {}
                    Err(RecvError::Closed) => return,
                    Err(RecvError::Lagged(missed)) => {
                        let message = format!("the node could not keep {missed} events for this session");
                        return session.refuse(message, "Load again.");
                    }
                }
            }
        });
        state.news = Some(following.abort_handle());
    }

    /// Whether a request of the node's is one of this session, which is told of it anyway.
    fn hears_of(&self, request: Option<RequestId>) -> bool {
        let state = self.state();
        request.is_some_and(|id| state.requests.values().any(|under_way| under_way.stopper.is_of(id)))
    }
}

impl<A> State<A> {
    /// Messages before this one are not wanted any more.
    fn forget(&mut self, next_sequence: u64) {
        while let Some((_, text)) = self.kept.pop_front_if(|(sequence, _)| *sequence < next_sequence) {
            self.kept_bytes -= text.len();
        }
    }

    /// What was sent makes room for what was not. Where that is too much, the watcher is too slow.
    fn make_room(&mut self) {
        let sent = self.sent;
        while self.kept_bytes > MOST_KEPT_BYTES
            && let Some((_, text)) = self.kept.pop_front_if(|(sequence, _)| *sequence < sent)
        {
            self.kept_bytes -= text.len();
        }
        if self.kept_bytes > MOST_KEPT_BYTES {
            let mebibytes = MOST_KEPT_BYTES >> 20;
            self.over.get_or_insert(TunnelRefusal {
                message: format!("{mebibytes} MiB of events wait to be taken, which is as much as the node keeps"),
                stage: TunnelStage::Open,
                advice: "Load again. If it happens again, the connection is too slow for what is watched.".to_owned(),
            });
        }
    }
}
