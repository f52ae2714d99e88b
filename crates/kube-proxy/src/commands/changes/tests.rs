use serde_json::json;

use super::*;

fn change(in_kernel: Option<&str>) -> Change {
    serde_json::from_value(json!({
        "family": "IPv4", "namespace": "shop", "service": "web", "kind": "EndpointSlice",
        "object": "web-1", "what": "changed", "endpointsReady": 2, "endpointsTotal": 3,
        "triggered": "2026-01-01T00:00:00.000Z", "received": "2026-01-01T00:00:00.120Z",
        "inKernel": in_kernel,
    }))
    .unwrap()
}

#[test]
fn a_change_is_one_sentence() {
    let now = "2026-01-01T00:03:10Z".parse().unwrap();
    assert_eq!(
        sentence(&change(Some("2026-01-01T00:00:00.125Z")), now),
        "EndpointSlice web-1 changed 3m ago, 2 of 3 endpoints ready; 120 ms from the cause to this node; 5 ms from there to the kernel"
    );
    assert!(sentence(&change(None), now).ends_with("; not in the kernel yet"));
    let before = "2025-01-01T00:00:00Z".parse().unwrap();
    assert!(sentence(&change(None), before).starts_with("EndpointSlice web-1 changed, 2 of 3"));
}

#[test]
fn ages_have_one_unit() {
    let text = |seconds| short(SignedDuration::from_secs(seconds));
    let texts = [0, 59, 60, 3599, 3600, 172_799, 172_800].map(|seconds| text(seconds).unwrap());
    assert_eq!(texts, ["0s", "59s", "1m", "59m", "1h", "47h", "2d"]);
    assert_eq!(text(-5), None);
}
