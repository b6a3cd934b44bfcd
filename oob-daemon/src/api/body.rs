//! Reads request bodies within bounds.

use super::{access::essence, problem::Refusal};
use crate::failure::Failure;
use axum::extract::{FromRequest, Request};
use bytes::Bytes;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::header;
use serde::de::DeserializeOwned;
use std::time::Duration;
use tokio::time::timeout;

/// Longest body: over a hundred messages of the longest text, each escaped.
pub(super) const BODY_BYTES: usize = 1024 * 1024;

/// How long a body of at most a mebibyte may take on one machine.
const BODY_TIME: Duration = Duration::from_secs(10);

/// One JSON object.
pub(super) struct Json<T>(pub(super) T);

/// One JSON object, or several, one a line.
pub(super) enum OneOrLines<T> {
    One(T),
    Lines(Vec<Result<T, Failure>>),
}

impl<T: DeserializeOwned, S: Sync> FromRequest<S> for Json<T> {
    type Rejection = Refusal;

    async fn from_request(request: Request, _state: &S) -> Result<Self, Refusal> {
        let bytes = read(request).await?;
        Ok(Self(object(&bytes)?))
    }
}

impl<T: DeserializeOwned, S: Sync> FromRequest<S> for OneOrLines<T> {
    type Rejection = Refusal;

    async fn from_request(request: Request, _state: &S) -> Result<Self, Refusal> {
        let kind = request
            .headers()
            .get(header::CONTENT_TYPE)
            .and_then(|kind| kind.to_str().ok())
            .map(essence);
        let lines = kind == Some("application/x-ndjson");
        let bytes = read(request).await?;
        if !lines {
            return Ok(Self::One(object(&bytes)?));
        }
        let lines = bytes.split(|byte| *byte == b'\n').filter(|line| !line.trim_ascii().is_empty());
        Ok(Self::Lines(lines.map(object).collect()))
    }
}

fn object<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Failure> {
    serde_json::from_slice(bytes).map_err(|e| {
        Failure::new("bad_request", "the body is not what this resource takes")
            .cause(e)
            .hint("send one JSON object with its fields")
    })
}

async fn read(request: Request) -> Result<Bytes, Refusal> {
    let reading = Limited::new(request.into_body(), BODY_BYTES).collect();
    match timeout(BODY_TIME, reading).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(e)) if e.is::<LengthLimitError>() => {
            Err(Failure::new("body_too_large", "the body is longer than 1 MiB")
                .hint("send it in several requests")
                .into())
        }
        Ok(Err(e)) => Err(Failure::new("bad_request", "the body broke off")
            .cause(e)
            .hint("send it again")
            .into()),
        Err(_) => Err(Failure::new("bad_request", "the body did not come within 10 s")
            .hint("send it again")
            .into()),
    }
}
