//! From changes to messages.

use std::net::{IpAddr, SocketAddr};

use kube_proxy_core::{IpFamily, TrafficPolicy};
use kube_proxy_netlink::nf_tables::{Count, Data, Element, Transaction, Verdict, user_data};
use kube_proxy_netlink::writer::TooLong;

use crate::Config;
use crate::chain::{Chain, FAST_PATH, Pick};
use crate::diff::Diff;
use crate::element::{Item, SetId, Value};
use crate::key::Key;
use crate::layout::{CHAINS, FLOWTABLE, StaticChain, TABLE_COMMENT, set_name, set_spec};
use crate::parts::Parts;
use crate::rules::{Rule, Rules};
use crate::state::State;
use crate::takeover::Session;
use crate::traffic::Counters;

/// Makes the table again, with all that is always in it but rules. A table that was there goes with all that it held.
/// The parts that not every node needs are added by [`make_parts`].
pub(crate) fn new_table(transaction: &mut Transaction, family: IpFamily) -> Result<(), TooLong> {
    let comment = user_data::comment(TABLE_COMMENT);
    // Deleting what is not there is an error, so it is made first.
    transaction.add_table(&comment)?;
    transaction.delete_table()?;
    transaction.add_table(&comment)?;
    for set in Parts::default().sets() {
        transaction.add_set(&set_spec(set, family))?;
    }
    for chain in &CHAINS {
        transaction.add_chain(chain.name, chain.hook, chain.comment)?;
    }
    Ok(())
}

/// Makes the parts that are wanted and not there, for the rules and elements that come after them.
pub(crate) fn make_parts(
    transaction: &mut Transaction,
    there: Parts,
    wanted: Parts,
    family: IpFamily,
) -> Result<(), TooLong> {
    if wanted.flowtable && !there.flowtable {
        transaction.add_flowtable(FLOWTABLE)?;
    }
    for set in wanted.sets_beyond(there) {
        transaction.add_set(&set_spec(set, family))?;
    }
    Ok(())
}

/// Deletes the parts that are there and not wanted, after the rules that refer to them. The chain that decides goes as others do.
pub(crate) fn delete_parts(
    transaction: &mut Transaction,
    there: Parts,
    wanted: Parts,
) -> Result<(), TooLong> {
    if there.choices && !wanted.choices {
        transaction.flush_chain(FAST_PATH)?;
    }
    for set in there.sets_beyond(wanted) {
        transaction.delete_set(set_name(set))?;
    }
    if there.flowtable && !wanted.flowtable {
        transaction.delete_flowtable(FLOWTABLE)?;
    }
    Ok(())
}

/// Gives chains that are always there their rules, and no others.
pub(crate) fn static_rules<'a>(
    transaction: &mut Transaction,
    chains: impl IntoIterator<Item = &'a StaticChain>,
    config: &Config,
    parts: Parts,
) -> Result<(), TooLong> {
    let rules = Rules::new(config, parts);
    for chain in chains {
        set_rules(transaction, chain.name, &rules.of_static(chain.id))?;
    }
    Ok(())
}

/// All changes but the end of stale chains. Elements count on from `counters`.
pub(crate) fn changes(
    transaction: &mut Transaction,
    diff: &Diff,
    config: &Config,
    counters: &Counters,
) -> Result<(), TooLong> {
    // Chains that elements lead to are the same in every table.
    let rules = Rules::new(config, Parts::ALL);
    for chain in &diff.new_chains {
        transaction.add_chain(&chain.to_string(), None, "")?;
    }
    for chain in &diff.new_chains {
        set_rules(transaction, &chain.to_string(), &rules.of(*chain))?;
    }
    for set in &diff.flushed {
        transaction.flush_set(set_name(*set))?;
    }
    for (set, items) in diff.deleted.iter() {
        transaction.delete_elements(set_name(set), items, |item, hand_on| {
            element(item, None, hand_on);
        })?;
    }
    for (set, items) in diff.added.iter() {
        transaction.add_elements(set_name(set), items, |item, hand_on| {
            element(item, counters.get(&(set, item.key)).copied(), hand_on);
        })?;
    }
    Ok(())
}

/// All elements of these sets, which are empty.
pub(crate) fn all_elements(
    transaction: &mut Transaction,
    sets: impl IntoIterator<Item = SetId>,
    state: &State,
    config: &Config,
) -> Result<(), TooLong> {
    sets.into_iter().try_for_each(|set| {
        let items = state.elements_of(set, config);
        transaction.add_elements(set_name(set), items, |item, hand_on| {
            element(item, None, hand_on);
        })
    })
}

