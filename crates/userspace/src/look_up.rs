//! What the node holds for one frontend, for people who ask: listening ports of this process, and the rules that lead there.

use std::net::IpAddr;

use kube_proxy_core::{
    Frontend, FrontendKind, FrontendQuery, KernelObject, ObjectState, ServiceEntry, SyncError,
    TrafficPolicy, Treatment,
};
use kube_proxy_xtables::Programs;

use crate::rules::{Chain, Rule};
use crate::table::{Hook, Rules, Slot, TABLES};

/// What this process has of a service port.
pub(crate) struct Held {
    /// Where it listens.
    pub(crate) address: IpAddr,
    /// By policy.
    pub(crate) ports: [Option<u16>; 2],
    /// Whether the node port is kept from others; `None` where the frontend is none.
    pub(crate) node_port: Option<bool>,
}

/// The sockets, as this process has them.
pub(crate) fn sockets(
    held: &Held,
    entry: &ServiceEntry,
    query: &FrontendQuery,
) -> Vec<KernelObject> {
    let mut objects = Vec::new();
    let own = entry.port.frontends.iter().find(|(frontend, _)| *frontend == query.frontend);
    let Some((_, kind)) = own else { return objects };
    let protocol = query.frontend.protocol().lower();
    for policy in policies(entry, *kind) {
        let endpoints = match policy {
            TrafficPolicy::Cluster => "all endpoints",
            TrafficPolicy::Local => "endpoints on this node",
        };
        let port = held.ports[policy as usize];
        let number = port.map_or(String::new(), |port| format!(" port {port}"));
        let name = format!("{protocol} {}{number}, to {endpoints}", held.address);
        objects.push(KernelObject::there_or_missing("listening socket", name, port.is_some()));
    }
    if let (Frontend::NodePort(_, number), Some(is_held)) = (query.frontend, held.node_port) {
        objects.push(if is_held {
            let name = format!("{protocol} port {number}, kept from other programs");
            KernelObject::new("socket", name, ObjectState::AsWanted)
        } else {
            let name = format!("{protocol} port {number} of another program");
            KernelObject::new("socket", name, ObjectState::InTheWay)
        });
    }
    objects
}

/// The policies that select endpoints for clients of a kind of frontend.
fn policies(entry: &ServiceEntry, kind: FrontendKind) -> impl Iterator<Item = TrafficPolicy> {
    let Treatment { policy, short_circuit, .. } = entry.treatment(kind);
    let used =
        move |of: &TrafficPolicy| *of == policy || (short_circuit && *of == TrafficPolicy::Cluster);
    TrafficPolicy::ALL.into_iter().filter(used)
}

/// The rules of the frontend and of its listening ports, and the ways to their chains, each asked for by itself.
pub(crate) fn rules(
    programs: &Programs,
    rules: &Rules,
    hooks: &[Hook],
    query: &FrontendQuery,
) -> Result<Vec<KernelObject>, SyncError> {
    let of_frontend = rules.of(&Slot::Frontend(query.frontend));
    let of_ports = rules.of(&Slot::Ports(query.service.clone().into()));
    let own: Vec<&Rule> = of_frontend.iter().chain(of_ports).collect();
    let leads_there = |chain: Chain| own.iter().any(|(of, _)| *of == chain);
    let mut objects = Vec::new();
    for table in TABLES {
        let hooks = hooks.iter().filter(|hook| hook.to.table() == table && leads_there(hook.to));
        let hooks = hooks.map(|hook| (hook.from, &*hook.rule));
        let own = own.iter().filter(|(chain, _)| chain.table() == table);
        let own = own.map(|(chain, rule)| (chain.name(), &**rule));
        let asked: Vec<(&str, &str)> = own.chain(hooks).collect();
        if asked.is_empty() {
            continue;
        }
        let found = programs.find_rules(table, &asked)?;
        objects.extend(asked.iter().zip(found).map(|((chain, rule), found)| {
            let name = format!("{table} -A {chain} {rule}");
            KernelObject::there_or_missing("rule", name, found)
        }));
    }
    Ok(objects)
}
