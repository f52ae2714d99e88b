//! The merged result of one family: what backends see.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

use crate::{
    Endpoint, EndpointSelection, FrontendKind, IpFamily, ObjectName, Selection, ServicePort,
    ServicePortName, TrafficPolicy, Treatment,
};

/// Everything a backend needs to know of one family, at one moment.
///
/// The tracker keeps one and changes it in place, so reading is all there is to do with it.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// The family.
    pub family: IpFamily,
    /// All service ports of the family, sorted by name. A backend may keep an entry to know later what it wrote.
    pub services: BTreeMap<ServicePortName, Arc<ServiceEntry>>,
    /// The primary address of this node in this family, once it is known.
    pub node_ip: Option<IpAddr>,
    /// The zone of this node, once it is known: whose hints count.
    pub zone: Option<Arc<str>>,
    /// The ranges of this family that cluster IPs are taken from, sorted; empty when unknown.
    pub service_cidrs: Vec<IpNet>,
    /// Endpoints over all service ports.
    pub endpoint_count: usize,
}

impl Snapshot {
    /// An empty snapshot.
    pub fn new(family: IpFamily) -> Self {
        Self {
            family,
            services: BTreeMap::new(),
            node_ip: None,
            zone: None,
            service_cidrs: Vec::new(),
            endpoint_count: 0,
        }
    }

    /// Above this many endpoints a cluster counts as large, and backends leave out what only helps a reader.
    pub const LARGE: usize = 1000;

    /// Whether the cluster counts as large.
    pub fn is_large(&self) -> bool {
        self.endpoint_count > Self::LARGE
    }

    /// A service port.
    pub fn entry(&self, name: &ServicePortName) -> Option<&ServiceEntry> {
        self.services.get(name).map(|entry| &**entry)
    }

    /// How a policy selects from the endpoints of a service port: what made its [`EndpointSelection`].
    pub fn selection(&self, entry: &ServiceEntry, policy: TrafficPolicy) -> Selection<'_> {
        Selection::of(policy, &entry.port, &entry.endpoints, self.zone.as_deref())
    }

    /// All ports of one Service.
    pub fn ports_of<'a>(
        &'a self,
        service: &'a ObjectName,
    ) -> impl Iterator<Item = (&'a ServicePortName, &'a Arc<ServiceEntry>)> {
        let first = ServicePortName {
            service: service.clone(),
            port: Arc::from(""),
            protocol: crate::Protocol::Tcp,
        };
        self.services.range(first..).take_while(move |(name, _)| name.service == *service)
    }
}

/// One service port with its endpoints.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceEntry {
    /// The frontends and policies.
    pub port: ServicePort,
    /// Every endpoint, whatever its state, sorted by address and port.
    pub endpoints: Arc<[Endpoint]>,
    /// Which of them each kind of frontend uses: the decision is made once, here, and not again by backends.
    pub choice: EndpointSelection,
}

impl ServiceEntry {
    /// What becomes of packets for its frontends of this kind.
    pub fn treatment(&self, kind: FrontendKind) -> Treatment<'_> {
        let has_endpoint = |policy| !self.choice.of(policy).is_empty();
        self.port.treatment(kind, has_endpoint, self.choice.has_any_endpoint)
    }
}

/// What a fold changed in a [`Snapshot`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Service ports that are new, different or gone; look them up in the snapshot to know which.
    pub services: BTreeSet<ServicePortName>,
    /// The ServiceCIDRs differ.
    pub service_cidrs: bool,
    /// The address of this node differs.
    pub node_ip: bool,
}

impl Changes {
    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Adds later changes to these.
    pub fn merge(&mut self, later: Self) {
        self.services.extend(later.services);
        self.service_cidrs |= later.service_cidrs;
        self.node_ip |= later.node_ip;
    }
}
