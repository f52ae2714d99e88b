//! From snapshots to listening ports, balancing and rules.

use std::collections::BTreeSet;
use std::sync::Arc;

use async_trait::async_trait;
use kube_proxy_core::{
    Algorithm, Changes, Deviation, Difference, Endpoint, Frontend, FrontendKind, FrontendQuery,
    KernelObject, NodePortAddresses, Protocol, ProxyBackend, Scope, ServiceEntry, ServicePortName,
    Session, SessionKey, Snapshot, SyncError, SyncReport, Traffic, TrafficPolicy,
};
use kube_proxy_xtables::{Programs, node_port_destinations};
use rustc_hash::{FxHashMap, FxHashSet};
use socket2::Socket;

use crate::Config;
use crate::actual::Actual;
use crate::balance::{Balancer, Endpoints, seed};
use crate::compare::compare;
use crate::copy_strategy::CopyStrategy;
use crate::data_path::{DataPath, Listening};
use crate::flows::Touched;
use crate::look_up;
use crate::port::{self, Ports};
use crate::proxy_header::{self, ProxyProtocol};
use crate::rules::{ServiceRules, Settings, classes, comment, refuses};
use crate::service::{Service, Shared};
use crate::table::{Batch, Hook, Rules, Slot, TABLES, hooks};
use crate::tcp::Owner;

type Name = Arc<ServicePortName>;

/// Serves one IP family by copying connections.
pub struct UserspaceBackend {
    config: Config,
    settings: Settings,
    hooks: Vec<Hook>,
    programs: Programs,
    ports: Ports,
    data: DataPath,
    services: FxHashMap<Name, Applied>,
    /// The service port that has each frontend.
    owners: FxHashMap<Frontend, (Name, FrontendKind)>,
    /// Node ports that are kept from others.
    node_ports: FxHashMap<Frontend, Socket>,
    /// Ports that no rule is to lead to once the next sync worked.
    retired: Vec<Listening>,
    /// What the kernel accepted; `None` before the first sync and after a failure.
    rules: Option<Rules>,
    /// UDP frontends whose flows are still to be looked at.
    touched: Touched,
    /// Ports of the process before this one, until the first sync worked.
    inherited: FxHashMap<(Protocol, String), u16>,
    /// What was complained about and did not get better since.
    problems: FxHashSet<Problem>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Problem {
    /// No listening port.
    Port(Name, TrafficPolicy),
    /// Another program has the node port.
    NodePort(Frontend),
    Sctp(Name),
}

/// A service port that is served.
struct Applied {
    service: Arc<Service>,
    /// By policy.
    ports: [Option<Open>; 2],
    frontends: Box<[(Frontend, FrontendKind)]>,
}

struct Open {
    port: u16,
    listening: Listening,
}

impl Applied {
    fn numbers(&self) -> [Option<u16>; 2] {
        self.ports.each_ref().map(|open| open.as_ref().map(|open| open.port))
    }
}

/// The ways to our chains, as configured.
fn ways(config: &Config) -> Vec<Hook> {
    let loopback = config.localhost_node_ports && config.node_ports.contains_loopback();
    hooks(&node_port_destinations(config.family, &config.node_ports, loopback))
}

impl UserspaceBackend {
    /// Chooses the iptables programs, tries them, and starts the data path.
    ///
    /// # Errors
    /// When there is no usable iptables of the family on this node, the address to listen on is a loopback address, or the threads
    /// of the data path cannot be started.
    pub fn new(config: Config) -> Result<Self, SyncError> {
        if config.listen.is_loopback() {
            return Err(SyncError::Unsupported(format!(
                "the userspace mode cannot listen on {}: traffic from elsewhere cannot be sent to a loopback address; give an address of this node, or the unspecified one for all",
                config.listen
            )));
        }
        let programs = Programs::choose(config.family, config.variant)?;
        programs.try_out()?;
        tracing::info!(family = %config.family, programs = programs.name(), "chose the iptables programs");
        let strategy = if config.splice { CopyStrategy::Splice } else { CopyStrategy::Copy };
        let shared = Shared { udp_idle: config.udp_idle, strategy, ..Shared::default() };
        let data = DataPath::start(shared).map_err(|source| SyncError::Io {
            what: "starting the threads that copy connections".to_owned(),
            source,
        })?;
        Ok(Self {
            settings: Settings {
                detector: config.local_traffic.clone(),
                listen: Some(config.listen).filter(|ip| !ip.is_unspecified()),
                node_ip: None,
            },
            hooks: ways(&config),
            programs,
            ports: Ports::new(config.listen, config.port_range.clone(), seed()),
            data,
            services: FxHashMap::default(),
            owners: FxHashMap::default(),
            node_ports: FxHashMap::default(),
            retired: Vec::new(),
            rules: None,
            touched: Touched::default(),
            inherited: FxHashMap::default(),
            problems: FxHashSet::default(),
            config,
        })
    }

