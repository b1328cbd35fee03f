//! `/tunnel`: a WebSocket over which a watcher, such as the page, commands this node and sees all that it tells. The messages are
//! those of [`gptoss_protocol`]'s tunnel.

mod handshake;
mod hub;
mod session;
mod socket;

use std::sync::Arc;

use axum::extract::Request;
use axum::response::{IntoResponse, Response};
use gptoss_protocol::{TunnelRefusal, TunnelStage};
use hyper::upgrade::Upgraded;
use serve_kit::activity::Activity;
use serve_kit::token::bearers;
use tokio::sync::oneshot;

pub(crate) use self::hub::Hub;
use crate::error::ApiError;
use crate::server::Engaged;

/// The activity of a request's connection, among its extensions.
#[derive(Clone)]
pub(crate) struct Connection(pub Arc<Activity>);

/// Answers a request for the tunnel, which becomes one.
pub(crate) fn open<A: Engaged>(hub: &Arc<Hub<A>>, request: Request) -> Result<Response, ApiError> {
    let has_key = bearers(request.headers()).any(|given| hub.has_key(given));
    let hub = Arc::clone(hub);
    upgrade(request, move |stream| async move { socket::run(&hub, stream, has_key).await })
}

/// Answers a request for a tunnel that there is none of. A browser keeps status and words of an answer to it from pages, so that
/// they are told over the WebSocket, and in the answer to whoever asks for none.
pub(crate) fn open_none(request: Request, error: ApiError, advice: &'static str) -> Result<Response, ApiError> {
    if handshake::accept(request.headers()).is_err() {
        return Err(error);
    }
    let message = error.message;
    let refusal = TunnelRefusal { message, stage: TunnelStage::Hello, advice: advice.to_owned() };
    upgrade(request, move |stream| socket::run_refused(stream, refusal))
}

/// Makes a WebSocket of a request's connection, and hands it over.
fn upgrade<F: Future<Output = ()> + Send>(
    mut request: Request,
    run: impl FnOnce(Upgraded) -> F + Send + 'static,
) -> Result<Response, ApiError> {
    let response = handshake::accept(request.headers())?;
    let Some(Connection(activity)) = request.extensions().get::<Connection>().cloned() else {
        return Err(ApiError::internal("the connection of this request is not known"));
    };
    let upgraded = hyper::upgrade::on(&mut request);
    let (done, until_done) = oneshot::channel::<()>();
    activity.continue_until(until_done);
    tokio::spawn(async move {
        // A client that is gone before its tunnel is there has nothing to be told.
        if let Ok(stream) = upgraded.await {
            run(stream).await;
        }
        drop(done);
    });
    Ok(response.into_response())
}
