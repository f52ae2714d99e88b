//! NodePorts on the loopback address, without any rule: for modes whose rules cannot serve them.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::time::Duration;

use kube_proxy_core::{
    Endpoint, IpFamily, Protocol, Scope, ServiceEntry, ServicePortName, Snapshot, SyncError,
    Traffic,
};
use rustc_hash::{FxHashMap, FxHashSet};

use crate::balance::{Balancer, Class, Endpoints, seed};
use crate::data_path::{DataPath, Listening};
use crate::port;
use crate::service::{Service, Shared};
use crate::tcp::Owner;

/// Listens on the loopback address at each node port of a family, TCP and UDP, and copies to the endpoints of its service.
pub struct LocalNodePorts {
    family: IpFamily,
    data: DataPath,
    services: FxHashMap<ServicePortName, Held>,
    /// Node ports that somebody else has there, already complained about.
    refused: FxHashSet<ServicePortName>,
}

struct Held {
    service: Arc<Service>,
    number: u16,
    listening: Listening,
}

impl LocalNodePorts {
    /// Starts the data path.
    ///
    /// # Errors
    /// When its threads cannot be started.
    pub fn new(family: IpFamily, udp_idle: Duration) -> Result<Self, SyncError> {
        let data = DataPath::start(Shared { udp_idle, ..Shared::default() });
        let data = data.map_err(|source| SyncError::Io {
            what: "starting the threads that copy connections to NodePorts on localhost".to_owned(),
            source,
        })?;
        Ok(Self { family, data, services: FxHashMap::default(), refused: FxHashSet::default() })
    }

    /// Makes the listening ports match. What cannot be opened is logged once, and tried again at every full sync.
    pub fn sync(&mut self, snapshot: &Snapshot, scope: Scope<'_>) {
        match scope {
            Scope::Partial(changes) => {
                for name in &changes.services {
                    self.update(name, snapshot.services.get(name));
                }
            }
            Scope::Full => {
                let mut names: BTreeSet<_> = self.services.keys().cloned().collect();
                names.extend(snapshot.services.keys().cloned());
                for name in names {
                    self.update(&name, snapshot.services.get(&name));
                }
            }
        }
    }

    fn update(&mut self, name: &ServicePortName, entry: Option<&ServiceEntry>) {
        let wanted = entry.and_then(|entry| Some((entry, entry.port.node_port?.get())));
        let wanted = wanted.filter(|_| name.protocol != Protocol::Sctp);
        let Some((entry, number)) = wanted else {
            self.services.remove(name);
            self.refused.remove(name);
            return;
        };
        let old = self.services.remove(name).filter(|held| held.number == number);
        let service = old.as_ref().map_or_else(
            || Arc::new(Service::new(name.clone(), Balancer::new(seed(), Duration::ZERO))),
            |held| held.service.clone(),
        );
        service.update(endpoints(entry), entry.port.proxy_protocol);
        let listening = match old {
            Some(held) => held.listening,
            None => match self.open(name, number, &service) {
                Some(listening) => listening,
                None => return,
            },
        };
        listening.endpoints_changed();
        self.services.insert(name.clone(), Held { service, number, listening });
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
        let owner = Owner { service: service.clone(), class: Class::Cluster, shared };
        let opened = port::listening(loopback, name.protocol, number)
            .and_then(|socket| self.data.serve(socket, name.protocol, owner));
        match opened {
            Ok(listening) => {
                self.refused.remove(name);
                Some(listening)
            }
            Err(error) => {
                if self.refused.insert(name.clone()) {
                    tracing::error!(
                        "service {name} is not reachable at {loopback}, {} node port {number}: {error}",
                        name.protocol
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

/// The node itself reaches every endpoint of the cluster, whatever the external policy.
fn endpoints(entry: &ServiceEntry) -> Endpoints {
    let cluster = entry.choice.cluster.iter().map(Endpoint::socket_address).collect();
    let serving = entry.endpoints.iter().filter(|endpoint| endpoint.conditions.serving);
    Endpoints {
        lists: [cluster, Vec::new()],
        serving: serving.map(Endpoint::socket_address).collect(),
        affinity: entry.port.session_affinity,
    }
}
