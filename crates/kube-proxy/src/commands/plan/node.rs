//! What the configuration of the node and its Services ask for that the new mode does not have.

use std::collections::BTreeMap;

use kube_proxy_config::{Effective, Mode};
use kube_proxy_core::{Event, NodePortAddresses};
use kube_proxy_ipvs::SCHEDULER;

use super::open_connections;
use crate::debug::{Finding, Severity};
use crate::listing::Listing;
use crate::modes::choice;

/// What distributes connections where nothing else is asked for.
const USUAL: &str = "rr";

pub(super) fn findings(old: &Effective, new: &Effective, listing: &Listing) -> Vec<Finding> {
    let all = [
        schedulers(old, new, listing),
        firewall(new),
        node_port_addresses(old, new),
        open_connections(old.mode, new.mode),
    ];
    all.into_iter().flatten().collect()
}

/// Schedulers are of the ipvs mode alone.
fn schedulers(old: &Effective, new: &Effective, listing: &Listing) -> Option<Finding> {
    if old.mode != Mode::Ipvs || new.mode == Mode::Ipvs {
        return None;
    }
    let mut used = BTreeMap::<String, usize>::new();
    for event in listing.events() {
        if let Event::ServiceApplied(service) = event {
            let own = service.policy.annotation(SCHEDULER).unwrap_or(&old.ipvs.scheduler);
            *used.entry(own.to_owned()).or_default() += 1;
        }
    }
    used.retain(|scheduler, _| !scheduler.is_empty() && scheduler != USUAL);
    let texts: Vec<_> =
        used.iter().map(|(scheduler, count)| format!("{scheduler} (Services: {count})")).collect();
    (!texts.is_empty()).then(|| {
        Finding::new(
            Severity::Warning,
            "schedulers",
            format!("schedulers of IPVS are in use: {}", texts.join(", ")),
            format!("Mode {} chooses an endpoint at random: none gets more for its weight, its connections or the client's address.", new.mode),
            "Where a client has to keep its endpoint, set sessionAffinity: ClientIP in the Service.",
        )
    })
}

/// What --proxy-mode=auto would mind.
fn firewall(new: &Effective) -> Option<Finding> {
    let firewall = (new.mode == Mode::Nftables).then(choice::firewall_of_this_node)??;
    Some(Finding::new(
        Severity::Warning,
        "firewall",
        firewall,
        "The iptables mode accepts what it forwards in that chain; without it, connections from outside to endpoints on other nodes are dropped there, unless a rule of the network plugin accepts them.",
        "Let the firewall accept forwarded traffic of the pod network before the change. --proxy-mode=auto stays with iptables here.",
    ))
}

fn node_port_addresses(old: &Effective, new: &Effective) -> Option<Finding> {
    let all = |config: &Effective| {
        !config.node_ports.primary
            && matches!(
                config.node_port_addresses(kube_proxy_core::IpFamily::V4, None),
                NodePortAddresses::All
            )
    };
    let narrower = all(old) && new.node_ports.primary && new.node_ports.within.is_empty();
    narrower.then(|| {
        Finding::new(
            Severity::Note,
            "node-port-addresses",
            format!("in {} mode nodePortAddresses is \"primary\" unless it is set", new.mode),
            "Node ports answer on the address of the Node object only, not on other addresses of this node.",
            "Set nodePortAddresses to \"all\" to keep what is now, or leave it where no client uses other addresses.",
        )
    })
}
