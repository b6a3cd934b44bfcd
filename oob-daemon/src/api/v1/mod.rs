//! `/api/v1`: one file for each resource.

mod addresses;
mod conversations;
mod events;
mod identity;
mod invites;
mod messages;
mod peers;
mod service;

pub(crate) use peers::port_note;

use super::{Shared, body, problem};
use crate::failure::Failure;
use axum::{
    Router,
    response::{IntoResponse, Response},
    routing::{get, post},
};
use hyper::{StatusCode, header};
use problem::Refusal;
use serde::Serialize;

/// What handlers return.
type Answer<T> = Result<Reply<T>, Refusal>;

/// A JSON answer.
struct Reply<T>(T);

impl<T: Serialize> IntoResponse for Reply<T> {
    fn into_response(self) -> Response {
        match serde_json::to_vec(&self.0) {
            Ok(body) => {
                (StatusCode::OK, [(header::CONTENT_TYPE, "application/json")], body).into_response()
            }
            Err(e) => {
                Refusal(Failure::internal("an answer cannot be written").cause(e)).into_response()
            }
        }
    }
}

/// Says that this device can neither invite nor write to anybody yet.
fn no_org() -> Failure {
    Failure::new("no_org", "this device belongs to no organisation yet").hint(
        "join one: `oob join FILE`; to found one, start in a new folder: \
         `oob --home DIR init --name YOUR_NAME --org ORG_NAME`",
    )
}

/// Returns every route of the API, and problems for everything else.
pub(super) fn routes() -> Router<Shared> {
    Router::new()
        .route("/api/v1/health", get(service::health))
        .route("/api/v1/me", get(identity::me))
        .route("/api/v1/members", get(identity::members))
        .route("/api/v1/status", get(peers::status))
        .route("/api/v1/peers", get(peers::peers))
        .route("/api/v1/addresses", get(addresses::list).post(addresses::add))
        .route("/api/v1/invites", post(invites::issue))
        .route("/api/v1/join", post(invites::join))
        .route("/api/v1/messages", get(messages::page).post(messages::send))
        .route("/api/v1/conversations", get(conversations::list))
        .route("/api/v1/conversations/{id}/read", post(conversations::read))
        .route("/api/v1/events", get(events::stream))
        .route("/api/v1/shutdown", post(service::shutdown))
        .merge(super::web::entry())
        .fallback(no_such_resource)
        .method_not_allowed_fallback(method_not_allowed)
}

async fn no_such_resource() -> Refusal {
    Refusal(
        Failure::new("no_such_resource", "there is no such resource")
            .hint("resources start with /api/v1/"),
    )
}

async fn method_not_allowed() -> Refusal {
    Refusal(
        Failure::new("method_not_allowed", "this resource does not take this method")
            .hint("use GET to read and POST to change"),
    )
}
