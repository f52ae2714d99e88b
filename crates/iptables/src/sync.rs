//! The two kinds of sync.

use std::cmp::Reverse;
use std::collections::BTreeSet;

use kube_proxy_core::Frontend;
use kube_proxy_core::{Changes, ObjectCount, ServicePortName, Snapshot, SyncError, SyncReport};
use kube_proxy_xtables::{RestoreError, SHARED_FIREWALL};

use crate::actual::Actual;
use crate::fixed::{ANTI_MARTIAN, write_fixed_chains};
use crate::kernel::Kernel;
use crate::layout::{CANARY, HOOKS, MANGLE, Table, canary, is_dynamic};
use crate::names::{ChainName, ServiceChains};
use crate::restore::{Batch, Canary, TableText};
use crate::rewrite::{Rewrite, sync_error};
use crate::state::State;
use crate::tree::Shape;
use crate::{Applied, IptablesBackend};

/// How many services a full sync leaves out, one after the other, before it gives up.
const MAX_LEFT_OUT: usize = 16;

impl IptablesBackend {
    /// Reads what is there and writes every chain that differs, in one restore that also removes what is stale:
    /// at no moment is a service without its rules.
    /// Chains of `rewrite` are written even if they do not differ.
    pub(crate) fn sync_fully(
        &mut self,
        snapshot: &Snapshot,
        rewrite: &Rewrite,
    ) -> Result<SyncReport, SyncError> {
        let endpoint_comments = !snapshot.is_large();
        let names = in_order_of_chains(snapshot);
        let mut left_out = BTreeSet::new();
        let mut shape = Shape::Tree;
        loop {
            // Read again for each attempt: of a restore that fails, earlier tables are in force already.
            let mut existing = Node::read(&*self.kernel)?;
            let counted = existing.counts() || self.can_count == Some(true);
            let counting = self.prepare_counting(existing.counts());
            if counting.on && !counted {
                existing.forget_canary();
            }
            existing.0.iter_mut().for_each(|(table, existing)| rewrite.forget(*table, existing));
            let mut batch = existing.batch();
            let fixed = write_fixed_chains(self.options.fixed(counting), &mut batch);
            let mut state = State::new(shape);
            let plan = self.options.plan(snapshot, endpoint_comments, &left_out);
            state.update(names.iter().copied(), &plan, &mut batch);
            for (table, existing) in &existing.0 {
                let text = batch.table(*table);
                let again = |chain: &str| rewrite.has(*table, chain);
                self.write_hooks(*table, existing, again, text);
                delete_stale(existing, again, text);
            }
            if !batch.is_empty()
                && let Err(failure) = self.kernel.restore(&batch)
            {
                if shape == Shape::Tree && failure.too_deep {
                    tracing::warn!("dispatch among services is a plain list: {}", failure.error);
                    shape = Shape::List;
                } else {
                    leave_out_culprit(failure, &batch, &mut left_out)?;
                }
                continue;
            }
            self.write_canary_of_mangle();
            if self.options.config.serves_localhost() {
                // Not before the rule is in force that keeps neighbours out.
                self.kernel.route_localnet()?;
            }
            let fixed_rules = Table::ALL.map(|table| {
                let of_table = fixed.iter().filter(|(of, _)| *of == table);
                (table, of_table.map(|(_, chain)| chain.rules as usize).sum())
            });
            let removed_udp = left_over(&existing, snapshot);
            let applied = Applied { state, fixed_rules, endpoint_comments, left_out };
            let report = SyncReport { removed_udp, ..report(&applied, &batch) };
            self.applied = Some(applied);
            return Ok(report);
        }
    }

    /// Writes the canary of the table that holds nothing else of ours: a kernel without that table serves all the same.
    fn write_canary_of_mangle(&mut self) {
        if self.kernel.has_chain(MANGLE, CANARY) {
            self.mangle_refused = false;
            return;
        }
        let mut batch = Batch::default();
        batch.mangle_canary = Some(Canary::Create);
        let result = self.kernel.restore(&batch);
        let refused = result.is_err();
        if let Err(failure) = result
            && !self.mangle_refused
        {
            tracing::warn!(
                "no canary in table {MANGLE}, a flush of that table alone goes unnoticed: {}",
                failure.error
            );
        }
        self.mangle_refused = refused;
    }

    /// Writes the chains that differ because of these changes. Nothing is listed, and no program runs if there are none.
    pub(crate) fn sync_partially(
        &mut self,
        snapshot: &Snapshot,
        changes: &Changes,
        mut applied: Applied,
    ) -> Result<SyncReport, SyncError> {
        let mut names: BTreeSet<&ServicePortName> = changes.services.iter().collect();
        if changes.node_ip {
            let behind_ranges = |name: &&ServicePortName| {
                let entry = snapshot.entry(name);
                entry.is_some_and(|entry| entry.port.source_ranges().is_some())
            };
            names.extend(snapshot.services.keys().filter(behind_ranges));
        }
        // A service that was refused gets another chance when it changes.
        applied.left_out.retain(|name| !names.contains(name));
        let mut batch = Batch::default();
        let plan = self.options.plan(snapshot, applied.endpoint_comments, &applied.left_out);
        let names = names.into_iter();
        applied.state.update(names, &plan, &mut batch);
        if !batch.is_empty() {
            self.kernel.restore(&batch).map_err(|failure| sync_error(failure, &batch))?;
        }
        let report = report(&applied, &batch);
        self.applied = Some(applied);
        Ok(report)
    }

