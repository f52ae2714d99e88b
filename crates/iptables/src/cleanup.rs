//! Removing everything that this mode ever writes, of this or any other kube-proxy.

use kube_proxy_core::SyncError;

use crate::existing::Existing;
use crate::layout::{MANGLE, SHARED_FIREWALL, Table};
use crate::programs::{Kernel, Programs};
use crate::restore::{Batch, Canary};

/// Removes the rules of one variant and family. Running it again finds nothing to do.
pub(crate) fn cleanup(kernel: &(impl Kernel + ?Sized)) -> Result<(), SyncError> {
    let mut batch = Batch::default();
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
        for rule in &existing.anti_martian {
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
    if batch.is_empty() {
        return Ok(());
    }
    kernel.restore(&batch).map_err(|failure| failure.error)
}

/// The same for a variant that may never have been used here: tables that do not exist are not made to exist by looking at them.
pub(crate) fn cleanup_if_used(programs: &Programs) -> Result<(), SyncError> {
    let tables = ["nat", "filter", MANGLE];
    if tables.iter().all(|table| programs.is_unused(table)) {
        return Ok(());
    }
    cleanup(programs)
}
