//! What the node holds for one frontend, for people who ask: the virtual server by its key, and entries and addresses one by one.

use std::net::{IpAddr, SocketAddr};

use kube_proxy_core::{
    Frontend, FrontendQuery, KernelObject, ObjectState, Protocol, ServicePortName, SyncError,
};
use kube_proxy_netlink::ipset::{Entry, SetType};
use kube_proxy_netlink::ipvs::{Destination, ServerKey};
use kube_proxy_xtables::Check;

use crate::DEVICE;
use crate::backend::{Applied, IpvsBackend};
use crate::layout::{self, SETS, Set, TABLES};
use crate::plan::{Desired, Item, Planned};
use crate::servers::same;

/// The index of the loopback interface, which kernels before 4.13 name for every address of the host.
const LOOPBACK: u32 = 1;

impl IpvsBackend {
    /// Asks the kernel for each object that serves the frontend, and for those that would keep clients from it.
    pub(crate) fn objects_of(
        &mut self,
        query: &FrontendQuery,
    ) -> Result<Vec<KernelObject>, SyncError> {
        // Put back whatever comes of it.
        let Some(applied) = self.applied.take() else {
            let why = "the last sync failed, so it is not known what is on the node";
            return Err(SyncError::NotFound(why.to_owned()));
        };
        let objects = self.look_up_in(&applied, query);
        self.applied = Some(applied);
        objects
    }

    fn look_up_in(
        &mut self,
        applied: &Applied,
        query: &FrontendQuery,
    ) -> Result<Vec<KernelObject>, SyncError> {
        let Some(planned) = applied.state.planned(&query.service) else {
            let why = "the last sync did not write this service port";
            return Err(SyncError::NotFound(why.to_owned()));
        };
        let mut objects = Vec::new();
        let external = planned.outer.iter().find(|ip| query.frontend.ip() == Some(**ip));
        if let Some(ip) = external.filter(|ip| applied.needed.refuses(ip)) {
            let name = format!(
                "{ip}: it is the next hop of a route, or an endpoint, of another machine, so this node does not take it"
            );
            objects.push(KernelObject::new("address", name, ObjectState::InTheWay));
        }
        for key in self.server_keys(planned, query) {
            self.look_at_server(applied, key, query, &mut objects)?;
        }
        self.look_at_items(applied, planned, query, &mut objects)?;
        self.look_at_rules(applied, &mut objects)?;
        Ok(objects)
    }

    /// The virtual server of the frontend, and those by mark to which it leads clients on this node.
    fn server_keys(&self, planned: &Planned, query: &FrontendQuery) -> Vec<ServerKey> {
        let (protocol, address) = (query.frontend.protocol().number(), query.address);
        let marks_packets = |item: &Item| match item {
            Item::Entry(_, Entry::IpPortMark { ip, protocol: number, port, .. }) => {
                (*ip, *number, *port) == (address.ip(), protocol, address.port())
            }
            _ => false,
        };
        let is_marked = planned.items.iter().any(marks_packets);
        let mark = self.marks.of(&query.service).filter(|_| is_marked);
        let v6 = address.is_ipv6();
        let by_mark = mark.into_iter().flat_map(|mark| self.marks.of_packets(mark));
        let by_mark = by_mark.map(|mark| ServerKey::Mark { v6, mark });
        [ServerKey::Frontend { protocol, address }].into_iter().chain(by_mark).collect()
    }

    fn look_at_server(
        &mut self,
        applied: &Applied,
        key: ServerKey,
        query: &FrontendQuery,
        objects: &mut Vec<KernelObject>,
    ) -> Result<(), SyncError> {
        let is_own = |(owner, _): &&(ServicePortName, Desired)| *owner == query.service;
        let wanted = applied.state.servers.get(&key).filter(is_own).map(|(_, wanted)| wanted);
        let found = self.kernel.server(key)?;
        let text = |scheduler: &str| format!("{key} with scheduler {scheduler}");
        let (wanted, found) = match (wanted, found) {
            (None, None) => return Ok(()),
            (None, Some(found)) => {
                let name = text(&found.server.scheduler);
                objects.push(KernelObject::new("virtual server", name, ObjectState::InTheWay));
                return Ok(());
            }
            (Some(wanted), found) => (wanted, found),
        };
        let state = match &found {
            None => ObjectState::Missing,
            Some(found) if same(&found.server, &wanted.server) => ObjectState::AsWanted,
            Some(found) => {
                let (flags, seconds) = (found.server.flags, found.server.timeout);
                let scheduler = text(&found.server.scheduler);
                let actual = format!("{scheduler}, flags {flags:#x} and timeout {seconds} s");
                ObjectState::Different { actual }
            }
        };
        objects.push(KernelObject::new("virtual server", text(&wanted.server.scheduler), state));
        let there = match found {
            Some(_) => self.kernel.destinations(key)?,
            None => Vec::new(),
        };
        for (to, weight) in wanted.weighted() {
            objects.push(destination(key, to, weight, &there));
        }
        // One of weight 0 gets no new connections, whatever program put it there.
        let others = there.iter().filter(|found| found.weight > 0);
        for other in others.filter(|found| wanted.weight(&found.address).is_none()) {
            let name = of_destination(key, other.address, other.weight);
            objects.push(KernelObject::new("destination", name, ObjectState::InTheWay));
        }
        Ok(())
    }

