use std::sync::Arc;
use std::time::Duration;

use expect_test::expect_file;
use kube_proxy_core::{
    Conditions, EndpointSlice, Event, IpFamily, Kind, NoLocalEndpoints, Node, ObjectName,
    PerFamily, Port, Protocol, Service, SliceEndpoint, SlicePort, Tracker, TrackerOptions,
    TrafficPolicy,
};

use kube_proxy_core::tracker::{EndpointCount, ObjectChange, What};

use super::{family, service_ports};
use crate::debug::Services;
use crate::family::history::{Change, Changes};
use crate::family::state::{FamilyServices, FamilyState, ServiceFilter};

fn service(name: &str, cluster_ip: &str, change: impl FnOnce(&mut Service)) -> Event {
    let mut service = Service::new(ObjectName::new("shop", name));
    service.cluster_ips = PerFamily { v4: Some(cluster_ip.parse().unwrap()), v6: None };
    service.ports = vec![Port {
        name: "http".into(),
        protocol: Protocol::Tcp,
        port: 80.try_into().unwrap(),
        node_port: None,
    }];
    change(&mut service);
    Event::ServiceApplied(Arc::new(service))
}

/// One endpoint in each state that there is, on the node that is asked and another one.
fn endpoints() -> Vec<SliceEndpoint> {
    let endpoint = |number: u8, node: &str, zone: &str, conditions| SliceEndpoint {
        node: Some(node.into()),
        zone_hints: vec![zone.into()],
        conditions,
        ..SliceEndpoint::ready([10, 0, 0, number].into())
    };
    let ready = Conditions::default();
    let conditions = |serving, terminating| Conditions { ready: false, serving, terminating };
    vec![
        endpoint(1, "here", "a", ready),
        endpoint(2, "there", "a", ready),
        endpoint(3, "there", "b", ready),
        endpoint(4, "here", "a", conditions(false, false)),
        endpoint(5, "here", "a", conditions(true, true)),
        endpoint(6, "here", "a", conditions(false, true)),
        SliceEndpoint { weight: 3, ..endpoint(7, "there", "a", ready) },
        SliceEndpoint { weight: 0, ..endpoint(8, "here", "a", ready) },
    ]
}

fn tracker() -> Tracker {
    let mut tracker = Tracker::new(TrackerOptions {
        family: IpFamily::V4,
        node_name: "here".into(),
        node_ip: None,
        allow_external_ips: true,
        no_local_endpoints: NoLocalEndpoints::Drop,
        zone_spill: kube_proxy_core::ZoneSpill::default(),
    });
    let node = Node {
        name: "here".into(),
        zone: Some("a".into()),
        addresses: vec![[192, 168, 0, 1].into()],
        pod_cidrs: Vec::new(),
        being_deleted: false,
        to_be_removed_by_autoscaler: false,
    };
    let slice = EndpointSlice {
        name: ObjectName::new("shop", "web-1"),
        service: "web".into(),
        family: IpFamily::V4,
        ports: vec![SlicePort {
            name: "http".into(),
            protocol: Protocol::Tcp,
            port: 8080.try_into().unwrap(),
        }],
        endpoints: endpoints(),
        trigger_time: None,
    };
    for event in [
        service("web", "10.96.0.1", |service| {
            service.external_ips = vec![[203, 0, 113, 1].into()];
            service.policy.external_traffic_policy = TrafficPolicy::Local;
            service.policy.session_affinity = Some(Duration::from_hours(3));
            service.policy.load_balancer_source_ranges = vec!["192.0.2.0/24".parse().unwrap()];
            service.ports[0].node_port = Some(30_080.try_into().unwrap());
        }),
        service("later", "10.96.0.2", |service| {
            service.external_ips = vec![[203, 0, 113, 1].into()];
        }),
        Event::EndpointSliceApplied(slice),
        Event::NodeApplied(Arc::new(node)),
        Event::ListDone(Kind::Service),
        Event::ListDone(Kind::EndpointSlice),
    ] {
        tracker.apply(event);
    }
    tracker.fold();
    tracker
}

/// The endpoints of one Service changed.
fn changes() -> Changes {
    let at = |milliseconds| std::time::UNIX_EPOCH + Duration::from_millis(milliseconds);
    let object = ObjectChange {
        service: ObjectName::new("shop", "web"),
        kind: Kind::EndpointSlice,
        object: ObjectName::new("shop", "web-1"),
        what: What::Changed,
        endpoints: Some(EndpointCount { ready: 3, total: 6 }),
        trigger_time: Some(at(1000)),
    };
    let change = Change { object, received: at(1450), in_kernel: Some(at(1500)) };
    Changes { last: [change].into(), since: at(100) }
}

fn answer(filter: &ServiceFilter, endpoints: bool) -> Services {
    let tracker = tracker();
    let state = FamilyState {
        family: IpFamily::V4,
        synced: Some(std::time::UNIX_EPOCH + Duration::from_millis(1500)),
        waiting: None,
        failure: None,
        lacks_fast_path: false,
        node_ip: tracker.snapshot().node_ip,
        changes: changes(),
        zone: tracker.snapshot().zone.clone(),
    };
    let all = FamilyServices::of(&tracker, filter, state);
    Services {
        node: "here".into(),
        mode: "nftables".into(),
        version: "0".into(),
        families: vec![family(&all.state)],
        service_ports: service_ports(&all, endpoints),
    }
}

#[test]
fn an_answer_says_what_each_frontend_uses_and_why_not() {
    let answer = answer(&ServiceFilter::default(), true);
    let text = serde_json::to_string_pretty(&answer).unwrap();
    expect_file!["services.json"].assert_eq(&text);
    assert_eq!(serde_json::from_str::<Services>(&text).unwrap(), answer);
}

#[test]
fn an_answer_can_do_without_other_services_and_without_endpoints() {
    let filter = ServiceFilter { namespace: Some("shop".into()), name: Some("web".into()) };
    let of_web = answer(&filter, false);
    let ports: Vec<_> = of_web.service_ports.iter().map(|port| port.id.name.as_str()).collect();
    assert_eq!(ports, ["web"]);
    assert_eq!(of_web.service_ports[0].endpoints_total, 8);
    assert!(of_web.service_ports[0].endpoints.is_empty());
    let filter = ServiceFilter { namespace: Some("other".into()), name: None };
    assert!(answer(&filter, true).service_ports.is_empty());
}
