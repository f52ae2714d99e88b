//! UDP frontends that a table holds and no service port has: their flows would outlive them.

use kube_proxy_core::{Frontend, IpFamily, Protocol, SyncError};
use kube_proxy_netlink::Error;
use kube_proxy_netlink::nf_tables::NfTables;

use crate::config::netlink_family;
use crate::diff::Diff;
use crate::element::SetId;
use crate::error::sync_error;
use crate::key::{KeyKind, Keyed as _};
use crate::layout::{TABLE, set_name};

/// The maps and sets in which every frontend with traffic has an element.
const FRONTENDS: [(SetId, KeyKind); 4] = [
    (SetId::FrontendIps, KeyKind::Address),
    (SetId::FrontendNodeports, KeyKind::NodePort),
    (SetId::UnservedIps, KeyKind::Address),
    (SetId::UnservedNodeports, KeyKind::NodePort),
];

/// What the Go kube-proxy and layouts of ours before 5 call them. Their keys are the same.
const THEIRS: [&str; 4] =
    ["service-ips", "service-nodeports", "no-endpoint-services", "no-endpoint-nodeports"];

/// The UDP frontends that a full sync deletes elements of.
pub(crate) fn of_difference(diff: &Diff, family: IpFamily) -> Vec<Frontend> {
    let keys = FRONTENDS.iter().flat_map(|(set, kind)| {
        diff.deleted.of(*set).iter().map(move |item| (*kind, item.key.as_bytes()))
    });
    keys.filter_map(|(kind, key)| udp(kind, key, family)).collect()
}

/// The UDP frontends of the table, of any origin.
pub(crate) fn of_table(netlink: &mut NfTables, family: IpFamily) -> Result<Vec<Frontend>, Error> {
    let mut found = Vec::new();
    for set in netlink.sets(TABLE)? {
        let is = |name: &str| name == set.name;
        let kind = FRONTENDS
            .iter()
            .zip(THEIRS)
            .find(|((ours, _), theirs)| is(set_name(*ours)) || is(theirs));
        let Some(((_, kind), _)) = kind else { continue };
        let _ = netlink.elements(TABLE, &set.name, |element| {
            found.extend(udp(*kind, element.key, family));
        })?;
    }
    Ok(found)
}

/// The UDP frontends of the table of one family; none where there is no table.
///
/// # Errors
/// What could not be read.
pub fn udp_frontends(family: IpFamily) -> Result<Vec<Frontend>, SyncError> {
    let mut netlink = NfTables::open(netlink_family(family)).map_err(|error| sync_error(&error))?;
    let table = netlink.table(TABLE).map_err(|error| sync_error(&error))?;
    if table.is_none() {
        return Ok(Vec::new());
    }
    of_table(&mut netlink, family).map_err(|error| sync_error(&error))
}

fn udp(kind: KeyKind, key: &[u8], family: IpFamily) -> Option<Frontend> {
    Frontend::read(kind, key, family).filter(|frontend| frontend.protocol() == Protocol::Udp)
}
