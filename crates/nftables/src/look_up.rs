//! What the table holds for one frontend, for people who ask: each element by its key, and each chain by its name.

use std::collections::{BTreeMap, BTreeSet};

use kube_proxy_core::{Frontend, FrontendQuery, KernelObject, NodePortAddresses, ObjectState};
use kube_proxy_netlink::Error;
use kube_proxy_netlink::nf_tables::{Element, NfTables};

use crate::Config;
use crate::actual::is_ours;
use crate::chain::Chain;
use crate::element::{Item, SetId};
use crate::elements::read_item;
use crate::key::{Key, KeyKind, Keyed as _};
use crate::layout::{CHAINS, FLOWTABLE, Fixed, TABLE, set_name, static_chain};
use crate::parts::Parts;
use crate::plan::{Plan, interval_items};
use crate::range::{Range, from_nets};
use crate::rules::{Rule, Rules};
use crate::shares::Share;
use crate::text::{key_text, text};

/// An element to look up, and what it should be; `None` if there should be none.
type Asked = (Key, Option<Item>);

/// What the table holds for a frontend of a service port.
pub(crate) fn look_up(
    netlink: &mut NfTables,
    config: &Config,
    parts: Parts,
    plan: &Plan,
    query: &FrontendQuery,
) -> Result<Vec<KernelObject>, Error> {
    match netlink.table(TABLE)? {
        None => return Ok(vec![KernelObject::new("table", TABLE, ObjectState::Missing)]),
        Some(table) if !is_ours(&table) => {
            let actual = "one of another layout, or one that is turned off".to_owned();
            return Ok(vec![KernelObject::new("table", TABLE, ObjectState::Different { actual })]);
        }
        Some(_) => {}
    }
    let asked = elements(config, parts, plan, query);
    let mut objects = Vec::new();
    for (set, asked) in &asked {
        find(netlink, config, *set, asked, &mut objects)?;
    }
    let rules = Rules::new(config, parts);
    let (fixed, chains) = chains(&asked);
    if chains.contains(&Chain::FastPath) {
        let is_there = netlink.flowtables(TABLE)?.iter().any(|found| found.name == FLOWTABLE);
        objects.push(KernelObject::there_or_missing("flowtable", FLOWTABLE, is_there));
    }
    for chain in CHAINS.iter().filter(|chain| fixed.contains(chain.name)) {
        objects.push(chain_object(netlink, chain.name, &rules.of_static(chain.id))?);
    }
    for chain in chains.iter().filter(|chain| **chain != Chain::Reject) {
        objects.push(chain_object(netlink, &chain.to_string(), &rules.of(*chain))?);
    }
    Ok(objects)
}

/// All elements that serve a frontend, and those that would be in its way, by set.
fn elements(
    config: &Config,
    parts: Parts,
    plan: &Plan,
    query: &FrontendQuery,
) -> BTreeMap<SetId, Vec<Asked>> {
    let FrontendQuery { service, frontend, address, .. } = query;
    let mut asked: BTreeMap<SetId, Vec<Asked>> = BTreeMap::new();
    plan.elements_of(service, frontend, config, &mut |set, item| {
        asked.entry(set).or_default().push((item.key, Some(item)));
    });
    let (by, key) = (frontend.key_kind(), frontend.key());
    for set in by_frontend(by).into_iter().filter(|set| parts.has(*set)) {
        asked.entry(set).or_insert_with(|| vec![(key, None)]);
    }
    let mut endpoints_here = BTreeSet::new();
    plan.shares(config, &mut |share| {
        if matches!(share, Share::Hairpin(..)) {
            endpoints_here.insert(share);
        }
    });
    for (set, item) in endpoints_here.iter().filter_map(Share::element) {
        asked.entry(set).or_default().push((item.key, Some(item)));
    }
    if let (Frontend::NodePort(..), NodePortAddresses::Within(nets)) =
        (frontend, &config.node_ports)
    {
        let holds = |range: &Range| (range.first..=range.last).contains(&address.ip());
        let range: Vec<Range> = from_nets(nets).into_iter().filter(holds).collect();
        let ends = interval_items(&range).map(|item| (item.key, Some(item)));
        asked.entry(SetId::NodeportAddresses).or_default().extend(ends);
    }
    asked
}

