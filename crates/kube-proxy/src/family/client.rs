//! How others ask a running family. Nothing is kept for them: it answers from what it works with, between two syncs.

use std::fmt;
use std::time::Duration;

use kube_proxy_core::{FrontendQuery, IpFamily, SessionKey, Tracker};
use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::check::FamilyCheck;
use super::mailbox::Message;
use super::on_node::OnNode;
use super::state::{FamilyState, FoundSession};

/// How long to wait for a family to read its traffic: it may be in the middle of a sync.
const TRAFFIC_PATIENCE: Duration = Duration::from_secs(1);
/// How long to wait for any other answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long to wait for a comparison of the whole node.
const COMPARISON: Duration = Duration::from_secs(50);

/// Asks one family. Clones ask the same.
#[derive(Clone)]
pub struct FamilyClient {
    family: IpFamily,
    sender: UnboundedSender<Message>,
}

/// The family gave no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unanswered {
    /// The family.
    pub family: IpFamily,
    /// How long was waited.
    pub patience: Duration,
}

impl fmt::Display for Unanswered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (family, seconds) = (self.family, self.patience.as_secs());
        write!(f, "no answer for {family} within {seconds} s: a sync is under way")
    }
}

impl FamilyClient {
    pub(super) fn new(family: IpFamily, sender: UnboundedSender<Message>) -> Self {
        Self { family, sender }
    }

    /// The family that answers.
    pub fn family(&self) -> IpFamily {
        self.family
    }

    /// Asks for the traffic to be read now; the future ends when the metrics have the traffic up to then, or after a while.
    pub fn read_traffic(&self) -> impl Future<Output = ()> + Send + use<> {
        let (sender, receiver) = oneshot::channel();
        let _ = self.sender.send(Message::ReadTraffic(sender));
        async move {
            // Whatever the outcome: what was read before is still true of an earlier time.
            let _ = timeout(TRAFFIC_PATIENCE, receiver).await;
        }
    }

    /// Asks for what `look` finds in the objects of the family. It runs on the thread that syncs, which waits for it.
    pub fn look<T: Send + 'static, L: FnOnce(&Tracker, FamilyState) -> T + Send + 'static>(
        &self,
        look: L,
    ) -> impl Future<Output = Result<T, Unanswered>> + Send + use<T, L> {
        let (sender, receiver) = oneshot::channel();
        let look = move |tracker: &Tracker, state| {
            // Who has gone away meanwhile gets no answer, which is no error.
            let _ = sender.send(look(tracker, state));
        };
        let _ = self.sender.send(Message::Look(Box::new(look)));
        self.answer(PATIENCE, receiver)
    }

    /// Asks for a comparison of what is on the node with what was written; nothing is repaired.
    pub fn compare(&self) -> impl Future<Output = Result<FamilyCheck, Unanswered>> + Send + use<> {
        let (sender, receiver) = oneshot::channel();
        let _ = self.sender.send(Message::Compare(sender));
        self.answer(COMPARISON, receiver)
    }

    /// Asks where the sessions of clients lead; one answer for each key, in their order.
    pub fn sessions(
        &self,
        keys: Vec<SessionKey>,
    ) -> impl Future<Output = Result<Vec<FoundSession>, Unanswered>> + Send + use<> {
        let (sender, receiver) = oneshot::channel();
        let _ = self.sender.send(Message::Sessions(keys, sender));
        self.answer(PATIENCE, receiver)
    }

    /// Asks what the node holds for frontends; one answer for each query, in their order.
    pub fn look_up(
        &self,
        queries: Vec<FrontendQuery>,
    ) -> impl Future<Output = Result<Vec<OnNode>, Unanswered>> + Send + use<> {
        let (sender, receiver) = oneshot::channel();
        let _ = self.sender.send(Message::LookUps(queries, sender));
        self.answer(PATIENCE, receiver)
    }

    fn answer<T: Send + 'static>(
        &self,
        patience: Duration,
        receiver: oneshot::Receiver<T>,
    ) -> impl Future<Output = Result<T, Unanswered>> + Send + use<T> {
        let unanswered = Unanswered { family: self.family, patience };
        async move {
            match timeout(patience, receiver).await {
                Ok(Ok(answer)) => Ok(answer),
                _ => Err(unanswered),
            }
        }
    }
}
