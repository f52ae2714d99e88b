use std::net::{IpAddr, SocketAddr};

use proptest::prelude::*;

use super::*;
use crate::testing::{applied, ip, name, on_node, port, ready, slice, terminating, tracker};
use crate::{Conditions, Event, Node, Service, SliceEndpoint, Tracker};

const CLIENT: &str = "198.51.100.7";

/// A node with address 192.168.0.1, pods in 10.1.0.0/16 and clients elsewhere, on which nothing is special.
fn facts() -> NodeFacts {
    NodeFacts {
        local_traffic: LocalTrafficDetector::Cidr("10.1.0.0/16".parse().unwrap()),
        pod_cidrs: vec!["10.1.0.0/24".parse().unwrap()],
        addresses: vec![ip("192.168.0.1"), ip("10.1.0.1")],
        node_ports: NodePortAddresses::Within(vec!["192.168.0.0/16".parse().unwrap()]),
        masquerade_all: false,
        mode: ModeBehavior::default(),
        without_short_circuit: BTreeSet::new(),
    }
}

fn service(text: &str, cluster_ip: &str, change: impl FnOnce(&mut Service)) -> Event {
    let mut service = crate::testing::service(text, cluster_ip);
    change(&mut service);
    applied(service)
}

fn folded(events: impl IntoIterator<Item = Event>) -> Tracker {
    let mut tracker = tracker();
    let node = Node { name: "here".into(), zone: Some("a".into()), ..Node::default() };
    tracker.apply(Event::NodeApplied(node.into()));
    for event in events {
        tracker.apply(event);
    }
    tracker.fold();
    tracker
}

/// A Service with every kind of frontend, an endpoint here and one elsewhere.
fn everything(change: impl FnOnce(&mut Service)) -> Tracker {
    let service = service("ns/web", "10.96.0.1", |service| {
        service.external_ips = vec![ip("203.0.113.1")];
        service.load_balancer_vips = vec![ip("203.0.113.2")];
        service.ports[0].node_port = Some(port(30_000));
        change(service);
    });
    let endpoints = vec![on_node("here", ready("10.1.0.5")), on_node("there", ready("10.1.1.5"))];
    folded([service, Event::EndpointSliceApplied(slice("ns/web-1", "web", endpoints))])
}

fn packet(facts: &NodeFacts, tracker: &Tracker, from: &str, to: &str) -> Packet {
    let source = match from {
        "node" => Source::Node,
        text => facts.source(tracker.snapshot(), ip(text)),
    };
    let destination: SocketAddr = to.parse().unwrap();
    Packet { source, protocol: Protocol::Tcp, destination }
}

/// What becomes of a packet, in one line.
fn said(facts: &NodeFacts, tracker: &Tracker, from: &str, to: &str) -> String {
    let packet = packet(facts, tracker, from, to);
    let explanation = explain(tracker.snapshot(), facts, &packet);
    // Who knows the owners of frontends says the same.
    let by_owner = tracker.explain(facts, &packet);
    assert_eq!(format!("{explanation:?}"), format!("{by_owner:?}"), "{packet:?}");
    let mut text = format!("{:?} {:?}", explanation.verdict, explanation.reason);
    if let (Verdict::Endpoints, Some(served)) = (explanation.verdict, &explanation.served) {
        let used = served.endpoints.iter().filter(|endpoint| endpoint.unused.is_none());
        let used: Vec<String> = used
            .map(|e| format!("{}{}", e.endpoint.ip, if e.masqueraded { "!" } else { "" }))
            .collect();
        text = format!("{} {:?}", used.join(" "), served.masquerade);
    }
    text
}

