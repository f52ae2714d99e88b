//! Removing everything that this mode ever writes, of this or any other kube-proxy.

use kube_proxy_core::{Frontend, IpFamily, Removed, SyncError};
use kube_proxy_xtables::{Programs, SHARED_FIREWALL, Variant, has_chain};

use crate::actual::Actual;
use crate::counters;
use crate::kernel::Kernel;
use crate::layout::{MANGLE, Table, is_ours};
use crate::restore::{Batch, Canary, TableText};

/// What a running proxy still needs while what others left is removed. By default nothing is running.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct InUse {
    /// The rules of this variant are the running proxy's.
    pub variant: Option<Variant>,
    /// Of that variant only these chains, given with their tables; `None` are all of them.
    pub shared: Option<&'static [(&'static str, &'static str)]>,
    /// It serves NodePorts on localhost, and has a rule of its own against martians.
    pub localhost: bool,
    /// Its rules count packets, or may do so in a moment.
    pub counters: bool,
}

/// Removes what the iptables mode of any kube-proxy left in one family, in either variant but the one in use.
///
/// # Errors
/// When a program fails, or rules of a variant may be there and its programs are not. The rest is removed all the same.
pub fn remove(family: IpFamily, in_use: InUse) -> Result<Removed, SyncError> {
    let mut cleaned = Cleaned::default();
    let mut failures = Vec::new();
    for variant in [Variant::Legacy, Variant::Nft] {
        let removed = match in_use.shared {
            _ if in_use.variant != Some(variant) => {
                remove_variant(family, variant, in_use.localhost)
            }
            Some(kept) => Programs::choose(family, variant).and_then(|p| remove_but(&p, kept)),
            None => continue,
        };
        match removed {
            Ok(of_variant) => cleaned.add(of_variant),
            Err(error) => failures.push(error),
        }
    }
    if !in_use.counters {
        cleaned.found |= counters::delete_unused();
    }
    SyncError::of_parts(failures).map_or(Ok(cleaned.into()), Err)
}

/// The UDP frontends that rules of the iptables mode of any kube-proxy lead from, in either variant that can be read.
pub fn udp_frontends(family: IpFamily) -> Vec<Frontend> {
    let nat = Table::Nat.name();
    [Variant::Legacy, Variant::Nft]
        .into_iter()
        .filter_map(|variant| Programs::find_or_say(family, variant).ok())
        .filter(|programs| programs.may_have_chain(nat, |chain| is_ours(nat, chain)))
        .filter_map(|programs| Actual::read(&programs, nat).ok())
        .flat_map(|existing| existing.udp)
        .collect()
}

/// What came of removing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Cleaned {
    /// Whether there was anything to do.
    pub(crate) found: bool,
    /// Chains that rules of others lead to.
    pub(crate) kept: usize,
}

impl Cleaned {
    fn add(&mut self, other: Self) {
        self.found |= other.found;
        self.kept += other.kept;
    }
}

impl From<Cleaned> for Removed {
    fn from(cleaned: Cleaned) -> Self {
        match cleaned.kept {
            0 => Self::at_once(cleaned.found),
            chains => Self::Referenced { chains },
        }
    }
}

fn remove_variant(
    family: IpFamily,
    variant: Variant,
    localhost: bool,
) -> Result<Cleaned, SyncError> {
    let reason = match Programs::find_or_say(family, variant) {
        Ok(programs) => return cleanup(&programs, localhost),
        Err(reason) => reason,
    };
    let may_have_rules = |table: Table| match variant {
        Variant::Legacy => Programs::has_legacy_table(family, table.name()),
        _ => has_chain(family, table.name(), |chain| is_ours(table.name(), chain)),
    };
    match Table::ALL.into_iter().find(|table| may_have_rules(*table)) {
        Some(table) => Err(SyncError::Refused(format!(
            "this node has an {} table {} of {family}, but no program to look into it with: {reason}",
            variant.long_name(),
            table.name()
        ))),
        None => Ok(Cleaned::default()),
    }
}

