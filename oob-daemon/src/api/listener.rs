//! Takes connections: bounded in number (`places`), in the time a request's head may take and in that a reader may take nothing, from
//! this user only on the socket.

use super::{
    Access, Shared,
    asking::{Asked, Asking},
    patience::Patient,
    places::{Place, Places},
    problem::Refusal,
    socket_router, tcp_router,
};
use crate::failure::Failure;
use axum::{Router, response::IntoResponse};
use http_body_util::BodyExt;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use std::{convert::Infallible, io, time::Duration};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream, UnixListener, UnixStream},
    time::{sleep, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// How long the head of a request may take, and how long a kept connection may be quiet: half-open ones give their place back.
const HEAD_TIME: Duration = Duration::from_secs(10);

/// Longest head: a token, an Origin and a path are a few hundred bytes.
const HEAD_BYTES: usize = 16 * 1024;

/// How long a connection may take to end when the daemon stops.
const END_TIME: Duration = Duration::from_secs(2);

/// Pause after the system has refused a connection for want of files, so as not to spin.
const REFUSED_PAUSE: Duration = Duration::from_millis(100);

/// Serves the socket until the daemon stops.
pub(crate) async fn serve_socket(listener: UnixListener, shared: Shared, places: usize) {
    let (stop, places) = (shared.stop.clone(), Places::new(places));
    let ours = rustix::process::geteuid().as_raw();
    let router = socket_router(shared);
    let service = TowerToHyperService::new(router);
    serve(listener, stop, places, move |stream: UnixStream, place, stop| {
        let theirs = stream.peer_cred().map(|peer| peer.uid()).ok();
        let service = service.clone();
        async move {
            if theirs == Some(ours) {
                converse(stream, service, place, stop).await;
            } else {
                tracing::warn!(uid = theirs, "another user was refused at the socket");
                let refuse = service_fn(|_: hyper::Request<Asked>| async {
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
pub(crate) async fn serve_tcp(
    listener: TcpListener,
    shared: Shared,
    access: Access,
    places: usize,
) {
    let (stop, places) = (shared.stop.clone(), Places::new(places));
    let router: Router = tcp_router(shared, access);
    let service = TowerToHyperService::new(router);
    serve(listener, stop, places, move |stream, place, stop| {
        converse(stream, service.clone(), place, stop)
    })
    .await;
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
    places: Places,
    answer: impl Fn(L::Stream, Place, CancellationToken) -> F,
) where
    L: Accept,
    F: Future<Output = ()> + Send + 'static,
{
    let tasks = TaskTracker::new();
    loop {
        // First the connection, then its place: nobody gives way for one that does not come.
        let next = async {
            let stream = listener.take().await?;
            Ok::<_, io::Error>((stream, places.take().await))
        };
        let next = tokio::select! {
            biased;
            () = stop.cancelled() => break,
            next = next => next,
        };
        match next {
            Ok((stream, place)) => {
                tasks.spawn(answer(stream, place, stop.clone()));
            }
            Err(e) => {
                tracing::warn!("a connection to the local API was lost: {e}");
                // Perhaps for want of files: one that is quiet gives its own back.
                places.make_room();
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
            hyper::Request<Asked>,
            Response = hyper::Response<B>,
            Error = Infallible,
        >,
    B: hyper::body::Body + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(HEAD_TIME).max_buf_size(HEAD_BYTES);
    let service = service_fn(|request: hyper::Request<Incoming>| {
        let asking = Asking::new(place.clone());
        let (mut head, body) = request.into_parts();
        head.extensions.insert(place.clone());
        let answer = Asked::new(body, asking.clone())
            .map(|body| service.call(hyper::Request::from_parts(head, body)));
        async move {
            let answer = match answer {
                Some(answer) => answer.await?,
                // Ended from outside, in this very moment.
                None => std::future::pending().await,
            };
            // Also where a body was not waited for. Nobody hears it who gives way.
            let _ = asking.answers();
            // Until the last byte of it is taken.
            Ok::<_, Infallible>(answer.map(|body| {
                body.map_frame(move |frame| {
                    let _until_then = &asking;
                    frame
                })
            }))
        }
    });
    let stream = TokioIo::new(Patient::new(stream));
    let mut connection = std::pin::pin!(builder.serve_connection(stream, service));
    let ended = tokio::select! {
        biased;
        // Dropped as it is: there is nothing to finish, and no further request is begun on it.
        () = place.gives_way() => Ok(()),
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            tokio::select! {
                biased;
                () = place.gives_way() => Ok(()),
                ended = connection => ended,
            }
        }
        ended = connection.as_mut() => ended,
    };
    if let Err(e) = ended {
        tracing::debug!("a connection to the local API ended: {e}");
    }
}