#[test]
fn each_kind_of_frontend_by_source() {
    let (facts, all) = (facts(), everything(|_| {}));
    for (from, to, expected) in [
        ("10.1.0.9", "10.96.0.1:80", "10.1.0.5 10.1.1.5 LocalPod"),
        ("10.1.0.5", "10.96.0.1:80", "10.1.0.5! 10.1.1.5 LocalPod"),
        ("node", "10.96.0.1:80", "10.1.0.5! 10.1.1.5! FromElsewhere"),
        (CLIENT, "10.96.0.1:80", "10.1.0.5! 10.1.1.5! FromElsewhere"),
        (CLIENT, "203.0.113.1:80", "10.1.0.5! 10.1.1.5! External"),
        (CLIENT, "203.0.113.2:80", "10.1.0.5! 10.1.1.5! External"),
        (CLIENT, "192.168.0.1:30000", "10.1.0.5! 10.1.1.5! External"),
        ("10.1.0.9", "10.1.0.1:30000", "Passed NoServicePort"),
        (CLIENT, "192.168.0.2:30000", "Passed NoServicePort"),
        (CLIENT, "10.96.0.1:81", "Passed OtherPort"),
        (CLIENT, "10.96.0.2:80", "Passed NoServicePort"),
        ("node", "127.0.0.1:30000", "Passed NoServicePort"),
    ] {
        assert_eq!(said(&facts, &all, from, to), expected, "{from} -> {to}");
    }
}

#[test]
fn the_external_policy_local_is_for_outsiders() {
    let facts = facts();
    let all = everything(|s| s.policy.external_traffic_policy = TrafficPolicy::Local);
    for (from, to, expected) in [
        (CLIENT, "203.0.113.2:80", "10.1.0.5 Local"),
        (CLIENT, "192.168.0.1:30000", "10.1.0.5 Local"),
        ("10.1.0.9", "203.0.113.2:80", "10.1.0.5 10.1.1.5 LocalPod"),
        ("node", "203.0.113.2:80", "10.1.0.5! 10.1.1.5! Node"),
        (CLIENT, "10.96.0.1:80", "10.1.0.5! 10.1.1.5! FromElsewhere"),
    ] {
        assert_eq!(said(&facts, &all, from, to), expected, "{from} -> {to}");
    }
    let sharing = |shared_endpoints| {
        let mode = ModeBehavior { shared_endpoints, ..ModeBehavior::default() };
        NodeFacts { mode, ..facts.clone() }
    };
    let (near, to) = ("10.1.0.9", "203.0.113.2:80");
    let (always, affine) = (SharedEndpoints::Always, SharedEndpoints::UnderAffinity);
    assert_eq!(said(&sharing(always), &all, near, to), "10.1.0.5 Local");
    assert_eq!(said(&sharing(affine), &all, near, to), "10.1.0.5 10.1.1.5 LocalPod");
    let sticky = everything(|s| {
        s.policy.external_traffic_policy = TrafficPolicy::Local;
        s.policy.session_affinity = Some(Duration::from_mins(1));
    });
    assert_eq!(said(&sharing(affine), &sticky, near, to), "10.1.0.5 Local");
    assert_eq!(said(&facts, &sticky, near, to), "10.1.0.5 10.1.1.5 LocalPod");
    // What a backend says of one service port is of that one alone.
    let mut lacking = facts.clone();
    lacking.without_short_circuit = all.snapshot().services.keys().cloned().collect();
    assert_eq!(said(&lacking, &all, near, to), "10.1.0.5 Local");
    lacking.without_short_circuit = [crate::testing::port_name("ns/other", "")].into();
    assert_eq!(said(&lacking, &all, near, to), "10.1.0.5 10.1.1.5 LocalPod");
}

