//! What of the table differs from what it should be, object by object, for people who ask.

use std::collections::BTreeMap;

use kube_proxy_core::{Deviation, Difference, IpFamily, Snapshot};
use kube_proxy_netlink::nf_tables::NfTables;
use kube_proxy_netlink::{Errno, Error};

use crate::Config;
use crate::actual::{Actual, Tasks};
use crate::chain::Chain;
use crate::diff::Diff;
use crate::element::{Item, SetId};
use crate::key::Key;
use crate::layout::{FLOWTABLE, TABLE, set_name};
use crate::state::State;
use crate::text::text;

/// How often the table is read because the ruleset changed meanwhile.
const ATTEMPTS: usize = 8;

/// What differs. `kept` says of chains that nothing leads to whether they are there with our knowledge.
pub(crate) fn compare(
    netlink: &mut NfTables,
    config: &Config,
    snapshot: &Snapshot,
    kept: impl Fn(&Chain) -> bool,
) -> Result<Vec<Difference>, Error> {
    let existing = read(netlink, config)?;
    match existing {
        Actual::Nothing => return Ok(vec![Difference::new("table", TABLE, Deviation::Missing)]),
        Actual::OtherLayout => {
            let name =
                format!("{TABLE}: its chains, sets or flags are not those that were written");
            return Ok(vec![Difference::new("table", name, Deviation::Different)]);
        }
        Actual::Table(_) => {}
    }
    let mut planned = State::build(snapshot, &existing, config);
    let there = match &existing {
        Actual::Table(content) => content.chain_names(),
        Actual::Nothing | Actual::OtherLayout => Vec::new(),
    };
    let Tasks { static_chains, diff, parts, .. } = existing.repair(&mut planned, config);
    let mut reports: Vec<_> = static_chains
        .into_iter()
        .map(|chain| Difference::new("chain", rules_of(chain.name), Deviation::Different))
        .collect();
    for chain in &diff.new_chains {
        let name = chain.to_string();
        reports.push(if there.contains(&name) {
            Difference::new("chain", rules_of(&name), Deviation::Different)
        } else {
            Difference::new("chain", name, Deviation::Missing)
        });
    }
    let stale = diff.stale_chains.iter().filter(|chain| !kept(chain));
    reports.extend(
        stale.map(|chain| Difference::new("chain", chain.to_string(), Deviation::Unexpected)),
    );
    let (there, wanted) = parts;
    for (from, to, deviation) in
        [(there, wanted, Deviation::Missing), (wanted, there, Deviation::Unexpected)]
    {
        let sets = to.sets_beyond(from).map(|set| ("set", set_name(set)));
        let flowtable = (to.flowtable && !from.flowtable).then_some(("flowtable", FLOWTABLE));
        let all = sets.chain(flowtable);
        reports.extend(all.map(|(kind, name)| Difference::new(kind, name, deviation)));
    }
    reports.extend(elements(&diff, config.family));
    Ok(reports)
}

fn rules_of(chain: &str) -> String {
    format!("{chain}: its rules are not those that were written")
}

/// The table as of one generation of the ruleset.
fn read(netlink: &mut NfTables, config: &Config) -> Result<Actual, Error> {
    for _ in 1..ATTEMPTS {
        let before = netlink.generation()?;
        match Actual::read(netlink, config) {
            Ok(existing) if netlink.generation()? == before => return Ok(existing),
            Ok(_) => {}
            Err(error) if error.is_stale() || error.errno() == Some(Errno::EINTR) => {}
            Err(error) => return Err(error),
        }
    }
    Actual::read(netlink, config)
}

/// An element that is deleted and added again is another one under the same key.
fn elements(diff: &Diff, family: IpFamily) -> Vec<Difference> {
    let mut found: BTreeMap<(SetId, Key), &Item> = BTreeMap::new();
    for (set, items) in diff.deleted.iter() {
        found.extend(items.iter().map(|item| ((set, item.key), item)));
    }
    let mut reports = Vec::new();
    for set in &diff.flushed {
        let name = format!("{}: its elements are not those that were written", set_name(*set));
        reports.push(Difference::new("set", name, Deviation::Different));
    }
    for (set, items) in diff.added.iter().filter(|(set, _)| !diff.flushed.contains(set)) {
        for item in items {
            let name = text(set, item, family);
            reports.push(match found.remove(&(set, item.key)) {
                Some(other) => {
                    let name = format!("{name}, there is {}", text(set, other, family));
                    Difference::new("element", name, Deviation::Different)
                }
                None => Difference::new("element", name, Deviation::Missing),
            });
        }
    }
    let rest = found.into_iter().map(|((set, _), item)| text(set, item, family));
    reports.extend(rest.map(|name| Difference::new("element", name, Deviation::Unexpected)));
    reports
}
