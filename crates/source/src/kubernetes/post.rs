//! Writing to the API server: creating objects, once and without a promise.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::Shared;
use super::failure::Failure;
use super::rate::RateLimit;

/// Creates objects at the API server that a source reads from.
#[derive(Clone)]
pub struct Poster {
    shared: Arc<Shared>,
    /// Of its own: writing never takes the turn of a list or a watch.
    rate: Arc<RateLimit>,
}

/// An object was not created.
#[derive(Debug, thiserror::Error)]
#[error("{reason}")]
pub struct PostError {
    reason: String,
    /// Whether the same request may do better later: the server is gone, or is too busy.
    pub temporary: bool,
    /// Whether it is there already, with this name.
    pub exists: bool,
    /// How long the server asks to wait.
    pub retry_after: Option<Duration>,
}

impl Poster {
    pub(super) fn new(shared: Arc<Shared>, qps: f32, burst: u32) -> Self {
        Self { shared, rate: Arc::new(RateLimit::new(qps, burst)) }
    }

    /// Sends one `POST` with JSON to a collection, such as `/api/v1/namespaces/default/configmaps`.
    pub async fn create(&self, collection: &str, object: Vec<u8>) -> Result<(), PostError> {
        self.rate.acquire().await;
        let sent = self.shared.api.post(collection, object).await;
        sent.map_err(|failure| PostError {
            temporary: match failure.code() {
                Some(code) => code == 429 || code >= 500,
                None => matches!(failure, Failure::Transport(_) | Failure::Timeout(_)),
            },
            exists: failure.code() == Some(409),
            retry_after: failure.retry_after(),
            reason: failure.to_string(),
        })
    }
}

impl fmt::Debug for Poster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Poster")
    }
}
