//! What the four kinds have in common: decode, normalise, become an event.

use std::sync::Arc;

use kube_proxy_core::{Event, Kind, ObjectName};
use serde::Deserialize;

use crate::context::Context;
use crate::normalise::{self, object_name};
use crate::problem::Problem;
use crate::protobuf::Message;
use crate::slim::{self, Meta};

/// A slim object of one of the four kinds.
pub(crate) trait Object<'a>: Deserialize<'a> + Message<'a> {
    /// Its kind.
    const KIND: Kind;

    /// Its metadata.
    fn meta(&self) -> Option<&Meta<'a>>;

    /// The event that announces it, unless it is not to be proxied, and what is wrong with it.
    fn normalise(&self, context: &Context) -> (Option<Event>, Vec<Problem>);

    /// Namespace and name.
    fn name(&self, context: &Context) -> ObjectName {
        object_name(self.meta(), context)
    }
}

impl<'a> Object<'a> for slim::Service<'a> {
    const KIND: Kind = Kind::Service;

    fn meta(&self) -> Option<&Meta<'a>> {
        self.metadata.as_ref()
    }

    fn normalise(&self, context: &Context) -> (Option<Event>, Vec<Problem>) {
        let (service, problems) = normalise::service(self, context);
        (service.map(|s| Event::ServiceApplied(Arc::new(s))), problems)
    }
}

impl<'a> Object<'a> for slim::EndpointSlice<'a> {
    const KIND: Kind = Kind::EndpointSlice;

    fn meta(&self) -> Option<&Meta<'a>> {
        self.metadata.as_ref()
    }

    fn normalise(&self, context: &Context) -> (Option<Event>, Vec<Problem>) {
        let (slice, problems) = normalise::endpoint_slice(self, context);
        (slice.map(Event::EndpointSliceApplied), problems)
    }
}

impl<'a> Object<'a> for slim::Node<'a> {
    const KIND: Kind = Kind::Node;

    fn meta(&self) -> Option<&Meta<'a>> {
        self.metadata.as_ref()
    }

    fn normalise(&self, context: &Context) -> (Option<Event>, Vec<Problem>) {
        let (node, problems) = normalise::node(self, context);
        (node.map(|n| Event::NodeApplied(Arc::new(n))), problems)
    }
}

impl<'a> Object<'a> for slim::ServiceCidr<'a> {
    const KIND: Kind = Kind::ServiceCidr;

    fn meta(&self) -> Option<&Meta<'a>> {
        self.metadata.as_ref()
    }

    fn normalise(&self, context: &Context) -> (Option<Event>, Vec<Problem>) {
        let (cidr, problems) = normalise::service_cidr(self, context);
        (cidr.map(|(name, nets)| Event::ServiceCidrApplied(name, nets)), problems)
    }
}

/// The event that says an object is gone.
pub(crate) fn deleted(kind: Kind, name: ObjectName) -> Event {
    match kind {
        Kind::Service => Event::ServiceDeleted(name),
        Kind::EndpointSlice => Event::EndpointSliceDeleted(name),
        Kind::Node => Event::NodeDeleted,
        Kind::ServiceCidr => Event::ServiceCidrDeleted(name),
    }
}