    fn sync_fully(&mut self, snapshot: &Snapshot) -> Result<SyncReport, SyncError> {
        let existing =
            [Actual::read(&self.programs, TABLES[0])?, Actual::read(&self.programs, TABLES[1])?];
        if self.services.is_empty() {
            self.inherited.clone_from(&existing[1].ports);
        }
        let mut names: BTreeSet<ServicePortName> = snapshot.services.keys().cloned().collect();
        names.extend(self.services.keys().map(|name| (**name).clone()));
        let mut batch = Batch::default();
        batch.begin_anew(&self.hooks, &existing);
        let mut rules = Rules::default();
        self.update(&names, snapshot, &mut rules, &mut batch);
        let [_, nat] = existing;
        let report = self.write(rules, batch)?;
        Ok(SyncReport { removed_udp: nat.udp, ..report })
    }

    fn sync_partially(
        &mut self,
        snapshot: &Snapshot,
        changes: &Changes,
        mut rules: Rules,
    ) -> Result<SyncReport, SyncError> {
        let mut names = changes.services.clone();
        if changes.node_ip {
            let behind_ranges =
                snapshot.services.iter().filter(|(_, entry)| entry.port.source_ranges().is_some());
            names.extend(behind_ranges.map(|(name, _)| name.clone()));
        }
        let mut batch = Batch::default();
        self.update(&names, snapshot, &mut rules, &mut batch);
        self.write(rules, batch)
    }

    /// Opens ports, hands over endpoints, and sets the rules of everything that these service ports have or had.
    fn update(
        &mut self,
        names: &BTreeSet<ServicePortName>,
        snapshot: &Snapshot,
        rules: &mut Rules,
        batch: &mut Batch,
    ) {
        self.settings.node_ip = snapshot.node_ip;
        let mut frontends = BTreeSet::new();
        for name in names {
            let entry = snapshot.entry(name);
            let name = Arc::new(name.clone());
            self.update_service(&name, entry, &mut frontends);
            let of_ports = match (entry, self.services.get(&name)) {
                (Some(entry), Some(held)) => self.service_rules(&name, entry, held).of_ports(),
                _ => Vec::new(),
            };
            rules.set(&Slot::Ports(name), of_ports, batch);
        }
        for frontend in frontends {
            let new = self.settle(frontend, snapshot);
            rules.set(&Slot::Frontend(frontend), new, batch);
        }
    }

    /// Writes what was planned; ports that no rule leads to any more are closed.
    fn write(&mut self, rules: Rules, mut batch: Batch) -> Result<SyncReport, SyncError> {
        batch.finish(&rules);
        if !batch.is_empty() {
            self.programs.restore_text(&batch.pieces()).map_err(|failure| failure.error)?;
        }
        let counts = rules.counts(&batch);
        self.rules = Some(rules);
        self.retired.clear();
        self.inherited = FxHashMap::default();
        let owners = &self.owners;
        self.node_ports.retain(|frontend, _| owners.contains_key(frontend));
        self.clear_flows();
        let refused = self.problems.len();
        Ok(SyncReport { counts, refused, ..SyncReport::default() })
    }

