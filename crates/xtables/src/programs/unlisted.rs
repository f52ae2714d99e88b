//! Tables of iptables-nft, read over netlink.
//!
//! For what chains there are, and how many rules, no program is needed: `iptables-nft-save` of one table takes as long as all are large.
//! And there are tables that it does not list. One rule that another program wrote with `nft` is enough: `iptables-nft-save` then says
//! that the table is incompatible, prints nothing of it and ends well. Restores, and questions for a rule, still work. So what is there
//! is read over netlink, in the words of `iptables-save` as far as they matter: every chain, and of every rule where it leads to.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use kube_proxy_core::{IpFamily, SyncError};
use kube_proxy_netlink::Family;
use kube_proxy_netlink::nf_tables::{Extension, ForeignRule, NfTables};
use nix::errno::Errno;

use super::Programs;
use crate::SHARED_FIREWALL;

/// Stands in a rule for what iptables has no words for. No restore takes it.
const UNREADABLE: &str = "[nftables]";

/// Hands over a table as `iptables-save` prints one.
pub(super) fn each_line(
    programs: &Programs,
    table: &str,
    each: &mut dyn FnMut(&str),
) -> Result<(), SyncError> {
    let (chains, rules) = read(programs.family, table).map_err(|error| {
        let family = programs.family;
        SyncError::Refused(format!("{family} table {table} cannot be read: {error}"))
    })?;
    for chain in chains {
        each(&format!(":{chain} - [0:0]"));
    }
    for (chain, rules) in rules {
        match exact(programs, table, &chain, &rules) {
            Some(lines) => lines.iter().for_each(|line| each(line)),
            None => rules.iter().for_each(|rule| each(&words(rule))),
        }
    }
    Ok(())
}

/// Whether a table has a chain like that, where there is no iptables-nft to ask.
pub fn has_chain(family: IpFamily, table: &str, is_wanted: impl Fn(&str) -> bool) -> bool {
    // A kernel without `nf_tables` has none.
    find_chain(family, table, is_wanted).unwrap_or(false)
}

/// Whether a table is known not to have a chain, which the kernel looks up by its name.
pub(super) fn lacks_chain(family: IpFamily, table: &str, chain: &str) -> bool {
    let found = NfTables::open(protocol(family)).and_then(|mut nf| nf.chain(table, chain));
    matches!(found, Ok(None))
}

/// Whether a table may have a chain like that. What cannot be read may, but not where the kernel has no `nf_tables`, or no netlink for it.
pub(super) fn may_have_chain(
    family: IpFamily,
    table: &str,
    is_wanted: impl Fn(&str) -> bool,
) -> bool {
    find_chain(family, table, is_wanted).unwrap_or_else(|error| !is_missing(error.errno()))
}

fn find_chain(
    family: IpFamily,
    table: &str,
    is_wanted: impl Fn(&str) -> bool,
) -> Result<bool, kube_proxy_netlink::Error> {
    let chains = NfTables::open(protocol(family))?.chains(table)?;
    Ok(chains.iter().any(|chain| is_wanted(&chain.name)))
}

/// The number of the ruleset's generation, which every transaction changes; `None` if the kernel does not say.
pub(super) fn generation(family: IpFamily) -> Option<u32> {
    NfTables::open(protocol(family)).and_then(|mut nf| nf.generation()).ok()
}

/// How many rules a table has. What cannot be read has none.
pub(super) fn count_rules(family: IpFamily, table: &str) -> usize {
    let rules = NfTables::open(protocol(family)).and_then(|mut nf| nf.foreign_rules(table));
    rules.map_or(0, |rules| rules.len())
}

/// `EINVAL` is how the kernel refuses requests for parts of netfilter that it was built without.
fn is_missing(error: Option<Errno>) -> bool {
    matches!(
        error,
        Some(Errno::EINVAL | Errno::EOPNOTSUPP | Errno::EPROTONOSUPPORT | Errno::EAFNOSUPPORT)
    )
}

