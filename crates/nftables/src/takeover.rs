//! Sessions of a table in another layout, to go on after the table is replaced: of an earlier one of ours, of one that somebody
//! damaged so that it counts as another, and of the Go kube-proxy's.
//!
//! In the last, each endpoint with session affinity has a set of clients, named
//! `affinity-<hash>-<namespace>/<service>/<protocol>/<port name>__<address>/<port>`, with dots for the colons of IPv6.

use std::net::{IpAddr, SocketAddr};

use kube_proxy_core::{IpFamily, ServicePortName};
use kube_proxy_netlink::Error;
use kube_proxy_netlink::nf_tables::NfTables;
use rustc_hash::FxHashMap;

use crate::affinity::read_session;
use crate::chain::Endpoints;
use crate::element::{Frontend, Key, SetId, read_ip};
use crate::layout::{TABLE, set_name};
use crate::state::State;

/// A client of the old table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct OldSession {
    service: Of,
    endpoint: SocketAddr,
    client: IpAddr,
    /// In how many milliseconds the session ends.
    expiration: u64,
}

/// How the old table names a service port.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Of {
    /// `namespace/service/protocol/port name`.
    Name(String),
    /// One of its frontends.
    Frontend(Frontend),
}

/// A session as it is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Session {
    /// Client, and what the sessions of the service port are known by.
    pub(crate) key: Key,
    /// Among which endpoints.
    pub(crate) list: Endpoints,
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
        let ours = SetId::ALL.iter().any(|id| id.holds_sessions() && set_name(*id) == set.name);
        let theirs = parse(&set.name, family);
        if !ours && theirs.is_none() {
            continue;
        }
        // What is missing from a list that is not whole is spread anew.
        let _ = netlink.elements(TABLE, &set.name, |element| {
            let Some(expiration) = element.expiration else { return };
            if let Some((service, endpoint)) = theirs {
                if let Some((client, [])) = read_ip(element.key, family) {
                    let service = Of::Name(service.to_owned());
                    sessions.push(OldSession { service, endpoint, client, expiration });
                }
            } else if let Some((client, frontend, endpoint)) = read_session(element, family) {
                let service = Of::Frontend(frontend);
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

/// The sessions that can go on: those of service ports that still have the endpoint.
/// Of two for the same client the one that lasts longer counts.
pub(crate) fn carry_over(old: &[OldSession], state: &State) -> Vec<Session> {
    let plans: FxHashMap<String, _> =
        state.plans().map(|(name, plan)| (old_name(name), plan)).collect();
    let mut sessions: FxHashMap<(Key, Endpoints), Session> = FxHashMap::default();
    for session in old {
        let plan = match &session.service {
            Of::Name(name) => plans.get(name).copied(),
            Of::Frontend(frontend) => state.session_owner(frontend),
        };
        let Some((plan, affinity)) = plan.and_then(|plan| Some((plan, plan.affinity()?))) else {
            continue;
        };
        let timeout = u64::from(affinity.timeout) * 1000;
        let key = Key::new().ip(session.client).then(affinity.sessions.frontend().key());
        let expiration = session.expiration.min(timeout);
        for list in Endpoints::ALL {
            if !plan.has_endpoint(list, session.endpoint) {
                continue;
            }
            let new = Session { key, list, endpoint: session.endpoint, timeout, expiration };
            let known = sessions.entry((key, list)).or_insert(new);
            if known.expiration < new.expiration {
                *known = new;
            }
        }
    }
    let mut sessions: Vec<_> = sessions.into_values().collect();
    sessions.sort_unstable_by_key(|session| (session.key, session.list));
    sessions
}

fn old_name(name: &ServicePortName) -> String {
    let ServicePortName { service, port, protocol } = name;
    format!("{}/{}/{}/{port}", service.namespace, service.name, protocol.lower())
}

#[cfg(test)]
mod tests;
