//! How many connections each service has had: what the kernel counts at the frontends.

use kube_proxy_core::{Frontend, IpFamily, ServicePortName, Traffic};
use kube_proxy_netlink::Error;
use kube_proxy_netlink::nf_tables::{Count, NfTables};
use rustc_hash::FxHashMap;

use crate::diff::Diff;
use crate::element::SetId;
use crate::key::{Key, KeyKind, Keyed as _};
use crate::layout::{TABLE, set_name};
use crate::state::State;

/// What elements that are about to be written start to count from.
pub(crate) type Counters = FxHashMap<(SetId, Key), Count>;

/// Sets whose elements count.
fn counting() -> impl Iterator<Item = (KeyKind, SetId)> {
    KeyKind::ALL
        .into_iter()
        .flat_map(|kind| [SetId::dispatch(kind), SetId::short_circuit(kind)].map(|set| (kind, set)))
}

/// The connections of each service port, added up over its frontends. They never fall while the service port is there.
#[derive(Clone, Debug, Default)]
pub(crate) struct Totals {
    /// What each frontend's counter showed last.
    shown: FxHashMap<(SetId, Key), u64>,
    connections: FxHashMap<ServicePortName, u64>,
}

impl Totals {
    /// Reads the counters of all frontends.
    pub(crate) fn read(
        &mut self,
        netlink: &mut NfTables,
        family: IpFamily,
        state: &State,
    ) -> Result<Vec<Traffic>, Error> {
        let mut shown = FxHashMap::default();
        for (_, set) in counting() {
            // An element may come twice when others change the ruleset; one that is missing is there next time.
            let _ = netlink.elements(TABLE, set_name(set), |element| {
                if let Some(key) = Key::read(element.key, false) {
                    let count = element.counter.unwrap_or_default();
                    shown.insert((set, key), count.packets);
                }
            })?;
        }
        self.add_up(shown, family, state);
        Ok(self.list(state))
    }

    /// Notes that all frontends were written, and start at zero.
    pub(crate) fn all_written(&mut self) {
        self.shown.clear();
    }

    /// Notes that frontends were written: those without a counter to continue from started at zero.
    pub(crate) fn written(&mut self, diff: &Diff, counters: &Counters) {
        for (_, set) in counting() {
            for item in diff.added.of(set) {
                let frontend = (set, item.key);
                if !counters.contains_key(&frontend) {
                    self.shown.remove(&frontend);
                }
            }
        }
    }

    fn add_up(&mut self, shown: FxHashMap<(SetId, Key), u64>, family: IpFamily, state: &State) {
        let owners = state.owners();
        for (kind, set) in counting() {
            for (frontend, count) in shown.iter().filter(|((of, _), _)| *of == set) {
                let owner = Frontend::read(kind, frontend.1.as_bytes(), family)
                    .and_then(|frontend| owners.get(&frontend));
                let Some(&name) = owner else { continue };
                let before = self.shown.get(frontend).copied().unwrap_or_default();
                // One that fell started again.
                let rise = count.checked_sub(before).unwrap_or(*count);
                if let Some(total) = self.connections.get_mut(name) {
                    *total += rise;
                } else {
                    self.connections.insert(name.clone(), rise);
                }
            }
        }
        self.shown = shown;
        self.connections.retain(|name, _| state.has(name));
    }

    fn list(&self, state: &State) -> Vec<Traffic> {
        let mut traffic: Vec<_> = state
            .plans()
            .map(|(service, _)| Traffic {
                service: service.clone(),
                endpoint: None,
                connections: self.connections.get(service).copied().unwrap_or_default(),
                bytes: None,
            })
            .collect();
        traffic.sort_unstable_by(|a, b| a.service.cmp(&b.service));
        traffic
    }
}

/// What the counters show of frontends that are written again for the same service port, such as for another number of endpoints.
/// What comes in between reading and writing is not counted.
pub(crate) fn carried_over(netlink: &mut NfTables, diff: &Diff) -> Result<Counters, Error> {
    let mut counters = Counters::default();
    for (_, set) in counting() {
        let (added, deleted) = (diff.added.of(set), diff.deleted.of(set));
        if added.is_empty() || deleted.is_empty() {
            continue;
        }
        let written: FxHashMap<_, _> =
            added.iter().map(|item| (item.key, item.comment.as_ref())).collect();
        let anew = deleted.iter().filter(|item| {
            item.comment.is_some() && written.get(&item.key) == Some(&item.comment.as_ref())
        });
        let result = netlink.elements_with_keys(
            TABLE,
            set_name(set),
            anew.map(|item| item.key.as_bytes()),
            |element| {
                if let (Some(key), Some(count)) = (Key::read(element.key, false), element.counter) {
                    counters.insert((set, key), count);
                }
            },
        );
        match result {
            // Another program deleted one: the transaction will show it.
            Err(error) if error.is_not_found() => {}
            result => result?,
        }
    }
    Ok(counters)
}