    /// Puts the hooks that are missing first in their chains. Those that are there stay where they are, but for those of chains
    /// to be written `again`.
    pub(crate) fn write_hooks(
        &self,
        table: Table,
        existing: &Actual,
        again: impl Fn(&str) -> bool,
        text: &mut TableText,
    ) {
        if table == Table::Filter && !existing.shared_firewall {
            text.declare(ChainName::fixed(SHARED_FIREWALL));
        }
        for hook in HOOKS.iter().filter(|hook| hook.table == table) {
            let again = again(hook.from);
            for rule in existing.rules_of(hook).filter(|_| again) {
                text.command(&format!("-D {rule}"));
            }
            if again || !existing.has(hook) {
                text.command(&format!("-I {} 1 {}", hook.from, hook.rule()));
            }
        }
        let needed = table == Table::Filter && self.options.config.serves_localhost();
        if needed && existing.anti_martian.is_empty() {
            text.command(&format!("-A {SHARED_FIREWALL} {ANTI_MARTIAN}"));
        }
    }
}

/// The services in descending order of the names of their chains: see `restore.rs`.
pub(crate) fn in_order_of_chains(snapshot: &Snapshot) -> Vec<&ServicePortName> {
    let mut names: Vec<_> = snapshot.services.keys().collect();
    names.sort_by_cached_key(|name| Reverse(ServiceChains::of(name).cluster));
    names
}

/// What is on the node, by table.
pub(crate) struct Node([(Table, Actual); 2]);

impl Node {
    pub(crate) fn read(kernel: &dyn Kernel) -> Result<Self, SyncError> {
        let read = |table: Table| Ok((table, Actual::read(kernel, table.name())?));
        let [first, second] = Table::ALL;
        Ok(Self([read(first)?, read(second)?]))
    }

    fn counts(&self) -> bool {
        self.0.iter().any(|(_, existing)| existing.counts)
    }

    /// It holds the rule that tried to count since it was read.
    fn forget_canary(&mut self) {
        for (_, existing) in &mut self.0 {
            existing.held.remove(&canary());
        }
    }

    /// Nothing to write yet, and what need not be written.
    pub(crate) fn batch(&mut self) -> Batch {
        let mut batch = Batch::default();
        for (table, existing) in &mut self.0 {
            batch.table(*table).held = std::mem::take(&mut existing.held);
        }
        batch
    }

    /// The tables, each with what it holds.
    pub(crate) fn tables(&self) -> impl Iterator<Item = (Table, &Actual)> {
        self.0.iter().map(|(table, existing)| (*table, existing))
    }

    fn udp(&self) -> impl Iterator<Item = Frontend> {
        self.0.iter().flat_map(|(_, existing)| existing.udp.iter().copied())
    }
}

/// The UDP frontends that rules lead from although no service port has them.
fn left_over(existing: &Node, snapshot: &Snapshot) -> Vec<Frontend> {
    let mut left: BTreeSet<Frontend> = existing.udp().collect();
    if !left.is_empty() {
        for (frontend, _) in snapshot.services.values().flat_map(|entry| &entry.port.frontends) {
            left.remove(frontend);
        }
    }
    left.into_iter().collect()
}

/// Deletes the chains of services that are no longer wanted; those that a foreign rule leads to are only emptied, and so are those
/// to be written `again`.
pub(crate) fn delete_stale(existing: &Actual, again: impl Fn(&str) -> bool, text: &mut TableText) {
    let stale = |chain: &ChainName| is_dynamic(chain.as_str()) && !text.declares(*chain);
    let (kept, deleted) = existing.part_by_references(stale);
    for chain in kept {
        text.declare(chain);
    }
    let (emptied, deleted): (Vec<_>, _) =
        deleted.into_iter().partition(|chain| again(chain.as_str()));
    for chain in emptied {
        text.declare(chain);
    }
    text.delete(deleted);
}

/// Finds the service whose rule was refused, so that all the others can be written without it.
fn leave_out_culprit(
    failure: RestoreError,
    batch: &Batch,
    left_out: &mut BTreeSet<ServicePortName>,
) -> Result<(), SyncError> {
    let refused = matches!(failure.error, SyncError::Refused(_));
    let culprit = failure.line.and_then(|line| batch.owner_of_line(line));
    match culprit {
        Some(culprit) if refused && left_out.len() < MAX_LEFT_OUT => {
            tracing::error!(
                "service {culprit} ({}) has no rules on this node until it changes: {}",
                culprit.protocol,
                failure.error
            );
            left_out.insert((*culprit).clone());
            Ok(())
        }
        _ => Err(sync_error(failure, batch)),
    }
}

fn report(applied: &Applied, batch: &Batch) -> SyncReport {
    let counts = applied
        .fixed_rules
        .iter()
        .map(|(table, fixed)| ObjectCount {
            kind: table.name(),
            written: batch.written(*table),
            total: fixed + applied.state.rule_count(*table),
        })
        .collect();
    SyncReport { counts, refused: applied.left_out.len(), ..SyncReport::default() }
}