#[test]
fn without_endpoints_here() {
    let far = |change: fn(&mut Service)| {
        let service = service("ns/web", "10.96.0.1", |service| {
            service.load_balancer_vips = vec![ip("203.0.113.2")];
            service.policy.external_traffic_policy = TrafficPolicy::Local;
            change(service);
        });
        let endpoints = vec![on_node("there", ready("10.1.1.5"))];
        folded([service, Event::EndpointSliceApplied(slice("ns/web-1", "web", endpoints))])
    };
    let (facts, to) = (facts(), "203.0.113.2:80");
    let dropped = far(|_| {});
    assert_eq!(said(&facts, &dropped, CLIENT, to), "Dropped NoLocalEndpoints");
    assert_eq!(said(&facts, &dropped, "10.1.0.9", to), "10.1.1.5 LocalPod");
    let refused = far(|s| s.policy.no_local_endpoints = Some(NoLocalEndpoints::Reject));
    assert_eq!(said(&facts, &refused, CLIENT, to), "Refused NoLocalEndpoints");
    let passed = far(|s| s.policy.no_local_endpoints = Some(NoLocalEndpoints::Passthrough));
    assert_eq!(said(&facts, &passed, CLIENT, to), "Passed NoLocalEndpoints");
    assert_eq!(said(&facts, &passed, "10.1.0.9", to), "10.1.1.5 LocalPod");
    let other_ports = OtherPorts::RefusedAtAll;
    let mode = ModeBehavior { passes_for_all: true, other_ports, ..ModeBehavior::default() };
    let shared = NodeFacts { mode, ..facts.clone() };
    assert_eq!(said(&shared, &passed, "10.1.0.9", to), "Passed NoLocalEndpoints");
    let internal = far(|s| s.policy.internal_traffic_policy = TrafficPolicy::Local);
    assert_eq!(said(&facts, &internal, "node", "10.96.0.1:80"), "Dropped NoLocalEndpoints");
    let nobody = folded([service("ns/web", "10.96.0.1", |_| {})]);
    assert_eq!(said(&facts, &nobody, CLIENT, "10.96.0.1:80"), "Refused NoEndpoints");
}

#[test]
fn a_session_counts_where_endpoints_are_chosen_under_affinity() {
    let facts = facts();
    let sticky = |service: &mut Service| {
        service.policy.session_affinity = Some(Duration::from_mins(1));
        service.policy.external_traffic_policy = TrafficPolicy::Local;
        service.policy.load_balancer_source_ranges = vec!["198.51.100.0/25".parse().unwrap()];
    };
    let (all, plain) = (everything(sticky), everything(|_| {}));
    let key = |facts: &NodeFacts, tracker: &Tracker, from: &str, to: &str| {
        let packet = packet(facts, tracker, from, to);
        let explanation = explain(tracker.snapshot(), facts, &packet);
        let key = explanation.session_key(facts, &packet, ip(from))?;
        assert_eq!(key.service.service, name("ns/web"));
        assert_eq!((key.frontend, key.client), (packet.destination, ip(from)));
        Some(key.policy)
    };
    for (from, to, policy) in [
        ("10.1.0.9", "10.96.0.1:80", Some(TrafficPolicy::Cluster)),
        ("10.1.0.9", "203.0.113.1:80", Some(TrafficPolicy::Cluster)),
        (CLIENT, "203.0.113.1:80", Some(TrafficPolicy::Local)),
        (CLIENT, "192.168.0.1:30000", Some(TrafficPolicy::Local)),
        ("192.0.2.1", "203.0.113.2:80", None),
        (CLIENT, "203.0.113.9:80", None),
    ] {
        assert_eq!(key(&facts, &all, from, to), policy, "{from} -> {to}");
        assert_eq!(key(&facts, &plain, from, to), None, "no affinity: {from} -> {to}");
    }
    let mode = ModeBehavior { loopback: LoopbackNodePorts::Copied, ..ModeBehavior::default() };
    let copied = NodeFacts { mode, ..facts };
    assert_eq!(said(&copied, &all, "127.0.0.1", "127.0.0.1:30000"), "10.1.0.5! Copied");
    assert_eq!(key(&copied, &all, "127.0.0.1", "127.0.0.1:30000"), None, "copied beside the rules");
}

#[test]
fn source_ranges_are_for_vips() {
    let facts = facts();
    let all = everything(|s| {
        s.policy.load_balancer_source_ranges = vec!["198.51.100.0/25".parse().unwrap()];
    });
    assert_eq!(said(&facts, &all, "192.0.2.1", "203.0.113.2:80"), "Dropped SourceRanges");
    assert_eq!(said(&facts, &all, CLIENT, "203.0.113.2:80"), "10.1.0.5! 10.1.1.5! External");
    assert_eq!(said(&facts, &all, "192.0.2.1", "203.0.113.1:80"), "10.1.0.5! 10.1.1.5! External");
}

