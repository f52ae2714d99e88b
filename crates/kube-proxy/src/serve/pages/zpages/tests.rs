use std::time::{Duration, SystemTime};

use expect_test::expect;

use super::{Format, Zpages, format};
use kube_proxy_config::FeatureGates;

fn pages() -> Zpages {
    Zpages {
        started: SystemTime::UNIX_EPOCH + Duration::from_millis(1_500),
        flags: vec![("cluster-cidr".into(), "10.0.0.0/8".into()), ("config".into(), String::new())],
        gates: FeatureGates::default(),
    }
}

fn later() -> SystemTime {
    pages().started + Duration::from_secs(3_661)
}

#[test]
fn text_for_people() {
    expect![[r#"

        kube-proxy flagz
        Warning: This endpoint is not meant to be machine parseable, has no formatting compatibility guarantees and is for debugging purposes only.

        cluster-cidr=10.0.0.0/8
        config=
    "#]]
    .assert_eq(&pages().flagz());
    let text = pages().statusz(later());
    let versions = ["Rust version: ", "Binary version: ", "Emulation version: 1."];
    for version in versions {
        assert!(text.contains(version), "{text}");
    }
    assert!(text.contains("\nStarted: Thu Jan  1 00:00:01 UTC 1970\nUp: 1 hr 01 min 01 sec\n"));
    assert!(text.ends_with("Paths: /configz /flagz /healthz /metrics /proxyMode /statusz\n"));
}

#[test]
fn json_fields() {
    assert_eq!(pages().flagz_fields()["flags"]["cluster-cidr"], "10.0.0.0/8");
    let status = pages().statusz_fields(later());
    assert_eq!(status["startTime"], "1970-01-01T00:00:01Z");
    assert_eq!(status["uptimeSeconds"], 3_661);
}

#[test]
fn json_has_to_be_asked_for_exactly() {
    let json = "application/json;v=v1alpha1;g=config.k8s.io;as=Flagz";
    for (accept, expected) in [
        ("", Format::Text),
        ("*/*", Format::Text),
        ("text/plain", Format::Text),
        (json, Format::Json("v1alpha1".to_owned())),
        (
            "application/json; v=v1beta1; g=config.k8s.io; as=Flagz",
            Format::Json("v1beta1".to_owned()),
        ),
        ("application/json;v=v9;g=config.k8s.io;as=Flagz, text/plain", Format::Text),
        ("application/json;v=v1alpha1;g=config.k8s.io;as=Statusz", Format::Neither),
        ("application/json", Format::Neither),
        ("text/html, */*;q=0.8", Format::Text),
    ] {
        assert_eq!(format(accept, "Flagz"), expected, "{accept}");
    }
}
