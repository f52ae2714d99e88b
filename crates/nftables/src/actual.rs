//! What the table on the node holds, and how that differs from what it should hold.

use std::net::SocketAddr;

use kube_proxy_core::{Frontend, IpFamily, TrafficPolicy};
use kube_proxy_netlink::Error;
use kube_proxy_netlink::nf_tables::{NfTables, Set, Table};
use rustc_hash::{FxHashMap, FxHashSet};

use crate::Config;
use crate::chain::{Balance, Chain, Masquerade, Pick};
use crate::counts::Counts;
use crate::diff::{Diff, PerSet};
use crate::element::SetId;
use crate::elements::Elements;
use crate::layout::{CHAINS, FLOWTABLE, StaticChain, TABLE, TABLE_COMMENT, set_spec, static_chain};
use crate::parts::Parts;
use crate::rules::{Rule, Rules};
use crate::state::{Before, State};

/// Spare chains are made up to the next multiple of this number of endpoints.
const SPARE: u32 = 8;
/// And not for more endpoints than this.
const MAX_SPARE: u32 = 128;

/// What is on the node.
#[derive(Debug)]
pub(crate) enum Actual {
    /// No table of this name.
    Nothing,
    /// A table that another program wrote, or that was damaged beyond its elements and rules.
    OtherLayout,
    /// Our table.
    Table(Content),
}

/// What our table holds.
#[derive(Debug, Default)]
pub(crate) struct Content {
    pub(crate) sets: Elements,
    /// The parts that not every node needs.
    parts: Parts,
    /// The fingerprints of each chain's rules.
    rules: FxHashMap<String, Vec<Option<u64>>>,
    /// Chains that elements lead to.
    chains: FxHashSet<Chain>,
}

/// What a full sync has to do.
#[derive(Debug, Default)]
pub(crate) struct Tasks {
    /// Chains that are always there, but with other rules than these.
    pub(crate) static_chains: Vec<&'static StaticChain>,
    /// All elements of the state are added: there is none yet. They are not in the difference.
    pub(crate) all_elements: bool,
    /// All the rest.
    pub(crate) diff: Diff,
    /// The parts that not every node needs: those that are there, and those that are wanted.
    pub(crate) parts: (Parts, Parts),
    /// How many elements there will be.
    pub(crate) counts: Counts,
}

impl Actual {
    /// Reads the table back. It may change meanwhile: the caller compares generations.
    pub(crate) fn read(netlink: &mut NfTables, config: &Config) -> Result<Self, Error> {
        let Some(table) = netlink.table(TABLE)? else { return Ok(Self::Nothing) };
        if !is_ours(&table) {
            return Ok(Self::OtherLayout);
        }
        let Some(chains) = read_chains(netlink)? else { return Ok(Self::OtherLayout) };
        let sets = netlink.sets(TABLE)?;
        let Some(parts) = parts_of_sets(&sets, config.family) else { return Ok(Self::OtherLayout) };
        let flowtables = netlink.flowtables(TABLE)?;
        if !flowtables.iter().all(|flowtable| flowtable.name == FLOWTABLE && flowtable.flags == 0) {
            return Ok(Self::OtherLayout);
        }
        let parts = Parts { flowtable: !flowtables.is_empty(), ..parts };
        let mut content = Content { parts, chains, ..Content::default() };
        for rule in netlink.rules(TABLE)? {
            content.rules.entry(rule.chain).or_default().push(rule.fingerprint);
        }
        content.sets = Elements::read(netlink, &sets, config.family)?;
        Ok(Self::Table(content))
    }

    /// It was read a while ago, so there may be sessions now.
    pub(crate) fn may_have_sessions(&mut self) {
        if let Self::Table(content) = self {
            content.sets.has_sessions = true;
        }
    }

    /// What turns this into what `state` asks for; also reports to `state` which chains there will be.
    pub(crate) fn repair(self, state: &mut State, config: &Config) -> Tasks {
        let wanted = Parts::of(config, state);
        let rules = Rules::new(config, wanted);
        let mut repair = Tasks::default();
        let (all_elements, content) = match self {
            Self::Nothing | Self::OtherLayout => (true, Content::default()),
            Self::Table(content) => (false, content),
        };
        repair.all_elements = all_elements;
        repair.parts = (content.parts, wanted);
        for chain in &CHAINS {
            if !content.has_rules(chain.name, &rules.of_static(chain.id)) {
                repair.static_chains.push(chain);
            }
        }
        let Content { mut sets, rules: existing_rules, chains: existing_chains, .. } = content;
        // A part that goes takes its elements with it.
        repair.parts.0.sets_beyond(wanted).for_each(|set| sets.forget(set));
        let (diff, counts) = (&mut repair.diff, &mut repair.counts);
        let mut needed = FxHashSet::default();
        let mut intervals = PerSet::default();
        state.elements(config, &mut |set, item| {
            counts.add(set);
            if let Some(chain) = item.chain() {
                diff.need_chain(chain, &mut needed);
            }
            if all_elements {
                return;
            }
            if set.is_plain_intervals() {
                return intervals.push(set, item);
            }
            match sets.take(set, &item.key) {
                Some(old) if old == item => {}
                Some(old) => {
                    diff.deleted.push(set, old);
                    diff.added.push(set, item);
                }
                None => diff.added.push(set, item),
            }
        });
        for set in SetId::ALL.into_iter().filter(|set| set.is_plain_intervals()) {
            let items = intervals.take(set);
            if !sets.take_all(set, &items) {
                diff.replace(set, items);
            }
        }
        state.shared_chains().for_each(|chain| diff.need_chain(chain, &mut needed));
        let mut spare: Vec<_> = if existing_chains.is_empty() {
            spare(&needed)
        } else {
            existing_chains.iter().copied().filter(Chain::is_plain).collect()
        };
        spare.sort_unstable();
        for chain in spare {
            diff.need_chain(chain, &mut needed);
        }
        sets.rest(&mut |set, item| diff.deleted.push(set, item));
        // What is there and right need not be made.
        diff.new_chains.retain(|chain| {
            let found = existing_rules.get(&chain.to_string());
            found.is_none_or(|found| !are(found, &rules.of(*chain)))
        });
        diff.stale_chains =
            existing_chains.into_iter().filter(|chain| !needed.contains(chain)).collect();
        diff.stale_chains.sort_unstable();
        state.set_chains(needed);
        repair
    }
}

