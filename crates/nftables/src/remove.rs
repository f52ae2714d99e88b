//! Removing the table, of any origin: the Go kube-proxy's has the same name.

use kube_proxy_core::{IpFamily, SyncError};
use kube_proxy_netlink::nf_tables::{NfTables, Transaction};
use kube_proxy_netlink::{Error, Family};

use crate::config::netlink_family;
use crate::error::{sync_error, too_long};
use crate::layout::TABLE;

/// Removes the table `kube-proxy` of one family; whether there was one. No backend is needed for it, and nothing is tried out.
///
/// # Errors
/// [`SyncError::Unsupported`] where the kernel has no `nf_tables`, and so no table; else what the kernel said.
pub fn remove(family: IpFamily) -> Result<bool, SyncError> {
    let family = netlink_family(family);
    let mut netlink = NfTables::open(family).map_err(|error| sync_error(&error))?;
    remove_table(&mut netlink, family).map_err(|error| sync_error(&error))
}

pub(crate) fn remove_table(netlink: &mut NfTables, family: Family) -> Result<bool, Error> {
    if netlink.table(TABLE)?.is_none() {
        return Ok(false);
    }
    let mut transaction = Transaction::new(family, TABLE);
    // Made first, so that it is no error if it vanishes in between.
    transaction.add_table(&[]).and_then(|()| transaction.delete_table()).map_err(too_long)?;
    netlink.commit(&mut transaction)?;
    Ok(true)
}
