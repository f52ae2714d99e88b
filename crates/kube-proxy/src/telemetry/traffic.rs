//! Traffic of each service port as metrics: totals that only rise, and never more series than were allowed.
//!
//! Backends hand over what the kernel counts, which starts again when rules are written. What it rises by is added up here.
//! Of each IP family this many service ports get series of their own, and as many endpoints; all others share one.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};

use kube_proxy_core::{
    IpFamily, PerFamily, Refused, RefusedReason, ServicePortName, Traffic, TrafficBytes,
};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric as _};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;

/// The `namespace` and `service` of what has no series of its own. No object can have this name.
const OTHERS: &str = "(others)";

/// What was counted since this process started.
#[derive(Debug, Default)]
pub struct TrafficTotals {
    limit: usize,
    families: Mutex<PerFamily<Family>>,
}

#[derive(Clone, Debug, Default)]
struct Family {
    services: Ledger<ServicePortName>,
    endpoints: Ledger<(ServicePortName, SocketAddr)>,
    /// For each reason a ledger of its own, so that what has no series of its own still has its reason.
    refused: BTreeMap<RefusedReason, Ledger<ServicePortName>>,
}

/// What was counted of one service port since this process started.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counted {
    /// New connections; `None` if they are not counted for this service port alone.
    pub connections: Option<u64>,
    /// Attempts that no endpoint got, by reason; without those that are not counted for this service port alone.
    pub refused: Vec<(RefusedReason, u64)>,
}

impl TrafficTotals {
    /// Distinguishes this many service ports of each family, and this many endpoints; 0 counts nothing.
    pub fn new(limit: usize) -> Self {
        Self { limit, ..Self::default() }
    }

    /// Whether anything is to be counted.
    pub fn is_on(&self) -> bool {
        self.limit > 0
    }

    /// Whether counting has begun for a family; it has not to if it is off.
    pub fn has_begun(&self, family: IpFamily) -> bool {
        let families = self.families.lock().unwrap_or_else(PoisonError::into_inner);
        !self.is_on() || families.get(family).services.read.is_some()
    }

    /// Takes in what a backend read. The first reading of a family only says where counting starts.
    pub fn update(&self, family: IpFamily, read: Vec<Traffic>) {
        let mut services = BTreeMap::new();
        let mut endpoints = BTreeMap::new();
        for Traffic { service, endpoint, connections, bytes } in read {
            let numbers = Numbers { connections, bytes };
            match endpoint {
                None => _ = services.insert(service, numbers),
                Some(endpoint) => _ = endpoints.insert((service, endpoint), numbers),
            }
        }
        let mut families = self.families.lock().unwrap_or_else(PoisonError::into_inner);
        let family = families.get_mut(family);
        family.services.update(services, self.limit);
        family.endpoints.update(endpoints, self.limit);
    }

    /// Takes in what a backend read of attempts that no endpoint got. The first reading of a family only says where counting starts.
    pub fn update_refused(&self, family: IpFamily, read: Vec<Refused>) {
        let mut reasons: BTreeMap<_, BTreeMap<_, _>> =
            RefusedReason::ALL.into_iter().map(|reason| (reason, BTreeMap::new())).collect();
        for Refused { service, reason, attempts } in read {
            let numbers = Numbers { connections: attempts, bytes: None };
            reasons.entry(reason).or_default().insert(service, numbers);
        }
        let mut families = self.families.lock().unwrap_or_else(PoisonError::into_inner);
        let refused = &mut families.get_mut(family).refused;
        for (reason, services) in reasons {
            refused.entry(reason).or_default().update(services, self.limit);
        }
    }

    /// What was counted of a service port, as of the last reading.
    pub fn of(&self, family: IpFamily, name: &ServicePortName) -> Counted {
        let families = self.families.lock().unwrap_or_else(PoisonError::into_inner);
        let family = families.get(family);
        let of = |ledger: &Ledger<ServicePortName>| ledger.own.get(name).map(|n| n.connections);
        let refused = family.refused.iter();
        Counted {
            connections: of(&family.services),
            refused: refused.filter_map(|(reason, own)| Some((*reason, of(own)?))).collect(),
        }
    }
}

/// What was counted of something.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Numbers {
    connections: u64,
    bytes: Option<TrafficBytes>,
}

