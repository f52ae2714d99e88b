//! What checks of tracked flows have in common.

use std::collections::HashSet;
use std::net::IpAddr;

use kube_proxy_core::IpFamily;
use kube_proxy_netlink::route::Route;
use kube_proxy_netlink::{Error, Family};

/// What became of a check.
#[derive(Clone, Copy, Debug)]
pub struct Checked {
    /// How many flows were deleted.
    pub deleted: u64,
    /// Every flow was seen, and every one that had to go is gone. If not, the check has to be made again.
    pub complete: bool,
}

/// The family as the kernel's interfaces have it.
pub(super) fn netlink(family: IpFamily) -> Family {
    match family {
        IpFamily::V4 => Family::V4,
        IpFamily::V6 => Family::V6,
    }
}

/// All addresses of this node.
pub(super) fn node_addresses() -> Result<HashSet<IpAddr>, Error> {
    let (addresses, _) = Route::open()?.addresses()?;
    Ok(addresses.into_iter().map(|address| address.address).collect())
}
