//! The sessions of the tunnel to one model's node.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use gptoss_protocol::{TunnelRefusal, TunnelResume, TunnelStage, Watch};
use serve_kit::token::Secret;
use tokio::sync::watch;

use super::session::Session;
use crate::engine::Engine;
use crate::models::{ModelCard, Room};
use crate::server::Engaged;

/// Sessions at the same time, those included whose connection broke.
const MOST_SESSIONS: usize = 64;

/// How long a session is kept whose connection broke: its work goes on meanwhile.
pub(super) const KEPT: Duration = Duration::from_secs(30);

/// All sessions, and what they share.
pub(crate) struct Hub<A> {
    pub(super) engine: Engine<A>,
    /// Id of the model.
    pub(super) model: String,
    /// Requests of all clients and models that are answered or wait at the same time.
    pub(super) room: Arc<Room<A>>,
    key: Option<Secret>,
    sessions: Mutex<HashMap<String, Arc<Session<A>>>>,
    /// Whether the node is ending.
    closing: watch::Sender<bool>,
}

impl<A: Engaged> Hub<A> {
    /// A hub without sessions. Watchers have to bring `key`, if there is one.
    pub fn new(engine: &Engine<A>, card: &ModelCard, room: Arc<Room<A>>, key: Option<Secret>) -> Self {
        let (sessions, closing) = (Mutex::default(), watch::Sender::new(false));
        Self { engine: engine.clone(), model: card.id.clone(), room, key, sessions, closing }
    }

    fn sessions(&self) -> MutexGuard<'_, HashMap<String, Arc<Session<A>>>> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a key is wanted, and this is not it.
    pub(super) fn refuses(&self, given: Option<&str>) -> bool {
        self.key.as_ref().is_some_and(|key| !given.is_some_and(|given| key.is(given.as_bytes())))
    }

    /// Whether a key is wanted, and this is it.
    pub(super) fn has_key(&self, given: &[u8]) -> bool {
        self.key.as_ref().is_some_and(|key| key.is(given))
    }

    /// Sessions that are there.
    pub fn count(&self) -> usize {
        self.sessions().len()
    }

    /// A new session.
    pub(super) fn begin(&self) -> Result<Arc<Session<A>>, TunnelRefusal> {
        let mut sessions = self.sessions();
        if sessions.len() >= MOST_SESSIONS {
            return Err(TunnelRefusal {
                message: format!("{MOST_SESSIONS} sessions are open, which is as many as this node takes"),
                stage: TunnelStage::Hello,
                advice: "Close some of them, or try again later.".to_owned(),
            });
        }
        let session = Arc::new(Session::new());
        sessions.insert(session.id.clone(), Arc::clone(&session));
        Ok(session)
    }

    /// A session whose connection broke, if it still has what the watcher wants.
    pub(super) fn resume(&self, resume: &TunnelResume) -> Result<Arc<Session<A>>, TunnelRefusal> {
        let refuse = |message: String| TunnelRefusal {
            message,
            stage: TunnelStage::Resume,
            advice: "Load again: the node has the model, and the conversation is here.".to_owned(),
        };
        let Some(session) = self.sessions().get(&resume.session).cloned() else {
            let seconds = KEPT.as_secs();
            return Err(refuse(format!(
                "the node does not know this session any more: it was away for longer than {seconds} s, or the node was started anew"
            )));
        };
        if !session.has_from(resume.next_sequence) {
            self.end(&session);
            return Err(refuse("too much has happened since, which the node did not keep".to_owned()));
        }
        Ok(session)
    }

    /// A session is over: what it asked for is stopped.
    pub(super) fn end(&self, session: &Session<A>) {
        session.abandon();
        self.sessions().remove(&session.id);
        self.watch();
    }

    /// Ends a session, unless its watcher comes back in time.
    pub(super) fn end_later(self: &Arc<Self>, session: Arc<Session<A>>, connection: u64) {
        if *self.closing.borrow() {
            return self.end(&session);
        }
        let hub = Arc::clone(self);
        tokio::spawn(async move {
            tokio::time::sleep(KEPT).await;
            if session.is_connected_by(connection) {
                hub.end(&session);
            }
        });
    }

    /// Has the node tell what at least one of the sessions looks at.
    pub(super) fn watch(&self) {
        let watches: Vec<Watch> = self.sessions().values().map(|session| session.watch()).collect();
        self.engine.watch(watches.iter().fold(Watch::default(), |all, one| Watch {
            routes: all.routes || one.routes,
            residual: all.residual || one.residual,
            attention: all.attention.or(one.attention),
            times: all.times || one.times,
        }));
    }

    /// Tells whether the node is ending, and when it begins to.
    pub(super) fn closing(&self) -> watch::Receiver<bool> {
        self.closing.subscribe()
    }

    /// The node is ending: sessions without work are closed, those with work take no more.
    pub fn close(&self) {
        self.closing.send_replace(true);
    }
}
