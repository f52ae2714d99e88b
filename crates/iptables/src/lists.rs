//! The dispatch lists: which rule each frontend has in which list.

use std::fmt;
use std::sync::Arc;

use kube_proxy_core::{
    Frontend, FrontendKind, IpFamily, NoLocalEndpoints, Protocol, ServiceEntry, ServicePortName,
    Snapshot, Treatment, Unserved,
};

use crate::keys::{
    PROTOCOL_BITS, address, address_chain, address_top, address_width, destination, key, port_bits,
    port_key, protocol_and_port,
};
use crate::layout::Table;
use crate::names::{ChainName, ServiceChains, port_dispatch_chain};
use crate::rules::{Rule, Rules};
use crate::service::{has_external_chain, has_firewall, policy_chain};
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
    action: ActionOf,
}

type ActionOf = fn(Subject, &ServiceEntry, &ServiceChains) -> Option<Action>;

/// What a rule of a list is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Subject {
    /// A frontend of this kind.
    Frontend(FrontendKind),
    /// The TCP port where the node reports to load balancers whether it has endpoints.
    HealthCheck,
}

/// Where that is; the order is that of settling.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Place {
    Frontend(Frontend),
    HealthCheck(u16),
}

impl Place {
    /// The place in the trees.
    pub(crate) fn key(self) -> Key {
        match self {
            Self::Frontend(frontend) => key(frontend),
            Self::HealthCheck(port) => port_key(Protocol::Tcp, port),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum BranchBy {
    Address,
    NodePort,
    HealthPort,
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

    fn refuse(entry: &ServiceEntry, kind: FrontendKind) -> Option<Self> {
        let unserved = entry.treatment(kind).unserved?;
        let target = match unserved.action() {
            NoLocalEndpoints::Drop => "DROP",
            NoLocalEndpoints::Reject => "REJECT",
            NoLocalEndpoints::Passthrough => return None,
        };
        let comment = match unserved {
            Unserved::NoEndpoints => "has no endpoints",
            Unserved::NoLocalEndpoints(_) => "has no local endpoints",
        };
        Some(Self::new(comment, target))
    }
}

const fn list(
    table: Table,
    root: &'static str,
    branches: &'static str,
    branch_by: BranchBy,
    action: ActionOf,
) -> List {
    List { table, root, branches, branch_by, action }
}

/// How many lists there are.
pub(crate) const COUNT: usize = 7;

/// All lists, each behind those that its root leads to. The names of branches are unique within a table.
#[rustfmt::skip]
pub(crate) const LISTS: [List; COUNT] = [
    list(Table::Nat,    "KUBE-NODEPORTS",          "KUBE-EXT-", BranchBy::NodePort, translated_node_port),
    list(Table::Nat,    "KUBE-SERVICES",           "KUBE-SVC-", BranchBy::Address,  translated),
    list(Table::Filter, "KUBE-EXTERNAL-NODEPORTS", "KUBE-SVL-", BranchBy::NodePort, refused_node_port),
    list(Table::Filter, "KUBE-EXTERNAL-SERVICES",  "KUBE-EXT-", BranchBy::Address,  refused_external),
    list(Table::Filter, "KUBE-SERVICES",           "KUBE-SVC-", BranchBy::Address,  refused_cluster_ip),
    list(Table::Filter, "KUBE-PROXY-FIREWALL",     "KUBE-FW-",  BranchBy::Address,  kept_out),
    list(Table::Filter, "KUBE-NODEPORTS",          "KUBE-SEP-", BranchBy::HealthPort, health_check),
];

fn translated(subject: Subject, entry: &ServiceEntry, chains: &ServiceChains) -> Option<Action> {
    let Subject::Frontend(kind) = subject else { return None };
    match kind {
        FrontendKind::ClusterIp => {
            let Treatment { policy, unserved, .. } = entry.treatment(kind);
            if unserved.is_some() {
                return None;
            }
            Some(Action::new("cluster IP", policy_chain(chains, policy)))
        }
        FrontendKind::ExternalIp if has_external_chain(entry) => {
            Some(Action::new("external IP", chains.external))
        }
        FrontendKind::LoadBalancerVip if has_firewall(entry) => {
            Some(Action::new("loadbalancer IP", chains.firewall))
        }
        FrontendKind::LoadBalancerVip if has_external_chain(entry) => {
            Some(Action::new("loadbalancer IP", chains.external))
        }
        _ => None,
    }
}

fn translated_node_port(
    subject: Subject,
    entry: &ServiceEntry,
    chains: &ServiceChains,
) -> Option<Action> {
    if subject == Subject::Frontend(FrontendKind::NodePort) && has_external_chain(entry) {
        return Some(Action::new("", chains.external));
    }
    None
}

fn refused_cluster_ip(subject: Subject, entry: &ServiceEntry, _: &ServiceChains) -> Option<Action> {
    match subject {
        Subject::Frontend(kind @ FrontendKind::ClusterIp) => Action::refuse(entry, kind),
        _ => None,
    }
}

fn refused_external(subject: Subject, entry: &ServiceEntry, _: &ServiceChains) -> Option<Action> {
    match subject {
        Subject::Frontend(kind @ (FrontendKind::ExternalIp | FrontendKind::LoadBalancerVip)) => {
            Action::refuse(entry, kind)
        }
        _ => None,
    }
}

fn refused_node_port(subject: Subject, entry: &ServiceEntry, _: &ServiceChains) -> Option<Action> {
    match subject {
        Subject::Frontend(kind @ FrontendKind::NodePort) => Action::refuse(entry, kind),
        _ => None,
    }
}

fn kept_out(subject: Subject, entry: &ServiceEntry, chains: &ServiceChains) -> Option<Action> {
    if subject != Subject::Frontend(FrontendKind::LoadBalancerVip) || !has_firewall(entry) {
        return None;
    }
    Some(Action::new(format!("traffic not accepted by {}", chains.firewall), "DROP"))
}

fn health_check(subject: Subject, _: &ServiceEntry, _: &ServiceChains) -> Option<Action> {
    if subject == Subject::HealthCheck {
        return Some(Action::new("health check node port", "ACCEPT"));
    }
    None
}

impl List {
    /// Whether places of this kind can have a rule in it. A list has one kind, as keys of another may be the same.
    pub(crate) fn may_hold(&self, place: Place) -> bool {
        self.branch_by
            == match place {
                Place::Frontend(Frontend::Address(..)) => BranchBy::Address,
                Place::Frontend(Frontend::NodePort(..)) => BranchBy::NodePort,
                Place::HealthCheck(_) => BranchBy::HealthPort,
            }
    }

    /// Whether a service port has a rule in it.
    pub(crate) fn holds(
        &self,
        subject: Subject,
        entry: &ServiceEntry,
        chains: &ServiceChains,
    ) -> bool {
        (self.action)(subject, entry, chains).is_some()
    }
}

/// The entry of a place in a list: whose it is.
#[derive(Clone, Debug)]
pub(crate) struct Owned {
    pub(crate) owner: Arc<ServicePortName>,
    pub(crate) subject: Subject,
}

/// Jumps from a root, to come back and continue with what follows; continues from elsewhere, to come back to the root at once.
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

impl Dispatch<Owned> for ListWriter<'_> {
    fn width(&self) -> u8 {
        match self.list.branch_by {
            BranchBy::Address => address_width(self.family),
            BranchBy::NodePort | BranchBy::HealthPort => PROTOCOL_BITS + 16,
        }
    }

    fn top(&self) -> Vec<Prefix> {
        match self.list.branch_by {
            BranchBy::Address => address_top(),
            BranchBy::NodePort | BranchBy::HealthPort => {
                [Protocol::Tcp, Protocol::Udp, Protocol::Sctp]
                    .map(|protocol| Prefix { bits: port_bits(protocol, 0), length: PROTOCOL_BITS })
                    .to_vec()
            }
        }
    }

    fn chain(&self, prefix: Prefix) -> ChainName {
        if prefix == Prefix::ROOT {
            return ChainName::fixed(self.list.root);
        }
        match self.list.branch_by {
            BranchBy::Address => address_chain(self.family, self.list.branches, prefix),
            BranchBy::NodePort | BranchBy::HealthPort => {
                let (protocol, first) = protocol_and_port(prefix.bits);
                let (_, last) = protocol_and_port(prefix.last());
                port_dispatch_chain(self.list.branches, protocol, first, last)
            }
        }
    }

    fn entry(&self, key: &Key, owned: &Owned, rules: &mut Rules<'_>) {
        let Some(entry) = self.snapshot.services.get(&*owned.owner) else {
            return;
        };
        let chains = ServiceChains::of(&owned.owner);
        let Some(action) = (self.list.action)(owned.subject, entry, &chains) else {
            return;
        };
        rules.on_behalf_of(&owned.owner);
        let rule = match self.list.branch_by {
            BranchBy::Address => rules.rule().to(address(self.family, key.bits)),
            BranchBy::NodePort | BranchBy::HealthPort => rules.rule(),
        };
        let separator = if action.comment.is_empty() { "" } else { " " };
        rule.protocol(key.protocol)
            .comment(format_args!("{}{separator}{}", owned.owner, action.comment))
            .port(key.protocol, key.port)
            .jump(action.target);
    }

    fn branch(&self, prefix: Prefix, from_root: bool, rules: &mut Rules<'_>) {
        let rule = rules.rule();
        let rule = match self.list.branch_by {
            BranchBy::Address => rule.words(destination(self.family, prefix)),
            BranchBy::NodePort | BranchBy::HealthPort => {
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
