//! One connection of a session: messages in, messages out, until either side ends.

use std::sync::Arc;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use gptoss_protocol::{
    ALIVE_EVERY_MS, FromNode, MOST_MESSAGE_BYTES, PROTOCOL_VERSION, SILENCE_MS, TUNNEL_VERSION, ToNode, TunnelHello,
    TunnelRefusal, TunnelStage, TunnelWelcome,
};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::time::{Instant, interval_at, timeout};
use tokio_websockets::{CloseCode, Error, Limits, Message, ServerBuilder, WebSocketStream};

use super::hub::{Hub, KEPT};
use super::session::Session;
use crate::server::Engaged;

/// The first message has to be here after this long.
const HELLO: Duration = Duration::from_secs(10);

/// A message that is not taken for so long ends the connection.
const STALL: Duration = Duration::from_secs(30);

/// The other side is asked this often whether it is there, and gone if it says nothing for [`SILENCE`]. It is told so, too, since
/// browsers keep questions of this kind from pages.
const PING: Duration = Duration::from_millis(ALIVE_EVERY_MS);
const SILENCE: Duration = Duration::from_millis(SILENCE_MS);

type Socket = WebSocketStream<TokioIo<Upgraded>>;

/// How a connection ended.
enum End {
    /// The watcher is done.
    Left,
    /// The connection broke, and the watcher may come back.
    Broke,
    /// Another connection has taken the session over.
    Replaced,
    /// The node ends it, and says why.
    Refused(TunnelRefusal),
}

/// Talks with a watcher. `has_key`: it has shown the node's key already.
pub(super) async fn run<A: Engaged>(hub: &Arc<Hub<A>>, stream: Upgraded, has_key: bool) {
    let limits = Limits::default().max_payload_len(Some(MOST_MESSAGE_BYTES));
    let mut socket = ServerBuilder::new().limits(limits).serve(TokioIo::new(stream));
    let (session, next_sequence) = match meet(hub, &mut socket, has_key).await {
        Ok(Some(met)) => met,
        Ok(None) => return,
        Err(refusal) => return refuse(&mut socket, refusal).await,
    };
    let connection = session.connect(next_sequence);
    let welcome = TunnelWelcome {
        version: TUNNEL_VERSION,
        protocol: PROTOCOL_VERSION,
        session: session.id.clone(),
        model: hub.model.clone(),
        kept_ms: KEPT.as_millis() as u64,
        taken_requests: session.taken_requests(),
    };
    let end = match send(&mut socket, FromNode::Welcome(welcome).to_json()).await {
        true => serve(hub, &session, &mut socket, connection).await,
        false => End::Broke,
    };
    match end {
        // Whoever has come back over another connection has not left by this one.
        End::Left if !session.is_connected_by(connection) => {}
        End::Left => hub.end(&session),
        End::Broke => hub.end_later(session, connection),
        End::Replaced => {}
        End::Refused(refusal) => {
            hub.end(&session);
            refuse(&mut socket, refusal).await;
        }
    }
}

/// Says why there is no tunnel.
pub(super) async fn run_refused(stream: Upgraded, refusal: TunnelRefusal) {
    let mut socket = ServerBuilder::new().serve(TokioIo::new(stream));
    refuse(&mut socket, refusal).await;
}

/// The session that the watcher is for, and what of it is there already; `None` if it went away.
async fn meet<A: Engaged>(
    hub: &Hub<A>,
    socket: &mut Socket,
    has_key: bool,
) -> Result<Option<(Arc<Session<A>>, u64)>, TunnelRefusal> {
    let refuse = |message: String, advice: &str| {
        Err(TunnelRefusal { message, stage: TunnelStage::Hello, advice: advice.to_owned() })
    };
    let Ok(first) = timeout(HELLO, socket.next()).await else {
        return refuse(format!("no hello came within {} s", HELLO.as_secs()), "Send hello first.");
    };
    let Some(Ok(first)) = first else { return Ok(None) };
    let TunnelHello { version, protocol, key, resume } = match first.as_text().map(ToNode::from_json) {
        Some(Ok(ToNode::Hello(hello))) => hello,
        Some(Err(error)) => return refuse(format!("the first message is no hello: {error}"), "Send hello first."),
        _ => return refuse("the first message is no hello".to_owned(), "Send hello first."),
    };
    if (version, protocol) != (TUNNEL_VERSION, PROTOCOL_VERSION) {
        let message = format!(
            "the versions differ: this node has tunnel {TUNNEL_VERSION} and protocol {PROTOCOL_VERSION}, the watcher {version} and \
             {protocol}"
        );
        return refuse(message, "Use a page and a pylon of the same version.");
    }
    if !has_key && hub.refuses(key.as_deref()) {
        let message = "the node's API key is missing or wrong".to_owned();
        return refuse(message, "Give the key of --api-key: in the page's address field as pylon://KEY@host:port.");
    }
    match resume {
        None => Ok(Some((hub.begin()?, 0))),
        Some(resume) => Ok(Some((hub.resume(&resume)?, resume.next_sequence))),
    }
}

