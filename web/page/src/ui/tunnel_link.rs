//! A node at the other end of a WebSocket, in the worker's place: commands out, events in, through connections that break.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;

use gptoss_protocol::{
    ALIVE_EVERY_MS, Command, Event, Failure, FailureKind, FromNode, MOST_MESSAGE_BYTES, NextAttempt, Request,
    RequestId, SILENCE_MS, Sequencer, Stage, ToNode, Trouble, TroubleKind, TunnelHello, TunnelResume, TunnelWelcome,
};
use gptoss_source::words_of;
use web_sys::{CloseEvent, MessageEvent, WebSocket};

use super::dom::{after, listen, report, window};
use super::worker_link::WorkerLink;
use super::{App, local_network, now_ms};
use crate::node_address::NodeAddress;

/// Events after which the node learns that they came, so that it need not keep them.
const SEEN_EVERY: u64 = 64;

/// Time before the first attempt to come back; each further one waits for twice as long, up to the last.
const FIRST_WAIT_MS: f64 = 250.0;
const LONGEST_WAIT_MS: f64 = 4000.0;

/// An attempt to come back that is not answered by then has failed.
const REACHED_WITHIN_MS: f64 = 10_000.0;

/// `WebSocket.close` of somebody who is done.
const DONE: u16 = 1000;

/// `WebSocket.close` of somebody who comes back over another connection: a code of our own (RFC 6455, 7.4.2), by which the node
/// keeps the session.
const COMES_BACK: u16 = 4000;

/// The tunnel that is in use, if one is.
#[derive(Default)]
pub struct TunnelLink {
    current: RefCell<Option<Rc<Tunnel>>>,
}

struct Tunnel {
    address: NodeAddress,
    socket: RefCell<Option<WebSocket>>,
    /// What the node said last; `None` before its first word.
    welcome: RefCell<Option<TunnelWelcome>>,
    /// Sequence number of the envelope that comes next.
    next_sequence: Cell<u64>,
    requests: RefCell<Requests>,
    /// When the node last said anything, or the connection was begun.
    heard_ms: Cell<f64>,
    /// When the connection broke, and the attempts since.
    broken: Cell<Option<(f64, u32)>>,
    /// The load that it was opened for.
    load: RequestId,
    /// Numbers what a host would tell, and the node cannot.
    sequencer: RefCell<Sequencer>,
}

/// Requests of the session that the node is not known to have taken: what was sent into a connection that breaks may never come.
#[derive(Default)]
struct Requests {
    /// How many it has taken, those of before included.
    taken: u64,
    /// The others, as they are sent; the first is the one with the number `taken`.
    open: VecDeque<String>,
}

impl Requests {
    /// The node has taken so many.
    fn confirm(&mut self, taken: u64) {
        let more = taken.saturating_sub(self.taken).min(self.open.len() as u64);
        self.open.drain(..more as usize);
        self.taken += more;
    }
}

/// Sends a command to whoever has the model: the node whose tunnel is in use, or the worker.
pub fn ask(app: &Rc<App>, command: Command) {
    let current = app.tunnel.current.borrow().clone();
    match current {
        Some(tunnel) => {
            let id = app.note(&command);
            tunnel.request(app, Request::new(id, command));
        }
        None => WorkerLink::ask(app, command, &[]),
    }
}

impl TunnelLink {
    /// Whether a node has the model.
    pub fn is_in_use(app: &App) -> bool {
        app.tunnel.current.borrow().is_some()
    }

    /// Loads through a node, which takes the worker's place once it answers.
    pub fn load(app: &Rc<App>, command: Command, address: NodeAddress) {
        Self::close(app);
        let load = app.note(&command);
        let tunnel = Rc::new(Tunnel {
            address,
            socket: RefCell::default(),
            welcome: RefCell::default(),
            next_sequence: Cell::new(0),
            requests: RefCell::default(),
            heard_ms: Cell::new(now_ms()),
            broken: Cell::new(None),
            load,
            sequencer: RefCell::new(Sequencer::new(js_sys::Date::now() as u64)),
        });
        app.tunnel.current.replace(Some(Rc::clone(&tunnel)));
        tunnel.request(app, Request::new(load, command));
        tunnel.connect(app);
        tunnel.listen_for_silence(app);
    }

    /// Leaves the node, whose model is not this page's any more.
    pub fn close(app: &Rc<App>) {
        let Some(tunnel) = app.tunnel.current.take() else { return };
        tunnel.leave();
        if tunnel.welcome.borrow().is_some() {
            tunnel.tell(app, None, Event::Unloaded);
        }
    }

    /// The user ends the engine: the node stops what it does for this page.
    pub fn end(app: &Rc<App>) {
        if let Some(tunnel) = app.tunnel.current.take() {
            tunnel.leave();
            app.tell(Event::HostEnded);
        }
    }
}

