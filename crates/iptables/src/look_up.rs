//! What the node holds for one frontend, for people who ask: single chains and rules, and no table.
//!
//! ```text
//! FrontendQuery ─wanted─▶ chains with their rules, and hooks ─list─▶ what the programs print ─compare─▶ objects
//! ```

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;

use ipnet::IpNet;
use kube_proxy_core::{
    Endpoint, FrontendKind, FrontendQuery, KernelObject, ObjectState, ServiceEntry, Snapshot,
    SyncError, TrafficPolicy, Treatment,
};
use kube_proxy_xtables::split_words;

use crate::IptablesBackend;
use crate::canonical::rule_hash;
use crate::counters::Counting;
use crate::fixed::{MARK, fixed_chains};
use crate::layout::{HOOKS, Hook, Table};
use crate::lists::{List, Place};
use crate::names::{ChainName, ServiceChains};
use crate::rules::written;
use crate::service::{Kind, ServiceRules};
use crate::state::{Plan, State};
use crate::tree::{LINEAR, Passed};

/// Chains of endpoints that are looked at: under session affinity each endpoint has one.
const ENDPOINT_CHAINS: usize = 32;

/// A chain that is longer than this is not listed: where the kernel allows no dispatch by prefix, one chain has a rule for each Service.
const LONGEST: usize = LINEAR + 64;

/// A chain, what it should hold, and which of its rules serve the frontend.
#[derive(Debug)]
struct Wanted {
    table: Table,
    chain: ChainName,
    rules: Vec<String>,
    own: Range<usize>,
    /// It is there for the service port or for all, so that every rule in it matters; else only those that match the frontend.
    whole: bool,
}

/// All that serves a frontend.
#[derive(Debug, Default)]
struct Expected {
    chains: Vec<Wanted>,
    hooks: Vec<&'static Hook>,
    /// Chains of endpoints that are left out.
    left_out: usize,
}

impl IptablesBackend {
    /// Lists the chains that packets for the frontend pass, and looks for the rules that lead to these.
    pub(crate) fn objects_of(
        &self,
        snapshot: &Snapshot,
        query: &FrontendQuery,
    ) -> Result<Vec<KernelObject>, SyncError> {
        let unknown = |why: &str| Err(SyncError::NotFound(why.to_owned()));
        let Some(applied) = &self.applied else {
            return unknown("the last sync failed, so it is not known which rules are there");
        };
        if applied.left_out.contains(&query.service) {
            return unknown("the kernel refused the rules of the service port, so it has none");
        }
        let plan = self.options.plan(snapshot, applied.endpoint_comments, &applied.left_out);
        let Some(entry) = snapshot.entry(&query.service) else {
            return unknown("the last sync did not write this service port");
        };
        let mut expected = expected(&plan, &applied.state, entry, query);
        let translates = expected.chains.iter().any(|wanted| wanted.whole);
        if translates {
            let counting = Counting { on: self.can_count == Some(true) };
            for (table, chain, rules) in fixed_chains(self.options.fixed(counting)) {
                if chain == MARK || chain == POSTROUTING {
                    expected.chains.push(Wanted::whole(table, ChainName::fixed(chain), rules));
                }
            }
            expected.hooks.extend(HOOKS.iter().filter(|hook| hook.to == POSTROUTING));
        }
        let mut objects = Vec::new();
        for table in Table::ALL {
            self.look_at_chains(table, &expected, query, &mut objects)?;
            self.look_at_hooks(table, &expected, &mut objects)?;
        }
        if expected.left_out > 0 {
            let name = format!("{} more chains of endpoints", expected.left_out);
            let why = "they are not looked at one by one; kube-proxy check compares all".to_owned();
            objects.push(KernelObject::new("chain", name, ObjectState::Unknown { why }));
        }
        Ok(objects)
    }

