//! `route_localnet`: whether the kernel routes packets to and from loopback addresses, which NodePorts on them need.

use std::fs;

use kube_proxy_core::SyncError;

/// The setting, in the network namespace of the thread that opens it.
const PATH: &str = "/proc/sys/net/ipv4/conf/all/route_localnet";

/// Turns it on, unless it is on already.
pub(crate) fn enable() -> Result<(), SyncError> {
    if fs::read_to_string(PATH).is_ok_and(|value| value.trim() == "1") {
        return Ok(());
    }
    tracing::info!("setting net.ipv4.conf.all.route_localnet for NodePorts on localhost");
    fs::write(PATH, "1").map_err(|source| SyncError::Io {
        what: format!("writing 1 to {PATH}, which NodePorts on localhost need"),
        source,
    })
}