impl Tunnel {
    /// Whether this is the tunnel in use: of others nothing is wanted any more.
    fn is_current(self: &Rc<Self>, app: &App) -> bool {
        app.tunnel.current.borrow().as_ref().is_some_and(|current| Rc::ptr_eq(current, self))
    }

    /// Tells what a host would have.
    fn tell(&self, app: &Rc<App>, request: Option<RequestId>, event: Event) {
        let envelope = self.sequencer.borrow_mut().wrap(now_ms(), request, event);
        app.apply(envelope);
    }

    /// Asks, at once or when there is a connection, and again over the next one if the node did not hear it.
    fn request(&self, app: &Rc<App>, request: Request) {
        let (id, text) = (request.id, ToNode::Request(request).to_json());
        if text.len() > MOST_MESSAGE_BYTES {
            let failure = Failure {
                kind: FailureKind::Request,
                message: format!(
                    "the request has {} MiB, and a node takes {} MiB",
                    text.len() >> 20,
                    MOST_MESSAGE_BYTES >> 20
                ),
                advice: "Shorten the prompt or the conversation.".to_owned(),
                parameter: None,
            };
            return self.tell(app, Some(id), Event::Failed { stage: Stage::PromptEncode, failure });
        }
        self.send(&text);
        self.requests.borrow_mut().open.push_back(text);
    }

    /// Sends a message, if there is a connection.
    fn send(&self, text: &str) {
        let is_open = self.broken.get().is_none() && self.welcome.borrow().is_some();
        if let Some(socket) = self.socket.borrow().as_ref().filter(|_| is_open) {
            report(socket.send_with_str(text));
        }
    }

    /// A line that goes dead says nothing, and neither does the browser.
    fn listen_for_silence(self: &Rc<Self>, app: &Rc<App>) {
        let (tunnel, app) = (Rc::clone(self), Rc::clone(app));
        after(ALIVE_EVERY_MS as f64 / 3.0, move || {
            if !tunnel.is_current(&app) {
                return;
            }
            let most_ms = if tunnel.broken.get().is_some() { REACHED_WITHIN_MS } else { SILENCE_MS as f64 };
            let is_silent = now_ms() - tunnel.heard_ms.get() > most_ms;
            if is_silent && let Some(socket) = tunnel.socket.take() {
                // Its own end may be long in coming, and means nothing any more.
                report(socket.close_with_code(COMES_BACK));
                tunnel.closed(&app);
            }
            tunnel.listen_for_silence(&app);
        });
    }

    fn leave(&self) {
        if let Some(socket) = self.socket.take() {
            report(socket.close_with_code(DONE));
        }
    }

    fn connect(self: &Rc<Self>, app: &Rc<App>) {
        let page = window().location().href().unwrap_or_default();
        let socket = match WebSocket::new(&self.address.tunnel_url(&page)) {
            Ok(socket) => socket,
            Err(error) => return self.fail(app, format!("the tunnel cannot be opened: {}", words_of(&error))),
        };
        let tunnel = Rc::clone(self);
        let opened = socket.clone();
        listen(&socket, "open", move |_: web_sys::Event| {
            let resume = tunnel.welcome.borrow().as_ref().map(|welcome| TunnelResume {
                session: welcome.session.clone(),
                next_sequence: tunnel.next_sequence.get(),
            });
            let hello = ToNode::Hello(TunnelHello::new(tunnel.address.key.clone(), resume));
            report(opened.send_with_str(&hello.to_json()));
        });
        let (tunnel, receiver, receiving) = (Rc::clone(self), Rc::clone(app), socket.clone());
        listen(&socket, "message", move |message: MessageEvent| {
            if tunnel.is_current(&receiver) && tunnel.socket.borrow().as_ref() == Some(&receiving) {
                tunnel.receive(&receiver, &message);
            }
        });
        let (tunnel, watcher, closing) = (Rc::clone(self), Rc::clone(app), socket.clone());
        listen(&socket, "close", move |_: CloseEvent| {
            if tunnel.is_current(&watcher) && tunnel.socket.borrow().as_ref() == Some(&closing) {
                tunnel.closed(&watcher);
            }
        });
        self.heard_ms.set(now_ms());
        self.socket.replace(Some(socket));
    }

