//! Gives each event of a source to the families it concerns, and news of this node to those who follow it.

use kube_proxy_core::{Event, IpFamily, Kind, PerFamily};

use super::startup::Startup;
use super::thread::EventSender;
use crate::node::watch::NodeWatch;

/// The place where events fan out.
pub struct Router {
    families: PerFamily<Option<EventSender>>,
    node: NodeWatch,
    startup: Startup,
    /// The Node object was in the list that is under way, or came after it.
    node_seen: bool,
}

impl Router {
    /// Events of families without a sender are dropped.
    pub fn new(
        families: PerFamily<Option<EventSender>>,
        node: NodeWatch,
        startup: Startup,
    ) -> Self {
        Self { families, node, startup, node_seen: false }
    }

    /// Passes one event on.
    pub fn route(&mut self, event: Event) {
        self.note_node(&event);
        if let Event::ListDone(kind) = event {
            self.startup.listed(kind);
        }
        if let Event::EndpointSliceApplied(slice) = &event {
            // Only its own family: a slice cannot change its address type.
            self.send(slice.family, event);
        } else {
            self.send(IpFamily::V6, event.clone());
            self.send(IpFamily::V4, event);
        }
    }

    fn send(&self, family: IpFamily, event: Event) {
        if let Some(sender) = self.families.get(family) {
            sender.send(event);
        }
    }

    fn note_node(&mut self, event: &Event) {
        match event {
            Event::NodeApplied(node) => {
                self.node_seen = true;
                self.node.applied(node);
            }
            Event::Kept(Kind::Node, _) => self.node_seen = true,
            Event::NodeDeleted => self.node.gone(),
            Event::ListStarted(Kind::Node) => self.node_seen = false,
            Event::ListDone(Kind::Node) => {
                if !self.node_seen {
                    self.node.gone();
                }
                self.node.listed();
            }
            _ => {}
        }
    }
}
