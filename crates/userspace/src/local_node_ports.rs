//! NodePorts on the loopback address, without any rule: for modes whose rules cannot serve them.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::time::Duration;

use kube_proxy_core::{
    Endpoint, FrontendKind, FrontendQuery, IpFamily, KernelObject, ObjectState, Protocol, Scope,
    ServiceEntry, ServicePortName, Snapshot, SyncError, Traffic, TrafficPolicy,
};
use rustc_hash::{FxHashMap, FxHashSet};

use crate::balance::{Balancer, Endpoints, seed};
use crate::data_path::{DataPath, Listening};
use crate::observer::Observer;
use crate::port;
use crate::proxy_header::{self, ProxyProtocol};
use crate::service::{Service, Shared};
use crate::tcp::Owner;

/// The protocols that are served.
const SERVED: [Protocol; 2] = [Protocol::Tcp, Protocol::Udp];

/// Listens on the loopback address at each node port of a family, TCP and UDP, and copies to the endpoints of its service.
pub struct LocalNodePorts {
    family: IpFamily,
    data: DataPath,
    services: FxHashMap<ServicePortName, Applied>,
    /// Node ports that another program has there, already complained about.
    refused: FxHashSet<ServicePortName>,
    observer: Observer,
}

struct Applied {
    service: Arc<Service>,
    number: u16,
    listening: Listening,
}

impl LocalNodePorts {
    /// Starts the data path.
    ///
    /// # Errors
    /// When its threads cannot be started.
    pub fn new(
        family: IpFamily,
        udp_idle: Duration,
        observer: Observer,
    ) -> Result<Self, SyncError> {
        let data = DataPath::start(Shared { udp_idle, ..Shared::default() });
        let data = data.map_err(|source| SyncError::Io {
            what: "starting the threads that copy connections to NodePorts on localhost".to_owned(),
            source,
        })?;
        Ok(Self {
            family,
            data,
            services: FxHashMap::default(),
            refused: FxHashSet::default(),
            observer,
        })
    }

    /// The annotations of Services that it reads: part of [`ProxyBackend::annotations`](kube_proxy_core::ProxyBackend::annotations) of
    /// the backend beside it.
    pub fn annotations() -> Vec<&'static str> {
        vec![proxy_header::ANNOTATION]
    }

    /// Makes the listening ports match. What cannot be opened is logged once, and tried again at every full sync.
    pub fn sync(&mut self, snapshot: &Snapshot, scope: Scope<'_>) {
        match scope {
            Scope::Partial(changes) => self.update_all(&changes.services, snapshot),
            Scope::Full | Scope::Repair(_) => {
                let mut names: BTreeSet<_> = self.services.keys().cloned().collect();
                names.extend(snapshot.services.keys().cloned());
                self.update_all(&names, snapshot);
            }
        }
        self.observer.local_node_ports().listening(self.services.len());
    }

    /// All ports that are to be closed are before any is opened: one may have changed hands.
    fn update_all(&mut self, names: &BTreeSet<ServicePortName>, snapshot: &Snapshot) {
        let wanted = |name: &ServicePortName| wanted(name, snapshot.entry(name));
        for name in names {
            let number = wanted(name).map(|(_, number)| number);
            if self.services.get(name).is_some_and(|held| Some(held.number) != number) {
                self.services.remove(name);
            }
            if number.is_none() {
                self.refused.remove(name);
            }
        }
        for name in names {
            if let Some((entry, number)) = wanted(name) {
                self.update(name, entry, number);
            }
        }
    }

    /// What listens for clients of a node port on the loopback address; `None` if that is none of its business.
    pub fn look_up(&self, snapshot: &Snapshot, query: &FrontendQuery) -> Option<Vec<KernelObject>> {
        let FrontendQuery { service, frontend, address, .. } = query;
        let protocol = frontend.protocol();
        if !address.ip().is_loopback() || !SERVED.contains(&protocol) {
            return None;
        }
        let name = format!("{} {address}", protocol.lower());
        let is_open = self.services.get(service).is_some_and(|held| held.number == frontend.port());
        Some(match wanted(service, snapshot.entry(service)) {
            _ if self.refused.contains(service) => {
                let name = format!("{name} of another program");
                vec![KernelObject::new("socket", name, ObjectState::InTheWay)]
            }
            Some(_) => vec![KernelObject::there_or_missing("listening socket", name, is_open)],
            None => Vec::new(),
        })
    }

    fn update(&mut self, name: &ServicePortName, entry: &ServiceEntry, number: u16) {
        let old = self.services.remove(name);
        let service = old.as_ref().map_or_else(
            || Arc::new(Service::new(name.clone(), Balancer::new(seed(), Duration::ZERO))),
            |held| held.service.clone(),
        );
        service.update(endpoints(entry), ProxyProtocol::of(&entry.port));
        let ends_dead = entry.port.ends_dead_connections();
        service.set_present(ends_dead.then(|| entry.endpoints.clone()));
        let listening = match old {
            Some(held) => held.listening,
            None => match self.open(name, number, &service) {
                Some(listening) => listening,
                None => return,
            },
        };
        listening.endpoints_changed();
        self.services.insert(name.clone(), Applied { service, number, listening });
    }

    fn open(
        &mut self,
        name: &ServicePortName,
        number: u16,
        service: &Arc<Service>,
    ) -> Option<Listening> {
        let loopback: IpAddr = match self.family {
            IpFamily::V4 => Ipv4Addr::LOCALHOST.into(),
            IpFamily::V6 => Ipv6Addr::LOCALHOST.into(),
        };
        let shared = self.data.shared.clone();
        let owner = Owner { service: service.clone(), policy: TrafficPolicy::Cluster, shared };
        let opened = port::listening(loopback, name.protocol, number)
            .and_then(|socket| self.data.serve(socket, name.protocol, owner));
        match opened {
            Ok(listening) => {
                self.refused.remove(name);
                Some(listening)
            }
            Err(error) => {
                self.observer.local_node_ports().failed();
                if self.refused.insert(name.clone()) {
                    tracing::error!(
                        service = %name,
                        node_port = number,
                        %error,
                        "service port is not reachable at {loopback}"
                    );
                }
                None
            }
        }
    }

    /// What went through each of them.
    pub fn traffic(&self) -> Vec<Traffic> {
        let services = self.services.iter();
        services.map(|(name, held)| held.service.counters.traffic(name, None)).collect()
    }
}

/// The node port to listen at. Where there is no endpoint nothing listens, and the kernel refuses;
/// but UDP sessions with one that drains need the port.
fn wanted<'a>(
    name: &ServicePortName,
    entry: Option<&'a ServiceEntry>,
) -> Option<(&'a ServiceEntry, u16)> {
    let drains = |entry: &ServiceEntry| {
        name.protocol == Protocol::Udp && entry.endpoints.iter().any(Endpoint::keeps_connections)
    };
    let entry = entry.filter(|_| SERVED.contains(&name.protocol))?;
    let entry = Some(entry).filter(|entry| !chosen(entry).is_empty() || drains(entry))?;
    Some((entry, entry.port.node_port()?))
}

/// Under the external policy `Local` the endpoints of this node only, as in the Go kube-proxy.
fn chosen(entry: &ServiceEntry) -> &[Endpoint] {
    entry.choice.of(entry.port.traffic_policy(FrontendKind::NodePort))
}

fn endpoints(entry: &ServiceEntry) -> Endpoints {
    Endpoints::of(entry, [chosen(entry), &[]])
}
