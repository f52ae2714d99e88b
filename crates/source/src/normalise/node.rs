//! Nodes and ServiceCIDRs.

use std::net::IpAddr;

use ipnet::IpNet;
use kube_proxy_core::{Kind, Node, ObjectName};

use super::{address, begin, text};
use crate::context::Context;
use crate::problem::{Findings, Problem};
use crate::slim;

/// The taint that the cluster autoscaler puts on a node that it is about to remove.
const AUTOSCALER_TAINT: &str = "ToBeDeletedByClusterAutoscaler";

/// Normalises a Node.
pub fn node(node: &slim::Node<'_>, context: &Context) -> (Option<Node>, Vec<Problem>) {
    let meta = node.metadata.as_ref();
    let (name, mut findings) = match begin(Kind::Node, meta, context) {
        Ok(begun) => begun,
        Err(findings) => return (None, findings.into_problems()),
    };
    let labels = meta.and_then(|m| m.labels.as_ref());
    let zone = text(labels.and_then(|l| l.zone.as_ref()));
    let taints = node.spec.as_ref().map(|spec| &spec.taints);
    let mut addresses = addresses(node, "InternalIP", &mut findings);
    addresses.extend(self::addresses(node, "ExternalIP", &mut findings));
    let normalised = Node {
        name: name.name,
        zone: (!zone.is_empty()).then(|| context.name(zone)),
        addresses,
        pod_cidrs: pod_cidrs(node, &mut findings),
        being_deleted: meta.is_some_and(|m| m.deletion_timestamp.is_some()),
        to_be_removed_by_autoscaler: taints
            .is_some_and(|t| t.iter().any(|t| text(t.key.as_ref()) == AUTOSCALER_TAINT)),
    };
    (Some(normalised), findings.into_problems())
}

fn addresses(node: &slim::Node<'_>, wanted: &str, findings: &mut Findings) -> Vec<IpAddr> {
    let Some(status) = &node.status else {
        return Vec::new();
    };
    let mut found = Vec::new();
    for (i, entry) in status.addresses.iter().enumerate() {
        if text(entry.type_.as_ref()) != wanted {
            continue;
        }
        let written = text(entry.address.as_ref());
        match address::ip(written) {
            Some(address) => found.push(address),
            None => findings.add(
                format_args!("status.addresses[{i}].address"),
                written,
                "not an IP address; ignored",
            ),
        }
    }
    found
}

/// The networks of the node's pods. Very old objects have only `podCIDR`.
fn pod_cidrs(node: &slim::Node<'_>, findings: &mut Findings) -> Vec<IpNet> {
    let Some(spec) = &node.spec else {
        return Vec::new();
    };
    if spec.pod_cidrs.is_empty() {
        let single = text(spec.pod_cidr.as_ref());
        let given = (!single.is_empty()).then_some(("spec.podCIDR".to_owned(), single));
        return nets(given.into_iter(), findings);
    }
    let given = spec.pod_cidrs.iter().enumerate();
    nets(given.map(|(i, cidr)| (format!("spec.podCIDRs[{i}]"), &**cidr)), findings)
}

/// Normalises a ServiceCIDR.
pub fn service_cidr(
    cidr: &slim::ServiceCidr<'_>,
    context: &Context,
) -> (Option<(ObjectName, Vec<IpNet>)>, Vec<Problem>) {
    let (name, mut findings) = match begin(Kind::ServiceCidr, cidr.metadata.as_ref(), context) {
        Ok(begun) => begun,
        Err(findings) => return (None, findings.into_problems()),
    };
    let given = cidr.spec.as_ref().map_or(&[][..], |spec| &spec.cidrs);
    let written = given.iter().enumerate();
    let nets = nets(written.map(|(i, cidr)| (format!("spec.cidrs[{i}]"), &**cidr)), &mut findings);
    (Some((name, nets)), findings.into_problems())
}

fn nets<'a>(
    written: impl Iterator<Item = (String, &'a str)>,
    findings: &mut Findings,
) -> Vec<IpNet> {
    let mut found = Vec::new();
    for (field, text) in written {
        match address::net(text) {
            Some(net) => found.push(net),
            None => findings.add(field, text, "not a network like 10.0.0.0/8; ignored"),
        }
    }
    found
}