/// Sends what there is and takes what comes.
async fn serve<A: Engaged>(hub: &Arc<Hub<A>>, session: &Arc<Session<A>>, socket: &mut Socket, connection: u64) -> End {
    let mut changes = session.changes();
    let mut closing = hub.closing();
    let mut ping = interval_at(Instant::now() + PING, PING);
    let mut heard = Instant::now();
    loop {
        if !session.is_connected_by(connection) {
            return End::Replaced;
        }
        match session.to_send() {
            Ok(texts) => {
                for text in texts {
                    if !send(socket, text).await {
                        return End::Broke;
                    }
                }
            }
            Err(refusal) => return End::Refused(refusal),
        }
        if *closing.borrow() && session.is_idle() {
            return End::Refused(shutting_down());
        }
        tokio::select! {
            _ = changes.changed() => {}
            _ = closing.changed() => {}
            message = socket.next() => {
                heard = Instant::now();
                if let Some(end) = take(hub, (session, connection), message) {
                    return end;
                }
            }
            _ = ping.tick() => {
                let is_there = heard.elapsed() < SILENCE;
                let alive = FromNode::Alive { taken_requests: session.taken_requests() };
                let asked = is_there && matches!(timeout(STALL, socket.send(Message::ping(""))).await, Ok(Ok(())));
                if !asked || !send(socket, alive.to_json()).await {
                    return End::Broke;
                }
            }
        }
    }
}

/// Does what a message says; gives the end, if it is one.
fn take<A: Engaged>(
    hub: &Arc<Hub<A>>,
    (session, connection): (&Arc<Session<A>>, u64),
    message: Option<Result<Message, Error>>,
) -> Option<End> {
    let message = match message {
        Some(Ok(message)) => message,
        Some(Err(Error::PayloadTooLong { .. })) => {
            let message = format!("a message has more than {} MiB", MOST_MESSAGE_BYTES >> 20);
            let advice = "Shorten the conversation.".to_owned();
            return Some(End::Refused(TunnelRefusal { message, stage: TunnelStage::Open, advice }));
        }
        // Whatever it was: a connection that broke off says nothing, and one that breaks the protocol is not understood.
        _ => return Some(End::Broke),
    };
    if let Some((code, _)) = message.as_close() {
        let has_left = matches!(code, CloseCode::NORMAL_CLOSURE | CloseCode::GOING_AWAY);
        return Some(if has_left { End::Left } else { End::Broke });
    }
    let refuse = |message: String| {
        let advice = "Use a page and a pylon of the same version.".to_owned();
        Some(End::Refused(TunnelRefusal { message, stage: TunnelStage::Open, advice }))
    };
    if message.is_binary() {
        return refuse("a message is not text".to_owned());
    }
    match message.as_text().map(ToNode::from_json)? {
        Ok(ToNode::Request(request)) => session.take(hub, connection, request),
        Ok(ToNode::Seen { next_sequence }) => session.seen(next_sequence),
        Ok(ToNode::Bye) => return Some(End::Left),
        Ok(ToNode::Hello(_)) => return refuse("hello comes once".to_owned()),
        Err(error) => return refuse(format!("a message cannot be read: {error}")),
    }
    None
}

/// Whether the other side took a message in time.
async fn send(socket: &mut Socket, text: String) -> bool {
    matches!(timeout(STALL, socket.send(Message::text(text))).await, Ok(Ok(())))
}

/// Says why nothing more comes, and closes the connection.
async fn refuse(socket: &mut Socket, refusal: TunnelRefusal) {
    let code = match refusal.stage {
        TunnelStage::Closing => CloseCode::GOING_AWAY,
        _ => CloseCode::POLICY_VIOLATION,
    };
    if send(socket, FromNode::Refused(refusal).to_json()).await {
        // Whoever does not take this is gone anyway.
        let _ = timeout(STALL, socket.send(Message::close(Some(code), ""))).await;
    }
}

fn shutting_down() -> TunnelRefusal {
    TunnelRefusal {
        message: "the node is shutting down".to_owned(),
        stage: TunnelStage::Closing,
        advice: "Start it again, and load again.".to_owned(),
    }
}
