//! Removing everything that this mode ever writes, of this or any other kube-proxy.

use kube_proxy_core::{IpFamily, SyncError};

use crate::Variant;
use crate::counters;
use crate::existing::Existing;
use crate::layout::{MANGLE, SHARED_FIREWALL, Table};
use crate::programs::{Kernel, Programs};
use crate::restore::{Batch, Canary};

/// What a running proxy still needs while what others left is removed. By default nothing is running.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct InUse {
    /// The rules of this variant are the running proxy's.
    pub variant: Option<Variant>,
    /// It serves NodePorts on localhost, and has a rule of its own against martians.
    pub localhost: bool,
    /// Its rules count packets, or may do so in a moment.
    pub counters: bool,
}

/// Removes what the iptables mode of any kube-proxy left in one family, in either variant but the one in use.
/// Whether there was anything.
///
/// # Errors
/// When a program fails, or rules of the legacy variant may be there and its programs are not. The rest is removed all the same.
pub fn remove(family: IpFamily, in_use: InUse) -> Result<bool, SyncError> {
    let mut found = false;
    let mut failure = None;
    for variant in [Variant::Legacy, Variant::Nft] {
        if in_use.variant == Some(variant) {
            continue;
        }
        match remove_variant(family, variant, in_use.localhost) {
            Ok(any) => found |= any,
            Err(error) => failure = Some(error),
        }
    }
    if !in_use.counters {
        found |= counters::delete_unused();
    }
    failure.map_or(Ok(found), Err)
}

fn remove_variant(family: IpFamily, variant: Variant, localhost: bool) -> Result<bool, SyncError> {
    match Programs::find(family, variant) {
        Some(programs) => cleanup_if_used(&programs, localhost),
        None if variant == Variant::Legacy && Programs::has_legacy_table(family, "nat") => {
            Err(SyncError::Refused(format!(
                "this node has an iptables-legacy table nat of {family}, but no iptables-legacy to look into it with"
            )))
        }
        None => Ok(false),
    }
}

/// Removes the rules of one variant and family; whether there were any. Running it again finds nothing to do.
/// With `localhost`, somebody else keeps neighbours away from loopback addresses from now on.
pub(crate) fn cleanup(kernel: &(impl Kernel + ?Sized), localhost: bool) -> Result<bool, SyncError> {
    let mut batch = Batch::default();
    let mut failure = None;
    for table in Table::ALL {
        let existing = Existing::read(kernel, table.name())?;
        let referenced = existing.referenced();
        let text = batch.table(table);
        for jump in &existing.references {
            // The kubelet's chain and the ways there stay.
            if jump.is_jump_of_ours() && jump.to.as_str() != SHARED_FIREWALL {
                text.command(&format!("-D {}", jump.rule));
            }
        }
        // As long as loopback addresses are routed, the rule is all that keeps neighbours away from them.
        if !existing.anti_martian.is_empty() && !localhost {
            failure = kernel.unroute_localnet().err();
        }
        for rule in existing.anti_martian.iter().filter(|_| failure.is_none()) {
            text.command(&format!("-D {rule}"));
        }
        let (kept, deleted): (Vec<_>, Vec<_>) =
            existing.chains.iter().copied().partition(|chain| referenced.contains(chain));
        for chain in kept {
            text.declare(chain);
        }
        text.delete(deleted);
    }
    let mangle = Existing::read(kernel, MANGLE).unwrap_or_else(|error| {
        // A kernel need not have it.
        tracing::warn!("table {MANGLE} is left as it is: {error}");
        Existing::default()
    });
    if !mangle.chains.is_empty() && mangle.references.is_empty() {
        batch.mangle_canary = Some(Canary::Delete);
    }
    let found = !batch.is_empty();
    if found {
        kernel.restore(&batch).map_err(|failure| failure.error)?;
    }
    failure.map_or(Ok(found), Err)
}

/// Removes the chains of this mode but those that another mode shares, and the ways to what is removed.
pub(crate) fn remove_but(
    kernel: &(impl Kernel + ?Sized),
    kept: &[(&str, &str)],
) -> Result<(), SyncError> {
    let mut batch = Batch::default();
    for table in Table::ALL {
        let existing = Existing::read(kernel, table.name())?;
        let referenced = existing.referenced();
        let is_kept = |chain: &str| kept.contains(&(table.name(), chain));
        let text = batch.table(table);
        for jump in &existing.references {
            let to = jump.to.as_str();
            if jump.is_jump_of_ours() && to != SHARED_FIREWALL && !is_kept(to) {
                text.command(&format!("-D {}", jump.rule));
            }
        }
        let stale = existing.chains.iter().copied().filter(|chain| !is_kept(chain.as_str()));
        text.delete(stale.filter(|chain| !referenced.contains(chain)).collect());
    }
    if batch.is_empty() { Ok(()) } else { kernel.restore(&batch).map_err(|failure| failure.error) }
}

/// The same for a variant that may never have been used here: tables that do not exist are not made to exist by looking at them.
pub(crate) fn cleanup_if_used(programs: &Programs, localhost: bool) -> Result<bool, SyncError> {
    let tables = ["nat", "filter", MANGLE];
    if tables.iter().all(|table| programs.is_unused(table)) {
        return Ok(false);
    }
    cleanup(programs, localhost)
}