#[test]
fn what_modes_do_in_their_own_way() {
    let (all, with) = (everything(|_| {}), |mode| NodeFacts { mode, ..facts() });
    let plain = ModeBehavior::default;
    let refusing = with(ModeBehavior { other_ports: OtherPorts::RefusedAtClusterIps, ..plain() });
    assert_eq!(said(&refusing, &all, CLIENT, "10.96.0.1:81"), "Refused OtherPort");
    assert_eq!(said(&refusing, &all, CLIENT, "203.0.113.1:81"), "Passed OtherPort");
    let refusing = with(ModeBehavior { other_ports: OtherPorts::RefusedAtAll, ..plain() });
    assert_eq!(said(&refusing, &all, CLIENT, "203.0.113.1:81"), "Refused OtherPort");
    let served = with(ModeBehavior { loopback: LoopbackNodePorts::Served, ..plain() });
    let (node, loopback) = ("node", "127.0.0.1:30000");
    assert_eq!(said(&served, &all, node, loopback), "10.1.0.5! 10.1.1.5! External");
    let copied = with(ModeBehavior { loopback: LoopbackNodePorts::Copied, ..plain() });
    assert_eq!(said(&copied, &all, node, loopback), "10.1.0.5! 10.1.1.5! Copied");
    let refused = with(ModeBehavior { refused_on_loopback: vec![Protocol::Tcp], ..plain() });
    assert_eq!(said(&refused, &all, node, loopback), "Refused Loopback");
    let userspace = with(ModeBehavior { copies: true, ..plain() });
    assert_eq!(said(&userspace, &all, "10.1.0.9", "10.96.0.1:80"), "10.1.0.5! 10.1.1.5! Copied");
    let mut blind = facts();
    blind.local_traffic = LocalTrafficDetector::None;
    assert_eq!(said(&blind, &all, CLIENT, "10.96.0.1:80"), "10.1.0.5 10.1.1.5 Unknown");
    blind.masquerade_all = true;
    assert_eq!(said(&blind, &all, CLIENT, "10.96.0.1:80"), "10.1.0.5! 10.1.1.5! All");
}

#[test]
fn the_nearest_service_ports_are_named() {
    let (facts, all) = (facts(), everything(|_| {}));
    let near = |to: &str, protocol| {
        let packet = Packet { protocol, ..packet(&facts, &all, CLIENT, to) };
        let explanation = explain(all.snapshot(), &facts, &packet);
        explanation.nearest.first().map(|near| (near.relation, near.name.service.clone()))
    };
    for (to, protocol, expected) in [
        ("10.96.0.1:80", Protocol::Udp, Some(Relation::OtherProtocol)),
        ("10.96.0.1:8080", Protocol::Tcp, Some(Relation::TargetPort)),
        ("10.96.0.1:443", Protocol::Tcp, Some(Relation::OtherPort)),
        ("10.1.0.1:30000", Protocol::Tcp, Some(Relation::NodePort)),
        ("10.1.1.5:8080", Protocol::Tcp, Some(Relation::Endpoint)),
        ("10.96.0.9:80", Protocol::Tcp, None),
    ] {
        let expected = expected.map(|relation| (relation, name("ns/web")));
        assert_eq!(near(to, protocol), expected, "{to} {protocol}");
    }
}

#[test]
fn a_zone_with_too_few_endpoints_is_explained() {
    let zoned = |address: &str, zone: &str| {
        let mut endpoint = ready(address);
        endpoint.zone_hints = vec![zone.into()];
        endpoint
    };
    let endpoints = vec![zoned("10.1.0.5", "a"), zoned("10.1.1.5", "b")];
    let slice = Event::EndpointSliceApplied(slice("ns/web-1", "web", endpoints));
    let facts = facts();
    for (below, used, expected) in [
        (None, 1, None),
        (Some(crate::ZoneSpill::Below(1)), 1, None),
        (Some(crate::ZoneSpill::Below(2)), 2, Some((1, 2))),
    ] {
        let web = service("ns/web", "10.96.0.1", |service| service.policy.zone_spill = below);
        let tracker = folded([web, slice.clone()]);
        let packet = packet(&facts, &tracker, CLIENT, "10.96.0.1:80");
        let served = explain(tracker.snapshot(), &facts, &packet).served.expect("it is served");
        assert_eq!(served.endpoints.iter().filter(|e| e.unused.is_none()).count(), used);
        assert_eq!(served.spill.map(|spill| (spill.in_zone, spill.ready)), expected);
    }
}

