//! Failures as `application/problem+json` (RFC 9457).

use crate::failure::Failure;
use axum::{
    extract::Request,
    middleware::Next,
    response::{IntoResponse, Response},
};
use hyper::{StatusCode, header};

/// A failure on its way out.
pub(super) struct Refusal(pub(super) Failure);

impl From<Failure> for Refusal {
    fn from(failure: Failure) -> Self {
        Self(failure)
    }
}

impl From<oob_core::Error> for Refusal {
    fn from(error: oob_core::Error) -> Self {
        Self(error.into())
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let problem = self.0.to_problem();
        let status =
            StatusCode::from_u16(problem.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let body = serde_json::to_vec(&problem).unwrap_or_default();
        (status, [(header::CONTENT_TYPE, "application/problem+json")], body).into_response()
    }
}

/// Turns refusals of the framework, which are plain text, into problems: a path that is no text, a query that is none.
pub(super) async fn problems_only(request: Request, next: Next) -> Response {
    let in_api = request.uri().path().starts_with("/api/");
    let response = next.run(request).await;
    let kind = response.headers().get(header::CONTENT_TYPE).map(|kind| kind.as_bytes());
    let told = kind.is_some_and(|kind| kind.starts_with(b"application/problem+json"));
    let status = response.status();
    if !in_api || told || !(status.is_client_error() || status.is_server_error()) {
        return response;
    }
    let failure = match status {
        StatusCode::NOT_FOUND => Failure::new("no_such_resource", "there is no such resource"),
        StatusCode::METHOD_NOT_ALLOWED => {
            Failure::new("method_not_allowed", "this resource does not take this method")
        }
        StatusCode::PAYLOAD_TOO_LARGE => Failure::new("body_too_large", "the body is too long"),
        StatusCode::UNSUPPORTED_MEDIA_TYPE => {
            Failure::new("unsupported_media_type", "the body must be JSON")
        }
        _ if status.is_client_error() => {
            Failure::new("bad_request", "the request is not what this resource takes")
        }
        _ => return Refusal(Failure::internal("the request was not answered")).into_response(),
    };
    Refusal(failure.hint("see what there is: GET /openapi.json")).into_response()
}
