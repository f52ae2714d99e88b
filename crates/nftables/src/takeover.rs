//! Sessions of a table in another layout, to continue after the table is replaced: of an earlier one of ours, of one that another program
//! damaged so that it counts as another, and of the Go kube-proxy's.
//!
//! In the last, each endpoint with session affinity has a set of clients, named
//! `affinity-<hash>-<namespace>/<service>/<protocol>/<port name>__<address>/<port>`, with dots for the colons of IPv6.

use std::net::{IpAddr, SocketAddr};

use kube_proxy_core::{Frontend, IpFamily, ServicePortName, TrafficPolicy};
use kube_proxy_netlink::Error;
use kube_proxy_netlink::nf_tables::{Element, NfTables};
use rustc_hash::FxHashMap;

use crate::affinity::read_session;
use crate::chain::Sessions;
use crate::element::SetId;
use crate::key::{Key, KeyKind, Keyed as _, read_ip};
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
    /// What its sessions are known by.
    Sessions(Key),
}

/// A session as it is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Session {
    /// Client, and what the sessions of the service port are known by.
    pub(crate) key: Key,
    /// Among which endpoints.
    pub(crate) list: TrafficPolicy,
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
        let Some(kind) = SessionSet::of(&set.name, family) else { continue };
        // What is missing from a list that is not whole is spread again.
        let _ =
            netlink.elements(TABLE, &set.name, |element| {
                let session = element.expiration.zip(kind.read(element, family));
                sessions.extend(session.map(|(expiration, (client, service, endpoint))| {
                    OldSession { service, endpoint, client, expiration }
                }));
            })?;
    }
    Ok(sessions)
}

/// A set of sessions.
#[derive(Clone, Copy)]
enum SessionSet<'a> {
    /// One of this layout.
    Ours,
    /// One of ours until layout 2: the cluster IP is an address in the key.
    Layout2,
    /// The Go kube-proxy's, for one endpoint of one service port.
    OfEndpoint(&'a str, SocketAddr),
}

impl<'a> SessionSet<'a> {
    fn of(name: &'a str, family: IpFamily) -> Option<Self> {
        if SetId::ALL.iter().any(|id| id.holds_sessions() && set_name(*id) == name) {
            return Some(Self::Ours);
        }
        if ["affinity", "affinity-local"].contains(&name) {
            return Some(Self::Layout2);
        }
        parse(name, family).map(|(service, endpoint)| Self::OfEndpoint(service, endpoint))
    }

    fn read(self, element: &Element<'_>, family: IpFamily) -> Option<(IpAddr, Of, SocketAddr)> {
        if let Self::OfEndpoint(service, endpoint) = self {
            let (client, []) = read_ip(element.key, family)? else { return None };
            return Some((client, Of::Name(service.to_owned()), endpoint));
        }
        let (client, mut key, endpoint) = read_session(element, family)?;
        if let Self::Layout2 = self {
            let frontend = Frontend::read(KeyKind::Address, key.as_bytes(), family)?;
            let Frontend::Address(protocol, to) = frontend else { return None };
            key = Sessions { ip: to.ip(), protocol, port: to.port() }.key();
        }
        Some((client, Of::Sessions(key), endpoint))
    }
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

/// The sessions that can continue: those of service ports that still have the endpoint.
/// Of two for the same client the one that lasts longer counts.
pub(crate) fn carry_over(old: &[OldSession], state: &State) -> Vec<Session> {
    let plans: FxHashMap<String, _> =
        state.plans().map(|(name, plan)| (old_name(name), plan)).collect();
    let owners = state.session_owners();
    let mut sessions: FxHashMap<(Key, TrafficPolicy), Session> = FxHashMap::default();
    for session in old {
        let plan = match &session.service {
            Of::Name(name) => plans.get(name).copied(),
            Of::Sessions(key) => owners.get(key).copied(),
        };
        let Some((plan, affinity)) = plan.and_then(|plan| Some((plan, plan.affinity()?))) else {
            continue;
        };
        let timeout = u64::from(affinity.timeout) * 1000;
        let key = Key::new().ip(session.client).then(affinity.sessions.key());
        let expiration = session.expiration.min(timeout);
        for list in TrafficPolicy::ALL {
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
