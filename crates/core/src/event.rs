//! What a source reports to the trackers.

use std::sync::Arc;

use ipnet::IpNet;

use crate::{EndpointSlice, Node, ObjectName, Service};

/// One piece of news from a source.
///
/// A source lists each kind of object once at the start and again whenever it lost track:
/// [`Event::ListStarted`], one `…Applied` for every object, [`Event::ListDone`].
/// What an earlier list or event announced and this list does not is gone, at `ListDone` and not before,
/// so that traffic keeps its last good state while a list is under way.
/// Between lists, `…Applied` and `…Deleted` follow each other freely; applying an object twice and deleting an unknown one are no errors.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Event {
    /// A complete list of one kind begins.
    ListStarted(Kind),
    /// The list is complete.
    ListDone(Kind),
    /// An object is there, but this version of it cannot be read: what an earlier version said stays in use.
    Kept(Kind, ObjectName),
    /// A Service is there, new or changed.
    ServiceApplied(Arc<Service>),
    /// A Service is gone, or is no longer to be proxied.
    ServiceDeleted(ObjectName),
    /// An EndpointSlice is there, new or changed.
    EndpointSliceApplied(EndpointSlice),
    /// An EndpointSlice is gone. Its family need not be known.
    EndpointSliceDeleted(ObjectName),
    /// The Node object of this node is there, new or changed.
    NodeApplied(Arc<Node>),
    /// The Node object of this node is gone.
    NodeDeleted,
    /// A ServiceCIDR object is there, new or changed: the ranges that cluster IPs are taken from.
    ServiceCidrApplied(ObjectName, Vec<IpNet>),
    /// A ServiceCIDR object is gone.
    ServiceCidrDeleted(ObjectName),
}

/// A kind of object that sources list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Services.
    Service,
    /// EndpointSlices.
    EndpointSlice,
    /// The Node object of this node.
    Node,
    /// ServiceCIDRs.
    ServiceCidr,
}

impl std::fmt::Display for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Service => "Service",
            Self::EndpointSlice => "EndpointSlice",
            Self::Node => "Node",
            Self::ServiceCidr => "ServiceCIDR",
        })
    }
}