/// Chains that may be needed soon, as services get more endpoints: for a new table, while its maps are empty.
///
/// Later a chain with a lookup makes the kernel walk the whole map (`nf_tables_bind_set`): 20 ms for 100,000 endpoints.
/// So these chains are never deleted either.
fn spare(needed: &FxHashSet<Chain>) -> Vec<Chain> {
    let mut largest: FxHashMap<_, Balance> = FxHashMap::default();
    for chain in needed.iter().filter(|chain| chain.is_plain()) {
        let Chain::Entry(_, balance) = *chain else { continue };
        // A table has one of few sizes, whatever the number of endpoints.
        if balance.pick == Pick::SourcePort {
            continue;
        }
        let known =
            largest.entry((balance.key, balance.endpoints, balance.pick)).or_insert(balance);
        known.count = known.count.max(balance.count);
    }
    let chains = largest.into_values().flat_map(|balance| {
        let end = (balance.count.min(MAX_SPARE - SPARE) + 1).next_multiple_of(SPARE);
        (1..=end).map(move |count| Chain::Entry(Masquerade::Never, Balance { count, ..balance }))
    });
    chains.collect()
}

impl Before for Actual {
    fn slots(&self, frontend: &Frontend, endpoints: TrafficPolicy) -> Vec<SocketAddr> {
        match self {
            Self::Table(content) => content.sets.slots(frontend, endpoints),
            Self::Nothing | Self::OtherLayout => Vec::new(),
        }
    }
}

impl Content {
    /// All chains that are there.
    pub(crate) fn chain_names(&self) -> Vec<String> {
        let fixed = CHAINS.iter().map(|chain| chain.name.to_owned());
        fixed.chain(self.chains.iter().map(Chain::to_string)).collect()
    }

    /// Forgets the rules of all chains, or of one.
    pub(crate) fn forget_rules(&mut self, chain: Option<&str>) {
        match chain {
            Some(chain) => drop(self.rules.remove(chain)),
            None => self.rules.clear(),
        }
    }

    fn has_rules(&self, chain: &str, rules: &[Rule]) -> bool {
        self.rules.get(chain).is_some_and(|found| are(found, rules))
    }
}

/// Whether the table is of our layout, and in force.
pub(crate) fn is_ours(table: &Table) -> bool {
    table.comment.as_deref() == Some(TABLE_COMMENT) && table.flags == 0
}

/// Whether these are the fingerprints of these rules.
fn are(found: &[Option<u64>], rules: &[Rule]) -> bool {
    found.len() == rules.len()
        && found.iter().zip(rules).all(|(found, rule)| *found == Some(rule.fingerprint()))
}

/// The chains that elements lead to; `None` if some chain is missing, is another or is unknown.
pub(crate) fn read_chains(netlink: &mut NfTables) -> Result<Option<FxHashSet<Chain>>, Error> {
    let mut chains = FxHashSet::default();
    let mut found = 0;
    for chain in netlink.chains(TABLE)? {
        match static_chain(&chain.name) {
            Some(known) if known.hook == chain.hook && !chain.drops => found += 1,
            Some(_) => return Ok(None),
            None => match Chain::parse(&chain.name) {
                Some(known) if chain.hook.is_none() => {
                    chains.insert(known);
                }
                _ => return Ok(None),
            },
        }
    }
    // A chain that leads to another is not there without it.
    let whole =
        chains.iter().all(|chain| chain.leads_to().is_none_or(|next| chains.contains(&next)));
    Ok((found == CHAINS.len() && whole).then_some(chains))
}

/// The parts whose sets are there; `None` if some other set is missing, is another or is unknown.
fn parts_of_sets(sets: &[Set], family: IpFamily) -> Option<Parts> {
    let is_there = |id: SetId| {
        let spec = set_spec(id, family);
        sets.iter().any(|set| set.is(&spec))
    };
    let parts = Parts {
        counts_dropped: is_there(SetId::FirewallDropped),
        choices: is_there(SetId::FastPathIps),
        ..Parts::default()
    };
    (parts.sets().all(is_there) && parts.sets().count() == sets.len()).then_some(parts)
}

#[cfg(test)]
mod tests;
