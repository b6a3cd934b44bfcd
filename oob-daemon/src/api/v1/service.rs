//! `health` and `shutdown`.

use super::{Answer, Reply, Shared, body::Json};
use crate::schema::{Health, Nothing, Stopping};
use axum::extract::State;

pub(super) async fn health() -> Reply<Health> {
    Reply(Health { ok: true })
}

pub(super) async fn shutdown(
    State(shared): State<Shared>,
    Json(Nothing {}): Json<Nothing>,
) -> Answer<Stopping> {
    // The answer is still written: stopping lets open requests end.
    shared.stop.cancel();
    Ok(Reply(Stopping { pid: std::process::id() }))
}
