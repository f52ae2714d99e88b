//! Sessions: clients that stay with their endpoint. Rules remember them; here they end when the endpoint goes.

use std::net::SocketAddr;

use kube_proxy_core::IpFamily;
use kube_proxy_netlink::Error;
use kube_proxy_netlink::nf_tables::{Data, Element, NfTables};

use crate::chain::KeyKind;
use crate::element::{Frontend, Key, SetId};
use crate::elements::read_endpoint;
use crate::layout::{TABLE, set_name};
use crate::state::{EndedSessions, State, session_frontends};

/// The sessions on the node that must not go on.
pub(crate) fn ended(
    netlink: &mut NfTables,
    family: IpFamily,
    state: &State,
    sessions: &EndedSessions,
) -> Result<Vec<Key>, Error> {
    let mut ended = Vec::new();
    // A list that is not whole is no harm: what is missing came in after the rules had changed.
    let _ = netlink.elements(TABLE, set_name(SetId::Affinity), |element| {
        if !may_go_on(element, family, state, sessions) {
            ended.extend(Key::read(element.key, false));
        }
    })?;
    ended.sort_unstable();
    ended.dedup();
    Ok(ended)
}

fn may_go_on(
    element: &Element<'_>,
    family: IpFamily,
    state: &State,
    sessions: &EndedSessions,
) -> bool {
    // The first address of the key is the client's.
    let rest = element.key.get(usize::from(family.bits() / 8)..).unwrap_or_default();
    let (Some(frontend), Some(endpoint)) =
        (Frontend::read(KeyKind::Address, rest, family), endpoint(element, family))
    else {
        return false;
    };
    let (address, node_port) = session_frontends(frontend);
    if sessions.reset.contains(&address) || sessions.reset.contains(&node_port) {
        return false;
    }
    state.session_owner(&address, &node_port).is_some_and(|plan| plan.has_endpoint(endpoint))
}

fn endpoint(element: &Element<'_>, family: IpFamily) -> Option<SocketAddr> {
    match &element.data {
        Some(Data::Value(bytes)) => read_endpoint(bytes, family),
        _ => None,
    }
}
