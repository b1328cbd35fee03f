//! One connection: its encryption, its protocol, its limits.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;

use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::graceful::Watcher;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;

use crate::activity::{Activity, Watched, in_time};
use crate::body::LoggedBody;
use crate::options::Limits;
use crate::service::Service;

/// Answers under way at one time on an HTTP/2 connection: four ranges, and some for everything else.
const STREAMS: u32 = 16;

/// hyper copies at most this much of each stream's body before the client takes it.
const STREAM_SEND_BYTES: usize = 256 << 10;

/// More headers, or longer ones, than these are answered with 431.
const MAX_HEADERS: usize = 64;
const MAX_HEADER_BYTES: usize = 32 << 10;

/// Serves a connection until it ends, is told to by `watcher`, or has waited for too long.
///
/// What goes wrong here is the client's doing, or the body's, and the access record has told of it.
pub(crate) async fn serve_connection(
    stream: TcpStream,
    encrypt: Option<TlsAcceptor>,
    service: Arc<Service>,
    limits: Limits,
    watcher: Watcher,
) {
    let Some(acceptor) = encrypt else {
        return speak_http1(stream, service, limits, watcher).await;
    };
    let Ok(stream) = in_time(&limits, acceptor.accept(stream)).await else { return };
    match stream.get_ref().1.alpn_protocol() {
        Some(b"h2") => speak_http2(stream, service, limits, watcher).await,
        _ => speak_http1(stream, service, limits, watcher).await,
    }
}

async fn speak_http1<S>(stream: S, service: Arc<Service>, limits: Limits, watcher: Watcher)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let activity = Activity::new(false, Arc::clone(&service.traffic));
    let answer = answering(service, &activity);
    let connection = http1::Builder::new()
        // A client may end its side after its last request, and still wants the answer.
        .half_close(true)
        .max_headers(MAX_HEADERS)
        .max_buf_size(MAX_HEADER_BYTES)
        .serve_connection(TokioIo::new(Watched::new(stream, Arc::clone(&activity))), service_fn(answer));
    run(watcher.watch(connection), &activity, &limits).await;
}

async fn speak_http2<S>(stream: S, service: Arc<Service>, limits: Limits, watcher: Watcher)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let activity = Activity::new(true, Arc::clone(&service.traffic));
    let answer = answering(service, &activity);
    let connection = http2::Builder::new(TokioExecutor::new())
        .max_concurrent_streams(STREAMS)
        .max_header_list_size(MAX_HEADER_BYTES as u32)
        .max_send_buf_size(STREAM_SEND_BYTES)
        .serve_connection(TokioIo::new(Watched::new(stream, Arc::clone(&activity))), service_fn(answer));
    run(watcher.watch(connection), &activity, &limits).await;
}

type Answer = Pin<Box<dyn Future<Output = Result<Response<LoggedBody>, Infallible>> + Send>>;

/// The service of one connection, as hyper wants it.
fn answering(service: Arc<Service>, activity: &Arc<Activity>) -> impl Fn(Request<Incoming>) -> Answer + use<> {
    let activity = Arc::clone(activity);
    move |request| {
        let (service, activity) = (Arc::clone(&service), Arc::clone(&activity));
        Box::pin(async move { Ok(service.answer(request, &activity).await) })
    }
}

/// Drives a connection until it is done or overdue; dropping it closes it.
async fn run<C: Future>(connection: C, activity: &Activity, limits: &Limits) {
    tokio::select! {
        _ = activity.in_turns(connection) => {}
        () = activity.overdue(limits) => {}
    }
}
