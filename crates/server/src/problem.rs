//! Errors as answers: `application/problem+json`.

use axum::{
    body::Body,
    http::{HeaderValue, Method, Response, StatusCode, Uri, header},
    response::IntoResponse,
};
use ostler_api::{ApiError, ErrorKind};

/// An error on its way out.
pub(crate) struct Told(pub(crate) ApiError);

impl From<ApiError> for Told {
    fn from(error: ApiError) -> Self {
        Self(error)
    }
}

impl IntoResponse for Told {
    fn into_response(self) -> Response<Body> {
        let Self(error) = self;
        let status = StatusCode::from_u16(error.kind.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = problem(status, &error);
        if let Some(seconds) = error.retry_after {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if error.kind == ErrorKind::Unauthenticated {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

/// A problem with a status that its sort does not have by rule.
pub(crate) fn problem(status: StatusCode, error: &ApiError) -> Response<Body> {
    let mut told = error.problem(crate::metrics::request_id().as_deref());
    told.status = status.as_u16();
    let body = serde_json::to_vec(&told).unwrap_or_default();
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
    response
}

pub(crate) async fn no_route(uri: Uri) -> Told {
    let path: String = uri.path().chars().take(200).collect();
    Told(
        ApiError::not_found(format!("there is nothing at `{path}`"))
            .hint("/api/v1/openapi.json lists what there is"),
    )
}

pub(crate) async fn no_method(method: Method, uri: Uri) -> Response<Body> {
    let path: String = uri.path().chars().take(200).collect();
    let error = ApiError::bad_input(format!("`{path}` does not take {method}"));
    problem(StatusCode::METHOD_NOT_ALLOWED, &error)
}
