//! One IP family on a thread of its own: events in, syncs when due.
//!
//! The thread runs a tokio runtime, and waits on it: tasks that a backend started there make progress between its calls.
//! Kernel work blocks this thread and nothing else; a backend that has tasks as well hands such work to `spawn_blocking`.

use std::thread::JoinHandle;
use std::time::SystemTime;

use kube_proxy_core::{Event, IpFamily};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::watch;

use super::client::FamilyClient;
pub use super::mailbox::Replacement;
use super::mailbox::{Message, waker};
pub use super::setup::Setup;
use super::worker::Worker;
use crate::tasks;

/// The events of one family, from before its thread runs: they wait.
pub struct Inbox {
    sender: UnboundedSender<Message>,
    receiver: UnboundedReceiver<Message>,
}

/// The handle of a running family.
pub struct FamilyThread {
    family: IpFamily,
    sender: UnboundedSender<Message>,
    thread: JoinHandle<()>,
    /// Closed when the thread ends.
    end: watch::Receiver<()>,
}

/// Where events of one family go.
#[derive(Clone)]
pub struct EventSender(UnboundedSender<Message>);

impl EventSender {
    /// Hands an event over. After the family has stopped, events go nowhere.
    pub fn send(&self, event: Event) {
        let _ = self.0.send(Message::Event(event, SystemTime::now()));
    }
}

impl Default for Inbox {
    fn default() -> Self {
        let (sender, receiver) = unbounded_channel();
        Self { sender, receiver }
    }
}

impl Inbox {
    /// A sender for this family's events.
    pub fn sender(&self) -> EventSender {
        EventSender(self.sender.clone())
    }
}

impl FamilyThread {
    /// Starts the thread.
    pub fn start(mut setup: Setup, inbox: Inbox) -> std::io::Result<Self> {
        let Inbox { sender, receiver } = inbox;
        setup.proxy.set_waker(waker(&sender));
        let (family, waking) = (setup.family, sender.clone());
        let name = format!("sync-{family}");
        let (alive, end) = watch::channel(());
        let thread = tasks::thread(name, move || {
            let _alive = alive;
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            match runtime {
                Ok(runtime) => runtime.block_on(Worker::new(setup, waking).run(receiver)),
                Err(error) => tracing::error!("cannot start a runtime to sync with: {error}"),
            }
        })?;
        Ok(Self { family, sender, thread, end })
    }

    /// Its family.
    pub fn family(&self) -> IpFamily {
        self.family
    }

    /// Continues with another backend, which takes over what the old one put on the node. Ends if that cannot be made.
    pub fn replace_backend(&self, replacement: Replacement) {
        let _ = self.sender.send(Message::Replace(Box::new(replacement)));
    }

    /// Whether the thread has ended, which it should not by itself.
    pub fn has_ended(&self) -> bool {
        self.thread.is_finished()
    }

    /// Waits until the thread ends.
    pub async fn ended(&self) {
        let mut end = self.end.clone();
        while end.changed().await.is_ok() {}
    }

    /// Whom to ask about it.
    pub fn client(&self) -> FamilyClient {
        FamilyClient::new(self.family, self.sender.clone())
    }

    /// Asks the thread to stop after the sync it may be in.
    pub fn stop(&self) {
        let _ = self.sender.send(Message::Stop);
    }
}

#[cfg(test)]
mod tests;
