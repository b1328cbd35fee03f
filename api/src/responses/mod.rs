//! `/v1/responses`.

mod background;
mod events;
mod input;
mod object;
mod request;
mod store;

use std::sync::Arc;

use axum::Json;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use self::events::Writer;
pub(crate) use self::request::ResponsesRequest;
pub(crate) use self::store::Store;
use self::store::Stored;
use crate::answer::{begin, error_of};
use crate::error::ApiError;
use crate::query::{number, value};
use crate::said::Ending;
use crate::server::{Engaged, Shared};
use crate::sse::stream;

/// `POST /v1/responses`.
pub(crate) async fn create<A: Engaged>(
    shared: Arc<Shared<A>>,
    request: ResponsesRequest,
) -> Result<Response, ApiError> {
    let model = shared.model_of(request.model.as_deref())?;
    let streams = request.stream == Some(true);
    let mut asked = request.into_asked(&model, &shared.store)?;
    if asked.logprobs.is_some() {
        shared.require_probabilities("top_logprobs")?;
    }
    let not_enforced = shared.loosen(&mut asked.prompt, "text.format")?;
    if !not_enforced.is_empty() {
        asked.metadata.insert("pylon.tools_not_enforced".into(), not_enforced.join(", ").into());
    }
    let is_background = asked.is_background;
    let mut answering = begin(&model, asked.prompt.clone()).await?;
    let mut writer = Writer::new((shared, model), asked);
    if is_background {
        let background = background::run(answering, writer, streams);
        return Ok(if streams { background.follow(0) } else { Json(background.object()).into_response() });
    }
    if streams {
        return Ok(stream(answering, writer));
    }
    while let Some(pieces) = answering.next().await {
        for piece in pieces {
            writer.write(piece);
        }
    }
    let (usage, ending) = answering.into_ending();
    if !matches!(ending, Ending::Finished { .. }) {
        return Err(error_of(&ending));
    }
    Ok(Json(writer.finish(usage, ending)).into_response())
}

/// `POST /v1/responses/input_tokens`: the tokens of what a request would have the model read.
pub(crate) async fn count_tokens<A: Engaged>(
    shared: &Shared<A>,
    request: ResponsesRequest,
) -> Result<Response, ApiError> {
    let model = shared.model_of(request.model.as_deref())?;
    let tokens = model.count(request.into_asked(&model, &shared.store)?.prompt).await?;
    Ok(Json(json!({"object": "response.input_tokens", "input_tokens": tokens})).into_response())
}

/// `GET /v1/responses/{id}`: the response as it stands, or with `stream=true` its events, those after `starting_after` where that is
/// given.
pub(crate) fn get<A: Engaged>(shared: &Shared<A>, id: &str, query: &str) -> Result<Response, ApiError> {
    let stored = stored(shared, id)?;
    let after = number(query, "starting_after", 0, u32::MAX)?;
    match value(query, "stream") {
        None | Some("false") if after.is_some() => {
            Err(ApiError::invalid("starting_after", "starting_after is for streams: ask with stream=true, too"))
        }
        None | Some("false") => Ok(Json(stored.object()).into_response()),
        Some("true") => match stored.background().filter(|background| background.is_streamed()) {
            Some(background) => Ok(Arc::clone(background).follow(after.map_or(0, |after| after as usize + 1))),
            None => {
                let message = "stream is true, and this response was not asked for with background and stream: its events are gone";
                Err(ApiError::invalid("stream", message))
            }
        },
        Some(other) => Err(ApiError::invalid("stream", format!("stream is {other:?}, expected true or false"))),
    }
}

/// `DELETE /v1/responses/{id}`. One that is under way ends.
pub(crate) async fn delete<A: Engaged>(shared: &Shared<A>, id: &str) -> Result<Response, ApiError> {
    let forgotten = shared.store.forget(id).ok_or_else(|| missing(id))?;
    if let Some(background) = forgotten.background() {
        background.cancel().await;
    }
    Ok(Json(json!({"id": id, "object": "response", "deleted": true})).into_response())
}

/// `GET /v1/responses/{id}/input_items`: the newest first, unless the query says otherwise.
pub(crate) fn input_items<A: Engaged>(shared: &Shared<A>, id: &str, query: &str) -> Result<Response, ApiError> {
    let limit = number(query, "limit", 1, 100)?.unwrap_or(20) as usize;
    let mut items = stored(shared, id)?.input;
    match value(query, "order") {
        None | Some("desc") => items.reverse(),
        Some("asc") => {}
        Some(_) => return Err(ApiError::invalid("order", "order is to be asc or desc")),
    }
    if let Some(after) = value(query, "after") {
        let at = items.iter().position(|item| item["id"] == after);
        let at = at.ok_or_else(|| ApiError::invalid("after", "after is not the id of an input item"))?;
        items.drain(..=at);
    }
    let has_more = items.len() > limit;
    items.truncate(limit);
    let id_of = |item: Option<&Value>| item.map_or(Value::Null, |item| item["id"].clone());
    let list = json!({
        "object": "list", "first_id": id_of(items.first()), "last_id": id_of(items.last()), "has_more": has_more,
        "data": items,
    });
    Ok(Json(list).into_response())
}

/// `POST /v1/responses/{id}/cancel`. One that has ended stays as it is.
pub(crate) async fn cancel<A: Engaged>(shared: &Shared<A>, id: &str) -> Result<Response, ApiError> {
    match stored(shared, id)?.background() {
        Some(background) => Ok(Json(background.cancel().await).into_response()),
        None => {
            let message = "only a response that was asked for with background can be cancelled: close the connection of another one \
                           to end it";
            Err(ApiError::refused(axum::http::StatusCode::BAD_REQUEST, message))
        }
    }
}

fn stored<A: Engaged>(shared: &Shared<A>, id: &str) -> Result<Stored, ApiError> {
    shared.store.recall(id).ok_or_else(|| missing(id))
}

fn missing(id: &str) -> ApiError {
    ApiError::not_found(format!("there is no response {id:?} here: it was never stored, was deleted or is too old"))
}