/// The end of chains that nothing leads to. First their rules go, which may lead from one to another.
pub(crate) fn delete_chains(
    transaction: &mut Transaction,
    chains: &[Chain],
) -> Result<(), TooLong> {
    let names: Vec<_> = chains.iter().map(Chain::to_string).collect();
    names.iter().try_for_each(|name| transaction.flush_chain(name))?;
    names.iter().try_for_each(|name| transaction.delete_chain(name))
}

/// Sessions that continue from another table.
pub(crate) fn add_sessions(
    transaction: &mut Transaction,
    sessions: &[&Session],
) -> Result<(), TooLong> {
    for list in TrafficPolicy::ALL {
        let sessions = sessions.iter().filter(|session| session.list == list);
        transaction.add_elements(
            set_name(SetId::sessions(list)),
            sessions,
            |session, hand_on| {
                let (bytes, length) = endpoint(session.endpoint);
                hand_on(&Element {
                    key: session.key.as_bytes(),
                    data: Some(Data::Value(&bytes[..length])),
                    timeout: Some(session.timeout),
                    expiration: Some(session.expiration),
                    ..Element::default()
                });
            },
        )?;
    }
    Ok(())
}

/// The end of sessions.
pub(crate) fn delete_sessions(
    transaction: &mut Transaction,
    sessions: &[(SetId, Key)],
) -> Result<(), TooLong> {
    for list in TrafficPolicy::ALL {
        let set = SetId::sessions(list);
        let keys = sessions.iter().filter(|(of, _)| *of == set);
        transaction.delete_elements(set_name(set), keys, |(_, key), hand_on| {
            hand_on(&Element { key: key.as_bytes(), ..Element::default() });
        })?;
    }
    Ok(())
}

fn set_rules(transaction: &mut Transaction, chain: &str, rules: &[Rule]) -> Result<(), TooLong> {
    transaction.flush_chain(chain)?;
    for rule in rules {
        transaction.add_rule(chain, &rule.expressions, &rule.user_data())?;
    }
    Ok(())
}

/// Hands on an element as the kernel wants it.
fn element(item: &Item, counter: Option<Count>, hand_on: &mut dyn FnMut(&Element<'_>)) {
    let mut element = Element {
        counter,
        key: item.key.as_bytes(),
        interval_end: item.key.is_interval_end(),
        comment: item.comment.as_deref(),
        ..Element::default()
    };
    match &item.value {
        Value::None | Value::Foreign => hand_on(&element),
        Value::Until(end) => {
            element.key_end = Some(end.as_bytes());
            hand_on(&element);
        }
        Value::Endpoint(address) => {
            let (bytes, length) = endpoint(*address);
            element.data = Some(Data::Value(&bytes[..length]));
            hand_on(&element);
        }
        Value::Drop => {
            element.data = Some(Data::Verdict(Verdict::Drop));
            hand_on(&element);
        }
        Value::Goto(chain) => {
            element.data = Some(Data::Verdict(Verdict::Goto(chain.to_string().into())));
            hand_on(&element);
        }
    }
}

/// Address and port as data of a map, and their length in bytes.
fn endpoint(address: SocketAddr) -> ([u8; 20], usize) {
    let mut bytes = [0; 20];
    let length = match address.ip() {
        IpAddr::V4(ip) => {
            bytes[..4].copy_from_slice(&ip.octets());
            4
        }
        IpAddr::V6(ip) => {
            bytes[..16].copy_from_slice(&ip.octets());
            16
        }
    };
    bytes[length..length + 2].copy_from_slice(&address.port().to_be_bytes());
    (bytes, length + 4)
}

/// The whole skeleton and one chain of each kind, made and deleted again: what a kernel lacks shows as an error.
pub(crate) fn probe(
    transaction: &mut Transaction,
    config: &Config,
    parts: Parts,
    pick: Pick,
) -> Result<(), TooLong> {
    let rules = Rules::new(config, parts);
    transaction.add_table(&[])?;
    for set in parts.sets() {
        transaction.add_set(&set_spec(set, config.family))?;
    }
    for chain in &CHAINS {
        transaction.add_chain(chain.name, chain.hook, chain.comment)?;
    }
    if parts.flowtable {
        transaction.add_flowtable(FLOWTABLE)?;
    }
    if parts.choices {
        transaction.add_chain(FAST_PATH, None, "")?;
        set_rules(transaction, FAST_PATH, &rules.of(Chain::FastPath))?;
    }
    for chain in &CHAINS {
        for rule in rules.of_static(chain.id) {
            transaction.add_rule(chain.name, &rule.expressions, &rule.user_data())?;
        }
    }
    for chain in crate::chain::examples(config.family, pick) {
        transaction.add_chain(&chain.to_string(), None, "")?;
        set_rules(transaction, &chain.to_string(), &rules.of(chain))?;
    }
    transaction.delete_table()
}
