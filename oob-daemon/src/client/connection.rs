//! One HTTP/1.1 connection over the daemon's socket.

use crate::failure::Failure;
use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::{
    Response,
    body::Incoming,
    client::conn::http1::{self, SendRequest},
    header,
};
use hyper_util::rt::TokioIo;
use std::{io, path::Path, time::Duration};
use tokio::{net::UnixStream, task::JoinHandle, time::timeout};

/// How long a daemon of this machine may take to accept: it does so at once unless it is stopped or 64 others hold on to it.
const CONNECT: Duration = Duration::from_secs(5);

/// How long an answer may take: the longest is that of a join, which gives up after half a minute.
const ANSWER: Duration = Duration::from_secs(60);

pub(crate) struct Connection {
    sender: SendRequest<Full<Bytes>>,
    driver: JoinHandle<()>,
    pid: Option<i32>,
}

impl Connection {
    pub(crate) async fn open(socket: &Path) -> Result<Self, Failure> {
        let connecting = timeout(CONNECT, UnixStream::connect(socket))
            .await
            .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
        let stream = connecting.map_err(|e| unreachable(socket, &e))?;
        let peer = stream.peer_cred().map_err(|e| unreachable(socket, &e))?;
        // Where the socket is not in the home somebody else might have made it first.
        if peer.uid() != rustix::process::geteuid().as_raw() {
            return Err(foreign(socket));
        }
        let (sender, connection) = http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|e| gone("the daemon hung up").cause(e))?;
        let driver = tokio::spawn(async move {
            // How it ended is told to whoever waits for an answer.
            let _ended = connection.await;
        });
        Ok(Self { sender, driver, pid: peer.pid() })
    }

    pub(crate) fn pid(&self) -> Option<i32> {
        self.pid
    }

    pub(crate) async fn is_usable(&mut self) -> bool {
        !self.sender.is_closed() && self.sender.ready().await.is_ok()
    }

    pub(crate) async fn send(
        &mut self,
        request: hyper::http::request::Builder,
        body: Bytes,
    ) -> Result<Response<Incoming>, Failure> {
        self.send_within(request, body, ANSWER).await
    }

    async fn send_within(
        &mut self,
        request: hyper::http::request::Builder,
        body: Bytes,
        limit: Duration,
    ) -> Result<Response<Incoming>, Failure> {
        let request = request
            .header(header::HOST, "localhost")
            .body(Full::new(body))
            .map_err(|e| Failure::internal("a request cannot be written").cause(e))?;
        match timeout(limit, self.sender.send_request(request)).await {
            Ok(answer) => {
                answer.map_err(|e| gone("the daemon went away before it answered").cause(e))
            }
            Err(_) => Err(Failure::new("timeout", "the daemon does not answer").hint(
                "see oob.log in the home folder; end it with: oob down, or by its process number",
            )),
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connection").field("pid", &self.pid).finish_non_exhaustive()
    }
}

pub(crate) async fn collect(response: Response<Incoming>, most: usize) -> Result<Bytes, Failure> {
    let body = Limited::new(response.into_body(), most).collect().await;
    body.map(|body| body.to_bytes()).map_err(|e| gone("the daemon's answer broke off").cause(e))
}

fn gone(what: &str) -> Failure {
    Failure::new("not_running", what).hint("see whether it runs: oob status; start it: oob up")
}

fn foreign(socket: &Path) -> Failure {
    Failure::new("forbidden", format!("{} belongs to another user", socket.display()))
        .hint("run oob as the user who started the daemon, or use another home: oob --home DIR up")
}

fn unreachable(socket: &Path, error: &io::Error) -> Failure {
    match error.kind() {
        io::ErrorKind::PermissionDenied => foreign(socket),
        io::ErrorKind::TimedOut => Failure::new("timeout", format!("the daemon at {} does not answer", socket.display()))
            .hint("it may be stopped or overloaded; look at it with: ps, and at the end of oob.log in the home"),
        _ => Failure::new("not_running", format!("no daemon is running at {}", socket.display())).hint("start it: oob up"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::{Router, routing::get};

    #[tokio::test]
    async fn a_daemon_that_does_not_answer_is_given_up_in_time() {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("oob.sock");
        let router = Router::new()
            .route("/never", get(std::future::pending::<&str>))
            .route("/soon", get(|| async { "here" }));
        let listener = tokio::net::UnixListener::bind(&socket).unwrap();
        let server = tokio::spawn(async move { axum::serve(listener, router).await });
        let mut connection = Connection::open(&socket).await.unwrap();
        let mut ask = async |path: &str, limit: Duration| {
            let request = hyper::Request::builder().uri(path);
            connection.send_within(request, Bytes::new(), limit).await
        };
        // The control first: one that answers is not given up.
        assert!(ask("/soon", ANSWER).await.unwrap().status().is_success());
        let late = ask("/never", Duration::from_millis(20)).await.unwrap_err();
        assert_eq!((late.code(), late.exit()), ("timeout", 8));
        server.abort();
    }
}