    fn look_at_items(
        &mut self,
        applied: &Applied,
        planned: &Planned,
        query: &FrontendQuery,
        objects: &mut Vec<KernelObject>,
    ) -> Result<(), SyncError> {
        let wanted: Vec<Item> =
            planned.items.iter().copied().filter(|item| serves(item, query)).collect();
        for item in &wanted {
            let object = match *item {
                Item::Address(ip) => self.address(applied.device, ip)?,
                Item::Entry(set, entry) => self.entry(set, entry)?,
            };
            objects.push(object);
        }
        for (set, entry) in barring(query) {
            if wanted.contains(&Item::Entry(set, entry)) {
                continue;
            }
            let name = set.name(self.config.family);
            if self.kernel.contains(&name, entry)? == Some(true) {
                let name = format!("{name}: {entry}");
                objects.push(KernelObject::new("ipset entry", name, ObjectState::InTheWay));
            }
        }
        Ok(())
    }

    fn address(&mut self, device: u32, ip: IpAddr) -> Result<KernelObject, SyncError> {
        let state = match self.kernel.interface_of(ip)? {
            None => ObjectState::Missing,
            Some(index) if index == device || index == LOOPBACK => ObjectState::AsWanted,
            Some(index) => {
                ObjectState::Different { actual: format!("{ip} on interface number {index}") }
            }
        };
        Ok(KernelObject::new("address", format!("{ip} on {DEVICE}"), state))
    }

    fn entry(&mut self, set: Set, entry: Entry) -> Result<KernelObject, SyncError> {
        let set = set.name(self.config.family);
        Ok(match self.kernel.contains(&set, entry)? {
            None => KernelObject::new("ipset", set, ObjectState::Missing),
            Some(is_there) => {
                KernelObject::there_or_missing("ipset entry", format!("{set}: {entry}"), is_there)
            }
        })
    }

    /// The rules that look packets up in the sets are the same for all Services.
    fn look_at_rules(
        &mut self,
        applied: &Applied,
        objects: &mut Vec<KernelObject>,
    ) -> Result<(), SyncError> {
        let marks = self.marks.bits().filter(|_| applied.marking);
        let checks = layout::checks(&self.config, self.random_fully, marks);
        for table in TABLES {
            let rules = checks.iter().filter_map(|check| match check {
                Check::Rule { table: of, chain, rule } if *of == table => Some((*chain, &**rule)),
                _ => None,
            });
            let rules: Vec<(&str, &str)> = rules.collect();
            let found = self.kernel.find_rules(table, &rules)?;
            objects.extend(rules.iter().zip(found).map(|((chain, rule), found)| {
                let name = format!("{table} -A {chain} {rule}");
                KernelObject::there_or_missing("rule", name, found)
            }));
        }
        Ok(())
    }
}

fn of_destination(key: ServerKey, to: SocketAddr, weight: u32) -> String {
    format!("{to} of {key}, weight {weight}")
}

fn destination(key: ServerKey, to: SocketAddr, weight: u32, there: &[Destination]) -> KernelObject {
    let state = match there.iter().find(|found| found.address == to) {
        None => ObjectState::Missing,
        Some(found) if found.forwarding != 0 => {
            ObjectState::Different { actual: "one that is not reached by NAT".to_owned() }
        }
        Some(found) if found.weight == weight => ObjectState::AsWanted,
        Some(found) => ObjectState::Different { actual: format!("weight {}", found.weight) },
    };
    KernelObject::new("destination", of_destination(key, to, weight), state)
}

/// Whether an entry or address that a service port needs is there for this frontend, or for all of them.
fn serves(item: &Item, query: &FrontendQuery) -> bool {
    let (to, protocol) = (query.address, query.frontend.protocol());
    let is = |ip: IpAddr, number: u8, port: u16| {
        ip == to.ip() && number == protocol.number() && port == to.port()
    };
    let is_node_port = matches!(query.frontend, Frontend::NodePort(..));
    match *item {
        Item::Address(ip) | Item::Entry(_, Entry::Ip(ip)) => !is_node_port && ip == to.ip(),
        // Endpoints that reach themselves.
        Item::Entry(Set::LoopBack, _) => true,
        Item::Entry(Set::HealthCheck, _) => false,
        Item::Entry(_, Entry::Port(port)) => is_node_port && port == to.port(),
        Item::Entry(
            _,
            Entry::IpPort(ip, number, port)
            | Entry::IpPortIp(ip, number, port, _)
            | Entry::IpPortNet(ip, number, port, ..)
            | Entry::IpPortMark { ip, protocol: number, port, .. },
        ) => is(ip, number, port),
    }
}

/// Entries that would make a difference to packets for the frontend.
fn barring(query: &FrontendQuery) -> Vec<(Set, Entry)> {
    let (to, protocol) = (query.address, query.frontend.protocol());
    let entry = Entry::IpPort(to.ip(), protocol.number(), to.port());
    let by_address = SETS.iter().filter(|(_, _, kind)| *kind == SetType::IpPort);
    let mut entries: Vec<_> = by_address.map(|(set, ..)| (*set, entry)).collect();
    if matches!(query.frontend, Frontend::NodePort(..)) && protocol != Protocol::Sctp {
        entries.push((Set::NodePortLocal(protocol), Entry::Port(to.port())));
    }
    entries
}
