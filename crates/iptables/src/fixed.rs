//! The chains that do not depend on any service, and the rules for hairpin traffic.

use std::net::IpAddr;

use kube_proxy_core::IpFamily;

use crate::counters::Counting;
use crate::keys::{address_chain, address_key, address_top, address_width, destination};
use crate::layout::{Table, canary, hairpin};
use crate::lists::branch_to;
use crate::names::ChainName;
use crate::restore::{Batch, ChainState, Part};
use crate::rules::Rules;
use crate::tree::{Dispatch, Key, Prefix};

/// What the fixed chains depend on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Masquerade {
    /// The bit in the packet mark that asks for it.
    pub(crate) mark: u32,
    /// Whether source ports are picked at random.
    pub(crate) random_fully: bool,
}

impl Masquerade {
    fn target(self) -> &'static str {
        if self.random_fully { "MASQUERADE --random-fully" } else { "MASQUERADE" }
    }
}

/// What the chains depend on that do not depend on any service.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fixed {
    pub(crate) masquerade: Masquerade,
    pub(crate) drop_invalid: bool,
    /// Whether NodePorts may be used on loopback addresses.
    pub(crate) localhost: bool,
    pub(crate) counting: Counting,
}

/// The rules of those chains, as `(table, chain, rules without their chain)`. What counts is never the last rule of its chain.
pub(crate) fn fixed_chains(fixed: Fixed) -> [(Table, &'static str, Vec<String>); 3] {
    let Fixed { masquerade, drop_invalid, localhost, counting } = fixed;
    let mark = format!("{:#x}", masquerade.mark);
    let marked = format!("--mark {mark}/{mark}");
    let [filter_hairpin, nat_hairpin] = Table::ALL.map(|table| hairpin(table).0);
    let mut forward = Vec::new();
    if drop_invalid {
        // Otherwise such packets pass untranslated and the far side answers them with a reset.
        let count = counting.invalid().map(|words| format!(" {words}")).unwrap_or_default();
        forward.push(format!("-m conntrack --ctstate INVALID{count} -j DROP"));
    }
    forward.extend([
        format!("-m comment --comment \"kubernetes forwarding rules\" -m mark {marked} -j ACCEPT"),
        "-m comment --comment \"kubernetes forwarding conntrack rule\" \
         -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT"
            .to_owned(),
        // What is left is new. Such packets carry no mark: they are recognised again where they leave.
        format!(
            "-m comment --comment \"kubernetes hairpin traffic\" -m conntrack --ctstate DNAT -j {filter_hairpin}"
        ),
    ]);
    let postrouting = vec![
        format!(
            "-m comment --comment \"kubernetes hairpin traffic\" -m mark ! {marked} \
             -m conntrack --ctstate DNAT -j {nat_hairpin}"
        ),
        format!("-m mark ! {marked} -j RETURN"),
        // The mark goes, or a packet that is wrapped and comes through here again would be masqueraded twice.
        format!("-j MARK --xor-mark {mark}"),
        format!(
            "-m comment --comment \"kubernetes service traffic requiring SNAT\" -j {}",
            masquerade.target()
        ),
    ];
    let mut marking = vec![format!("-j MARK --or-mark {mark}")];
    if let Some(count) = counting.localhost().filter(|_| localhost) {
        // Of what comes here, only what goes to a NodePort has such a destination, and it is always masqueraded.
        marking.insert(0, format!("-d 127.0.0.0/8 {count}"));
    }
    [
        (Table::Filter, "KUBE-FORWARD", forward),
        (Table::Nat, "KUBE-POSTROUTING", postrouting),
        (Table::Nat, MARK, marking),
    ]
}

/// Writes those chains and the canaries. Returns how many rules each table got.
pub(crate) fn write_fixed_chains(fixed: Fixed, batch: &mut Batch) -> [(Table, ChainState); 3] {
    for table in Table::ALL {
        batch.table(table).declare(canary());
    }
    fixed_chains(fixed).map(|(table, chain, lines)| {
        let part = if chain == MARK { Part::Targets } else { Part::Hooks };
        let chain = ChainName::fixed(chain);
        let state = batch.table(table).chain(part, chain, None, |rules| {
            for line in &lines {
                rules.rule().whole(line);
            }
        });
        (table, state)
    })
}

/// The rule in KUBE-FIREWALL that goes with `route_localnet`: no host outside reaches what listens on loopback (CVE-2020-8558).
pub(crate) const ANTI_MARTIAN: &str = "-d 127.0.0.0/8 ! -s 127.0.0.0/8 \
    -m comment --comment \"block incoming localnet connections\" \
    -m conntrack ! --ctstate RELATED,ESTABLISHED,DNAT -j DROP";

/// The chain that marks packets for masquerading.
pub(crate) const MARK: &str = "KUBE-MARK-MASQ";

/// Writes one rule for each address of a local endpoint, for packets whose source is the very endpoint that was chosen for them.
/// Entries count how many service ports have it.
pub(crate) struct HairpinWriter {
    family: IpFamily,
    table: Table,
    /// What becomes of such a packet.
    target: &'static str,
}

impl HairpinWriter {
    /// In `nat` they are masqueraded, or the answer would not come back through the node.
    /// In `filter` they are let through where the node drops what it forwards.
    pub(crate) fn new(table: Table, family: IpFamily, masquerade: Masquerade) -> Self {
        let target = match table {
            Table::Filter => "ACCEPT",
            Table::Nat => masquerade.target(),
        };
        Self { family, table, target }
    }
}

/// An entry of the hairpin tree.
#[derive(Debug)]
pub(crate) struct HairpinAddress {
    ip: IpAddr,
    /// How many service ports have a local endpoint with it.
    pub(crate) users: u32,
}

impl HairpinAddress {
    pub(crate) fn first_user(ip: IpAddr) -> (Key, Self) {
        (address_key(ip), Self { ip, users: 1 })
    }
}

impl Dispatch<HairpinAddress> for HairpinWriter {
    fn width(&self) -> u8 {
        address_width(self.family)
    }

    fn top(&self) -> Vec<Prefix> {
        address_top()
    }

    fn chain(&self, prefix: Prefix) -> ChainName {
        let (root, branches) = hairpin(self.table);
        if prefix == Prefix::ROOT {
            ChainName::fixed(root)
        } else {
            address_chain(self.family, branches, prefix)
        }
    }

    fn entry(&self, _: &Key, address: &HairpinAddress, rules: &mut Rules<'_>) {
        rules.rule().from(address.ip).to(address.ip).jump(self.target);
    }

    fn branch(&self, prefix: Prefix, from_root: bool, rules: &mut Rules<'_>) {
        let rule = rules.rule().words(destination(self.family, prefix));
        branch_to(rule, self.chain(prefix), from_root);
    }

    fn tail(&self, _: &mut Rules<'_>) {}
}