    fn look_at_chains(
        &self,
        table: Table,
        expected: &Expected,
        query: &FrontendQuery,
        objects: &mut Vec<KernelObject>,
    ) -> Result<(), SyncError> {
        let of_table = || expected.chains.iter().filter(|wanted| wanted.table == table);
        let (long, short): (Vec<_>, Vec<_>) =
            of_table().partition(|wanted| wanted.rules.len() > LONGEST);
        let names: Vec<&str> = short.iter().map(|wanted| wanted.chain.as_str()).collect();
        if !names.is_empty() {
            let listed = self.kernel.list_chains(table.name(), &names)?;
            for (wanted, listed) in short.iter().zip(listed) {
                wanted.compare(listed.as_deref(), |rule| concerns(rule, query), objects);
            }
        }
        for wanted in long {
            let rules: Vec<_> = wanted.own().map(|rule| (wanted.chain.as_str(), rule)).collect();
            let found = self.find_rules(table, &rules)?;
            objects.extend(rules.iter().zip(found).map(|((_, rule), found)| {
                KernelObject::there_or_missing("rule", wanted.text(rule), found)
            }));
        }
        Ok(())
    }

    fn look_at_hooks(
        &self,
        table: Table,
        expected: &Expected,
        objects: &mut Vec<KernelObject>,
    ) -> Result<(), SyncError> {
        let hooks = expected.hooks.iter().filter(|hook| hook.table == table);
        let hooks: Vec<_> = hooks.map(|hook| (hook.from, hook.rule())).collect();
        let asked: Vec<_> = hooks.iter().map(|(from, rule)| (*from, &**rule)).collect();
        let found = self.find_rules(table, &asked)?;
        objects.extend(asked.iter().zip(found).map(|((from, rule), found)| {
            let name = format!("{} -A {from} {rule}", table.name());
            KernelObject::there_or_missing("rule", name, found)
        }));
        Ok(())
    }

    fn find_rules(&self, table: Table, rules: &[(&str, &str)]) -> Result<Vec<bool>, SyncError> {
        if rules.is_empty() { Ok(Vec::new()) } else { self.kernel.find_rules(table.name(), rules) }
    }
}

/// Where marked packets are masqueraded.
const POSTROUTING: &str = "KUBE-POSTROUTING";

fn expected(
    plan: &Plan<'_>,
    state: &State,
    entry: &ServiceEntry,
    query: &FrontendQuery,
) -> Expected {
    let mut expected = Expected::default();
    let own = entry.port.frontends.iter().find(|(frontend, _)| *frontend == query.frontend);
    let Some((frontend, kind)) = own else { return expected };
    for (list, way) in state.ways_to(Place::Frontend(*frontend), plan) {
        let serves = way.iter().any(|passed| !passed.own.is_empty());
        expected.chains.extend(way.into_iter().map(|passed| Wanted::passed(list.table, passed)));
        if serves {
            lead_to(list, state, plan, &mut expected);
        }
    }
    service_chains(plan, entry, query, *kind, &mut expected);
    expected
}

/// Adds what leads to the root of a list: hooks, or the root of another one that they lead to.
fn lead_to(list: &'static List, state: &State, plan: &Plan<'_>, expected: &mut Expected) {
    let hooks = |root: &str| {
        let root = root.to_owned();
        HOOKS.iter().filter(move |hook| hook.table == list.table && hook.to == root)
    };
    let before = expected.hooks.len();
    expected.hooks.extend(hooks(list.root));
    if expected.hooks.len() > before {
        return;
    }
    if let Some((root, passed)) = state.root_before(list, plan) {
        expected.chains.push(Wanted::passed(list.table, passed));
        expected.hooks.extend(hooks(root));
    }
}

/// Adds the chains of the service port that packets for frontends of a kind pass.
fn service_chains(
    plan: &Plan<'_>,
    entry: &ServiceEntry,
    query: &FrontendQuery,
    kind: FrontendKind,
    expected: &mut Expected,
) {
    let name = Arc::new(query.service.clone());
    let names = ServiceChains::of(&name);
    let service = ServiceRules { settings: plan.settings, name: &name, entry, names };
    let Treatment { policy, short_circuit, .. } = entry.treatment(kind);
    let used = |of: TrafficPolicy| of == policy || (short_circuit && of == TrafficPolicy::Cluster);
    let mut endpoints = BTreeSet::new();
    for policy in TrafficPolicy::ALL.into_iter().filter(|policy| used(*policy)) {
        endpoints.extend(entry.choice.of(policy).iter().map(Endpoint::socket_address));
    }
    let mut looked_at = 0;
    for (chain, of) in service.chains() {
        let passes = match of {
            Kind::Policy(of) => used(of),
            Kind::External => kind.is_external(),
            Kind::Firewall => kind == FrontendKind::LoadBalancerVip,
            Kind::Endpoint(endpoint) => endpoints.contains(&endpoint.socket_address()),
        };
        if !passes {
            continue;
        }
        if matches!(of, Kind::Endpoint(_)) {
            looked_at += 1;
            if looked_at > ENDPOINT_CHAINS {
                expected.left_out += 1;
                continue;
            }
        }
        let rules = written(chain, |rules| service.write(of, rules));
        expected.chains.push(Wanted::whole(Table::Nat, chain, rules));
    }
}

