use figment::value::{Dict, Value};

use super::{ZERO_MEANS_UNSET, drop_unset, is_zero};
use crate::types::KubeProxyConfiguration;

/// The paths of all values, and whether each is zero.
fn leaves(value: &Value, path: &str, found: &mut Vec<(String, bool)>) {
    match value {
        Value::Dict(_, dict) => {
            for (key, value) in dict {
                let dot = if path.is_empty() { "" } else { "." };
                leaves(value, &format!("{path}{dot}{key}"), found);
            }
        }
        other => found.push((path.to_owned(), is_zero(other))),
    }
}

#[test]
fn zero_means_unset_for_every_plain_field_with_a_default() {
    // Booleans with a default, and these, tell zero from unset.
    let told_apart = [
        "apiVersion",
        "kind",
        "conntrack.maxPerCore",
        "conntrack.min",
        "conntrack.tcpCloseWaitTimeout",
        "conntrack.tcpEstablishedTimeout",
        "iptables.masqueradeBit",
        "nftables.masqueradeBit",
        "oomScoreAdj",
        "iptables.localhostNodePorts",
    ];
    let mut found = Vec::new();
    let defaults = Value::serialize(KubeProxyConfiguration::default()).unwrap();
    leaves(&defaults, "", &mut found);
    let with_default: Vec<_> = found
        .iter()
        .filter(|(path, zero)| !zero && !told_apart.contains(&path.as_str()))
        .filter(|(path, _)| {
            let value = defaults.find_ref(path).unwrap();
            value.to_bool().is_none() && value.as_array().is_none()
        })
        .map(|(path, _)| path.as_str())
        .collect();
    // The quantities have the default 0, which is no duration and no number.
    let quantities = ["logging.options.json.infoBufferSize", "logging.options.text.infoBufferSize"];
    let with_default: Vec<_> =
        with_default.into_iter().filter(|path| !quantities.contains(path)).collect();
    assert_eq!(with_default, ZERO_MEANS_UNSET);
}

#[test]
fn only_zero_values_are_dropped() {
    let json = serde_json::json!({
        "mode": "", "bindAddress": "::", "clusterCIDR": "",
        "iptables": {"syncPeriod": "0s", "minSyncPeriod": "2s", "masqueradeBit": 0},
        "clientConnection": {"qps": 0.0, "burst": 0},
        "logging": {"flushFrequency": 0},
        "nftables": 3,
    });
    let mut dict: Dict = Value::serialize(&json).unwrap().into_dict().unwrap();
    drop_unset(&mut dict);
    assert_eq!(
        serde_json::to_value(&dict).unwrap(),
        serde_json::json!({
            "bindAddress": "::", "clusterCIDR": "",
            "iptables": {"minSyncPeriod": "2s", "masqueradeBit": 0},
            "clientConnection": {}, "logging": {}, "nftables": 3,
        })
    );
}
