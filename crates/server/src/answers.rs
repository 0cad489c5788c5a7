//! Answers that wait for whoever asked to read them: bounded in their sum.

use std::sync::Arc;

use axum::{
    body::{Body, HttpBody},
    extract::{Request, State},
    http::Response,
    middleware::Next,
    response::IntoResponse,
};
use bytes::Bytes;
use http_body_util::BodyExt;
use ostler_api::{ApiError, ErrorKind};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::{App, problem::Told};

/// What large answers may have together until they are read, in steps of [`STEP`].
const TOGETHER: usize = 256 << 20;

/// How the sum is counted. Smaller answers are not: so much may be kept for each connection.
const STEP: usize = 16 << 10;

/// What a large answer may well have.
const ROOM: usize = 16 << 20;

/// How much answers may have together.
pub(crate) struct Unread(Arc<Semaphore>);

impl Default for Unread {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(TOGETHER / STEP)))
    }
}

impl Unread {
    /// Refuses while there is hardly room for one more large answer, before it is made in vain.
    pub(crate) fn has_room(&self) -> Result<(), ApiError> {
        if self.0.available_permits() * STEP >= ROOM { Ok(()) } else { Err(too_many()) }
    }
}

fn too_many() -> ApiError {
    let mut error = ApiError::new(ErrorKind::Busy, "too many answers of this server have not been read yet");
    error.retry_after = Some(1);
    error
}

/// The bytes of an answer with their part of the sum. They go to the connection as they are, and are dropped when they
/// have been written.
struct Kept {
    bytes: Bytes,
    _part: OwnedSemaphorePermit,
}

impl AsRef<[u8]> for Kept {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

/// Refuses an answer while too many others have not been read: whoever asks again and again and reads nothing must not
/// make the server keep it all.
pub(crate) async fn bound(State(app): State<App>, request: Request, next: Next) -> Response<Body> {
    let (head, body) = next.run(request).await.into_parts();
    // Streams have no size; they make one piece when the one before has been written.
    let size = body.size_hint().exact().and_then(|size| usize::try_from(size).ok()).unwrap_or_default();
    if size < STEP {
        return Response::from_parts(head, body);
    }
    let steps = u32::try_from(size.div_ceil(STEP)).unwrap_or(u32::MAX);
    let Ok(part) = app.unread.0.clone().try_acquire_many_owned(steps) else {
        let mut error =
            ApiError::new(ErrorKind::Busy, "too many answers of this server have not been read yet");
        error.retry_after = Some(1);
        return Told(error).into_response();
    };
    match body.collect().await {
        Ok(whole) => {
            let bytes = Bytes::from_owner(Kept { bytes: whole.to_bytes(), _part: part });
            Response::from_parts(head, Body::from(bytes))
        }
        Err(error) => {
            let message = format!("the answer cannot be written: {error}");
            Told(ApiError::new(ErrorKind::Store, message)).into_response()
        }
    }
}
