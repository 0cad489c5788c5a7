//! Bodies of requests: read whole, within limits of size, time and of their sum.

use std::{sync::Arc, time::Duration};

use axum::body::Body;
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use ostler_api::{ApiError, ErrorKind};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// A body that takes longer is given up.
const TIME: Duration = Duration::from_secs(30);

/// What bodies that are being read or answered may have together, in steps of [`STEP`].
const TOGETHER: usize = 256 << 20;

/// How the sum is counted.
const STEP: usize = 64 << 10;

/// How much bodies may have, each and together.
pub(crate) struct Budget {
    each: usize,
    together: Arc<Semaphore>,
}

/// A body, and its part of the sum for as long as it is kept.
pub(crate) struct Read {
    pub(crate) bytes: Bytes,
    _part: Vec<OwnedSemaphorePermit>,
}

impl Budget {
    pub(crate) fn new(each: usize) -> Self {
        Self { each, together: Arc::new(Semaphore::new(TOGETHER / STEP)) }
    }

    /// Reads a body whole.
    pub(crate) async fn read(&self, body: Body) -> Result<Read, ApiError> {
        tokio::time::timeout(TIME, self.collect(body)).await.unwrap_or_else(|_| {
            Err(ApiError::bad_input(format!("the body was not there after {} s", TIME.as_secs())))
        })
    }

    async fn collect(&self, mut body: Body) -> Result<Read, ApiError> {
        let mut bytes = BytesMut::new();
        let mut part = Vec::new();
        while let Some(frame) = body.frame().await {
            let frame =
                frame.map_err(|e| ApiError::bad_input(format!("the body did not come whole: {e}")))?;
            let Ok(data) = frame.into_data() else { continue };
            if bytes.len() + data.len() > self.each {
                let message = format!("the body is larger than {} KiB", self.each >> 10);
                return Err(ApiError::new(ErrorKind::TooLarge, message));
            }
            while (part.len() * STEP) < bytes.len() + data.len() {
                let Ok(more) = self.together.clone().try_acquire_owned() else {
                    let message = "too much is being sent to this server at the moment";
                    let mut error = ApiError::new(ErrorKind::Busy, message);
                    error.retry_after = Some(1);
                    return Err(error);
                };
                part.push(more);
            }
            bytes.extend_from_slice(&data);
        }
        Ok(Read { bytes: bytes.freeze(), _part: part })
    }
}
