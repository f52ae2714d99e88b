//! The open connections of a server, whose number is limited.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::task::AbortHandle;
use tokio::time::{Instant, timeout_at};

use crate::tasks;

/// A connection has this time to itself. Later it is closed if another one waits and there is no room.
const UNDISTURBED: Duration = Duration::from_secs(1);

/// The open connections, oldest first.
///
/// Clients that hold connections without asking anything must not keep out those that do ask: the oldest one makes room.
pub(super) struct Connections {
    limit: usize,
    open: VecDeque<(Instant, AbortHandle)>,
    /// One has ended.
    ended: Arc<Notify>,
}

impl Connections {
    /// At most `limit` at the same time.
    pub(super) fn new(limit: usize) -> Self {
        Self { limit: limit.max(1), open: VecDeque::new(), ended: Arc::default() }
    }

    /// Waits until one more fits.
    pub(super) async fn make_room(&mut self) {
        loop {
            self.open.retain(|(_, connection)| !connection.is_finished());
            if self.open.len() < self.limit {
                return;
            }
            let Some((begin, _)) = self.open.front() else { return };
            if timeout_at(*begin + UNDISTURBED, self.ended.notified()).await.is_err()
                && let Some((_, oldest)) = self.open.pop_front()
            {
                oldest.abort();
            }
        }
    }

    /// Serves one more.
    pub(super) fn add(&mut self, connection: impl Future<Output = ()> + Send + 'static) {
        let ended = self.ended.clone();
        let task = tasks::spawn("connection", async move {
            connection.await;
            ended.notify_one();
        });
        self.open.push_back((Instant::now(), task.abort_handle()));
    }
}

#[cfg(test)]
mod tests;
