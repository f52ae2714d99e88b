//! What happens over the life of a proxy, a Service and an endpoint.

mod affinity;
mod cleanup;
mod endpoints;
pub(crate) mod node;
mod partial;
mod policy;
mod repair;
mod restart;
mod services;

pub(crate) use cleanup::run as remove_everything;

use crate::PerMode;

pub(crate) const TESTS: &[PerMode] = &[
    ("life/restart-after-sigterm", restart::after_sigterm),
    ("life/restart-after-sigkill", restart::after_sigkill),
    ("life/endpoint-added", endpoints::added),
    ("life/endpoint-removed", endpoints::removed),
    ("life/all-endpoints-replaced", endpoints::replaced),
    ("life/service-recreated", services::recreated),
    ("life/service-type-changed", services::type_changed),
    ("life/service-ports-changed", services::ports_changed),
    ("life/affinity-sticks", affinity::sticks),
    ("life/affinity-one-session-for-all-frontends", affinity::one_session),
    ("life/affinity-refreshed", affinity::refreshed),
    ("life/affinity-expires", affinity::expires),
    ("life/affinity-endpoint-removed", affinity::endpoint_removed),
    ("life/affinity-switched-off", affinity::switched_off),
    ("life/node-address-changes", node::address_changes),
];

/// Those that look at the table of nftables.
pub(crate) const NFTABLES_TESTS: &[PerMode] =
    &[("life/repairs-what-others-do-at-once", repair::noticed)];

/// Those that look at connections of IPVS.
pub(crate) const IPVS_TESTS: &[PerMode] = &[("life/affinity-expires", affinity::ipvs_sessions)];

/// Those that look at rules of iptables.
pub(crate) const IPTABLES_TESTS: &[PerMode] = &[
    ("life/stop-leaves-rules", restart::leaves_rules),
    ("life/killed-in-the-middle", restart::in_the_middle),
    ("life/repairs-flushed-rules", repair::flushed),
    ("life/forward-policy-drop", policy::forward_drop),
    ("life/input-policy-drop", policy::input_drop),
    ("life/invalid-packets", policy::invalid_packets),
    ("life/cleanup", cleanup::removes_ours_only),
    ("life/cleanup-other-variant", cleanup::removes_other_variant),
    ("life/partial-sync-costs-the-change", partial::costs_the_change),
];