impl Wanted {
    fn whole(table: Table, chain: ChainName, rules: Vec<String>) -> Self {
        Self { table, chain, own: 0..rules.len(), rules, whole: true }
    }

    fn passed(table: Table, passed: Passed) -> Self {
        let Passed { chain, rules, own } = passed;
        Self { table, chain, rules, own, whole: false }
    }

    /// The rules that serve the frontend.
    fn own(&self) -> impl Iterator<Item = &str> {
        self.rules.get(self.own.clone()).into_iter().flatten().map(String::as_str)
    }

    fn text(&self, rule: &str) -> String {
        format!("{} -A {} {rule}", self.table.name(), self.chain)
    }

    /// Compares with what the chain holds; `None` if it is not there.
    fn compare(
        &self,
        listed: Option<&[String]>,
        concerns: impl Fn(&str) -> bool,
        objects: &mut Vec<KernelObject>,
    ) {
        let name = format!("{} {}", self.table.name(), self.chain);
        let Some(listed) = listed else {
            if !self.own.is_empty() {
                objects.push(KernelObject::new("chain", name, ObjectState::Missing));
            }
            return;
        };
        let mut there: Vec<_> = listed.iter().map(|rule| Some(rule_hash(rule))).collect();
        let (mut order, mut missing) = (Vec::new(), false);
        for (place, rule) in self.rules.iter().enumerate() {
            let hash = Some(rule_hash(rule));
            let found = there.iter().position(|listed| *listed == hash);
            if let Some(found) = found {
                there[found] = None;
                order.push(found);
            }
            if self.own.contains(&place) {
                missing |= found.is_none();
                let found = found.is_some();
                objects.push(KernelObject::there_or_missing("rule", self.text(rule), found));
            }
        }
        let extra = listed.iter().zip(&there).filter(|(_, left)| left.is_some());
        let mut foreign = false;
        for (rule, _) in extra.filter(|(rule, _)| self.whole || concerns(rule)) {
            foreign = true;
            objects.push(KernelObject::new("rule", self.text(rule), ObjectState::InTheWay));
        }
        if self.whole && !missing && !foreign && !order.is_sorted() {
            let actual = "one with its rules in another order".to_owned();
            objects.push(KernelObject::new("chain", name, ObjectState::Different { actual }));
        }
    }
}

/// Whether a rule may match packets for a frontend, by its destination, protocol and port.
fn concerns(rule: &str, query: &FrontendQuery) -> bool {
    let words = split_words(rule);
    let after = |names: &[&str]| {
        let at = words.iter().position(|word| names.contains(&word.as_str()))?;
        let is_not = at > 0 && words[at - 1] == "!";
        Some((words.get(at + 1)?.as_str(), is_not))
    };
    let to = query.address;
    let destination = after(&["-d", "--destination"]).is_none_or(|(net, is_not)| {
        let holds = net.parse::<IpNet>().map(|net| net.contains(&to.ip()));
        holds.is_ok_and(|holds| holds != is_not)
    });
    let protocol = query.frontend.protocol();
    let same_protocol = after(&["-p", "--protocol"]).is_none_or(|(name, is_not)| {
        let is = name == protocol.lower() || name == protocol.number().to_string();
        is != is_not
    });
    let same_port = after(&["--dport"]).is_none_or(|(ports, is_not)| {
        let (first, last) = ports.split_once(':').unwrap_or((ports, ports));
        let (first, last) = (first.parse().unwrap_or(0), last.parse().unwrap_or(u16::MAX));
        (first..=last).contains(&to.port()) != is_not
    });
    destination && same_protocol && same_port
}

#[cfg(test)]
mod tests;
