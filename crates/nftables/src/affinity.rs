//! Sessions: clients that stay with their endpoint. Rules remember them; here they end when the endpoint goes.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use kube_proxy_core::{IpFamily, Session, SessionKey, TrafficPolicy};
use kube_proxy_netlink::Error;
use kube_proxy_netlink::nf_tables::{Data, Element, NfTables};
use rustc_hash::FxHashMap;

use crate::element::SetId;
use crate::elements::read_endpoint;
use crate::key::{Key, read_ip};
use crate::layout::{TABLE, set_name};
use crate::plan::Plan;
use crate::state::State;

/// The sessions on the node that must not continue.
pub(crate) fn ended(
    netlink: &mut NfTables,
    family: IpFamily,
    state: &State,
) -> Result<Vec<(SetId, Key)>, Error> {
    let mut ended = Vec::new();
    let owners = state.session_owners();
    for endpoints in TrafficPolicy::ALL {
        let set = SetId::sessions(endpoints);
        // A list that is not whole is no harm: what is missing came in after the rules had changed.
        let _ = netlink.elements(TABLE, set_name(set), |element| {
            if !may_go_on(element, family, &owners, endpoints) {
                ended.extend(Key::read(element.key, false).map(|key| (set, key)));
            }
        })?;
    }
    ended.sort_unstable();
    ended.dedup();
    Ok(ended)
}

/// The session of one client, which the kernel finds by its key.
pub(crate) fn session(
    netlink: &mut NfTables,
    family: IpFamily,
    state: &State,
    key: &SessionKey,
) -> Result<Option<Session>, Error> {
    let affinity = state.plan(&key.service).and_then(Plan::affinity);
    let Some(affinity) = affinity else { return Ok(None) };
    let element = Key::new().ip(key.client).then(affinity.sessions.key());
    let set = set_name(SetId::sessions(key.policy));
    let mut session = None;
    let read = netlink.elements_with_keys(TABLE, set, [element.as_bytes()], |element| {
        if let Some((_, _, endpoint)) = read_session(element, family) {
            let remaining = Duration::from_millis(element.expiration.unwrap_or_default());
            session = Some(Session { endpoint, remaining });
        }
    });
    match read {
        Err(error) if !error.is_not_found() => Err(error),
        _ => Ok(session),
    }
}

fn may_go_on(
    element: &Element<'_>,
    family: IpFamily,
    owners: &FxHashMap<Key, &Plan>,
    endpoints: TrafficPolicy,
) -> bool {
    let Some((_, sessions, endpoint)) = read_session(element, family) else { return false };
    owners.get(&sessions).is_some_and(|plan| plan.has_endpoint(endpoints, endpoint))
}

/// Client, what the session is known by ([`Sessions::key`](crate::chain::Sessions::key)), and the endpoint.
pub(crate) fn read_session(
    element: &Element<'_>,
    family: IpFamily,
) -> Option<(IpAddr, Key, SocketAddr)> {
    let (client, rest) = read_ip(element.key, family)?;
    let sessions = Key::read(rest, false)?;
    let endpoint = match &element.data {
        Some(Data::Value(bytes)) => read_endpoint(bytes, family)?,
        _ => return None,
    };
    Some((client, sessions, endpoint))
}
