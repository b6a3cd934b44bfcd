//! Takes connections: bounded in number, in the time a request's head may take and in that a reader may take nothing, from
//! this user only on the socket.

use super::{Access, Shared, patience::Patient, problem::Refusal, socket_router, tcp_router};
use crate::failure::Failure;
use axum::{Router, response::IntoResponse};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use std::{
    convert::Infallible,
    io,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream, UnixListener, UnixStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{sleep, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// Connections at once on each of the two listeners; more wait in the kernel's queue. Each costs some tens of kilobytes, and
/// apart so that whoever fills TCP does not keep the user's own command line out.
const CONNECTIONS: usize = 64;

/// Event streams at once on each of the two listeners, apart from the connections: one for each page, bot and `send --wait`.
/// Streams stay open, and 64 of them must not keep the next command waiting.
const STREAMS: usize = 64;

/// How long the head of a request may take, and how long a kept connection may be quiet: half-open ones give their place back.
const HEAD_TIME: Duration = Duration::from_secs(10);

/// Longest head: a token, an Origin and a path are a few hundred bytes.
const HEAD_BYTES: usize = 16 * 1024;

/// How long a connection may take to end when the daemon stops.
const END_TIME: Duration = Duration::from_secs(2);

/// Pause after the system has refused a connection for want of files, so as not to spin.
const REFUSED_PAUSE: Duration = Duration::from_millis(100);

/// Serves the socket until the daemon stops.
pub(crate) async fn serve_socket(listener: UnixListener, shared: Shared) {
    let stop = shared.stop.clone();
    let ours = rustix::process::geteuid().as_raw();
    let router = socket_router(shared);
    let service = TowerToHyperService::new(router);
    serve(listener, stop, move |stream: UnixStream, place, stop| {
        let theirs = stream.peer_cred().map(|peer| peer.uid()).ok();
        let service = service.clone();
        async move {
            if theirs == Some(ours) {
                converse(stream, service, place, stop).await;
            } else {
                tracing::warn!(uid = theirs, "another user was refused at the socket");
                let refuse = service_fn(|_: hyper::Request<Incoming>| async {
                    let failure = Failure::new("forbidden", "this daemon belongs to another user")
                        .hint("start one of your own: oob up");
                    Ok::<_, Infallible>(Refusal(failure).into_response())
                });
                converse(stream, refuse, place, stop).await;
            }
        }
    })
    .await;
}

/// Serves TCP until the daemon stops.
pub(crate) async fn serve_tcp(listener: TcpListener, shared: Shared, access: Access) {
    let stop = shared.stop.clone();
    let router: Router = tcp_router(shared, access);
    let service = TowerToHyperService::new(router);
    serve(listener, stop, move |stream, place, stop| {
        converse(stream, service.clone(), place, stop)
    })
    .await;
}

/// What a connection takes up: one of the places of its listener, or, once it carries an event stream, one of those for
/// streams. Given back when the connection ends.
#[derive(Clone)]
pub(super) struct Place {
    held: Arc<Mutex<Option<OwnedSemaphorePermit>>>,
    streams: Arc<Semaphore>,
}

impl Place {
    pub(super) fn new(place: Option<OwnedSemaphorePermit>, streams: &Arc<Semaphore>) -> Self {
        Self { held: Arc::new(Mutex::new(place)), streams: Arc::clone(streams) }
    }

    /// Moves to a place for streams, so that the next connection finds the one that was held.
    ///
    /// # Errors
    /// As many streams are open as there may be.
    pub(super) fn becomes_stream(&self) -> Result<(), Failure> {
        let stream = Arc::clone(&self.streams).try_acquire_owned().map_err(|_| {
            Failure::new("too_many", format!("{STREAMS} event streams are open already"))
                .hint("close a page, a bot or a waiting command that reads events, then try again")
        })?;
        // A second stream of the same connection, after the first has ended, gives the first one's place back here.
        *self.held.lock().unwrap_or_else(PoisonError::into_inner) = Some(stream);
        Ok(())
    }
}

/// Where connections come from.
trait Accept {
    type Stream;

    fn take(&self) -> impl Future<Output = io::Result<Self::Stream>> + Send;
}

impl Accept for UnixListener {
    type Stream = UnixStream;

    async fn take(&self) -> io::Result<UnixStream> {
        self.accept().await.map(|(stream, _)| stream)
    }
}

impl Accept for TcpListener {
    type Stream = TcpStream;

    async fn take(&self) -> io::Result<TcpStream> {
        let (stream, _) = self.accept().await?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }
}

async fn serve<L, F>(
    listener: L,
    stop: CancellationToken,
    answer: impl Fn(L::Stream, Place, CancellationToken) -> F,
) where
    L: Accept,
    F: Future<Output = ()> + Send + 'static,
{
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    let streams = Arc::new(Semaphore::new(STREAMS));
    let tasks = TaskTracker::new();
    loop {
        let next = async {
            let place = places.clone().acquire_owned().await;
            (place, listener.take().await)
        };
        let (place, stream) = tokio::select! {
            biased;
            () = stop.cancelled() => break,
            next = next => next,
        };
        match stream {
            Ok(stream) => {
                tasks.spawn(answer(stream, Place::new(place.ok(), &streams), stop.clone()));
            }
            Err(e) => {
                tracing::warn!("a connection to the local API was lost: {e}");
                sleep(REFUSED_PAUSE).await;
            }
        }
    }
    tasks.close();
    // Answers that are being written get their time; streams have ended with the token.
    let _ended = timeout(END_TIME, tasks.wait()).await;
}

pub(super) async fn converse<T, S, B>(stream: T, service: S, place: Place, stop: CancellationToken)
where
    T: AsyncRead + AsyncWrite + Unpin,
    S: hyper::service::Service<
            hyper::Request<Incoming>,
            Response = hyper::Response<B>,
            Error = Infallible,
        >,
    B: hyper::body::Body + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(HEAD_TIME).max_buf_size(HEAD_BYTES);
    let service = service_fn(|mut request: hyper::Request<Incoming>| {
        request.extensions_mut().insert(place.clone());
        service.call(request)
    });
    let stream = TokioIo::new(Patient::new(stream));
    let mut connection = std::pin::pin!(builder.serve_connection(stream, service));
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(e) = ended {
        tracing::debug!("a connection to the local API ended: {e}");
    }
}
