//! The text of rules, in the order of words in which `iptables-save` prints them.

use std::fmt::{self, Write as _};
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use kube_proxy_core::{Protocol, ServicePortName};
use kube_proxy_xtables::write_comment;

use crate::names::ChainName;

/// Which service the rules from some line on are written for.
pub(crate) type Owners = Vec<(usize, Option<Arc<ServicePortName>>)>;

/// The rules of one chain, being written.
pub(crate) struct Rules<'a> {
    pub(super) text: &'a mut String,
    pub(super) chain: ChainName,
    pub(super) owners: &'a mut Owners,
    /// Rules of the table before this chain.
    pub(super) first_line: usize,
    /// Rules so far.
    pub(super) count: u32,
}

/// The rules that `write` writes into a chain, each without the chain.
pub(crate) fn written(chain: ChainName, write: impl FnOnce(&mut Rules<'_>)) -> Vec<String> {
    let (mut text, mut owners) = (String::new(), Owners::new());
    write(&mut Rules { text: &mut text, chain, owners: &mut owners, first_line: 0, count: 0 });
    let start = format!("-A {chain} ");
    text.lines().map(|line| line.strip_prefix(&start).unwrap_or(line).to_owned()).collect()
}

impl Rules<'_> {
    /// Says that the rules from here on are there because of this service: if one of them is refused, it is to blame.
    pub(crate) fn on_behalf_of(&mut self, owner: &Arc<ServicePortName>) {
        let line = self.first_line + self.count as usize;
        self.owners.push((line, Some(owner.clone())));
    }

    /// Starts the next rule, appended to the chain.
    pub(crate) fn rule(&mut self) -> Rule<'_> {
        self.count += 1;
        self.text.push_str("-A ");
        self.text.push_str(self.chain.as_str());
        Rule { text: self.text }
    }
}

/// One rule. Call the matches in this order: source, destination, interface, protocol, comment, the rest, and a target last.
#[must_use = "a rule without a target is not finished"]
pub(crate) struct Rule<'a> {
    text: &'a mut String,
}

impl Rule<'_> {
    /// Words as they stand.
    pub(crate) fn words(self, words: impl fmt::Display) -> Self {
        self.push(format_args!(" {words}"))
    }

    /// Packets from this address.
    pub(crate) fn from(self, ip: IpAddr) -> Self {
        self.push(format_args!(" -s {}", IpNet::from(ip)))
    }

    /// Packets to this address.
    pub(crate) fn to(self, ip: IpAddr) -> Self {
        self.push(format_args!(" -d {}", IpNet::from(ip)))
    }

    /// Packets of this protocol.
    pub(crate) fn protocol(self, protocol: Protocol) -> Self {
        self.push(format_args!(" -p {}", protocol.lower()))
    }

    /// Packets to this port; the protocol is already said.
    pub(crate) fn port(self, protocol: Protocol, port: u16) -> Self {
        self.push(format_args!(" -m {} --dport {port}", protocol.lower()))
    }

    /// A comment, with whatever could break the line replaced and cut to the length the kernel keeps.
    pub(crate) fn comment(self, comment: impl fmt::Display) -> Self {
        self.text.push(' ');
        write_comment(self.text, comment);
        self
    }

    /// Jumps to a chain or ends in a target, with its options.
    pub(crate) fn jump(self, target: impl fmt::Display) {
        self.words(format_args!("-j {target}")).no_target();
    }

    /// Goes to a chain without coming back here.
    pub(crate) fn goto(self, chain: impl fmt::Display) {
        self.words(format_args!("-g {chain}")).no_target();
    }

    /// A rule that is spelled out from its first match to its target.
    pub(crate) fn whole(self, rule: &str) {
        self.words(rule).no_target();
    }

    /// Only counts packets.
    pub(crate) fn no_target(self) {
        self.text.push('\n');
    }

    fn push(self, words: fmt::Arguments<'_>) -> Self {
        self.text.write_fmt(words).expect("writing to a string does not fail");
        self
    }
}

#[cfg(test)]
mod tests;
