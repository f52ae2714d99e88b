//! What is on the node already: the ways to our chains, and the ports that an earlier process listened on.

use kube_proxy_core::{Frontend, Protocol, SyncError};
use kube_proxy_xtables::{Programs, split_words};
use rustc_hash::FxHashMap;

use crate::rules::Chain;

/// What one table holds that matters to us.
#[derive(Debug, Default)]
pub(crate) struct Actual {
    /// Our chains that are there.
    pub(crate) chains: Vec<Chain>,
    /// Rules in chains of others that lead to ours.
    pub(crate) references: Vec<Reference>,
    /// Listening ports by protocol and comment.
    pub(crate) ports: FxHashMap<(Protocol, String), u16>,
    /// UDP frontends that rules of ours lead away from.
    pub(crate) udp: Vec<Frontend>,
}

/// A rule in a chain of another program that leads to one of ours.
#[derive(Debug)]
pub(crate) struct Reference {
    /// The rule as `iptables-save` prints it, without `-A`.
    pub(crate) rule: String,
    pub(crate) from: String,
    pub(crate) to: Chain,
    /// Its words, sorted: programs differ in where they print which match.
    words: Vec<String>,
}

impl Reference {
    /// Whether it is this rule of this chain.
    pub(crate) fn is(&self, from: &str, rule: &str) -> bool {
        self.from == from && self.words == sorted_words(rule)
    }

    /// Whether it is in a chain of the kernel, as ours are.
    pub(crate) fn is_hook(&self) -> bool {
        matches!(self.from.as_str(), "PREROUTING" | "OUTPUT" | "INPUT" | "FORWARD")
    }
}

impl Actual {
    /// Reads one table.
    pub(crate) fn read(programs: &Programs, table: &str) -> Result<Self, SyncError> {
        let mut existing = Self::default();
        programs.each_line(table, &mut |line| existing.line(table, line))?;
        Ok(existing)
    }

    fn line(&mut self, table: &str, line: &str) {
        if let Some(declared) = line.strip_prefix(':') {
            let name = declared.split(' ').next().unwrap_or_default();
            self.chains.extend(Chain::named(table, name));
        } else if let Some(rule) = line.strip_prefix("-A ") {
            self.rule(table, rule);
        }
    }

    fn rule(&mut self, table: &str, rule: &str) {
        let (from, body) = rule.split_once(' ').unwrap_or((rule, ""));
        let mut words = split_words(body);
        if Chain::named(table, from).is_some() {
            self.ports.extend(listening_port(&words));
            self.udp.extend(udp_frontend(from, &words));
            return;
        }
        let target = after(&words, "-j").or_else(|| after(&words, "-g"));
        if let Some(to) = target.and_then(|target| Chain::named(table, target)) {
            words.sort_unstable();
            let (rule, from) = (rule.to_owned(), from.to_owned());
            self.references.push(Reference { rule, from, to, words });
        }
    }
}

/// The port that a rule of ours leads to.
fn listening_port(words: &[String]) -> Option<((Protocol, String), u16)> {
    let protocol = match after(words, "-p")? {
        "tcp" => Protocol::Tcp,
        "udp" => Protocol::Udp,
        _ => return None,
    };
    let comment = after(words, "--comment")?.to_owned();
    let to = after(words, "--to-ports")
        .or_else(|| after(words, "--to-destination").and_then(|to| Some(to.rsplit_once(':')?.1)))?;
    Some(((protocol, comment), to.parse().ok()?))
}

/// The UDP frontend that a rule of ours is for.
fn udp_frontend(chain: &str, words: &[String]) -> Option<Frontend> {
    after(words, "-p").filter(|protocol| *protocol == "udp")?;
    let port = after(words, "--dport")?.parse().ok()?;
    if chain.starts_with("KUBE-NODEPORT-") {
        return Some(Frontend::NodePort(Protocol::Udp, port));
    }
    let (ip, _) = after(words, "-d")?.split_once('/')?;
    Some(Frontend::address(Protocol::Udp, ip.parse().ok()?, port))
}

fn after<'a>(words: &'a [String], word: &str) -> Option<&'a str> {
    let at = words.iter().position(|other| other == word)?;
    words.get(at + 1).map(String::as_str)
}

fn sorted_words(rule: &str) -> Vec<String> {
    let mut words = split_words(rule);
    words.sort_unstable();
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_hooks_and_ports() {
        let mut existing = Actual::default();
        for line in [
            ":PREROUTING ACCEPT [0:0]",
            ":KUBE-PORTALS-CONTAINER - [0:0]",
            "-A PREROUTING -m comment --comment \"handle ClusterIPs\" -j KUBE-PORTALS-CONTAINER",
            "-A PREROUTING -j SOMEBODY",
            "-A KUBE-PORTALS-CONTAINER -d 10.96.0.1/32 -p tcp -m comment --comment \"a/b:p local endpoints\" -m tcp --dport 80 -j REDIRECT --to-ports 4001",
            "-A KUBE-PORTALS-CONTAINER -d fd00::1/128 -p udp -m comment --comment a/b:p -m udp --dport 80 -j DNAT --to-destination [fd00::5]:4002",
            "-A KUBE-PORTALS-CONTAINER -p udp --junk",
            "-A KUBE-NODEPORT-HOST -p udp -m comment --comment a/b:p -m udp --dport 30053 -m addrtype --dst-type LOCAL -j REDIRECT --to-ports 4002",
        ] {
            existing.line("nat", line);
        }
        assert_eq!(existing.chains, [Chain::PortalsContainer]);
        assert_eq!(existing.references.len(), 1);
        let hook = "-m comment -j KUBE-PORTALS-CONTAINER --comment \"handle ClusterIPs\"";
        assert!(existing.references[0].is("PREROUTING", hook));
        let port = |protocol, comment: &str| existing.ports.get(&(protocol, comment.to_owned()));
        assert_eq!(port(Protocol::Tcp, "a/b:p local endpoints"), Some(&4001));
        assert_eq!(port(Protocol::Udp, "a/b:p"), Some(&4002));
        let address = "[fd00::1]:80".parse().expect("an address and port");
        assert_eq!(
            existing.udp,
            [Frontend::Address(Protocol::Udp, address), Frontend::NodePort(Protocol::Udp, 30053)]
        );
    }
}