/// The sets in which a frontend has one element at most.
fn by_frontend(by: KeyKind) -> Vec<SetId> {
    let mut sets = vec![
        SetId::dispatch(by),
        SetId::short_circuit(by),
        SetId::unserved(by),
        SetId::remember(by),
        SetId::fast_path(by),
    ];
    match by {
        KeyKind::Address => sets.extend([SetId::FirewallAddresses, SetId::FirewallDropped]),
        KeyKind::NodePort => sets.push(SetId::LoopbackNodeports),
    }
    sets
}

fn find(
    netlink: &mut NfTables,
    config: &Config,
    set: SetId,
    asked: &[Asked],
    objects: &mut Vec<KernelObject>,
) -> Result<(), Error> {
    let family = config.family;
    let keys: Vec<_> = asked
        .iter()
        .map(|(key, _)| Element {
            key: key.as_bytes(),
            interval_end: key.is_interval_end(),
            ..Element::default()
        })
        .collect();
    netlink.find_elements(TABLE, set_name(set), &keys, |place, element| {
        let Some((key, wanted)) = asked.get(place) else { return };
        let found = element.map(|element| match read_item(element, family) {
            Some(item) => (text(set, &item, family), Some(item)),
            None => (key_text(set, key, family), None),
        });
        if key.is_interval_end() {
            let right = found.is_some_and(|(_, item)| item.as_ref() == wanted.as_ref());
            return end_interval(objects, right);
        }
        let object = |name, state| Some(KernelObject::new("element", name, state));
        objects.extend(match (wanted, found) {
            (None, None) => None,
            (None, Some((actual, _))) => object(actual, ObjectState::InTheWay),
            (Some(wanted), None) => object(text(set, wanted, family), ObjectState::Missing),
            (Some(wanted), Some((_, Some(item)))) if item == *wanted => {
                object(text(set, wanted, family), ObjectState::AsWanted)
            }
            (Some(wanted), Some((actual, _))) => {
                object(text(set, wanted, family), ObjectState::Different { actual })
            }
        });
    })
}

/// The end of an interval is an element of its own, behind that of its start: both together are one object.
fn end_interval(objects: &mut [KernelObject], right: bool) {
    if let Some(start) = objects.last_mut()
        && start.state == ObjectState::AsWanted
        && !right
    {
        let actual = "an interval with another end".to_owned();
        start.state = ObjectState::Different { actual };
    }
}

/// The chains that packets pass on the way to elements of these sets, and those that the elements lead to.
fn chains(asked: &BTreeMap<SetId, Vec<Asked>>) -> (BTreeSet<&'static str>, BTreeSet<Chain>) {
    let (mut fixed, mut chains) = (BTreeSet::new(), BTreeSet::new());
    for (set, asked) in asked {
        for item in asked.iter().filter_map(|(_, wanted)| wanted.as_ref()) {
            fixed.extend(
                ways(*set)
                    .iter()
                    .flat_map(|id| CHAINS.iter().filter(|of| of.id == *id))
                    .map(|of| of.name),
            );
            if matches!(set, SetId::FastPathIps | SetId::FastPathNodeports) {
                chains.insert(Chain::FastPath);
            }
            let mut next = item.chain();
            while let Some(chain) = next {
                next = chain.leads_to();
                fixed.extend(static_chain(&chain.to_string()).map(|chain| chain.name));
                chains.insert(chain);
            }
        }
    }
    (fixed, chains)
}

