//! EndpointSlices.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::SystemTime;

use jiff::Timestamp;
use kube_proxy_core::{Conditions, EndpointSlice, IpFamily, Kind, SliceEndpoint, SlicePort, Trust};

use super::weights::Weights;
use super::{address, begin, port_number, protocol, text};
use crate::context::Context;
use crate::problem::{Findings, Problem};
use crate::slim::{self, List, Meta};

/// Whether a slice names no Service that it belongs to. A cluster may have such slices; in a manifest it is a mistake.
pub fn lacks_service_name(slice: &slim::EndpointSlice<'_>) -> bool {
    let labels = slice.metadata.as_ref().and_then(|m| m.labels.as_ref());
    text(labels.and_then(|l| l.service_name.as_ref())).is_empty()
}

/// Normalises an EndpointSlice.
pub fn endpoint_slice(
    slice: &slim::EndpointSlice<'_>,
    context: &Context,
) -> (Option<EndpointSlice>, Vec<Problem>) {
    let meta = slice.metadata.as_ref();
    let (name, mut findings) = match begin(Kind::EndpointSlice, meta, context) {
        Ok(begun) => begun,
        Err(findings) => return (None, findings.into_problems()),
    };
    let labels = meta.and_then(|m| m.labels.as_ref());
    if labels.is_some_and(|l| l.headless.is_some()) {
        return (None, Vec::new());
    }
    let service = text(labels.and_then(|l| l.service_name.as_ref()));
    if service.is_empty() {
        // Slices may serve other purposes than Services.
        return (None, Vec::new());
    }
    let family = match text(slice.address_type.as_ref()) {
        "IPv4" => IpFamily::V4,
        "IPv6" => IpFamily::V6,
        other => {
            findings.add("addressType", other, "not IPv4 or IPv6; the slice is ignored");
            return (None, findings.into_problems());
        }
    };
    let normalised = EndpointSlice {
        name,
        service: context.name(service),
        family,
        ports: ports(slice, context, &mut findings),
        endpoints: endpoints(slice, family, context, &mut findings),
        trigger_time: meta.and_then(|m| trigger_time(m, &mut findings)),
    };
    (Some(normalised), findings.into_problems())
}

/// The ports. One without a name or a number is meant for no port, which is no mistake.
fn ports(
    slice: &slim::EndpointSlice<'_>,
    context: &Context,
    findings: &mut Findings,
) -> Vec<SlicePort> {
    let mut found = Vec::with_capacity(slice.ports.len());
    for (i, port) in slice.ports.iter().enumerate() {
        let number = port.port.filter(|number| number.0 != 0);
        let (Some(name), Some(number)) = (&port.name, number) else {
            continue;
        };
        let field = |name: &str| format!("ports[{i}].{name}");
        let Some(protocol) = protocol(port.protocol.as_ref(), field("protocol"), findings) else {
            continue;
        };
        let Some(port) = port_number(number) else {
            let reason = "not between 1 and 65535; the port is ignored";
            findings.add(field("port"), &number.0.to_string(), reason);
            continue;
        };
        found.push(SlicePort { name: context.name(name), protocol, port });
    }
    found
}

fn endpoints(
    slice: &slim::EndpointSlice<'_>,
    family: IpFamily,
    context: &Context,
    findings: &mut Findings,
) -> Vec<SliceEndpoint> {
    let mut found = Vec::with_capacity(slice.endpoints.len());
    let weights = Weights::read(slice.metadata.as_ref(), findings);
    for (i, endpoint) in slice.endpoints.iter().enumerate() {
        let Some(address) = endpoint_address(i, endpoint, family, context.trust(), findings) else {
            continue;
        };
        let conditions = endpoint.conditions.unwrap_or_default();
        let hints = endpoint.hints.as_ref();
        let node = text(endpoint.node_name.as_ref());
        found.push(SliceEndpoint {
            address,
            conditions: Conditions {
                ready: conditions.ready.unwrap_or(true),
                serving: conditions.serving.unwrap_or(true),
                terminating: conditions.terminating.unwrap_or(false),
            },
            node: (!node.is_empty()).then(|| context.name(node)),
            zone_hints: hints.map_or_else(Vec::new, |h| hint_names(&h.for_zones, context)),
            node_hints: hints.map_or_else(Vec::new, |h| hint_names(&h.for_nodes, context)),
            weight: weights.of(&address),
        });
    }
    found
}

/// The first address: the API allows more, but gives them no meaning.
fn endpoint_address(
    index: usize,
    endpoint: &slim::Endpoint<'_>,
    family: IpFamily,
    trust: &Trust,
    findings: &mut Findings,
) -> Option<IpAddr> {
    let Some(written) = endpoint.addresses.first() else {
        let field = format_args!("endpoints[{index}].addresses");
        findings.add(field, "", "empty; the endpoint is ignored");
        return None;
    };
    let field = format_args!("endpoints[{index}].addresses[0]");
    let Some(address) = address::ip(written) else {
        findings.add(field, written, "not an IP address; ignored");
        return None;
    };
    if IpFamily::of(&address) != family {
        findings.add(field, written, format_args!("not an {family} address; ignored"));
        return None;
    }
    if let Some(reason) = trust.endpoint(&address) {
        findings.add(field, written, reason);
        return None;
    }
    Some(address)
}

fn hint_names(hints: &List<slim::Hint<'_>>, context: &Context) -> Vec<Arc<str>> {
    let given = hints.iter().map(|hint| text(hint.name.as_ref()));
    given.filter(|name| !name.is_empty()).map(|name| context.name(name)).collect()
}

/// The trigger time: RFC 3339, as the EndpointSlice controller writes it.
fn trigger_time(meta: &Meta<'_>, findings: &mut Findings) -> Option<SystemTime> {
    let annotations = meta.annotations.as_ref()?;
    let written = annotations.last_change_trigger_time.as_ref()?;
    let time = written.trim().parse::<Timestamp>().ok();
    if time.is_none() {
        let field =
            format_args!("metadata.annotations[{}]", slim::Annotations::LAST_CHANGE_TRIGGER_TIME);
        let reason = "not a time in RFC 3339 form; programming latency is not measured";
        findings.add(field, written, reason);
    }
    time.map(SystemTime::from)
}
