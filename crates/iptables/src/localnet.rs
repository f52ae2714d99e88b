//! `route_localnet`: whether the kernel routes packets to and from loopback addresses, which NodePorts on them need.

use std::fs::{self, OpenOptions};
use std::io;

use kube_proxy_core::SyncError;

/// The setting, in the network namespace of the thread that opens it.
const PATH: &str = "/proc/sys/net/ipv4/conf/all/route_localnet";

/// Whether it can be turned on, without doing so.
pub(crate) fn check() -> Result<(), SyncError> {
    if is_on() {
        return Ok(());
    }
    OpenOptions::new().write(true).open(PATH).map(drop).map_err(failure)
}

/// Turns it on, unless it is on already.
///
/// Only once the rule is there that keeps neighbours away from what listens on loopback (CVE-2020-8558).
pub(crate) fn enable() -> Result<(), SyncError> {
    if is_on() {
        return Ok(());
    }
    tracing::info!("setting net.ipv4.conf.all.route_localnet for NodePorts on localhost");
    fs::write(PATH, "1").map_err(failure)
}

/// Turns it off, unless it is off already.
pub(crate) fn disable() -> Result<(), SyncError> {
    if !is_on() {
        return Ok(());
    }
    tracing::info!("clearing net.ipv4.conf.all.route_localnet: NodePorts on localhost are gone");
    fs::write(PATH, "0").map_err(|source| SyncError::Io {
        what: format!(
            "writing 0 to {PATH}; the rule that keeps neighbours away from loopback stays"
        ),
        source,
    })
}

fn is_on() -> bool {
    fs::read_to_string(PATH).is_ok_and(|value| value.trim() == "1")
}

fn failure(source: io::Error) -> SyncError {
    SyncError::Io {
        what: format!("writing 1 to {PATH}, which NodePorts on localhost need"),
        source,
    }
}
