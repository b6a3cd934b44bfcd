//! Speaks to a running daemon over its socket: one kept connection for requests, one of its own for each event stream.

mod connection;
mod stream;

#[cfg(feature = "doors")]
pub(crate) use stream::door as events;
pub use stream::{EventStream, Numbered};

use crate::{
    failure::Failure,
    schema::{Problem, Stopping},
    settings::Home,
};
use bytes::Bytes;
use connection::Connection;
use hyper::{Method, Request, StatusCode, header};
use serde::{Serialize, de::DeserializeOwned};
use std::path::{Path, PathBuf};

/// Longest answer read: a page of 500 messages of 8 KiB each, escaped, with room.
const ANSWER_BYTES: usize = 32 * 1024 * 1024;

/// A connection to the daemon of one home.
#[derive(Debug)]
pub struct Client {
    socket: PathBuf,
    connection: Connection,
}

impl Client {
    /// Connects to the daemon of a home.
    ///
    /// # Errors
    /// Code `not_running` if there is none, `forbidden` if the socket is another user's.
    pub async fn connect(home: &Path) -> Result<Self, Failure> {
        Self::connect_to(Home::resolve(Some(home))?.socket()?).await
    }

    pub(crate) async fn connect_to(socket: PathBuf) -> Result<Self, Failure> {
        let connection = Connection::open(&socket).await?;
        Ok(Self { socket, connection })
    }

    /// Returns the daemon's process as the kernel tells it, none if it runs in another pid namespace.
    pub fn pid(&self) -> Option<i32> {
        self.connection.pid().filter(|pid| *pid > 0)
    }

    /// Asks for a resource.
    ///
    /// # Errors
    /// What the daemon answers, or that it is gone.
    pub async fn get<T: DeserializeOwned>(&mut self, path: &str) -> Result<T, Failure> {
        let request = Request::builder().method(Method::GET).uri(path);
        let answer = self.exchange(request, Bytes::new()).await?;
        decode(&answer)
    }

    /// Sends an object and returns the answer.
    ///
    /// # Errors
    /// What the daemon answers, or that it is gone.
    pub async fn post<T: DeserializeOwned>(
        &mut self,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T, Failure> {
        let body = serde_json::to_vec(body)
            .map_err(|e| Failure::internal("a request cannot be written").cause(e))?;
        let answer = self.post_bytes(path, "application/json", body.into()).await?;
        decode(&answer)
    }

    /// Sends several objects in one request and returns one answer each, in their order.
    ///
    /// # Errors
    /// The request's failure; one object's failure stands in its place in the list.
    pub async fn post_lines<T: DeserializeOwned>(
        &mut self,
        path: &str,
        bodies: &[impl Serialize],
    ) -> Result<Vec<Result<T, Failure>>, Failure> {
        let mut lines = Vec::new();
        for body in bodies {
            serde_json::to_writer(&mut lines, body)
                .map_err(|e| Failure::internal("a request cannot be written").cause(e))?;
            lines.push(b'\n');
        }
        let answer = self.post_bytes(path, "application/x-ndjson", lines.into()).await?;
        answer
            .split(|byte| *byte == b'\n')
            .filter(|line| !line.is_empty())
            .map(line_answer)
            .collect()
    }

    /// Opens the event stream after an event's number, or from now on.
    ///
    /// # Errors
    /// What the daemon answers, or that it is gone.
    pub async fn events(&self, after: Option<u64>) -> Result<EventStream, Failure> {
        let mut connection = Connection::open(&self.socket).await?;
        let mut request =
            Request::builder().uri("/api/v1/events").header(header::ACCEPT, "text/event-stream");
        if let Some(after) = after {
            request = request.header("last-event-id", after);
        }
        let response = connection.send(request, Bytes::new()).await?;
        if response.status() != StatusCode::OK {
            let status = response.status();
            let body = connection::collect(response, ANSWER_BYTES).await?;
            return Err(refusal(status, &body));
        }
        Ok(EventStream::new(connection, response.into_body()))
    }

    pub(crate) async fn shutdown(&mut self) -> Result<Stopping, Failure> {
        self.post("/api/v1/shutdown", &crate::schema::Nothing {}).await
    }

    async fn post_bytes(&mut self, path: &str, kind: &str, body: Bytes) -> Result<Bytes, Failure> {
        let request =
            Request::builder().method(Method::POST).uri(path).header(header::CONTENT_TYPE, kind);
        self.exchange(request, body).await
    }

    async fn exchange(
        &mut self,
        request: hyper::http::request::Builder,
        body: Bytes,
    ) -> Result<Bytes, Failure> {
        // The daemon closes connections that were quiet for long; nothing was sent on this one since, so a new one is safe.
        if !self.connection.is_usable().await {
            self.connection = Connection::open(&self.socket).await?;
        }
        let response = self.connection.send(request, body).await?;
        let status = response.status();
        let answer = connection::collect(response, ANSWER_BYTES).await?;
        if status.is_success() { Ok(answer) } else { Err(refusal(status, &answer)) }
    }
}

fn decode<T: DeserializeOwned>(answer: &[u8]) -> Result<T, Failure> {
    serde_json::from_slice(answer).map_err(|e| {
        Failure::internal("the daemon's answer cannot be read")
            .cause(e)
            .hint("daemon and command may differ in version; restart it: oob down, then oob up")
    })
}

fn line_answer<T: DeserializeOwned>(line: &[u8]) -> Result<Result<T, Failure>, Failure> {
    // A problem has a code and an answer has none, so there is no doubt which a line is.
    match serde_json::from_slice::<Problem>(line) {
        Ok(problem) => Ok(Err(problem.into())),
        Err(_) => decode(line).map(Ok),
    }
}

fn refusal(status: StatusCode, body: &[u8]) -> Failure {
    match serde_json::from_slice::<Problem>(body) {
        Ok(problem) => problem.into(),
        Err(_) => Failure::internal(format!("the daemon answered {status}")),
    }
}
