//! The local API: what the command line, a browser and bots ask the daemon. Over the socket the kernel says who asks; over TCP the
//! token or a browser's session, the Host and the Origin say it.

mod access;
mod asking;
mod body;
#[cfg(feature = "doors")]
mod door;
mod listener;
mod patience;
mod places;
mod problem;
mod resources;
mod v1;
mod web;

pub(crate) use access::Access;
#[cfg(feature = "doors")]
pub(crate) use door::exchange;
pub(crate) use listener::{serve_socket, serve_tcp};
pub(crate) use places::places;
pub(crate) use v1::port_note;
pub(crate) use web::Doorway;

use axum::{Router, middleware};
use oob_core::Node;
use std::{sync::Arc, time::Instant};
use tokio_util::sync::CancellationToken;

/// What every handler may use.
#[derive(Clone)]
pub(crate) struct Shared {
    pub(crate) node: Node,
    /// Cancelled when the daemon is to stop.
    pub(crate) stop: CancellationToken,
    /// How browsers come in.
    pub(crate) doorway: Arc<Doorway>,
    /// When the daemon began.
    pub(crate) began: Instant,
}

/// Returns what is served over the socket.
pub(crate) fn socket_router(shared: Shared) -> Router {
    v1::routes()
        .layer(middleware::from_fn(access::json_only))
        .layer(middleware::from_fn(problem::problems_only))
        .with_state(shared)
}

/// Returns what is served over TCP: the same and the web page, behind the checks of `access`.
pub(crate) fn tcp_router(shared: Shared, access: Access) -> Router {
    socket_router(shared)
        .merge(web::assets())
        .layer(middleware::from_fn_with_state(Arc::new(access), access::admit))
        .layer(middleware::from_fn(web::guarded))
}