impl Numbers {
    /// What these rose by since `before`. A number that fell starts again, and what came before this reading is not known: it adds nothing.
    fn since(self, before: Self) -> Self {
        let old = before.bytes.unwrap_or_default();
        Self {
            connections: self.connections.saturating_sub(before.connections),
            bytes: self.bytes.map(|bytes| TrafficBytes {
                sent: bytes.sent.saturating_sub(old.sent),
                received: bytes.received.saturating_sub(old.received),
            }),
        }
    }

    fn add(&mut self, rise: Self) {
        self.connections = self.connections.saturating_add(rise.connections);
        if let Some(rise) = rise.bytes {
            let bytes = self.bytes.get_or_insert_default();
            bytes.sent = bytes.sent.saturating_add(rise.sent);
            bytes.received = bytes.received.saturating_add(rise.received);
        }
    }

    fn is_zero(&self) -> bool {
        self.connections == 0 && self.bytes.unwrap_or_default() == TrafficBytes::default()
    }
}

/// Totals of things with names.
#[derive(Clone, Debug)]
struct Ledger<Name> {
    /// What was read last; `None` before the first reading.
    read: Option<BTreeMap<Name, Numbers>>,
    /// Those told apart.
    own: BTreeMap<Name, Numbers>,
    /// All others together, once there was one.
    others: Option<Numbers>,
}

impl<Name> Default for Ledger<Name> {
    fn default() -> Self {
        Self { read: None, own: BTreeMap::new(), others: None }
    }
}

impl<Name: Ord + Clone> Ledger<Name> {
    fn update(&mut self, read: BTreeMap<Name, Numbers>, limit: usize) {
        self.own.retain(|name, _| read.contains_key(name));
        let mut waiting = Vec::new();
        for (name, now) in &read {
            let rise = match &self.read {
                // Old connections of rules that an earlier process wrote.
                None => now.since(*now),
                Some(before) => now.since(before.get(name).copied().unwrap_or_default()),
            };
            match self.own.get_mut(name) {
                Some(total) => total.add(rise),
                None => waiting.push((name, rise)),
            }
        }
        // Who has traffic goes before who has none, and then the order is that of names.
        waiting.sort_by_key(|(_, rise)| rise.is_zero());
        let mut idle: Vec<Name> = self.own.iter().filter(is_idle).map(|(n, _)| n.clone()).collect();
        for (name, rise) in waiting {
            if self.own.len() >= limit
                && !rise.is_zero()
                && let Some(idle) = idle.pop()
            {
                self.own.remove(&idle);
            }
            if self.own.len() < limit {
                self.own.insert(name.clone(), rise);
            } else {
                self.others.get_or_insert_default().add(rise);
            }
        }
        self.read = Some(read);
    }
}

fn is_idle<Name>((_, total): &(&Name, &Numbers)) -> bool {
    total.is_zero()
}

/// Labels of a service port.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ServiceLabels {
    ip_family: String,
    namespace: String,
    service: String,
    port: String,
    protocol: String,
}

/// Labels of what no endpoint of a service port got.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RefusedLabels {
    ip_family: String,
    namespace: String,
    service: String,
    port: String,
    protocol: String,
    reason: &'static str,
}

/// Labels of an endpoint of a service port.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct EndpointLabels {
    ip_family: String,
    namespace: String,
    service: String,
    port: String,
    protocol: String,
    endpoint: String,
}

impl ServiceLabels {
    fn new(family: IpFamily, name: Option<&ServicePortName>) -> Self {
        let text = |get: fn(&ServicePortName) -> &str, others: &str| {
            name.map_or_else(|| others.to_owned(), |name| get(name).to_owned())
        };
        Self {
            ip_family: family.to_string(),
            namespace: text(|name| &name.service.namespace, OTHERS),
            service: text(|name| &name.service.name, OTHERS),
            port: text(|name| &name.port, ""),
            protocol: name.map(|name| name.protocol.to_string()).unwrap_or_default(),
        }
    }
}

impl RefusedLabels {
    fn new(family: IpFamily, name: Option<&ServicePortName>, reason: RefusedReason) -> Self {
        let ServiceLabels { ip_family, namespace, service, port, protocol } =
            ServiceLabels::new(family, name);
        Self { ip_family, namespace, service, port, protocol, reason: reason.name() }
    }
}

