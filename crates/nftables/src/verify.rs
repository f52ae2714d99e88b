//! Whether the table is still what we wrote, without reading all of it.

use kube_proxy_netlink::Error;
use kube_proxy_netlink::nf_tables::NfTables;

use crate::Config;
use crate::actual::{is_ours, read_chains};
use crate::chain::Chain;
use crate::counts::Counts;
use crate::element::SetId;
use crate::layout::{CHAINS, TABLE, set_name, static_chain};
use crate::parts::Parts;
use crate::rules::Rules;
use crate::state::State;

/// What must be in the table.
pub(crate) struct Expected<'a> {
    pub(crate) config: &'a Config,
    pub(crate) state: &'a State,
    pub(crate) counts: &'a Counts,
    /// Chains that may or may not be there still.
    pub(crate) left_over: &'a [Chain],
    /// Single elements count: where the kernel does not tell the sizes of sets, the answer is no.
    pub(crate) sure: bool,
}

impl Expected<'_> {
    /// Whether the table is there, with all chains and sets, all rules and as many elements.
    pub(crate) fn is_there(&self, netlink: &mut NfTables) -> Result<bool, Error> {
        let Some(table) = netlink.table(TABLE)? else { return Ok(false) };
        let parts = Parts::of(self.config, self.state);
        let others = parts.sets().count() + usize::from(parts.flowtable);
        let objects = CHAINS.len() + self.state.chains().len() + others;
        let uses = usize::try_from(table.uses).unwrap_or(usize::MAX);
        Ok(is_ours(&table)
            && uses == objects + self.left_over.len()
            && self.chains_are_there(netlink)?
            && self.rules_are_there(netlink)?
            && self.sizes_are_right(netlink)?)
    }

    fn chains_are_there(&self, netlink: &mut NfTables) -> Result<bool, Error> {
        let chains = read_chains(netlink)?;
        Ok(chains.is_some_and(|found| self.state.chains().is_subset(&found)))
    }

    fn rules_are_there(&self, netlink: &mut NfTables) -> Result<bool, Error> {
        let rules = Rules::new(self.config, Parts::of(self.config, self.state));
        let mut missing: usize = CHAINS.iter().map(|c| rules.of_static(c.id).len()).sum();
        missing += self.state.chains().iter().map(|c| rules.of(*c).len()).sum::<usize>();
        for rule in netlink.rules(TABLE)? {
            let own = static_chain(&rule.chain).is_some()
                || Chain::parse(&rule.chain).is_some_and(|c| self.state.chains().contains(&c));
            if rule.fingerprint.is_none() && own {
                return Ok(false);
            }
            missing = missing.wrapping_sub(usize::from(own));
        }
        Ok(missing == 0)
    }

    /// Where the kernel reports sizes. Those of plain intervals it counts in ways of its own.
    fn sizes_are_right(&self, netlink: &mut NfTables) -> Result<bool, Error> {
        let known = |id: &SetId| !id.is_plain_intervals() && !id.holds_sessions();
        let sets = netlink.sets(TABLE)?;
        Ok(Parts::of(self.config, self.state).sets().filter(known).all(|id| {
            let set = sets.iter().find(|set| set.name == set_name(id));
            set.is_some_and(|set| {
                let expected = self.counts.of(id);
                set.count.map_or(!self.sure, |count| usize::try_from(count) == Ok(expected))
            })
        }))
    }
}
