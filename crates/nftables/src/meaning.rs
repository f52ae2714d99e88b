//! What each chain of the table does, in words: for people who follow a packet.

use crate::chain::{Balance, Chain, Masquerade, Pick, Remember};
use crate::key::KeyKind;
use crate::layout::{Fixed, static_chain};

/// What a chain of the table does; `None` if it is none of ours.
pub fn chain_meaning(name: &str) -> Option<String> {
    if let Some(chain) = static_chain(name) {
        return Some(of_fixed(chain.id).to_owned());
    }
    Some(match Chain::parse(name)? {
        Chain::FastPath => "whether the connection goes into the flowtable".to_owned(),
        Chain::Reject => of_fixed(Fixed::Reject).to_owned(),
        Chain::Remember(Remember { sessions, timeout, .. }) => format!(
            "remembers for {timeout} s which endpoint the client of {}:{} has",
            sessions.ip, sessions.port
        ),
        Chain::Entry(masquerade, balance) => of_entry(masquerade, &balance),
    })
}

fn of_entry(masquerade: Masquerade, balance: &Balance) -> String {
    let what = match balance.key {
        KeyKind::Address => "Service address",
        KeyKind::NodePort => "node port",
    };
    let count = balance.count;
    let sticky = if balance.affinity.is_some() { ", the client's own if it has one" } else { "" };
    let by = match balance.pick {
        Pick::Random => "",
        Pick::Source => " by the source address",
    };
    let pick = match count {
        1 => format!("{what}: its only endpoint"),
        _ => format!("{what}: picks one of {count} endpoints{by}{sticky}"),
    };
    match masquerade {
        Masquerade::Never => pick,
        Masquerade::Always => format!("{pick}, masqueraded"),
        Masquerade::Outside => {
            format!("{pick}, masqueraded if the packet is not from a pod of this node")
        }
        Masquerade::Node => format!("{pick}, masqueraded if the packet is from this node"),
    }
}

fn of_fixed(chain: Fixed) -> &'static str {
    match chain {
        Fixed::FilterPreroutingPreDnat => "before the choice of an endpoint, packets that come in",
        Fixed::FilterOutputPreDnat => "before the choice of an endpoint, packets of this node",
        Fixed::FilterInput => "packets for this node",
        Fixed::FilterForward => "packets for others",
        Fixed::FilterOutput => "packets of this node",
        Fixed::NatPrerouting => "the choice of an endpoint, packets that come in",
        Fixed::NatOutput => "the choice of an endpoint, packets of this node",
        Fixed::NatPostrouting => "as packets leave: masquerading",
        Fixed::Services => "looks for the Service of this address or node port",
        Fixed::ShortCircuit => {
            "externalTrafficPolicy Local, from this node and its pods: all endpoints"
        }
        Fixed::FirewallCheck => "source ranges of load balancers",
        Fixed::ServiceEndpointsCheck => {
            "Services without endpoints: refuse, or drop if all are on other nodes"
        }
        Fixed::NodeportEndpointsCheck => "node ports without endpoints: the same",
        Fixed::ClusterIpsCheck => "cluster IPs on a port that no Service has: refuse",
        Fixed::Sessions => "remembers which endpoint a client has (session affinity)",
        Fixed::Masquerading => "masquerades what must come back through this node",
        Fixed::Reject => "refuses: the sender is told that the port is unreachable",
    }
}

#[cfg(test)]
mod tests;
