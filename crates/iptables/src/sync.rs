//! The two kinds of sync.

use std::cmp::Reverse;
use std::collections::BTreeSet;

use kube_proxy_core::{Changes, Count, ServicePortName, Snapshot, SyncError, SyncReport};

use crate::existing::Existing;
use crate::fixed::{ANTI_MARTIAN, write_fixed_chains};
use crate::layout::{HOOKS, MANGLE, SHARED_FIREWALL, Table, is_dynamic};
use crate::names::{ChainName, ServiceChains};
use crate::programs::RestoreError;
use crate::restore::{Batch, Canary, TableText};
use crate::state::State;
use crate::tree::Shape;
use crate::{Applied, IptablesBackend};

/// How many services a full sync leaves out, one after the other, before it gives up.
const MAX_LEFT_OUT: usize = 16;

impl IptablesBackend {
    /// Writes every chain, in one restore that also removes what is stale: at no moment is a service without its rules.
    pub(crate) fn sync_fully(&mut self, snapshot: &Snapshot) -> Result<SyncReport, SyncError> {
        let endpoint_comments = !snapshot.is_large();
        let names = in_order_of_chains(snapshot);
        let mut left_out = BTreeSet::new();
        let mut shape = Shape::Tree;
        let counting = self.prepare_counting();
        loop {
            let mut batch = Batch::default();
            let fixed = write_fixed_chains(self.options.fixed(counting), &mut batch);
            let mut state = State::new(shape);
            let plan = self.options.plan(snapshot, endpoint_comments, &left_out);
            state.update(names.iter().copied(), &plan, &mut self.clashes, &mut batch);
            for table in Table::ALL {
                // Read again for each attempt: of a restore that fails, earlier tables are in force already.
                let existing = Existing::read(&*self.kernel, table.name())?;
                let text = batch.table(table);
                self.write_hooks(table, &existing, text);
                delete_stale(&existing, text);
            }
            if let Err(failure) = self.kernel.restore(&batch) {
                if shape == Shape::Tree && failure.is_too_deep() {
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
            let applied = Applied { state, fixed_rules, endpoint_comments, left_out };
            let report = report(&applied, &batch);
            self.applied = Some(applied);
            return Ok(report);
        }
    }

    /// Writes the canary of the table that holds nothing else of ours: a kernel without that table serves all the same.
    fn write_canary_of_mangle(&mut self) {
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
                let entry = snapshot.services.get(*name);
                entry.is_some_and(|entry| entry.port.load_balancer_source_ranges.is_some())
            };
            names.extend(snapshot.services.keys().filter(behind_ranges));
        }
        // A service that was refused gets another chance when it changes.
        applied.left_out.retain(|name| !names.contains(name));
        let mut batch = Batch::default();
        let plan = self.options.plan(snapshot, applied.endpoint_comments, &applied.left_out);
        let names = names.into_iter();
        applied.state.update(names, &plan, &mut self.clashes, &mut batch);
        if !batch.is_empty() {
            self.kernel.restore(&batch).map_err(|failure| failure.error)?;
        }
        let report = report(&applied, &batch);
        self.applied = Some(applied);
        Ok(report)
    }

    /// Puts the hooks that are missing first in their chains. Those that are there stay where they are.
    fn write_hooks(&self, table: Table, existing: &Existing, text: &mut TableText) {
        if table == Table::Filter && !existing.shared_firewall {
            text.declare(ChainName::fixed(SHARED_FIREWALL));
        }
        for hook in HOOKS.iter().filter(|hook| hook.table == table) {
            if !existing.has(hook) {
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
fn in_order_of_chains(snapshot: &Snapshot) -> Vec<&ServicePortName> {
    let mut names: Vec<_> = snapshot.services.keys().collect();
    names.sort_by_cached_key(|name| Reverse(ServiceChains::of(name).cluster));
    names
}

/// Deletes the chains of services that are no longer wanted; those that a foreign rule leads to are only emptied.
fn delete_stale(existing: &Existing, text: &mut TableText) {
    let referenced = existing.referenced();
    let stale = |chain: &&ChainName| is_dynamic(chain.as_str()) && !text.declares(**chain);
    let (kept, deleted): (Vec<_>, Vec<_>) =
        existing.chains.iter().filter(stale).copied().partition(|chain| referenced.contains(chain));
    for chain in kept {
        tracing::warn!(
            "chain {chain} is stale, but a rule that is not ours leads to it: emptied and kept"
        );
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
        _ => Err(failure.error),
    }
}

fn report(applied: &Applied, batch: &Batch) -> SyncReport {
    let counts = applied
        .fixed_rules
        .iter()
        .map(|(table, fixed)| Count {
            kind: table.name(),
            written: batch.written(*table),
            total: fixed + applied.state.rule_count(*table),
        })
        .collect();
    SyncReport { counts, refused: applied.left_out.len() }
}
