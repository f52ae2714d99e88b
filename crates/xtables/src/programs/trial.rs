//! Whether the kernel takes tables of iptables-nft.
//!
//! A kernel may have the core of `nf_tables` without the part for a family. It then lists nothing, as if there were no rules yet, so that
//! iptables-nft answers every question well; and it refuses each table.

use kube_proxy_core::{IpFamily, SyncError};
use kube_proxy_netlink::Error;
use kube_proxy_netlink::nf_tables::NfTables;
use kube_proxy_netlink::nf_tables::{ChainType, Hook, HookPoint, Transaction};

use super::unlisted::protocol;

/// Exists within one transaction only.
const TABLE: &str = "kube-proxy-probe";
/// Where iptables translates destinations.
const HOOK: Hook = Hook { kind: ChainType::Nat, point: HookPoint::Prerouting, priority: -100 };

/// Has the kernel make a table with a chain for NAT and delete it, in one transaction.
pub(super) fn table(family: IpFamily) -> Result<(), SyncError> {
    match make(family) {
        // Others are writing, so it can be written to.
        Err(error) if error.is_stale() || error.is_busy() => Ok(()),
        Err(error) => {
            Err(SyncError::Refused(format!("the kernel has no nf_tables for {family}: {error}")))
        }
        Ok(()) => Ok(()),
    }
}

fn make(family: IpFamily) -> Result<(), Error> {
    let mut transaction = Transaction::new(protocol(family), TABLE);
    let filled = transaction
        .add_table(&[])
        .and_then(|()| transaction.add_chain("nat", Some(HOOK), ""))
        .and_then(|()| transaction.delete_table());
    filled.map_err(|too_long| Error::TooLong { object: format!("table {TABLE}"), too_long })?;
    NfTables::open(protocol(family))?.commit(&mut transaction)
}
