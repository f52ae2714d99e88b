//! Removing what this mode writes.

use kube_proxy_core::{IpFamily, SyncError};
use kube_proxy_xtables::{Programs, Variant};

use crate::actual::Actual;
use crate::rules::Chain;
use crate::table::{Batch, TABLES};

/// Removes the rules of the userspace mode in one family, ours or those of an old kube-proxy, whichever iptables wrote them.
/// Whether there was anything. Running it again finds nothing to do.
///
/// # Errors
/// When a program fails. What other tables and the other variant have is removed all the same.
pub fn remove(family: IpFamily) -> Result<bool, SyncError> {
    let mut found = false;
    let mut failures = Vec::new();
    for variant in [Variant::Legacy, Variant::Nft] {
        let programs = Programs::find(family, variant);
        match programs.map_or(Ok(false), |programs| remove_from(&programs)) {
            Ok(any) => found |= any,
            Err(error) => failures.push(error),
        }
    }
    SyncError::of_parts(failures).map_or(Ok(found), Err)
}

fn remove_from(programs: &Programs) -> Result<bool, SyncError> {
    let mut found = false;
    let mut failures = Vec::new();
    // Looking at a legacy table would create it.
    let may_hold =
        |table: &&str| programs.may_have_chain(table, |chain| Chain::named(table, chain).is_some());
    for table in TABLES.into_iter().filter(may_hold) {
        match remove_from_table(programs, table) {
            Ok(any) => found |= any,
            Err(error) => failures.push(error),
        }
    }
    SyncError::of_parts(failures).map_or(Ok(found), Err)
}

fn remove_from_table(programs: &Programs, table: &str) -> Result<bool, SyncError> {
    let mut batch = Batch::default();
    batch.remove_all(&Actual::read(programs, table)?);
    if batch.is_empty() {
        return Ok(false);
    }
    programs.restore_text(&batch.pieces()).map_err(|failure| failure.error)?;
    Ok(true)
}
