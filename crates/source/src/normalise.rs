//! From slim objects to the model of [`kube_proxy_core`].
//!
//! Each function takes an object apart and gives back what a proxy needs of it, and what is wrong with it.
//! A bad part is left out and named; the rest of the object counts.
//! `None` is an object that is not to be proxied: headless, `ExternalName`, labelled for another proxy, of another address type.

use std::num::NonZeroU16;

use kube_proxy_core::{Kind, ObjectName, Protocol};

use crate::context::Context;
use crate::problem::{Findings, Subject};
use crate::slim::{Int, Meta, Text};

mod address;
mod node;
mod service;
mod slice;
mod weights;

pub use node::{node, service_cidr};
pub use service::{lacks_cluster_ip, service};
pub use slice::{endpoint_slice, lacks_service_name};

/// Namespace and name of an object; both may be empty in a broken one.
pub fn object_name(meta: Option<&Meta<'_>>, context: &Context) -> ObjectName {
    let namespace = meta.and_then(|m| m.namespace.as_deref());
    let name = meta.and_then(|m| m.name.as_deref());
    ObjectName {
        namespace: context.name(namespace.unwrap_or_default()),
        name: context.name(name.unwrap_or_default()),
    }
}

/// The start of every normalisation: the name and an empty list of findings.
/// An object without a name is reported, and no use.
fn begin(
    kind: Kind,
    meta: Option<&Meta<'_>>,
    context: &Context,
) -> Result<(ObjectName, Findings), Findings> {
    let name = object_name(meta, context);
    let mut findings = Findings::new(Subject::object(kind, name.clone()));
    if name.name.is_empty() {
        findings.add("metadata.name", "", "missing; the object is ignored");
        return Err(findings);
    }
    Ok((name, findings))
}

/// The text of an optional string; absent is empty.
fn text<'s>(value: Option<&'s Text<'_>>) -> &'s str {
    value.map(|text| &**text).unwrap_or_default()
}

/// A port number, if it is one.
fn port_number(number: Int) -> Option<NonZeroU16> {
    u16::try_from(number.0).ok().and_then(NonZeroU16::new)
}

/// The protocol of a port; absent means TCP.
fn protocol(
    value: Option<&Text<'_>>,
    field: impl std::fmt::Display,
    findings: &mut Findings,
) -> Option<Protocol> {
    let name = text(value);
    if name.is_empty() {
        return Some(Protocol::Tcp);
    }
    let protocol = name.parse().ok();
    if protocol.is_none() {
        findings.add(field, name, "not TCP, UDP or SCTP; the port is ignored");
    }
    protocol
}

#[cfg(test)]
mod tests;