    /// Deletes UDP flows that are wrong now. A failure is retried at the next look.
    fn clear_flows(&mut self) {
        let Config { family, node_ports, localhost_node_ports, .. } = &self.config;
        match self.touched.clear(*family, node_ports, *localhost_node_ports) {
            Ok(0) => {}
            Ok(deleted) => tracing::info!(%family, deleted, "deleted stale UDP conntrack entries"),
            Err(error) => {
                tracing::warn!(%family, %error, "cannot delete stale UDP conntrack entries; trying again at the next check");
            }
        }
    }

    fn update_service(
        &mut self,
        name: &Name,
        entry: Option<&ServiceEntry>,
        touched: &mut BTreeSet<Frontend>,
    ) {
        let entry = entry.filter(|entry| self.can_serve(name, entry));
        let old = self.services.remove(name);
        let old_frontends = old.as_ref().map(|held| held.frontends.clone()).unwrap_or_default();
        let new_frontends = entry.map(|entry| entry.port.frontends.clone()).unwrap_or_default();
        touched.extend(old_frontends.iter().chain(&new_frontends).map(|(frontend, _)| *frontend));
        self.hand_over(name, &old_frontends, &new_frontends);
        let Some(entry) = entry else {
            if let Some(old) = old {
                old.service.update(Endpoints::default(), None);
                old.service.set_present(None);
                self.retire(old.ports.into_iter().flatten());
            }
            self.problems.retain(|problem| match problem {
                Problem::Port(of, _) => of != name,
                _ => true,
            });
            return;
        };
        let (service, mut ports) = match old {
            Some(held) => (held.service, held.ports),
            None => (self.new_service(name), [None, None]),
        };
        service.update(endpoints(entry), ProxyProtocol::of(&entry.port));
        let ends_dead = entry.port.ends_dead_connections();
        service.set_present(ends_dead.then(|| entry.endpoints.clone()));
        for (policy, needed) in TrafficPolicy::ALL.into_iter().zip(classes(&entry.port)) {
            let open = &mut ports[policy as usize];
            if !needed {
                self.retire(open.take());
                self.problems.remove(&Problem::Port(name.clone(), policy));
            } else if open.is_none() {
                *open = self.open(name, &service, policy);
            }
        }
        for open in ports.iter().flatten() {
            open.listening.endpoints_changed();
        }
        self.services.insert(name.clone(), Applied { service, ports, frontends: new_frontends });
    }

    fn new_service(&self, name: &Name) -> Arc<Service> {
        let balancer = Balancer::new(seed(), self.config.rest);
        let service = Arc::new(Service::new((**name).clone(), balancer));
        self.config.observer.add(&service);
        service
    }

    fn retire(&mut self, ports: impl IntoIterator<Item = Open>) {
        self.retired.extend(ports.into_iter().map(|open| open.listening));
    }

    /// TCP and UDP are what this mode can copy.
    fn can_serve(&mut self, name: &Name, entry: &ServiceEntry) -> bool {
        if entry.port.protocol != Protocol::Sctp {
            return true;
        }
        if self.problems.insert(Problem::Sctp(name.clone())) {
            tracing::warn!(service = %name, "service port is not served: the userspace mode has no SCTP");
        }
        false
    }

    fn open(&mut self, name: &Name, service: &Arc<Service>, policy: TrafficPolicy) -> Option<Open> {
        let inherited = self.inherited.get(&(name.protocol, comment(name, policy))).copied();
        let owner = Owner { service: service.clone(), policy, shared: self.data.shared.clone() };
        let opened = self.ports.open(name.protocol, inherited).and_then(|(socket, port)| {
            Ok(Open { port, listening: self.data.serve(socket, name.protocol, owner)? })
        });
        let problem = Problem::Port(name.clone(), policy);
        match opened {
            Ok(open) => {
                self.problems.remove(&problem);
                Some(open)
            }
            Err(error) => {
                if self.problems.insert(problem) {
                    tracing::error!(
                        service = %name,
                        %error,
                        "service port is not served: no port to listen on"
                    );
                }
                None
            }
        }
    }

