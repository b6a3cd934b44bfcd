//! Failures as `application/problem+json` (RFC 9457).

use crate::failure::Failure;
use axum::response::{IntoResponse, Response};
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