#[test]
fn every_endpoint_has_its_reason() {
    let with = |mut endpoint: SliceEndpoint, zone: &str| {
        endpoint.zone_hints = vec![zone.into()];
        endpoint
    };
    let gone = |serving| Conditions { ready: false, serving, terminating: true };
    let endpoints = vec![
        with(ready("10.1.0.1"), "a"),
        with(ready("10.1.0.2"), "b"),
        SliceEndpoint {
            conditions: Conditions { ready: false, ..Conditions::default() },
            ..ready("10.1.0.3")
        },
        terminating("10.1.0.4"),
        SliceEndpoint { conditions: gone(false), ..ready("10.1.0.5") },
        SliceEndpoint { weight: 0, ..ready("10.1.0.6") },
    ];
    let all = folded([
        service("ns/web", "10.96.0.1", |_| {}),
        Event::EndpointSliceApplied(slice("ns/web-1", "web", endpoints)),
    ]);
    let facts = facts();
    let packet = packet(&facts, &all, CLIENT, "10.96.0.1:80");
    let served = explain(all.snapshot(), &facts, &packet).served.unwrap();
    let reasons: Vec<_> = served.endpoints.iter().map(|endpoint| endpoint.unused).collect();
    let expected = [
        None,
        Some(Unused::HintsOtherZone),
        Some(Unused::NotReady),
        Some(Unused::Terminating),
        Some(Unused::NotServing),
        Some(Unused::Draining),
    ];
    assert_eq!(reasons, expected);
}

proptest! {
    /// What it says is used is what the snapshot has chosen, whatever the endpoints, the policies and the packet.
    #[test]
    fn the_endpoints_are_those_of_the_snapshot(
        states in prop::collection::vec((any::<[bool; 4]>(), 0_u8..3), 0..6),
        local in any::<[bool; 2]>(),
        from in 0..3_usize,
        to in 0..4_usize,
        shared in prop::sample::select(vec![SharedEndpoints::Never, SharedEndpoints::UnderAffinity, SharedEndpoints::Always]),
    ) {
        let policy = |local| if local { TrafficPolicy::Local } else { TrafficPolicy::Cluster };
        let endpoints = states.iter().enumerate().map(|(i, &([ready, serving, terminating, here], zone))| {
            let address = IpAddr::from([10, 1, 0, u8::try_from(i).unwrap() + 1]);
            let mut endpoint = SliceEndpoint::ready(address);
            endpoint.conditions = Conditions { ready, serving, terminating };
            endpoint.weight = u16::from(zone == 2);
            endpoint.node = Some(if here { "here" } else { "there" }.into());
            endpoint.zone_hints = ["a", "b"].iter().take(usize::from(zone)).map(|z| (*z).into()).collect();
            endpoint
        });
        let all = folded([
            service("ns/web", "10.96.0.1", |service| {
                service.external_ips = vec![ip("203.0.113.1")];
                service.load_balancer_vips = vec![ip("203.0.113.2")];
                service.ports[0].node_port = Some(port(30_000));
                service.policy.internal_traffic_policy = policy(local[0]);
                service.policy.external_traffic_policy = policy(local[1]);
            }),
            Event::EndpointSliceApplied(slice("ns/web-1", "web", endpoints.collect())),
        ]);
        let mut facts = facts();
        facts.mode.shared_endpoints = shared;
        let from = ["node", "10.1.0.200", CLIENT][from];
        let to = ["10.96.0.1:80", "203.0.113.1:80", "203.0.113.2:80", "192.168.0.1:30000"][to];
        let explanation = explain(all.snapshot(), &facts, &packet(&facts, &all, from, to));
        let served = explanation.served.expect("it is a frontend");
        let used: Vec<Endpoint> = served.endpoints.iter()
            .filter(|e| e.unused.is_none()).map(|e| e.endpoint.clone()).collect();
        prop_assert_eq!(&used[..], &served.entry.choice.of(served.policy)[..]);
        prop_assert_eq!(explanation.verdict == Verdict::Endpoints, !used.is_empty());
    }
}
