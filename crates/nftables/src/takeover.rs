//! Sessions of a table in the layout of the Go kube-proxy, to go on after the table is replaced.
//!
//! There, each endpoint with session affinity has a set of clients, named
//! `affinity-<hash>-<namespace>/<service>/<protocol>/<port name>__<address>/<port>`, with dots for the colons of IPv6.

use std::net::{IpAddr, SocketAddr};

use kube_proxy_core::{IpFamily, ServicePortName};
use kube_proxy_netlink::Error;
use kube_proxy_netlink::nf_tables::NfTables;
use rustc_hash::FxHashMap;

use crate::element::{Frontend, Key, read_ip};
use crate::layout::TABLE;
use crate::state::State;

/// A client of the old table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct OldSession {
    service: String,
    endpoint: SocketAddr,
    client: IpAddr,
    /// In how many milliseconds the session ends.
    expiration: u64,
}

/// A session as it is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Session {
    /// Client, service address, protocol and port.
    pub(crate) key: Key,
    /// Where it leads.
    pub(crate) endpoint: SocketAddr,
    /// How long it lasts without a new connection, in milliseconds.
    pub(crate) timeout: u64,
    /// In how many milliseconds it ends as things are.
    pub(crate) expiration: u64,
}

/// The sessions that the old table remembers. Sets with names of any other form hold none.
pub(crate) fn read(netlink: &mut NfTables, family: IpFamily) -> Result<Vec<OldSession>, Error> {
    let mut sessions = Vec::new();
    for set in netlink.sets(TABLE)? {
        let Some((service, endpoint)) = parse(&set.name, family) else { continue };
        // What is missing from a list that is not whole is spread anew.
        let _ = netlink.elements(TABLE, &set.name, |element| {
            if let Some((client, [])) = read_ip(element.key, family)
                && let Some(expiration) = element.expiration
            {
                let service = service.to_owned();
                sessions.push(OldSession { service, endpoint, client, expiration });
            }
        })?;
    }
    Ok(sessions)
}

/// The service port and the endpoint that the name of a set is about.
fn parse(name: &str, family: IpFamily) -> Option<(&str, SocketAddr)> {
    const HASH: usize = 8;
    let rest = name.strip_prefix("affinity-")?;
    let rest = rest.get(HASH..)?.strip_prefix('-')?;
    let (service, endpoint) = rest.split_once("__")?;
    let (ip, port) = endpoint.rsplit_once('/')?;
    let ip: IpAddr = match family {
        IpFamily::V4 => ip.parse().ok()?,
        IpFamily::V6 => ip.replace('.', ":").parse().ok()?,
    };
    Some((service, SocketAddr::new(ip, port.parse().ok()?)))
}

/// The sessions that can go on: those of service ports that still have the endpoint, on all of their frontends.
/// Of two for the same client the one that lasts longer counts.
pub(crate) fn carry_over(
    old: &[OldSession],
    state: &State,
    node_ip: Option<IpAddr>,
) -> Vec<Session> {
    let plans: FxHashMap<String, _> =
        state.plans().map(|(name, plan)| (old_name(name), plan)).collect();
    let mut sessions: FxHashMap<Key, Session> = FxHashMap::default();
    for session in old {
        let Some(plan) = plans.get(&session.service) else { continue };
        let Some(seconds) = plan.affinity() else { continue };
        if !plan.has_endpoint(session.endpoint) {
            continue;
        }
        let timeout = u64::from(seconds) * 1000;
        for (frontend, _) in &plan.frontends {
            let Some(address) = address_of(*frontend, node_ip) else { continue };
            let new = Session {
                key: Key::new().ip(session.client).then(address.key()),
                endpoint: session.endpoint,
                timeout,
                expiration: session.expiration.min(timeout),
            };
            let known = sessions.entry(new.key).or_insert(new);
            if known.expiration < new.expiration {
                *known = new;
            }
        }
    }
    let mut sessions: Vec<_> = sessions.into_values().collect();
    sessions.sort_unstable_by_key(|session| session.key);
    sessions
}

fn old_name(name: &ServicePortName) -> String {
    let ServicePortName { service, port, protocol } = name;
    format!("{}/{}/{}/{port}", service.namespace, service.name, protocol.lower())
}

/// The address that clients use; of a node port the node's primary one.
fn address_of(frontend: Frontend, node_ip: Option<IpAddr>) -> Option<Frontend> {
    match frontend {
        Frontend::Address(..) => Some(frontend),
        Frontend::NodePort(protocol, port) => Some(Frontend::Address(node_ip?, protocol, port)),
    }
}

#[cfg(test)]
mod tests;
