//! The way of one packet.

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use kube_proxy_netlink::nf_tables::{Decision, Step, Verdict};
use serde::{Deserialize, Serialize};

use super::super::frontends::protocol_name;
use super::super::table::WIDTH;
use super::marks;
use super::terms::{Terms, interface, refuses};

/// A packet, and the steps it took.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Packet {
    protocol: String,
    source: Option<SocketAddr>,
    destination: Option<SocketAddr>,
    /// The interface it came in by; absent if it is from this node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    input: Option<String>,
    steps: Vec<Taken>,
    /// Where it went after the last rewriting.
    sent_to: Option<SocketAddr>,
    /// With which source address.
    sent_from: Option<SocketAddr>,
    /// What dropped or refused it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    stopped_by: Option<String>,
}

/// One step.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Taken {
    family: String,
    table: String,
    chain: String,
    /// The handle of the rule that decided; absent at the end of a chain and for policies.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    rule: Option<u64>,
    verdict: String,
    /// What the step is, in the terms of kube-proxy.
    meaning: String,
    /// The packet was rewritten since the step before: to whom it goes now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    now_to: Option<SocketAddr>,
}

impl Packet {
    pub(super) fn add(&mut self, step: &Step<'_>, terms: &Terms) {
        let addresses = step.network.and_then(|network| addresses(network, step.transport));
        if let Some((protocol, source, destination)) = addresses
            && self.source.is_none()
        {
            self.protocol = protocol_name(protocol);
            (self.source, self.destination) = (Some(source), Some(destination));
            (self.sent_from, self.sent_to) = (Some(source), Some(destination));
            self.input = step.input.map(interface);
        }
        if step.table == marks::TABLE {
            return;
        }
        let now_to = addresses.map(|(.., to)| to).filter(|to| Some(*to) != self.sent_to);
        if let Some((_, source, to)) = addresses {
            (self.sent_from, self.sent_to) = (Some(source), Some(to));
        }
        let taken = Taken {
            family: family(step.family).to_owned(),
            table: step.table.to_string(),
            chain: step.chain.to_string(),
            rule: match step.decision {
                Decision::Rule(handle) => Some(handle),
                Decision::End | Decision::Policy => None,
            },
            verdict: match (step.decision, &step.verdict) {
                (Decision::Policy, verdict) => format!("policy {verdict}"),
                (Decision::End, _) => "end of chain".to_owned(),
                (Decision::Rule(_), verdict) => verdict.to_string(),
            },
            meaning: terms.meaning(&step.table, &step.chain),
            now_to,
        };
        let refuses = refuses(&step.table, &step.chain, step.decision);
        if step.verdict == Verdict::Drop || refuses {
            self.stopped_by = Some(format!("{}: {}", taken.place(), taken.meaning));
        }
        self.steps.push(taken);
    }

    /// The text; `number` counts packets. Ends of chains and policies that accept are left out.
    pub(super) fn text(&self, number: usize) -> String {
        let address = |address: Option<SocketAddr>| {
            address.map_or("an unknown address".to_owned(), |address| address.to_string())
        };
        let (source, destination) = (address(self.source), address(self.destination));
        let input = match &self.input {
            Some(name) => format!("in by {name}"),
            None => "from this node".to_owned(),
        };
        let mut text =
            format!("packet {number}: {} {source} -> {destination}, {input}\n", self.protocol);
        for step in &self.steps {
            if let Some(to) = step.now_to {
                let _ = writeln!(text, "  the destination is {to} now");
            }
            if !step.is_plain() {
                text += &step.text();
            }
        }
        let last = match &self.stopped_by {
            Some(by) => format!("stopped by {by}"),
            None if self.sent_to == self.destination => {
                format!("passed to {destination}, which no rule rewrote")
            }
            None => format!("passed to {}", address(self.sent_to)),
        };
        text + "=> " + &last + "\n"
    }
}

impl Taken {
    /// Nothing was decided.
    fn is_plain(&self) -> bool {
        self.rule.is_none() && !self.verdict.contains("drop")
    }

    /// One line where it fits, or else two.
    fn text(&self) -> String {
        let line = format!("  {:<44} {}\n", self.place(), self.meaning);
        if line.chars().count() <= WIDTH {
            return line;
        }
        format!("  {}\n      {}\n", self.place(), self.meaning)
    }

    /// `ip kube-proxy services rule 12: goto cluster-2`.
    fn place(&self) -> String {
        let Self { family, table, chain, rule, verdict, .. } = self;
        let rule = rule.map(|handle| format!(" rule {handle}")).unwrap_or_default();
        format!("{family} {table} {chain}{rule}: {verdict}")
    }
}

fn family(number: u8) -> &'static str {
    match number {
        1 => "inet",
        2 => "ip",
        10 => "ip6",
        5 => "netdev",
        7 => "bridge",
        _ => "?",
    }
}

/// Protocol, source and destination from the headers; `None` if they are too short or no IP.
fn addresses(network: &[u8], transport: Option<&[u8]>) -> Option<(u8, SocketAddr, SocketAddr)> {
    let (protocol, source, destination): (u8, IpAddr, IpAddr) = match network.first()? >> 4 {
        4 => {
            let at = |from: usize| network.get(from..)?.first_chunk::<4>().copied();
            (*network.get(9)?, Ipv4Addr::from(at(12)?).into(), Ipv4Addr::from(at(16)?).into())
        }
        6 => {
            let at = |from: usize| network.get(from..)?.first_chunk::<16>().copied();
            (*network.get(6)?, Ipv6Addr::from(at(8)?).into(), Ipv6Addr::from(at(24)?).into())
        }
        _ => return None,
    };
    let port = |from: usize| {
        let bytes = transport.and_then(|bytes| bytes.get(from..)?.first_chunk::<2>());
        bytes.map_or(0, |bytes| u16::from_be_bytes(*bytes))
    };
    Some((protocol, SocketAddr::new(source, port(0)), SocketAddr::new(destination, port(2))))
}

#[cfg(test)]
mod tests;