/// The chains that are always there by which packets get to where the rules look into a set.
fn ways(set: SetId) -> &'static [Fixed] {
    match set {
        SetId::FrontendIps | SetId::FrontendNodeports => &[
            Fixed::NatPrerouting,
            Fixed::NatOutput,
            Fixed::Services,
            Fixed::NatPostrouting,
            Fixed::Masquerading,
        ],
        SetId::ShortCircuitIps | SetId::ShortCircuitNodeports => {
            &[Fixed::NatPrerouting, Fixed::NatOutput, Fixed::Services, Fixed::ShortCircuit]
        }
        SetId::UnservedIps => &[
            Fixed::FilterInput,
            Fixed::FilterForward,
            Fixed::FilterOutput,
            Fixed::ServiceEndpointsCheck,
        ],
        SetId::UnservedNodeports | SetId::LoopbackNodeports => {
            &[Fixed::FilterInput, Fixed::NodeportEndpointsCheck]
        }
        SetId::StickyIps | SetId::StickyNodeports => {
            &[Fixed::FilterInput, Fixed::FilterForward, Fixed::FilterOutput, Fixed::Sessions]
        }
        SetId::FirewallAddresses | SetId::FirewallSources | SetId::FirewallDropped => {
            &[Fixed::FilterPreroutingPreDnat, Fixed::FilterOutputPreDnat, Fixed::FirewallCheck]
        }
        SetId::FastPathIps | SetId::FastPathNodeports => &[Fixed::FilterForward],
        SetId::HairpinConnections => &[Fixed::NatPostrouting, Fixed::Masquerading],
        SetId::ClusterEndpoints
        | SetId::LocalEndpoints
        | SetId::NodeportClusterEndpoints
        | SetId::NodeportLocalEndpoints
        | SetId::ClusterIps
        | SetId::ServiceCidrs
        | SetId::NodeportAddresses
        | SetId::ClientAffinity
        | SetId::ClientAffinityLocal => &[],
    }
}

/// A chain with its rules, which are known by their fingerprints.
fn chain_object(
    netlink: &mut NfTables,
    name: &str,
    wanted: &[Rule],
) -> Result<KernelObject, Error> {
    let found = netlink.rules_of_chain(TABLE, name)?;
    let found: Vec<_> = found.iter().map(|rule| rule.fingerprint).collect();
    let hook = static_chain(name).and_then(|chain| chain.hook);
    let state = match differing_rules(&found, wanted) {
        Some(actual) if found.is_empty() => match netlink.chain(TABLE, name)? {
            None => ObjectState::Missing,
            Some(_) => ObjectState::Different { actual },
        },
        Some(actual) => ObjectState::Different { actual },
        None if hook.is_none() => ObjectState::AsWanted,
        None => match netlink.chain(TABLE, name)? {
            Some(chain) if chain.hook == hook && !chain.drops => ObjectState::AsWanted,
            _ => {
                ObjectState::Different { actual: "a chain with another hook or policy".to_owned() }
            }
        },
    };
    Ok(KernelObject::new("chain", name, state))
}

/// How the rules of a chain, given by their fingerprints, are not those that were written; `None` if they are.
fn differing_rules(found: &[Option<u64>], wanted: &[Rule]) -> Option<String> {
    let is = |(found, wanted): (&Option<u64>, &Rule)| *found == Some(wanted.fingerprint());
    let first = found.iter().zip(wanted).position(|pair| !is(pair));
    if found.len() == wanted.len() && first.is_none() {
        return None;
    }
    let foreign = found.iter().filter(|fingerprint| fingerprint.is_none()).count();
    let actual = match (found.len(), wanted.len()) {
        (0, _) => "one without rules".to_owned(),
        (there, wanted) if there != wanted => format!("one with {there} rules instead of {wanted}"),
        (count, _) => {
            let place = first.map_or(count, |first| first + 1);
            format!("one whose rule {place} of {count} is another")
        }
    };
    Some(match foreign {
        0 => actual,
        foreign => format!("{actual}, {foreign} by another program"),
    })
}

#[cfg(test)]
mod tests;
