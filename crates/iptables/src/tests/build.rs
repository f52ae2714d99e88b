//! Backends that write into the model, and what they wrote.

use futures::executor::block_on;
use kube_proxy_core::{
    IpFamily, LocalTrafficDetector, NodePortAddresses, ProxyBackend, Scope, Snapshot, SyncReport,
};

use super::model::Model;
use super::samples::changes;
use crate::{Config, IptablesBackend, Variant};

/// Pods in `10.0.0.0/8` or `fd00::/8`, everything else as it comes.
pub(crate) fn config(family: IpFamily) -> Config {
    let pods = match family {
        IpFamily::V4 => "10.0.0.0/8",
        IpFamily::V6 => "fd00::/8",
    };
    Config {
        family,
        masquerade_all: false,
        masquerade_mark: 0x4000,
        local_traffic: LocalTrafficDetector::Cidr(pods.parse().unwrap()),
        node_ports: NodePortAddresses::All,
        localhost_node_ports: false,
        drop_invalid: true,
        variant: Variant::Nft,
    }
}

/// A backend that writes into `model`.
pub(crate) fn backend(config: Config, model: &Model) -> IptablesBackend {
    IptablesBackend::with_kernel(config, Box::new(model.clone()), true)
}

pub(crate) fn full(backend: &mut IptablesBackend, snapshot: &Snapshot) -> SyncReport {
    block_on(backend.sync(snapshot, Scope::Full)).unwrap()
}

pub(crate) fn partial(
    backend: &mut IptablesBackend,
    before: &Snapshot,
    after: &Snapshot,
) -> SyncReport {
    let changes = changes(before, after);
    block_on(backend.sync(after, Scope::Partial(&changes))).unwrap()
}

/// What a full sync of these services puts on an empty node.
pub(crate) fn fresh(config: Config, snapshot: &Snapshot) -> String {
    let model = Model::default();
    full(&mut backend(config, &model), snapshot);
    model.dump()
}

/// The rules that are there because of these services: what an empty node would not have.
pub(crate) fn rules_for(config: Config, snapshot: &Snapshot) -> String {
    let mut empty = Snapshot::new(config.family);
    empty.node_ip = snapshot.node_ip;
    let without = rules(&fresh(config.clone(), &empty));
    let mut text = String::new();
    for rule in rules(&fresh(config, snapshot)) {
        if !without.contains(&rule) {
            text += &rule;
            text.push('\n');
        }
    }
    text
}

/// Every rule of a dump, behind the name of its table.
fn rules(dump: &str) -> Vec<String> {
    let mut table = "";
    let mut rules = Vec::new();
    for line in dump.lines() {
        if let Some(name) = line.strip_prefix('*') {
            table = name;
        } else if let Some(rule) = line.strip_prefix("-A ") {
            rules.push(format!("{table} {rule}"));
        }
    }
    rules
}