    /// Takes the frontends from a service port that it had, unless another has them by now, and gives it those that it has.
    fn hand_over(
        &mut self,
        name: &Name,
        old: &[(Frontend, FrontendKind)],
        new: &[(Frontend, FrontendKind)],
    ) {
        for (frontend, _) in old {
            if self.owners.get(frontend).is_some_and(|(owner, _)| owner == name) {
                self.owners.remove(frontend);
            }
        }
        for (frontend, kind) in new {
            self.owners.insert(*frontend, (name.clone(), *kind));
        }
    }

    /// The rules of a frontend: those of the service port that has it.
    fn settle(&mut self, frontend: Frontend, snapshot: &Snapshot) -> Vec<crate::rules::Rule> {
        let owner = self.owners.get(&frontend).cloned();
        let owner = owner.as_ref().and_then(|(name, kind)| {
            Some((name, *kind, snapshot.services.get(&**name)?, self.services.get(name)?.numbers()))
        });
        let Some((name, kind, entry, numbers)) = owner else {
            self.touched.note(frontend, None);
            self.problems.remove(&Problem::NodePort(frontend));
            return Vec::new();
        };
        // While clients are refused, no flow leads to a listening port, unless its endpoint drains.
        let keeps = !refuses(entry) || entry.endpoints.iter().any(Endpoint::keeps_connections);
        self.touched.note(frontend, Some(if keeps { numbers } else { [None, None] }));
        if !self.hold_node_port(frontend, name) {
            return Vec::new();
        }
        match self.services.get(name) {
            Some(held) => self.service_rules(name, entry, held).of_frontend(frontend, kind),
            None => Vec::new(),
        }
    }

    /// Keeps the node port from others on this node. `false` if another program has it already.
    fn hold_node_port(&mut self, frontend: Frontend, name: &Name) -> bool {
        let Frontend::NodePort(protocol, number) = frontend else { return true };
        if self.node_ports.contains_key(&frontend) {
            return true;
        }
        match port::held(self.config.family, protocol, number) {
            Ok(socket) => {
                self.node_ports.insert(frontend, socket);
                self.problems.remove(&Problem::NodePort(frontend));
                true
            }
            Err(error) => {
                if self.problems.insert(Problem::NodePort(frontend)) {
                    tracing::error!(service = %name, %frontend, %error, "service port is not reachable at a frontend");
                }
                false
            }
        }
    }

    fn service_rules<'a>(
        &'a self,
        name: &'a ServicePortName,
        entry: &'a ServiceEntry,
        held: &Applied,
    ) -> ServiceRules<'a> {
        ServiceRules { settings: &self.settings, name, entry, ports: held.numbers() }
    }

    /// Whether a service port that got no port, or whose node port was taken, may get it now.
    fn may_get_better(&self) -> bool {
        let open = |protocol| {
            let of = self.services.iter().filter(move |(name, _)| name.protocol == protocol);
            of.flat_map(|(_, held)| held.ports.iter().flatten()).count()
        };
        let limit = self.ports.limit();
        self.problems.iter().any(|problem| match problem {
            Problem::Port(name, _) => limit.is_none_or(|limit| open(name.protocol) < limit),
            Problem::NodePort(Frontend::NodePort(protocol, number)) => {
                port::held(self.config.family, *protocol, *number).is_ok()
            }
            _ => false,
        })
    }
}

/// What the balancer needs of a service port.
fn endpoints(entry: &ServiceEntry) -> Endpoints {
    Endpoints::of(entry, [&entry.choice.cluster, &entry.choice.local])
}

