use std::sync::Arc;

use kube_proxy_core::Node;

use super::{NodeStatus, NodeWatch, unknown};
use crate::testing::flags;
use kube_proxy_config::Effective;

fn config(more: &str) -> Effective {
    flags(&format!("--hostname-override=n1 {more}")).effective
}

fn node(addresses: &[&str]) -> Arc<Node> {
    let addresses = addresses.iter().map(|ip| ip.parse().unwrap()).collect();
    Arc::new(Node { addresses, ..Node::default() })
}

fn news(node: Option<Arc<Node>>) -> NodeStatus {
    NodeStatus { node, listed: true }
}

#[test]
fn what_the_start_does_without_is_said() {
    let check = |flags: &str, node: Option<Arc<Node>>, timely, expected: Option<&str>| {
        let said = unknown(&config(flags), &news(node), timely);
        assert_eq!(said.as_deref(), expected, "{flags}");
    };
    let (manifests, primary) = ("--manifests=/m", "--manifests=/m --proxy-mode=nftables");
    check(manifests, Some(node(&["10.0.0.1"])), true, None);
    check(manifests, Some(node(&[])), true, None);
    check(manifests, None, true, Some("the manifests have no Node \"n1\": its zone is unknown"));
    check(
        primary,
        None,
        true,
        Some(
            "the manifests have no Node \"n1\": its zone is unknown, and no node ports until its address is known",
        ),
    );
    check(
        primary,
        Some(node(&[])),
        true,
        Some("the manifests have no address of Node \"n1\": no node ports until it is known"),
    );
    check(&format!("{primary} --bind-address=10.0.0.1"), Some(node(&[])), true, None);
    check("", Some(node(&["10.0.0.1"])), true, None);
    check("", None, true, Some("the API server has no Node \"n1\": its zone is unknown"));
    check(
        "--proxy-mode=nftables",
        Some(node(&[])),
        false,
        Some(
            "no address of Node \"n1\" within 30 s, starting without: no node ports until it is known",
        ),
    );
}

/// Waits for a few turns only, not for time to pass.
fn wait(flags: &str, watch: &NodeWatch) -> Option<anyhow::Result<NodeStatus>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let config = config(flags);
        let mut waiting = std::pin::pin!(watch.wait(&config));
        // A few turns are enough for what is not waited for.
        for _ in 0..10 {
            tokio::select! {
                biased;
                result = &mut waiting => return Some(result),
                () = tokio::task::yield_now() => {}
            }
        }
        None
    })
}

#[test]
fn manifests_are_complete_once_they_are_read() {
    let watch = NodeWatch::default();
    let flags = "--manifests=/m --proxy-mode=nftables";
    assert!(wait(flags, &watch).is_none(), "they are not read yet");
    watch.listed();
    assert_eq!(wait(flags, &watch).unwrap().unwrap(), news(None));
    // An API server may still get to know the Node and its address.
    assert!(wait("--proxy-mode=nftables", &watch).is_none());
    watch.applied(&node(&["10.0.0.1"]));
    assert!(wait("--proxy-mode=nftables", &watch).is_some());
}

#[test]
fn manifests_without_pod_networks_end_a_start_that_needs_them() {
    let watch = NodeWatch::default();
    watch.listed();
    let flags = "--detect-local-mode=NodeCIDR";
    assert!(wait(flags, &watch).is_none());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let config = config(&format!("{flags} --manifests=/m"));
    let error = runtime.block_on(watch.wait(&config)).unwrap_err().to_string();
    assert_eq!(
        error,
        "the manifests have no spec.podCIDRs of Node \"n1\", and detectLocalMode is NodeCIDR"
    );
}
