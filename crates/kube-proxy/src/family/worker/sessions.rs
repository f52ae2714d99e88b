//! Where sessions of clients lead, for those who ask.

use super::Worker;

impl Worker {
    /// Looks sessions up for those who wait for them.
    pub(super) async fn find_sessions(&mut self) {
        for (keys, answer) in std::mem::take(&mut self.sessions_asked) {
            let mut found = Vec::with_capacity(keys.len());
            for key in &keys {
                let session = self.setup.proxy.session(key).await;
                found.push(session.map_err(|error| error.to_string()));
            }
            // Who has gone away meanwhile gets no answer, which is no error.
            let _ = answer.send(found);
        }
    }
}
