//! The dispatch lists: which rule each frontend has in which list.

use std::fmt;
use std::sync::Arc;

use kube_proxy_core::{IpFamily, Protocol, ServiceEntry, ServicePortName, Snapshot, TrafficPolicy};

use crate::keys::{
    PROTOCOL_BITS, address, address_chain, address_top, address_width, destination, port_bits,
    protocol_and_port,
};
use crate::layout::Table;
use crate::names::{ChainName, ServiceChains, port_dispatch_chain};
use crate::rules::{Rule, Rules};
use crate::service::{Frontend, Role, has_external_chain, has_firewall, policy_chain, refusal};
use crate::tree::{Dispatch, Key, Prefix};

/// A list of rules by frontend.
#[derive(Debug)]
pub(crate) struct List {
    pub(crate) table: Table,
    /// The chain it starts in.
    pub(crate) root: &'static str,
    /// How names of its other chains begin.
    branches: &'static str,
    branch_by: BranchBy,
    /// The rule of one frontend; `None` if it has none in this list.
    action: fn(Role, &ServiceEntry, &ServiceChains) -> Option<Action>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum BranchBy {
    Address,
    Port,
}

/// What a rule does, and what its comment says after the name of the service.
struct Action {
    comment: String,
    target: String,
}

impl Action {
    fn new(comment: impl Into<String>, target: impl fmt::Display) -> Self {
        Self { comment: comment.into(), target: target.to_string() }
    }

    fn refuse(entry: &ServiceEntry, policy: TrafficPolicy) -> Option<Self> {
        let refusal = refusal(entry, policy)?;
        Some(Self::new(refusal.comment(), refusal.target()))
    }
}

const fn list(
    table: Table,
    root: &'static str,
    branches: &'static str,
    branch_by: BranchBy,
    action: fn(Role, &ServiceEntry, &ServiceChains) -> Option<Action>,
) -> List {
    List { table, root, branches, branch_by, action }
}

/// How many lists there are.
pub(crate) const COUNT: usize = 7;

/// All lists, each behind those that its root leads to. The names of branches are unique within a table.
#[rustfmt::skip]
pub(crate) const LISTS: [List; COUNT] = [
    list(Table::Nat,    "KUBE-NODEPORTS",          "KUBE-EXT-", BranchBy::Port,    translated_node_port),
    list(Table::Nat,    "KUBE-SERVICES",           "KUBE-SVC-", BranchBy::Address, translated),
    list(Table::Filter, "KUBE-EXTERNAL-NODEPORTS", "KUBE-SVL-", BranchBy::Port,    refused_node_port),
    list(Table::Filter, "KUBE-EXTERNAL-SERVICES",  "KUBE-EXT-", BranchBy::Address, refused_external),
    list(Table::Filter, "KUBE-SERVICES",           "KUBE-SVC-", BranchBy::Address, refused_cluster_ip),
    list(Table::Filter, "KUBE-PROXY-FIREWALL",     "KUBE-FW-",  BranchBy::Address, kept_out),
    list(Table::Filter, "KUBE-NODEPORTS",          "KUBE-SEP-", BranchBy::Port,    health_check),
];

fn translated(role: Role, entry: &ServiceEntry, chains: &ServiceChains) -> Option<Action> {
    match role {
        Role::ClusterIp => {
            let policy = entry.port.internal_traffic_policy;
            if refusal(entry, policy).is_some() {
                return None;
            }
            Some(Action::new("cluster IP", policy_chain(chains, policy)))
        }
        Role::ExternalIp if has_external_chain(entry) => {
            Some(Action::new("external IP", chains.external))
        }
        Role::LoadBalancerVip if has_firewall(entry) => {
            Some(Action::new("loadbalancer IP", chains.firewall))
        }
        Role::LoadBalancerVip if has_external_chain(entry) => {
            Some(Action::new("loadbalancer IP", chains.external))
        }
        _ => None,
    }
}

fn translated_node_port(
    role: Role,
    entry: &ServiceEntry,
    chains: &ServiceChains,
) -> Option<Action> {
    if role == Role::NodePort && has_external_chain(entry) {
        return Some(Action::new("", chains.external));
    }
    None
}

fn refused_cluster_ip(role: Role, entry: &ServiceEntry, _: &ServiceChains) -> Option<Action> {
    if role != Role::ClusterIp {
        return None;
    }
    Action::refuse(entry, entry.port.internal_traffic_policy)
}

fn refused_external(role: Role, entry: &ServiceEntry, _: &ServiceChains) -> Option<Action> {
    if !matches!(role, Role::ExternalIp | Role::LoadBalancerVip) {
        return None;
    }
    Action::refuse(entry, entry.port.external_traffic_policy)
}

fn refused_node_port(role: Role, entry: &ServiceEntry, _: &ServiceChains) -> Option<Action> {
    if role != Role::NodePort {
        return None;
    }
    Action::refuse(entry, entry.port.external_traffic_policy)
}

fn kept_out(role: Role, entry: &ServiceEntry, chains: &ServiceChains) -> Option<Action> {
    if role != Role::LoadBalancerVip || !has_firewall(entry) {
        return None;
    }
    Some(Action::new(format!("traffic not accepted by {}", chains.firewall), "DROP"))
}

fn health_check(role: Role, _: &ServiceEntry, _: &ServiceChains) -> Option<Action> {
    if role == Role::HealthCheck {
        return Some(Action::new("health check node port", "ACCEPT"));
    }
    None
}

impl List {
    /// Whether frontends of this kind can have a rule in it.
    pub(crate) fn may_hold(&self, frontend: Frontend) -> bool {
        matches!(frontend, Frontend::Address(..)) == (self.branch_by == BranchBy::Address)
    }

