//! How many connections each service has had: what the kernel counts at the frontends.

use std::collections::BTreeMap;

use kube_proxy_core::{IpFamily, ServicePortName, Traffic};
use kube_proxy_netlink::Error;
use kube_proxy_netlink::nf_tables::NfTables;

use crate::chain::KeyKind;
use crate::element::{Frontend, SetId};
use crate::layout::{TABLE, set_name};
use crate::state::State;

/// Reads the counters of all frontends.
pub(crate) fn read(
    netlink: &mut NfTables,
    family: IpFamily,
    state: &State,
) -> Result<Vec<Traffic>, Error> {
    let mut frontends: BTreeMap<(SetId, Frontend), u64> = BTreeMap::new();
    for kind in KeyKind::ALL {
        for set in [SetId::dispatch(kind), SetId::short_circuit(kind)] {
            // An element may come twice when others change the ruleset; one that is missing is there next time.
            let _ = netlink.elements(TABLE, set_name(set), |element| {
                if let Some(frontend) = Frontend::read(kind, element.key, family) {
                    let count = element.counter.unwrap_or_default();
                    frontends.insert((set, frontend), count.packets);
                }
            })?;
        }
    }
    let mut services: BTreeMap<&ServicePortName, u64> = BTreeMap::new();
    for ((_, frontend), count) in frontends {
        if let Some(name) = state.owner(&frontend) {
            *services.entry(name).or_default() += count;
        }
    }
    let traffic = services.into_iter().map(|(service, connections)| Traffic {
        service: service.clone(),
        endpoint: None,
        connections,
        bytes: None,
    });
    Ok(traffic.collect())
}
