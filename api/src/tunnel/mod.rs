//! `/tunnel`: a WebSocket over which a watcher, such as the page, commands this node and sees all that it tells. The messages are
//! those of [`gptoss_protocol`]'s tunnel.

mod handshake;
mod hub;
mod session;
mod socket;

use std::sync::Arc;

use axum::extract::Request;
use axum::response::{IntoResponse, Response};
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
pub(crate) fn open<A: Engaged>(hub: &Arc<Hub<A>>, mut request: Request) -> Result<Response, ApiError> {
    let response = handshake::accept(request.headers())?;
    let Some(Connection(activity)) = request.extensions().get::<Connection>().cloned() else {
        return Err(ApiError::internal("the connection of this request is not known"));
    };
    let has_key = bearers(request.headers()).any(|given| hub.has_key(given));
    let upgraded = hyper::upgrade::on(&mut request);
    let (done, until_done) = oneshot::channel::<()>();
    activity.continue_until(until_done);
    let hub = Arc::clone(hub);
    tokio::spawn(async move {
        // A client that is gone before its tunnel is there has nothing to be told.
        if let Ok(stream) = upgraded.await {
            socket::run(&hub, stream, has_key).await;
        }
        drop(done);
    });
    Ok(response.into_response())
}