    /// Whether a frontend has a rule in it.
    pub(crate) fn holds(&self, role: Role, entry: &ServiceEntry, chains: &ServiceChains) -> bool {
        (self.action)(role, entry, chains).is_some()
    }
}

/// A frontend's entry in a list: whose it is.
#[derive(Clone, Debug)]
pub(crate) struct Claim {
    pub(crate) owner: Arc<ServicePortName>,
    pub(crate) role: Role,
}

/// Jumps from a root, to come back and go on with what follows; goes on from elsewhere, to come back to the root at once.
pub(crate) fn branch_to(rule: Rule<'_>, chain: ChainName, from_root: bool) {
    if from_root {
        rule.jump(chain);
    } else {
        rule.goto(chain);
    }
}

/// Everything needed to write the chains of a list.
pub(crate) struct ListWriter<'a> {
    pub(crate) list: &'static List,
    pub(crate) snapshot: &'a Snapshot,
    pub(crate) family: IpFamily,
    /// Which destinations take NodePort traffic, one element for each rule.
    pub(crate) node_ports: &'a [String],
}

impl Dispatch<Claim> for ListWriter<'_> {
    fn width(&self) -> u8 {
        match self.list.branch_by {
            BranchBy::Address => address_width(self.family),
            BranchBy::Port => PROTOCOL_BITS + 16,
        }
    }

    fn top(&self) -> Vec<Prefix> {
        match self.list.branch_by {
            BranchBy::Address => address_top(),
            BranchBy::Port => [Protocol::Tcp, Protocol::Udp, Protocol::Sctp]
                .map(|protocol| Prefix { bits: port_bits(protocol, 0), length: PROTOCOL_BITS })
                .to_vec(),
        }
    }

    fn chain(&self, prefix: Prefix) -> ChainName {
        if prefix == Prefix::ROOT {
            return ChainName::fixed(self.list.root);
        }
        match self.list.branch_by {
            BranchBy::Address => address_chain(self.family, self.list.branches, prefix),
            BranchBy::Port => {
                let (protocol, first) = protocol_and_port(prefix.bits);
                let (_, last) = protocol_and_port(prefix.last());
                port_dispatch_chain(self.list.branches, protocol, first, last)
            }
        }
    }

    fn entry(&self, key: &Key, claim: &Claim, rules: &mut Rules<'_>) {
        let Some(entry) = self.snapshot.services.get(&*claim.owner) else {
            return;
        };
        let chains = ServiceChains::of(&claim.owner);
        let Some(action) = (self.list.action)(claim.role, entry, &chains) else {
            return;
        };
        rules.on_behalf_of(&claim.owner);
        let rule = match self.list.branch_by {
            BranchBy::Address => rules.rule().to(address(self.family, key.bits)),
            BranchBy::Port => rules.rule(),
        };
        let separator = if action.comment.is_empty() { "" } else { " " };
        rule.protocol(key.protocol)
            .comment(format_args!("{}{separator}{}", claim.owner, action.comment))
            .port(key.protocol, key.port)
            .jump(action.target);
    }

    fn branch(&self, prefix: Prefix, from_root: bool, rules: &mut Rules<'_>) {
        let rule = rules.rule();
        let rule = match self.list.branch_by {
            BranchBy::Address => rule.words(destination(self.family, prefix)),
            BranchBy::Port => {
                let (protocol, first) = protocol_and_port(prefix.bits);
                let (_, last) = protocol_and_port(prefix.last());
                rule.protocol(protocol)
                    .words(format_args!("-m {} --dport {first}:{last}", protocol.lower()))
            }
        };
        branch_to(rule, self.chain(prefix), from_root);
    }

    /// Node ports come last, after every frontend with an address of its own.
    fn tail(&self, rules: &mut Rules<'_>) {
        let (comment, chain) = match (self.list.table, self.list.root) {
            (Table::Nat, "KUBE-SERVICES") => (
                "kubernetes service nodeports; NOTE: this must be the last rule in this chain",
                "KUBE-NODEPORTS",
            ),
            (Table::Filter, "KUBE-EXTERNAL-SERVICES") => {
                ("kubernetes service nodeports without endpoints", "KUBE-EXTERNAL-NODEPORTS")
            }
            _ => return,
        };
        for destination in self.node_ports {
            let mut rule = rules.rule();
            if !destination.is_empty() {
                rule = rule.words(destination);
            }
            rule.comment(comment).words("-m addrtype --dst-type LOCAL").jump(chain);
        }
    }
}

#[cfg(test)]
mod tests;
