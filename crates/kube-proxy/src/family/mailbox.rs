//! What the thread of a family is sent.

use std::time::SystemTime;

use kube_proxy_core::{
    CheckWaker, Event, Frontend, FrontendQuery, ProxyBackend, SessionKey, SyncError, Tracker,
};
use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::oneshot;

use super::check::FamilyCheck;
use super::on_node::OnNode;
use super::state::{FamilyState, FoundSession};
use crate::node::node_ports::NodePortScope;
use crate::tasks;

/// What the thread is told.
pub(super) enum Message {
    /// An event, with the time when this process received it.
    Event(Event, SystemTime),
    /// The backend asks to be looked at.
    Check,
    /// UDP frontends of another mode are gone from the node.
    RemovedUdp(Vec<Frontend>),
    /// A question about what the family serves.
    Look(Box<Look>),
    /// A request for what on the node differs from what was written.
    Compare(oneshot::Sender<FamilyCheck>),
    /// A request for sessions of clients.
    Sessions(Vec<SessionKey>, oneshot::Sender<Vec<FoundSession>>),
    /// A request for what the node holds for frontends.
    LookUps(Vec<FrontendQuery>, oneshot::Sender<Vec<OnNode>>),
    /// A request for the traffic; dropping the sender reports that it was read.
    ReadTraffic(oneshot::Sender<()>),
    /// The node has changed: from now on another backend.
    Replace(Box<Replacement>),
    Stop,
}

/// Finds something in the objects of the family.
pub(super) type Look = dyn FnOnce(&Tracker, FamilyState) + Send;

/// Another backend, made on the thread that will use it.
pub struct Replacement {
    /// Makes it.
    pub create: Box<dyn FnOnce() -> Result<Box<dyn ProxyBackend>, SyncError> + Send>,
    /// Where node ports may be used from now on.
    pub node_ports: NodePortScope,
}

/// Lets a backend ask to be checked.
pub(super) fn waker(sender: &UnboundedSender<Message>) -> CheckWaker {
    let sender = sender.clone();
    CheckWaker::new(move || {
        tasks::test_point("waker");
        let _ = sender.send(Message::Check);
    })
}
