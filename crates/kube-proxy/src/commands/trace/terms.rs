//! What chains are, in the terms of kube-proxy.

use std::collections::HashMap;

use kube_proxy_core::{ObjectName, Protocol, ServicePortName};
use kube_proxy_netlink::nf_tables::Decision;

use super::super::names;
use crate::debug::{ServicePortId, Services};

/// Knows chains by name.
#[derive(Debug, Default)]
pub(super) struct Terms {
    /// Chains of iptables that belong to one service port.
    chains: HashMap<String, String>,
}

/// Chains of table `filter`, and how those begin that they lead to: there, names mean something else than in `nat`.
const FILTER_CHAINS: [(&str, &str); 6] = [
    ("KUBE-SERVICES", "Services without endpoints: refuse, or drop if all are on other nodes"),
    ("KUBE-EXTERNAL-", "the same for external addresses and node ports: refuse or drop"),
    ("KUBE-SVC-", "Services without endpoints, by address: refuse or drop"),
    ("KUBE-EXT-", "external addresses without endpoints, by address: refuse or drop"),
    ("KUBE-SVL-", "node ports without endpoints: refuse or drop"),
    ("KUBE-NODEPORTS", "lets health checks of load balancers in"),
];

/// Chains of the iptables and the userspace mode that are always there, and those of the kernel.
const CHAINS: [(&str, &str); 25] = [
    ("KUBE-SERVICES", "looks for the Service of this address and port"),
    ("KUBE-NODEPORTS", "looks for the Service of this node port"),
    ("KUBE-MARK-MASQ", "marks the packet to be masqueraded"),
    ("KUBE-POSTROUTING", "masquerades marked packets"),
    ("KUBE-FORWARD", "accepts marked packets and those of known connections; drops invalid ones"),
    ("KUBE-PROXY-FIREWALL", "source ranges of load balancers"),
    ("KUBE-FIREWALL", "keeps others from loopback addresses of this node"),
    ("KUBE-HAIRPIN", "masquerades pods that reach themselves"),
    ("KUBE-PROXY-CANARY", "shows whether somebody flushed the rules"),
    (
        "KUBE-PORTALS-CONTAINER",
        "sends Service addresses to the ports of kube-proxy (pods, outside)",
    ),
    ("KUBE-PORTALS-HOST", "sends Service addresses to the ports of kube-proxy (this node)"),
    ("KUBE-NODEPORT-CONTAINER", "sends node ports to the ports of kube-proxy (pods, outside)"),
    ("KUBE-NODEPORT-HOST", "sends node ports to the ports of kube-proxy (this node)"),
    ("KUBE-NODEPORT-NON-LOCAL", "lets node ports in"),
    ("KUBE-USERSPACE-FIREWALL", "refuses or drops what no endpoint takes, and source ranges"),
    ("PREROUTING", "iptables: as packets come in"),
    ("INPUT", "iptables: packets for this node"),
    ("FORWARD", "iptables: packets for others"),
    ("OUTPUT", "iptables: packets from this node"),
    ("POSTROUTING", "iptables: as packets leave"),
    ("DOCKER", "Docker's published ports"),
    ("DOCKER-USER", "rules for Docker by the administrator"),
    ("DOCKER-FORWARD", "Docker's forwarding"),
    ("CNI-HOSTPORT-DNAT", "host ports of the network plugin"),
    ("CNI-FORWARD", "forwarding of the network plugin"),
];

impl Terms {
    pub(super) fn of(services: Option<&Services>) -> Self {
        let mut terms = Self::default();
        for service in services.iter().flat_map(|services| &services.service_ports) {
            let Some(name) = service_port(&service.id) else { continue };
            for (chain, what) in kube_proxy_iptables::service_chains(&name) {
                terms.chains.insert(chain, format!("{}: {what}", names::service_port(&service.id)));
            }
        }
        terms
    }

    /// What a chain is for.
    pub(super) fn meaning(&self, table: &str, chain: &str) -> String {
        if table == kube_proxy_nftables::TABLE {
            return kube_proxy_nftables::chain_meaning(chain).unwrap_or_else(|| {
                "a chain that somebody put into the table of kube-proxy".to_owned()
            });
        }
        let of_filter = FILTER_CHAINS.iter().find(|(start, _)| chain.starts_with(start));
        if let (Some((_, meaning)), "filter") = (of_filter, table) {
            return (*meaning).to_owned();
        }
        if let Some(meaning) = self.chains.get(chain) {
            return meaning.clone();
        }
        if let Some((_, meaning)) = CHAINS.iter().find(|(name, _)| *name == chain) {
            return (*meaning).to_owned();
        }
        match chain.get(..9) {
            Some("KUBE-SEP-") => "one endpoint of a Service".to_owned(),
            Some("KUBE-SVC-" | "KUBE-SVL-" | "KUBE-EXT-") => {
                "looks on for the Service, by address".to_owned()
            }
            _ => "not of kube-proxy".to_owned(),
        }
    }
}

/// Whether a rule of this chain sends the packet back: a rejection is no verdict that differs from a drop.
pub(super) fn refuses(table: &str, chain: &str, decision: Decision) -> bool {
    let by_rule = matches!(decision, Decision::Rule(_));
    by_rule && table == kube_proxy_nftables::TABLE && chain == kube_proxy_nftables::REJECT_CHAIN
}

fn service_port(id: &ServicePortId) -> Option<ServicePortName> {
    let protocol = [Protocol::Tcp, Protocol::Udp, Protocol::Sctp]
        .into_iter()
        .find(|protocol| protocol.lower().eq_ignore_ascii_case(&id.protocol))?;
    Some(ServicePortName {
        service: ObjectName::new(id.namespace.as_str(), id.name.as_str()),
        port: id.port_name.as_str().into(),
        protocol,
    })
}

/// The name of an interface of this network namespace.
pub(super) fn interface(index: u32) -> String {
    let name = nix::net::if_::if_indextoname(index);
    let name = name.ok().and_then(|name| name.into_string().ok());
    name.unwrap_or_else(|| format!("interface {index}"))
}
