//! Sessions: clients that stay with their endpoint. Rules remember them; here they end when the endpoint goes.

use std::net::{IpAddr, SocketAddr};

use kube_proxy_core::IpFamily;
use kube_proxy_netlink::Error;
use kube_proxy_netlink::nf_tables::{Data, Element, NfTables};

use crate::chain::{Endpoints, KeyKind};
use crate::element::{Frontend, Key, SetId, read_ip};
use crate::elements::read_endpoint;
use crate::layout::{TABLE, set_name};
use crate::state::State;

/// The sessions on the node that must not go on.
pub(crate) fn ended(
    netlink: &mut NfTables,
    family: IpFamily,
    state: &State,
) -> Result<Vec<(SetId, Key)>, Error> {
    let mut ended = Vec::new();
    for endpoints in Endpoints::ALL {
        let set = SetId::sessions(endpoints);
        // A list that is not whole is no harm: what is missing came in after the rules had changed.
        let _ = netlink.elements(TABLE, set_name(set), |element| {
            if !may_go_on(element, family, state, endpoints) {
                ended.extend(Key::read(element.key, false).map(|key| (set, key)));
            }
        })?;
    }
    ended.sort_unstable();
    ended.dedup();
    Ok(ended)
}

fn may_go_on(element: &Element<'_>, family: IpFamily, state: &State, endpoints: Endpoints) -> bool {
    let Some((_, sessions, endpoint)) = read_session(element, family) else { return false };
    state.session_owner(&sessions).is_some_and(|plan| {
        let affinity = plan.affinity().map(|affinity| affinity.sessions.frontend());
        affinity == Some(sessions) && plan.has_endpoint(endpoints, endpoint)
    })
}

/// Client, what the session is known by, and the endpoint.
pub(crate) fn read_session(
    element: &Element<'_>,
    family: IpFamily,
) -> Option<(IpAddr, Frontend, SocketAddr)> {
    let (client, rest) = read_ip(element.key, family)?;
    let sessions = Frontend::read(KeyKind::Address, rest, family)?;
    let endpoint = match &element.data {
        Some(Data::Value(bytes)) => read_endpoint(bytes, family)?,
        _ => return None,
    };
    Some((client, sessions, endpoint))
}