#[async_trait]
impl ProxyBackend for UserspaceBackend {
    async fn sync(
        &mut self,
        snapshot: &Snapshot,
        scope: Scope<'_>,
    ) -> Result<SyncReport, SyncError> {
        // Taken away for as long as it takes: whatever fails leaves nothing behind, and the next sync is full.
        match (scope, self.rules.take()) {
            (Scope::Partial(changes), Some(rules)) => self.sync_partially(snapshot, changes, rules),
            _ => self.sync_fully(snapshot),
        }
    }

    fn annotations(&self) -> Vec<&'static str> {
        vec![proxy_header::ANNOTATION]
    }

    fn algorithms(&self) -> Vec<Algorithm> {
        vec![Algorithm::SourceHash, Algorithm::Maglev, Algorithm::LeastConnections]
    }

    /// The listening ports stay, and so do the connections.
    fn set_node_ports(&mut self, addresses: &NodePortAddresses) -> bool {
        self.config.node_ports = addresses.clone();
        self.hooks = ways(&self.config);
        self.rules = None;
        true
    }

    async fn intact(&mut self) -> Result<bool, SyncError> {
        let Some(rules) = &self.rules else { return Ok(true) };
        if !self.programs.hold(&rules.checks(&self.hooks))? {
            return Ok(false);
        }
        self.clear_flows();
        Ok(!self.may_get_better())
    }

    async fn compare(&mut self, _snapshot: &Snapshot) -> Result<Vec<Difference>, SyncError> {
        let Some(rules) = &self.rules else {
            let what =
                "what the last sync asked for: it failed, and the next one writes everything";
            return Ok(vec![Difference::new("rules", what, Deviation::Missing)]);
        };
        compare(&self.programs, rules, &self.hooks)
    }

    async fn session(
        &mut self,
        _snapshot: &Snapshot,
        key: &SessionKey,
    ) -> Result<Option<Session>, SyncError> {
        let held = self.services.get(&key.service);
        Ok(held.and_then(|held| held.service.session(key.policy, key.client)))
    }

    /// The listening ports as this process has them, and each rule by itself.
    ///
    /// Chains are shared by all service ports, so they are not listed: a rule of another program before ours does not show.
    async fn look_up(
        &mut self,
        snapshot: &Snapshot,
        query: &FrontendQuery,
    ) -> Result<Vec<KernelObject>, SyncError> {
        let (rules, held, entry) = match (
            &self.rules,
            self.services.get(&query.service),
            snapshot.entry(&query.service),
        ) {
            (Some(rules), Some(held), Some(entry)) => (rules, held, entry),
            (None, ..) => {
                let why = "the last sync failed, so it is not known which rules are there";
                return Err(SyncError::NotFound(why.to_owned()));
            }
            _ if query.service.protocol == Protocol::Sctp => {
                return Err(SyncError::Unsupported("the userspace mode has no SCTP".to_owned()));
            }
            _ => {
                let why = "the last sync did not write this service port";
                return Err(SyncError::NotFound(why.to_owned()));
            }
        };
        let is_node_port = matches!(query.frontend, Frontend::NodePort(..));
        let held = look_up::Held {
            address: self.config.listen,
            ports: held.numbers(),
            node_port: is_node_port.then(|| self.node_ports.contains_key(&query.frontend)),
        };
        let mut objects = look_up::sockets(&held, entry, query);
        objects.extend(look_up::rules(&self.programs, rules, &self.hooks, query)?);
        Ok(objects)
    }

    async fn traffic(&mut self) -> Result<Vec<Traffic>, SyncError> {
        let mut traffic = Vec::new();
        for (name, held) in &self.services {
            traffic.push(held.service.counters.traffic(name, None));
            for target in held.service.targets() {
                traffic.push(target.counters.traffic(name, Some(target.address)));
            }
        }
        Ok(traffic)
    }
}
