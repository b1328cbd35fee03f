//! One connection: its encryption, its protocol, its limits.

use std::convert::Infallible;
use std::error::Error;
use std::pin::{Pin, pin};
use std::sync::Arc;

use hyper::body::{Body, Bytes, Incoming};
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;

use crate::activity::{Activity, Traffic, Watched, in_time};
use crate::limits::Limits;

/// Answers under way at one time on an HTTP/2 connection: four ranges, and some for everything else.
const STREAMS: u32 = 16;

/// hyper copies at most this much of each stream's body before the client takes it.
const STREAM_SEND_BYTES: usize = 256 << 10;

/// More headers, or longer ones, than these are answered with 431.
const MAX_HEADERS: usize = 64;
const MAX_HEADER_BYTES: usize = 32 << 10;

/// What answers the requests of a server.
pub trait Responder: Send + Sync + 'static {
    /// The bytes of an answer.
    type Body: Body<Data = Bytes, Error: Into<Box<dyn Error + Send + Sync>>> + Send + 'static;

    /// Whether a client that has ended its side of an HTTP/1.1 connection still gets its answer. Where it does not, an
    /// answer that is being computed ends when its client goes away, even if nothing was sent yet.
    const ANSWERS_HALF_CLOSED: bool;

    /// Answers one request; there is no other outcome. For as long as the answer is under way, it holds what
    /// [`Activity::answering`] gives.
    fn answer(
        &self,
        request: Request<Incoming>,
        activity: &Arc<Activity>,
    ) -> impl Future<Output = Response<Self::Body>> + Send;

    /// No further connection is accepted.
    fn stopping(&self) {}

    /// The time for answers under way is over. `true` if they are being ended: then they have [`LAST_WORDS`] to say so.
    ///
    /// [`LAST_WORDS`]: crate::server::LAST_WORDS
    fn end_answers(&self) -> bool {
        false
    }
}

/// What all connections of a server share.
pub(crate) struct Shared<R> {
    pub(crate) encrypt: Option<TlsAcceptor>,
    pub(crate) responder: Arc<R>,
    pub(crate) limits: Limits,
    pub(crate) traffic: Arc<Traffic>,
}

/// Serves a connection until it ends, is told to by a change of `ending`, or has waited for too long.
///
/// What goes wrong here is the client's doing, or the body's, and the responder knows of it.
pub(crate) async fn serve_connection<R: Responder>(
    stream: TcpStream,
    shared: &Shared<R>,
    ending: &mut watch::Receiver<()>,
) {
    let Some(acceptor) = &shared.encrypt else {
        return speak_http1(stream, shared, ending).await;
    };
    let Ok(stream) = in_time(&shared.limits, acceptor.accept(stream)).await else { return };
    match stream.get_ref().1.alpn_protocol() {
        Some(b"h2") => speak_http2(stream, shared, ending).await,
        _ => speak_http1(stream, shared, ending).await,
    }
}

async fn speak_http1<S, R: Responder>(stream: S, shared: &Shared<R>, ending: &mut watch::Receiver<()>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let activity = Activity::new(false, Arc::clone(&shared.traffic));
    let answer = answering(Arc::clone(&shared.responder), &activity);
    let connection = http1::Builder::new()
        .half_close(R::ANSWERS_HALF_CLOSED)
        .max_headers(MAX_HEADERS)
        .max_buf_size(MAX_HEADER_BYTES)
        .serve_connection(TokioIo::new(Watched::new(stream, Arc::clone(&activity))), service_fn(answer))
        .with_upgrades();
    let end = |connection: Pin<&mut http1::UpgradeableConnection<_, _>>| connection.graceful_shutdown();
    run(until_told(connection, end, ending), &activity, &shared.limits).await;
    activity.continued().await;
}

async fn speak_http2<S, R: Responder>(stream: S, shared: &Shared<R>, ending: &mut watch::Receiver<()>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let activity = Activity::new(true, Arc::clone(&shared.traffic));
    let answer = answering(Arc::clone(&shared.responder), &activity);
    let connection = http2::Builder::new(TokioExecutor::new())
        .max_concurrent_streams(STREAMS)
        .max_header_list_size(MAX_HEADER_BYTES as u32)
        .max_send_buf_size(STREAM_SEND_BYTES)
        .serve_connection(TokioIo::new(Watched::new(stream, Arc::clone(&activity))), service_fn(answer));
    let end = |connection: Pin<&mut http2::Connection<_, _, _>>| connection.graceful_shutdown();
    run(until_told(connection, end, ending), &activity, &shared.limits).await;
}

type Answer<B> = Pin<Box<dyn Future<Output = Result<Response<B>, Infallible>> + Send>>;

/// The service of one connection, as hyper wants it.
fn answering<R: Responder>(
    responder: Arc<R>,
    activity: &Arc<Activity>,
) -> impl Fn(Request<Incoming>) -> Answer<R::Body> + use<R> {
    let activity = Arc::clone(activity);
    move |request| {
        let (responder, activity) = (Arc::clone(&responder), Arc::clone(&activity));
        Box::pin(async move { Ok(responder.answer(request, &activity).await) })
    }
}

/// A connection that is told by a change of `ending` to finish what is under way and then `end`.
async fn until_told<C: Future>(
    connection: C,
    end: impl FnOnce(Pin<&mut C>),
    ending: &mut watch::Receiver<()>,
) -> C::Output {
    let mut connection = pin!(connection);
    tokio::select! {
        // A connection that has ended is not told to.
        biased;
        done = &mut connection => return done,
        _ = ending.changed() => end(connection.as_mut()),
    }
    connection.await
}

/// Drives a connection until it is done or overdue; dropping it closes it.
async fn run<C: Future>(connection: C, activity: &Activity, limits: &Limits) {
    tokio::select! {
        _ = activity.in_turns(connection) => {}
        () = activity.overdue(limits) => {}
    }
}

/// Whether a connection has to end with the answer to a request whose body nobody reads, and the answer has to say so
/// (RFC 9112, 9.6): hyper reads only little of it away.
pub fn must_close(body: &impl Body) -> bool {
    const READ_AWAY_BYTES: u64 = 8 << 10;
    !body.is_end_stream() && body.size_hint().upper().is_none_or(|bytes| bytes > READ_AWAY_BYTES)
}
