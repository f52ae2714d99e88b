//! The body of a response.

use std::io;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt;
use kube::client::Body;
use tokio::sync::watch;
use tokio::time::timeout;

use super::Failure;
use crate::decode::Format;
use crate::kubernetes::body::Collector;
use crate::kubernetes::client::words;

/// Most bytes of an error response that are read.
const MAX_ERROR_BODY: usize = 64 * 1024;
/// Most bytes of a list: ten times what 10,000 Services with ten endpoints each have in JSON.
const MAX_BODY: usize = 1 << 30;

/// The body of a response, piece by piece. Read to its end, its connection serves the next request.
pub(in crate::kubernetes) struct Chunks {
    pub(super) body: Body,
    /// How the body is encoded.
    pub(in crate::kubernetes) format: Format,
    /// It is compressed too.
    pub(super) gzip: bool,
    pub(super) generation: watch::Receiver<u64>,
}

impl Chunks {
    /// The next piece; `None` at the end.
    pub(in crate::kubernetes) async fn next(
        &mut self,
        limit: Duration,
    ) -> Result<Option<Bytes>, Failure> {
        loop {
            match timeout(limit, self.body.frame()).await {
                Err(_) => return Err(Failure::Timeout(limit)),
                Ok(None) => return Ok(None),
                Ok(Some(Err(error))) => return Err(Failure::Transport(words::describe(&error))),
                Ok(Some(Ok(frame))) => {
                    if let Ok(data) = frame.into_data() {
                        return Ok(Some(data));
                    }
                }
            }
        }
    }

    /// All that is left, decompressed.
    pub(super) async fn collect(&mut self, limit: Duration) -> Result<Vec<u8>, Failure> {
        let malformed = |error: io::Error| Failure::Malformed(format!("the body: {error}"));
        let mut body = Collector::new(self.gzip, MAX_BODY);
        while let Some(chunk) = self.next(limit).await? {
            body.push(&chunk).map_err(malformed)?;
        }
        body.finish().map_err(malformed)
    }

    /// The beginning of what is left, as far as it can be read.
    pub(super) async fn excerpt(&mut self, limit: Duration) -> Vec<u8> {
        let mut body = Collector::new(self.gzip, MAX_ERROR_BODY);
        while let Ok(Some(chunk)) = self.next(limit).await {
            if body.push(&chunk).is_err() {
                break;
            }
        }
        body.so_far().to_vec()
    }

    /// Returns once certificates or keys were replaced since the connection was made.
    pub(in crate::kubernetes) fn outdated(&self) -> impl Future<Output = ()> + use<> {
        let mut generation = self.generation.clone();
        async move {
            if generation.changed().await.is_err() {
                // The transport is gone, and nothing replaces anything.
                std::future::pending::<()>().await;
            }
        }
    }
}
