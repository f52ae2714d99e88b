//! Zone hints, and zones with too few endpoints.

use super::Expect::Pods;
use super::Source::Kept;
use super::{BOTH, CLIENT, Case, Flow, LOCAL, To, cluster_cidr};
use crate::objects::Svc;
use crate::world::{TARGET, World};

const LOCAL_PODS: &[&str] = &["local-1", "local-2"];

pub(super) fn flags() -> Vec<String> {
    vec![cluster_cidr(), "--zone-spill-below=60%".into()]
}

/// The local pods are in the zone of the node, and the other one is not.
pub(super) fn cases() -> Vec<Case> {
    const TWO_TO_ONE: &[&str] = &["local-1", "local-2", "remote-1"];
    let here = |world: &World, service: &Svc| {
        let endpoints =
            [world.endpoint("local-1").zone("zone-a"), world.endpoint("remote-1").zone("zone-b")];
        service.slices(TARGET, &endpoints)
    };
    let most_here = |world: &World, service: &Svc| {
        let mut endpoints: Vec<_> =
            LOCAL_PODS.iter().map(|pod| world.endpoint(pod).zone("zone-a")).collect();
        endpoints.push(world.endpoint("remote-1").zone("zone-b"));
        service.slices(TARGET, &endpoints)
    };
    let case = |name, service: Svc, endpoints, pods| {
        let to = To::ClusterIp(service.number);
        super::case(name, service, endpoints, vec![Flow::new(CLIENT, to, Pods(pods, Kept))])
    };
    let annotated = |name, number, value: &str| {
        let annotations = serde_json::json!({ "kube-proxy.io/zone-spill-below": value });
        Svc::new(name, number).with("/metadata/annotations", annotations)
    };
    vec![
        case("too few by the flag", Svc::new("few", 1), here, BOTH),
        case("enough by the flag", Svc::new("enough", 2), most_here, LOCAL_PODS),
        case("too few by annotation", annotated("three", 3, "3"), most_here, TWO_TO_ONE),
        case("enough by annotation", annotated("one", 4, "1"), here, LOCAL),
        case("never by annotation", annotated("never", 5, "0"), here, LOCAL),
        case("a bad annotation does not count", annotated("bad", 6, "-1"), most_here, LOCAL_PODS),
    ]
}
