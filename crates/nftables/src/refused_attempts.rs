//! How many attempts to connect to each service port got no endpoint, and why: what the kernel counts at the elements that refuse or drop them.

use kube_proxy_core::{Changes, Refused, RefusedReason, ServicePortName};
use kube_proxy_netlink::Error;
use kube_proxy_netlink::nf_tables::{Element, NfTables};
use rustc_hash::FxHashMap;

use crate::Config;
use crate::diff::Diff;
use crate::element::SetId;
use crate::key::{Key, Keyed as _};
use crate::layout::{TABLE, set_name};
use crate::state::State;

/// What the elements showed last.
type Shown = FxHashMap<(SetId, Key), u64>;

/// Attempts by service port and reason. They never fall while the service port is there.
///
/// The element of a frontend goes as soon as its service port has an endpoint again, and its counter with it; so the counters of what is about
/// to change are read before it does ([`before`](Self::before)).
#[derive(Clone, Debug, Default)]
pub(crate) struct Attempts {
    shown: Shown,
    totals: FxHashMap<ServicePortName, FxHashMap<RefusedReason, u64>>,
}

impl Attempts {
    /// Reads the counters of all elements.
    pub(crate) fn read(
        &mut self,
        netlink: &mut NfTables,
        config: &Config,
        state: &State,
    ) -> Result<Vec<Refused>, Error> {
        let mut shown = Shown::default();
        for set in SetId::REFUSING {
            // An element may come twice when others change the ruleset; one that is missing is there next time.
            let _ = netlink
                .elements(TABLE, set_name(set), |element| take_in(set, element, &mut shown))?;
        }
        let reasons = if shown.is_empty() { FxHashMap::default() } else { reasons(config, state) };
        for (element, count) in &shown {
            if let Some((name, reason)) = reasons.get(element) {
                self.add(name, *reason, *element, *count);
            }
        }
        self.shown = shown;
        self.totals.retain(|name, _| state.has(name));
        Ok(self.list())
    }

    /// Reads the counters of service ports that are about to change, as long as their elements are there and mean what they meant.
    pub(crate) fn before(
        &mut self,
        netlink: &mut NfTables,
        config: &Config,
        state: &State,
        changes: &Changes,
    ) -> Result<(), Error> {
        if !config.count_refused {
            return Ok(());
        }
        let mut elements = FxHashMap::default();
        for name in &changes.services {
            let refusing = state.plan(name).into_iter().flat_map(|plan| plan.refusing(config));
            elements.extend(
                refusing.map(|(set, frontend, reason)| ((set, frontend.key()), (name, reason))),
            );
        }
        let mut shown = Shown::default();
        for set in SetId::REFUSING {
            let keys: Vec<_> =
                elements.keys().filter(|(of, _)| *of == set).map(|(_, key)| *key).collect();
            let bytes = keys.iter().map(Key::as_bytes);
            let read = netlink.elements_with_keys(TABLE, set_name(set), bytes, |element| {
                take_in(set, element, &mut shown);
            });
            match read {
                // Another program deleted one: the transaction will show it.
                Err(error) if error.is_not_found() => {}
                result => result?,
            }
        }
        for (element, count) in shown {
            if let Some((name, reason)) = elements.get(&element) {
                self.add(name, *reason, element, count);
                self.shown.insert(element, count);
            }
        }
        Ok(())
    }

    /// Forgets those of these service ports that are no more.
    pub(crate) fn forget(&mut self, changes: &Changes, state: &State) {
        for name in changes.services.iter().filter(|name| !state.has(name)) {
            self.totals.remove(name);
        }
    }

    /// Notes that elements were deleted: those that come again start at zero.
    pub(crate) fn written(&mut self, diff: &Diff) {
        for set in SetId::REFUSING {
            for item in diff.deleted.of(set).iter().chain(diff.added.of(set)) {
                self.shown.remove(&(set, item.key));
            }
        }
    }

    /// Notes that all elements were written, and start at zero.
    pub(crate) fn all_written(&mut self) {
        self.shown.clear();
    }

    fn add(
        &mut self,
        name: &ServicePortName,
        reason: RefusedReason,
        element: (SetId, Key),
        count: u64,
    ) {
        let before = self.shown.get(&element).copied().unwrap_or_default();
        // One that fell started again.
        let rise = count.checked_sub(before).unwrap_or(count);
        if let Some(of_name) = self.totals.get_mut(name) {
            *of_name.entry(reason).or_default() += rise;
        } else {
            self.totals.entry(name.clone()).or_default().insert(reason, rise);
        }
    }

    fn list(&self) -> Vec<Refused> {
        let of_name = |(name, totals): (&ServicePortName, &FxHashMap<RefusedReason, u64>)| {
            let name = name.clone();
            let of_reason = move |(reason, attempts): (&RefusedReason, &u64)| Refused {
                service: name.clone(),
                reason: *reason,
                attempts: *attempts,
            };
            totals.iter().map(of_reason).collect::<Vec<_>>()
        };
        let mut list: Vec<_> = self.totals.iter().flat_map(of_name).collect();
        list.sort_unstable();
        list
    }
}

/// Whose each element is, and why it refuses.
fn reasons<'a>(
    config: &Config,
    state: &'a State,
) -> FxHashMap<(SetId, Key), (&'a ServicePortName, RefusedReason)> {
    let mut reasons = FxHashMap::default();
    for (name, plan) in state.plans() {
        for (set, frontend, reason) in plan.refusing(config) {
            reasons.insert((set, frontend.key()), (name, reason));
        }
    }
    reasons
}

fn take_in(set: SetId, element: &Element<'_>, shown: &mut Shown) {
    if let Some(key) = Key::read(element.key, false) {
        shown.insert((set, key), element.counter.unwrap_or_default().packets);
    }
}