    fn receive(self: &Rc<Self>, app: &Rc<App>, message: &MessageEvent) {
        self.heard_ms.set(now_ms());
        let read = message.data().as_string().ok_or_else(|| "it is not text".to_owned());
        match read.and_then(|text| FromNode::from_json(&text)) {
            Ok(FromNode::Welcome(welcome)) => self.welcomed(app, welcome),
            Ok(FromNode::Envelope(envelope)) => {
                let next = envelope.sequence + 1;
                if next > self.next_sequence.replace(next) {
                    app.apply(*envelope);
                }
                if next % SEEN_EVERY == 0 {
                    self.send(&ToNode::Seen { next_sequence: next }.to_json());
                }
            }
            Ok(FromNode::Alive { taken_requests }) => self.requests.borrow_mut().confirm(taken_requests),
            Ok(FromNode::Refused(refusal)) => {
                let failure = Failure {
                    kind: FailureKind::Upstream,
                    message: refusal.message,
                    advice: refusal.advice,
                    parameter: None,
                };
                self.end(app, failure);
            }
            Err(words) => self.fail(app, format!("the node sent something that cannot be read: {words}")),
        }
    }

    fn welcomed(self: &Rc<Self>, app: &Rc<App>, welcome: TunnelWelcome) {
        self.requests.borrow_mut().confirm(welcome.taken_requests);
        let is_first = self.welcome.replace(Some(welcome)).is_none();
        if is_first {
            // The memory of the page's own model is wanted elsewhere.
            if app.state.borrow().holds_model() {
                WorkerLink::renew(app);
                self.tell(app, None, Event::Unloaded);
            }
        } else if let Some((since_ms, attempts)) = self.broken.take() {
            let elapsed_ms = now_ms() - since_ms;
            let file = self.address.public();
            self.tell(app, None, Event::TroubleOver { file, offset_bytes: 0, attempts, elapsed_ms });
        }
        self.broken.set(None);
        for text in &self.requests.borrow().open {
            self.send(text);
        }
        app.watch_anew();
    }

    /// The connection is gone, or never was.
    fn closed(self: &Rc<Self>, app: &Rc<App>) {
        self.socket.take();
        let Some(kept_ms) = self.welcome.borrow().as_ref().map(|welcome| welcome.kept_ms as f64) else {
            return self.unreachable(app);
        };
        let (since_ms, attempts) = self.broken.get().unwrap_or((now_ms(), 0));
        if now_ms() - since_ms > kept_ms {
            let seconds = kept_ms / 1000.0;
            let message =
                format!("the connection to {} broke, and did not come back within {seconds} s", self.address.public());
            let advice = "Load again once the node can be reached: the conversation is here.".to_owned();
            return self.end(app, Failure { kind: FailureKind::Unavailable, message, advice, parameter: None });
        }
        let wait_ms = (FIRST_WAIT_MS * f64::from(1 << attempts.min(8))).min(LONGEST_WAIT_MS);
        self.broken.set(Some((since_ms, attempts + 1)));
        let most = attempts_within(kept_ms);
        let next = Some(NextAttempt { attempt: attempts + 1, attempts: most, wait_ms });
        let file = self.address.public();
        let trouble = Trouble { what: TroubleKind::NodeGone, file, offset_bytes: 0, missing_bytes: 0, next };
        self.tell(app, None, Event::Trouble(trouble));
        let (tunnel, app) = (Rc::clone(self), Rc::clone(app));
        after(wait_ms, move || {
            if tunnel.is_current(&app) {
                tunnel.connect(&app);
            }
        });
    }

    /// Nothing answers. The browser does not tell a page why.
    fn unreachable(self: &Rc<Self>, app: &Rc<App>) {
        app.tunnel.current.take();
        let address = self.address.public();
        let failure = Failure {
            kind: FailureKind::Unavailable,
            message: format!("no pylon node answers this page at {address}"),
            advice: "Start one there with `pylon api`. It takes pages from this machine; for others start it with --allow-origin and this \
                     page's origin. One that was started with --tls is at pylons:// in place of pylon://."
                .to_owned(),
            parameter: None,
        };
        let event = Event::Failed { stage: Stage::RangeCheck, failure };
        self.tell(app, Some(self.load), event.clone());
        local_network::look_at(app, &event);
    }

    fn fail(self: &Rc<Self>, app: &Rc<App>, message: String) {
        let advice = "Use a page and a pylon of the same version.".to_owned();
        self.end(app, Failure { kind: FailureKind::Upstream, message, advice, parameter: None });
    }

    /// Nothing more comes of this tunnel.
    fn end(self: &Rc<Self>, app: &Rc<App>, failure: Failure) {
        app.tunnel.current.take();
        self.leave();
        match self.welcome.borrow().is_some() {
            true => app.tell(Event::HostDied(failure)),
            // What the worker has loaded is still there.
            false => self.tell(app, Some(self.load), Event::Failed { stage: Stage::RangeCheck, failure }),
        }
    }
}

/// Attempts to come back that fit into this time.
fn attempts_within(kept_ms: f64) -> u32 {
    let mut waited_ms = 0.0;
    let mut attempts = 0;
    while waited_ms <= kept_ms {
        waited_ms += (FIRST_WAIT_MS * f64::from(1 << attempts.min(8))).min(LONGEST_WAIT_MS);
        attempts += 1;
    }
    attempts
}