/// Removes the rules of one variant and family. Running it again finds nothing to do.
/// The variant may never have been used here: no program looks into a table that holds nothing of ours, as that would create legacy tables.
/// With `localhost`, another program keeps neighbours away from loopback addresses from now on.
///
/// # Errors
/// When a table cannot be read or written; the others are cleaned all the same.
pub(crate) fn cleanup(
    kernel: &(impl Kernel + ?Sized),
    localhost: bool,
) -> Result<Cleaned, SyncError> {
    let (mut found, mut kept) = (false, 0);
    let mut failures = Vec::new();
    // One input for each table: of one input the tables behind a refused one would stay.
    let mut write = |batch: &Batch| {
        found |= !batch.is_empty();
        if batch.is_empty() {
            Ok(())
        } else {
            kernel.restore(batch).map_err(|failure| failure.error)
        }
    };
    for table in Table::ALL.into_iter().filter(|table| kernel.may_hold_ours(table.name())) {
        let mut batch = Batch::default();
        match Actual::read(kernel, table.name()) {
            Ok(existing) => {
                let text = batch.table(table);
                kept += remove_rules(&existing, text);
                // As long as loopback addresses are routed, the rule is all that keeps neighbours away from them.
                let routed = if existing.anti_martian.is_empty() || localhost {
                    None
                } else {
                    kernel.unroute_localnet().err()
                };
                for rule in existing.anti_martian.iter().filter(|_| routed.is_none()) {
                    text.command(&format!("-D {rule}"));
                }
                failures.extend(routed);
            }
            Err(error) => failures.push(error),
        }
        failures.extend(write(&batch).err());
    }
    let mut batch = Batch::default();
    let mangle = if kernel.may_hold_ours(MANGLE) {
        Actual::read(kernel, MANGLE)
    } else {
        Ok(Actual::default())
    };
    match mangle {
        Ok(mangle) if !mangle.chains.is_empty() && mangle.references.is_empty() => {
            batch.mangle_canary = Some(Canary::Delete);
        }
        Ok(_) => {}
        // A kernel need not have it.
        Err(SyncError::NotFound(reason)) => {
            tracing::debug!(table = MANGLE, reason, "no such table");
        }
        Err(error) => failures.push(error),
    }
    failures.extend(write(&batch).err());
    SyncError::of_parts(failures).map_or(Ok(Cleaned { found, kept }), Err)
}

/// Deletes hooks and chains of one table. Returns how many chains are emptied and kept because of rules of others.
fn remove_rules(existing: &Actual, text: &mut TableText) -> usize {
    for jump in &existing.references {
        // The kubelet's chain and the ways there stay.
        if jump.is_jump_of_ours() && jump.to.as_str() != SHARED_FIREWALL {
            text.command(&format!("-D {}", jump.rule));
        }
    }
    let (kept, deleted) = existing.part_by_references(|_| true);
    text.delete(deleted);
    let count = kept.len();
    // What is empty already needs nothing.
    for chain in kept.into_iter().filter(|chain| existing.holds_rules(*chain)) {
        text.declare(chain);
    }
    count
}

/// Removes the chains of this mode but those that another mode shares, and the ways to what is removed.
pub(crate) fn remove_but(
    kernel: &(impl Kernel + ?Sized),
    kept: &[(&str, &str)],
) -> Result<Cleaned, SyncError> {
    let mut batch = Batch::default();
    for table in Table::ALL {
        let existing = Actual::read(kernel, table.name())?;
        let is_kept = |chain: &str| kept.contains(&(table.name(), chain));
        let text = batch.table(table);
        for jump in &existing.references {
            let to = jump.to.as_str();
            if jump.is_jump_of_ours() && to != SHARED_FIREWALL && !is_kept(to) {
                text.command(&format!("-D {}", jump.rule));
            }
        }
        let (_, deleted) = existing.part_by_references(|chain| !is_kept(chain.as_str()));
        text.delete(deleted);
    }
    let found = !batch.is_empty();
    if found {
        kernel.restore(&batch).map_err(|failure| failure.error)?;
    }
    Ok(Cleaned { found, kept: 0 })
}