type Table = (Vec<String>, BTreeMap<String, Vec<ForeignRule>>);

fn read(family: IpFamily, table: &str) -> Result<Table, kube_proxy_netlink::Error> {
    let mut nf_tables = NfTables::open(protocol(family))?;
    let chains = nf_tables.chains(table)?.into_iter().map(|chain| chain.name).collect();
    let mut rules: BTreeMap<String, Vec<ForeignRule>> = BTreeMap::new();
    for rule in nf_tables.foreign_rules(table)? {
        rules.entry(rule.chain.clone()).or_default().push(rule);
    }
    Ok((chains, rules))
}

pub(super) fn protocol(family: IpFamily) -> Family {
    match family {
        IpFamily::V4 => Family::V4,
        IpFamily::V6 => Family::V6,
    }
}

/// The rules of a chain in the program's own words, where these may be needed to delete one of them: it lists a chain
/// by itself if only that chain has nothing it does not understand.
fn exact(
    programs: &Programs,
    table: &str,
    chain: &str,
    rules: &[ForeignRule],
) -> Option<Vec<String>> {
    let is_kubernetes = |chain: &str| chain.starts_with("KUBE-");
    let leads = rules.iter().any(|rule| rule.leads_to.as_deref().is_some_and(is_kubernetes));
    if chain != SHARED_FIREWALL && (is_kubernetes(chain) || !leads) {
        return None;
    }
    let mut lines = Vec::new();
    let each = &mut |line: &str| {
        if line.starts_with("-A ") {
            lines.push(line.to_owned());
        }
    };
    let status = programs.list_chain(table, chain, each).ok()?;
    (status.success() && lines.len() == rules.len()).then_some(lines)
}

/// The rule in words.
fn words(rule: &ForeignRule) -> String {
    let mut words = format!("-A {}", rule.chain);
    let mut more = rule.has_more;
    for extension in &rule.matches {
        match known(extension) {
            Some(known) => words.extend([" ", &known]),
            None => more = true,
        }
    }
    if let Some(comment) = &rule.comment {
        words.extend([" ", &comment_match(comment)]);
    }
    if more {
        words.extend([" ", UNREADABLE]);
    }
    if let Some(chain) = &rule.leads_to {
        let how = if rule.goes { "-g" } else { "-j" };
        let _ = write!(words, " {how} {chain}");
    }
    words
}

/// The words of the matches that rules from chains of the kernel to ours have.
fn known(extension: &Extension) -> Option<String> {
    match (&*extension.name, extension.revision) {
        ("comment", 0) => {
            let end = extension.info.iter().position(|byte| *byte == 0)?;
            Some(comment_match(std::str::from_utf8(&extension.info[..end]).ok()?))
        }
        ("conntrack", 3) if extension.info.get(..CONNTRACK_LEN)? == new_connections() => {
            Some("-m conntrack --ctstate NEW".to_owned())
        }
        _ => None,
    }
}

fn comment_match(comment: &str) -> String {
    let escaped = comment.replace('\\', "\\\\").replace('"', "\\\"");
    format!("-m comment --comment \"{escaped}\"")
}

/// Length of `struct xt_conntrack_mtinfo3` up to its last field, and where three fields of it are.
const CONNTRACK_LEN: usize = 164;
const MATCH_FLAGS: usize = 146;
const STATE_MASK: usize = 150;
/// `XT_CONNTRACK_STATE`, and the bit of `IP_CT_NEW`.
const STATE: u16 = 1;
const NEW: u16 = 8;

fn new_connections() -> [u8; CONNTRACK_LEN] {
    let mut info = [0; CONNTRACK_LEN];
    info[MATCH_FLAGS..][..2].copy_from_slice(&STATE.to_ne_bytes());
    info[STATE_MASK..][..2].copy_from_slice(&NEW.to_ne_bytes());
    info
}

#[cfg(test)]
mod tests;
