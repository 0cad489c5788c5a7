//! Bodies of requests: read whole, within limits of size, time and of their sum.

use std::{sync::Arc, time::Duration};

use axum::body::{Body, HttpBody};
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use ostler_api::{ApiError, ErrorKind};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// What bodies that are being read or answered may have together, in steps of [`STEP`].
const TOGETHER: usize = 256 << 20;

/// How the sum is counted. There are more steps than there may be connections, so that bodies which are promised and
/// do not come cannot use the sum up with a byte each.
const STEP: usize = 4 << 10;

/// Bodies from this size on are understood one after the other: what a body says may take many times its size.
const LARGE: usize = 1 << 20;

/// How much bodies may have, each and together.
pub(crate) struct Budget {
    each: usize,
    time: Duration,
    together: Arc<Semaphore>,
    large: Arc<Semaphore>,
}

/// A body, and its part of the sum for as long as it is kept.
pub(crate) struct Read {
    pub(crate) bytes: Bytes,
    _part: Option<OwnedSemaphorePermit>,
    _turn: Option<OwnedSemaphorePermit>,
}

impl Budget {
    /// Bodies of at most `each` bytes, which may take at most `time`.
    pub(crate) fn new(each: usize, time: Duration) -> Self {
        Self {
            each,
            time,
            together: Arc::new(Semaphore::new(TOGETHER / STEP)),
            large: Arc::new(Semaphore::new(1)),
        }
    }

    /// Reads a body whole.
    pub(crate) async fn read(&self, body: Body) -> Result<Read, ApiError> {
        // One that says beforehand that it is too large is not waited for.
        if body.size_hint().lower() > self.each as u64 {
            return Err(self.too_large());
        }
        let mut read = tokio::time::timeout(self.time, self.collect(body)).await.unwrap_or_else(|_| {
            let seconds = self.time.as_secs_f64();
            Err(ApiError::bad_input(format!("the body was not there after {seconds} s")))
        })?;
        if read.bytes.len() >= LARGE {
            read._turn = self.large.clone().acquire_owned().await.ok();
        }
        Ok(read)
    }

    async fn collect(&self, mut body: Body) -> Result<Read, ApiError> {
        let mut bytes = BytesMut::new();
        let mut part: Option<OwnedSemaphorePermit> = None;
        while let Some(frame) = body.frame().await {
            let frame =
                frame.map_err(|e| ApiError::bad_input(format!("the body did not come whole: {e}")))?;
            let Ok(data) = frame.into_data() else { continue };
            let size = bytes.len() + data.len();
            if size > self.each {
                return Err(self.too_large());
            }
            let more = size.div_ceil(STEP) - part.as_ref().map_or(0, OwnedSemaphorePermit::num_permits);
            let more = u32::try_from(more).unwrap_or(u32::MAX);
            let Ok(more) = self.together.clone().try_acquire_many_owned(more) else {
                let mut error =
                    ApiError::new(ErrorKind::Busy, "too much is being sent to this server at the moment");
                error.retry_after = Some(1);
                return Err(error);
            };
            match &mut part {
                Some(part) => part.merge(more),
                None => part = Some(more),
            }
            bytes.extend_from_slice(&data);
        }
        Ok(Read { bytes: bytes.freeze(), _part: part, _turn: None })
    }

    fn too_large(&self) -> ApiError {
        ApiError::new(ErrorKind::TooLarge, format!("the body is larger than {} KiB", self.each >> 10))
    }
}
