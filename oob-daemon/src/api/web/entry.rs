//! `web/ticket`, `web/session` and `web/logout`.

use super::{Visit, doorway::Entrance};
use crate::{
    api::{Shared, body::Json, problem::Refusal},
    failure::Failure,
    schema::{Nothing, WebSession, WebSessionRequest, WebTicket},
};
use axum::{
    Extension,
    extract::State,
    response::{IntoResponse, Response},
};
use hyper::{HeaderMap, header};
use tokio::time::Instant;

/// Where a page says the key of its session.
pub(in crate::api) const KEY: header::HeaderName = header::HeaderName::from_static("oob-page-key");

/// Where a ticket is traded: the one path that changes something and takes neither token nor cookie.
pub(in crate::api) const SESSION_PATH: &str = "/api/v1/web/session";

pub(in crate::api) async fn ticket(
    State(shared): State<Shared>,
    visit: Option<Extension<Visit>>,
    Json(Nothing {}): Json<Nothing>,
) -> Response {
    // A page that could make tickets could stay for ever.
    if visit.is_some() {
        let failure =
            Failure::new("forbidden", "a page cannot let another one in").hint("run: oob web");
        return Refusal(failure).into_response();
    }
    json(&WebTicket { url: shared.doorway.issue(Instant::now()) })
}

pub(in crate::api) async fn session(
    State(shared): State<Shared>,
    Json(request): Json<WebSessionRequest>,
) -> Response {
    match shared.doorway.redeem(&request.ticket, Instant::now()) {
        Some(Entrance { cookie, key }) => {
            tracing::info!("a browser came in");
            ([(header::SET_COOKIE, cookie)], json(&WebSession { key })).into_response()
        }
        None => {
            let failure = Failure::new(
                "unauthorized",
                "this way in was used already, or is over a minute old",
            )
            .hint("run: oob web");
            Refusal(failure).into_response()
        }
    }
}

pub(in crate::api) async fn logout(
    State(shared): State<Shared>,
    headers: HeaderMap,
    Json(Nothing {}): Json<Nothing>,
) -> Response {
    let cookies = headers.get(header::COOKIE).and_then(|value| value.to_str().ok()).unwrap_or("");
    let forgotten = shared.doorway.leave(cookies, Instant::now());
    ([(header::SET_COOKIE, forgotten)], json(&Nothing {})).into_response()
}

fn json<T: serde::Serialize>(value: &T) -> Response {
    match serde_json::to_vec(value) {
        Ok(body) => ([(header::CONTENT_TYPE, "application/json")], body).into_response(),
        Err(e) => {
            Refusal(Failure::internal("an answer cannot be written").cause(e)).into_response()
        }
    }
}
