//! What the mode needs of the kernel besides objects.

use std::fs;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;

use kube_proxy_core::IpFamily;
use kube_proxy_netlink::ipvs::{Change, Server, ServerKey};

use crate::Config;

const NET: &str = "/proc/sys/net";

/// Kernels from 4.1 on and before this one reuse a connection's destination although its weight is 0, unless told otherwise.
const REUSE_FIXED: (u32, u32) = (5, 9);

/// Sets the sysctls that differ; what could not be set, in words.
pub(crate) fn apply(config: &Config) -> Vec<String> {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    set_all(&wanted(config.strict_arp, &release), Path::new(NET))
}

/// Path below `/proc/sys/net` and value.
fn wanted(strict_arp: bool, release: &str) -> Vec<(&'static str, &'static str)> {
    let mut wanted = vec![
        ("ipv4/vs/conntrack", "1"),
        ("ipv4/vs/expire_nodest_conn", "1"),
        ("ipv4/vs/expire_quiescent_template", "1"),
        ("ipv4/ip_forward", "1"),
    ];
    if version(release).is_some_and(|version| version >= (4, 1) && version < REUSE_FIXED) {
        wanted.push(("ipv4/vs/conn_reuse_mode", "0"));
    }
    if strict_arp {
        wanted.extend([("ipv4/conf/all/arp_ignore", "1"), ("ipv4/conf/all/arp_announce", "2")]);
    }
    wanted
}

/// `6.1.0-18-amd64` is 6.1.
fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.trim().split(|c: char| !c.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

fn set_all(wanted: &[(&str, &str)], directory: &Path) -> Vec<String> {
    let mut problems = Vec::new();
    for (name, value) in wanted {
        let path = directory.join(name);
        let known = match fs::read_to_string(&path) {
            Ok(known) => known,
            Err(error) => {
                problems.push(format!("cannot read {}: {error}", path.display()));
                continue;
            }
        };
        let known = known.trim();
        if known == *value {
            continue;
        }
        if let Err(error) = fs::write(&path, value) {
            problems.push(format!(
                "{} stays {known} instead of {value}, which ipvs mode needs: {error}; set it on the node, or let this program write to /proc/sys",
                path.display()
            ));
        }
    }
    problems
}

/// An address for documentation, so nothing is sent to it.
pub(crate) fn probe_key(family: IpFamily) -> ServerKey {
    let address = match family {
        IpFamily::V4 => SocketAddr::from((Ipv4Addr::new(198, 51, 100, 0), 20_000)),
        IpFamily::V6 => SocketAddr::from((Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1), 20_000)),
    };
    ServerKey::Frontend { protocol: 6, address }
}

/// A virtual server that exists only to learn whether there is such a scheduler.
pub(crate) fn probe_server(family: IpFamily, scheduler: &str) -> Change {
    let server = Server { scheduler: scheduler.to_owned(), flags: 0, timeout: 0 };
    Change::Add(probe_key(family), server)
}

#[cfg(test)]
mod tests;