impl EndpointLabels {
    fn new(family: IpFamily, name: Option<&(ServicePortName, SocketAddr)>) -> Self {
        let ServiceLabels { ip_family, namespace, service, port, protocol } =
            ServiceLabels::new(family, name.map(|(service, _)| service));
        let endpoint = name.map_or_else(|| OTHERS.to_owned(), |(_, address)| address.to_string());
        Self { ip_family, namespace, service, port, protocol, endpoint }
    }
}

/// One metric: its name, its help, and its value if it is counted.
type Column = (&'static str, &'static str, fn(&Numbers) -> Option<u64>);

#[rustfmt::skip]
const SERVICE: [Column; 3] = [
    ("service_connections", "New connections of a service port since kube-proxy started; for UDP, new flows", |n| Some(n.connections)),
    ("service_sent_bytes", "Bytes from clients to a service port since kube-proxy started", |n| Some(n.bytes?.sent)),
    ("service_received_bytes", "Bytes from a service port to clients since kube-proxy started", |n| Some(n.bytes?.received)),
];

#[rustfmt::skip]
const ENDPOINT: [Column; 3] = [
    ("endpoint_connections", "New connections of an endpoint of a service port since kube-proxy started; for UDP, new flows", |n| Some(n.connections)),
    ("endpoint_sent_bytes", "Bytes from clients to an endpoint of a service port since kube-proxy started", |n| Some(n.bytes?.sent)),
    ("endpoint_received_bytes", "Bytes from an endpoint of a service port to clients since kube-proxy started", |n| Some(n.bytes?.received)),
];

#[rustfmt::skip]
const REFUSED: [Column; 1] = [
    ("service_refused_connections", "Attempts to connect to a service port since kube-proxy started that were refused or dropped because no endpoint was allowed; each repetition of a first packet counts", |n| Some(n.connections)),
];

/// The samples of some metrics.
type Samples<Labels> = Vec<(Labels, Numbers)>;

fn samples<Name, Labels>(
    families: &PerFamily<Family>,
    ledger: fn(&Family) -> &Ledger<Name>,
    labels: fn(IpFamily, Option<&Name>) -> Labels,
) -> Samples<Labels> {
    let mut samples = Vec::new();
    for family in IpFamily::BOTH {
        let ledger = ledger(families.get(family));
        samples.extend(of_ledger(ledger, |name| labels(family, name)));
    }
    samples
}

fn of_ledger<Name, Labels>(
    ledger: &Ledger<Name>,
    labels: impl Fn(Option<&Name>) -> Labels,
) -> Samples<Labels> {
    let own = ledger.own.iter().map(|(name, n)| (labels(Some(name)), *n));
    own.chain(ledger.others.map(|numbers| (labels(None), numbers))).collect()
}

fn refused_samples(families: &PerFamily<Family>) -> Samples<RefusedLabels> {
    let mut samples = Vec::new();
    for family in IpFamily::BOTH {
        for (reason, ledger) in &families.get(family).refused {
            samples.extend(of_ledger(ledger, |name| RefusedLabels::new(family, name, *reason)));
        }
    }
    samples
}

fn encode<Labels: EncodeLabelSet>(
    encoder: &mut DescriptorEncoder<'_>,
    columns: &[Column],
    samples: &Samples<Labels>,
) -> fmt::Result {
    for &(name, help, value) in columns {
        let values: Vec<_> =
            samples.iter().filter_map(|(labels, n)| Some((labels, value(n)?))).collect();
        if values.is_empty() {
            continue;
        }
        let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
        for (labels, value) in values {
            ConstCounter::new(value).encode(metric.encode_family(labels)?)?;
        }
    }
    Ok(())
}

impl Collector for TrafficTotals {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let families = self.families.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let services = samples(&families, |family| &family.services, ServiceLabels::new);
        encode(&mut encoder, &SERVICE, &services)?;
        encode(&mut encoder, &REFUSED, &refused_samples(&families))?;
        let endpoints = samples(&families, |family| &family.endpoints, EndpointLabels::new);
        encode(&mut encoder, &ENDPOINT, &endpoints)
    }
}

#[cfg(test)]
mod tests;
