use super::{Steps, waiting_for};
use crate::node::watch::NodeStatus;
use crate::testing::flags;

fn waiting(more: &str, listed: [bool; 3]) -> String {
    let config = flags(&format!("--hostname-override=n1 {more}")).effective;
    let [node_listed, services_listed, slices_listed] = listed;
    let steps = Steps { node_listed, services_listed, slices_listed, families_started: false };
    waiting_for(&config, steps, &NodeStatus::default())
}

#[test]
fn the_first_thing_that_is_missing_is_named() {
    for (flags, listed, expected) in [
        ("", [false; 3], "waiting for the API server to list the Node, Services, EndpointSlices"),
        ("", [true, false, true], "waiting for the API server to list Services"),
        (
            "--manifests=/m",
            [true, false, false],
            "waiting for the manifests to list Services, EndpointSlices",
        ),
        (
            "--proxy-mode=nftables",
            [true; 3],
            "waiting for an address of Node \"n1\", which nodePortAddresses \"primary\" needs",
        ),
        (
            "--detect-local-mode=NodeCIDR",
            [true; 3],
            "waiting for spec.podCIDRs of Node \"n1\", which detectLocalMode NodeCIDR needs",
        ),
        ("", [true; 3], "waiting for the kernel and the programs of this node"),
    ] {
        assert_eq!(waiting(flags, listed), expected, "{flags}");
    }
}
