//! What a request fails with: a status, and `{"message": "…"}` as docker's clients read it.

use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::json;

use super::answer;
use super::wire::lenient::InvalidBody;
use crate::engine::{EngineError, Kind};

/// An answer that is no success.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiError {
    pub status: StatusCode,
    pub message: String,
}

impl ApiError {
    pub fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self { status, message: message.into() }
    }

    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, message)
    }

    pub fn not_found(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, message)
    }

    pub fn not_implemented(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_IMPLEMENTED, message)
    }
}

impl From<EngineError> for ApiError {
    fn from(error: EngineError) -> Self {
        let status = match error.kind() {
            Kind::NotFound => StatusCode::NOT_FOUND,
            Kind::Conflict => StatusCode::CONFLICT,
            Kind::Invalid => StatusCode::BAD_REQUEST,
            Kind::NotModified => StatusCode::NOT_MODIFIED,
            Kind::Forbidden => StatusCode::FORBIDDEN,
            Kind::NotImplemented => StatusCode::NOT_IMPLEMENTED,
            Kind::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
            Kind::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Self { status, message: error.full() }
    }
}

impl From<InvalidBody> for ApiError {
    fn from(error: InvalidBody) -> Self {
        Self::invalid(error.to_string())
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        // A 304 has no body (RFC 9110, 15.4.5).
        if self.status == StatusCode::NOT_MODIFIED {
            return self.status.into_response();
        }
        if self.status.is_server_error() && self.status != StatusCode::SERVICE_UNAVAILABLE {
            tracing::debug!(status = %self.status, message = self.message, "a request failed");
        }
        answer::json_with(self.status, &json!({ "message": self.message }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_of_the_engine_keeps_its_text_and_gets_dockers_status() {
        let error = ApiError::from(EngineError::NoContainer { word: "x".into() });
        assert_eq!((error.status.as_u16(), error.message.as_str()), (404, "No such container: x"));
        let error = ApiError::from(EngineError::NotModified { id: "x".into(), state: "running" });
        assert_eq!(error.into_response().status(), StatusCode::NOT_MODIFIED);
    }
}
