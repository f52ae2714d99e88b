//! What explanations have to know of this node.

use std::collections::BTreeSet;

use kube_proxy_core::IpFamily;
use kube_proxy_core::explain::NodeFacts;
use kube_proxy_netlink::Error;

use crate::modes;
use crate::node::local_addresses;
use crate::node::watch::NodeStatus;
use kube_proxy_config::{Effective, Mode};

/// What is known of the node in one family; its addresses are listed now.
pub(crate) fn of_node(
    config: &Effective,
    family: IpFamily,
    news: &NodeStatus,
) -> Result<NodeFacts, Error> {
    let mut addresses = local_addresses::own()?;
    addresses.retain(|ip| IpFamily::of(ip) == family);
    let pod_cidrs = news.pod_cidrs();
    Ok(NodeFacts {
        local_traffic: config.local_traffic_detector(family, &pod_cidrs),
        pod_cidrs: pod_cidrs.into_iter().filter(|net| IpFamily::of_net(net) == family).collect(),
        addresses,
        node_ports: config.node_port_addresses(family, news.address(config, family)),
        masquerade_all: config.masquerade_all,
        mode: modes::behavior(config, family),
        without_short_circuit: BTreeSet::new(),
    })
}

/// Whether connections of this mode are copied by the process, and end with it.
pub(crate) fn copies(mode: Mode) -> bool {
    modes::entry(mode).owns_udp_flows
}
