//! Removing what this mode writes.

use kube_proxy_core::{IpFamily, SyncError};
use kube_proxy_iptables::Variant;
use kube_proxy_iptables::programs::Programs;

use crate::existing::Existing;
use crate::table::{Batch, TABLES};

/// Removes the rules of the userspace mode in one family, ours or those of an old kube-proxy, whichever iptables wrote them.
/// Whether there was anything. Running it again finds nothing to do.
///
/// # Errors
/// When a program fails. What the other variant has is removed all the same.
pub fn remove(family: IpFamily) -> Result<bool, SyncError> {
    let mut found = false;
    let mut failure = None;
    for variant in [Variant::Legacy, Variant::Nft] {
        // Looking at a legacy table would create it.
        let used = Programs::find(family, variant)
            .filter(|programs| TABLES.iter().any(|table| !programs.is_unused(table)));
        match used.map_or(Ok(false), |programs| remove_from(&programs)) {
            Ok(any) => found |= any,
            Err(error) => failure = Some(error),
        }
    }
    failure.map_or(Ok(found), Err)
}

fn remove_from(programs: &Programs) -> Result<bool, SyncError> {
    let existing = [Existing::read(programs, TABLES[0])?, Existing::read(programs, TABLES[1])?];
    let mut batch = Batch::default();
    batch.remove_all(&existing);
    if batch.is_empty() {
        return Ok(false);
    }
    programs.restore_text(&batch.pieces()).map_err(|failure| failure.error)?;
    Ok(true)
}
