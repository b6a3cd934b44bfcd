//! One connection to the local API without a socket, for the fuzzers.

use super::{
    Access, Doorway, Shared, listener::converse, places::Places, socket_router, tcp_router,
};
use axum::{
    extract::Request,
    middleware::{self, Next},
};
use hyper_util::service::TowerToHyperService;
use oob_core::{Error, Node};
use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::timeout,
};
use tokio_util::sync::CancellationToken;

/// What is waiting to be read on either side; a page of messages is longer.
const BUFFER: usize = 4 * 1024 * 1024;

/// Turns in which the other side reads what was written, and how long it may take to answer before the connection is closed
/// all the same: a body may be shorter than its head says.
const TURNS: usize = 16;
const PATIENCE: Duration = Duration::from_millis(250);

/// No answer takes as long where nothing is sent over a network.
const TIME: Duration = Duration::from_secs(20);

/// A node of one person, without a disk or a network.
async fn node() -> Result<Node, Error> {
    let node = Node::builder("")
        .in_memory()
        .identity("Dana")
        .listen(vec!["/ip4/127.0.0.1/tcp/0".into()])
        .mdns(false)
        .beacon(false)
        .spawn()
        .await?;
    node.found("Harbour Clinic").await?;
    Ok(node)
}

/// Says all of it on one connection, over TCP with the token `t` and port 80 or on the socket, and closes it; returns what
/// was answered. A node serves as long as it is handed back.
///
/// # Errors
/// A connection that does not end.
pub(crate) async fn exchange(
    node_of: &mut Option<Node>,
    tcp: bool,
    said: &[u8],
) -> Result<Vec<u8>, String> {
    let node = match node_of.take() {
        Some(node) => node,
        None => node().await.map_err(|error| error.to_string())?,
    };
    *node_of = Some(node.clone());
    let doorway = Arc::new(Doorway::new(([127, 0, 0, 1], 80).into()));
    let stop = CancellationToken::new();
    let (began, doors) = (std::time::Instant::now(), Arc::clone(&doorway));
    let shared = Shared { node, stop: stop.clone(), doorway: doors, began };
    let router = match tcp {
        true => tcp_router(shared, Access::new(80, "t".into(), doorway)),
        false => socket_router(shared),
    };
    // Whoever closes before the answer gets none.
    let under_way = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&under_way);
    let router = router.layer(middleware::from_fn(move |request: Request, next: Next| {
        let counter = Arc::clone(&counter);
        async move {
            counter.fetch_add(1, Ordering::Relaxed);
            let response = next.run(request).await;
            counter.fetch_sub(1, Ordering::Relaxed);
            response
        }
    }));
    let (mut ours, theirs) = tokio::io::duplex(BUFFER);
    let place = Places::new(1).take().await;
    let served = converse(theirs, TowerToHyperService::new(router), place, stop);
    let mut answer = Vec::new();
    let said = async {
        let _ = ours.write_all(said).await;
        let written = Instant::now();
        for _ in 0..TURNS {
            tokio::task::yield_now().await;
        }
        while under_way.load(Ordering::Relaxed) > 0 && written.elapsed() < PATIENCE {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let _ = ours.shutdown().await;
        let _ = ours.read_to_end(&mut answer).await;
    };
    timeout(TIME, async { tokio::join!(served, said) })
        .await
        .map_err(|_| format!("a connection that does not end in {} s", TIME.as_secs()))?;
    Ok(answer)
}
