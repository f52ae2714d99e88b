//! What wakes a tracker, what a fold reports, and that any stream of events ends where a rebuild would.

use std::sync::Arc;

use proptest::prelude::*;

use crate::testing::{
    applied, ip, name, on_node, options, port, port_name, ready, service, slice, terminating,
    tracker,
};
use crate::{
    Conditions, EndpointSlice, Event, IpFamily, Kind, NoLocalEndpoints, Node, Port, Protocol,
    Service, ServicePolicy, SliceEndpoint, Snapshot, Tracker, TrackerOptions, TrafficPolicy,
};

fn addresses(snapshot: &Snapshot, service: &str) -> Vec<String> {
    snapshot.services[&port_name(service, "")].endpoints.iter().map(ToString::to_string).collect()
}

fn with(events: Vec<Event>) -> Tracker {
    let mut tracker = tracker();
    for event in events {
        tracker.apply(event);
    }
    tracker.fold();
    tracker
}

#[test]
fn a_service_and_its_slice_become_one_entry() {
    let mut tracker = tracker();
    assert!(tracker.apply(applied(service("ns/a", "10.96.0.1"))));
    assert!(tracker.apply(Event::EndpointSliceApplied(slice(
        "ns/a-1",
        "a",
        vec![ready("10.0.0.2"), ready("10.0.0.1")]
    ))));
    let changes = tracker.fold();
    assert_eq!(changes.services.into_iter().collect::<Vec<_>>(), [port_name("ns/a", "")]);
    assert_eq!(addresses(tracker.snapshot(), "ns/a"), ["10.0.0.1:8080", "10.0.0.2:8080"]);
    assert_eq!(tracker.snapshot().endpoint_count, 2);
}

#[test]
fn nothing_is_synced_before_both_lists_are_complete() {
    let mut tracker = Tracker::new(options(IpFamily::V4));
    tracker.apply(Event::ListStarted(Kind::Service));
    tracker.apply(applied(service("ns/a", "10.96.0.1")));
    assert!(!tracker.is_synced());
    assert!(tracker.apply(Event::ListDone(Kind::Service)), "the first complete list is news");
    assert!(!tracker.is_synced());
    assert!(tracker.apply(Event::ListDone(Kind::EndpointSlice)));
    assert!(tracker.is_synced());
    assert!(!tracker.apply(Event::ListDone(Kind::EndpointSlice)), "a second one is not");
}

#[test]
fn what_does_not_differ_wakes_nobody() {
    let slice_of = |node: &str| slice("ns/a-1", "a", vec![on_node(node, ready("10.0.0.1"))]);
    let mut tracker = with(vec![
        applied(service("ns/a", "10.96.0.1")),
        Event::EndpointSliceApplied(slice_of("there")),
    ]);
    assert!(!tracker.apply(applied(service("ns/a", "10.96.0.1"))));
    assert!(!tracker.apply(Event::EndpointSliceApplied(slice_of("there"))));
    assert!(!tracker.apply(Event::EndpointSliceApplied(slice_of("elsewhere"))), "not this node");
    let triggered = EndpointSlice {
        trigger_time: Some(std::time::SystemTime::UNIX_EPOCH),
        ..slice_of("there")
    };
    assert!(!tracker.apply(Event::EndpointSliceApplied(triggered)));
    assert!(!tracker.apply(Event::ServiceDeleted(name("ns/unknown"))));
    assert!(!tracker.apply(Event::EndpointSliceDeleted(name("ns/unknown"))));
    assert!(tracker.apply(Event::EndpointSliceApplied(slice_of("here"))), "now it is local");
}

#[test]
fn changes_that_cancel_each_other_out_do_not_show() {
    let mut tracker = with(vec![applied(service("ns/a", "10.96.0.1"))]);
    assert!(tracker.apply(applied(service("ns/a", "10.96.0.2"))));
    assert!(tracker.apply(applied(service("ns/a", "10.96.0.1"))));
    assert_eq!(tracker.change_counts().services_pending, 2);
    assert!(tracker.fold().is_empty());
    assert_eq!(tracker.change_counts().services_pending, 0);
}

#[test]
fn a_removed_port_and_a_removed_service_are_changes() {
    let mut two = service("ns/a", "10.96.0.1");
    two.ports.push(Port {
        name: "other".into(),
        protocol: Protocol::Tcp,
        port: port(81),
        node_port: None,
    });
    let mut tracker = with(vec![applied(two)]);
    tracker.apply(applied(service("ns/a", "10.96.0.1")));
    assert_eq!(
        tracker.fold().services.into_iter().collect::<Vec<_>>(),
        [port_name("ns/a", "other")]
    );
    tracker.apply(Event::ServiceDeleted(name("ns/a")));
    assert_eq!(tracker.fold().services.into_iter().collect::<Vec<_>>(), [port_name("ns/a", "")]);
    assert!(tracker.snapshot().services.is_empty());
}

#[test]
fn a_relist_removes_what_it_does_not_contain_and_only_at_its_end() {
    let mut tracker = with(vec![
        applied(service("ns/a", "10.96.0.1")),
        applied(service("ns/b", "10.96.0.2")),
        Event::EndpointSliceApplied(slice("ns/a-1", "a", vec![ready("10.0.0.1")])),
        Event::EndpointSliceApplied(slice("ns/a-2", "a", vec![ready("10.0.0.2")])),
    ]);
    tracker.apply(Event::ListStarted(Kind::Service));
    tracker.apply(Event::ListStarted(Kind::EndpointSlice));
    assert!(tracker.fold().is_empty());
    tracker.apply(applied(service("ns/b", "10.96.0.2")));
    tracker.apply(Event::EndpointSliceApplied(slice("ns/a-2", "a", vec![ready("10.0.0.2")])));
    assert!(tracker.apply(Event::ListDone(Kind::EndpointSlice)));
    tracker.fold();
    assert_eq!(addresses(tracker.snapshot(), "ns/a"), ["10.0.0.2:8080"]);
    assert!(tracker.apply(Event::ListDone(Kind::Service)));
    tracker.fold();
    assert_eq!(tracker.snapshot().services.len(), 1);
}

#[test]
fn an_object_that_cannot_be_read_stays_as_it_was() {
    let mut tracker = with(vec![
        applied(service("ns/a", "10.96.0.1")),
        applied(service("ns/b", "10.96.0.2")),
        Event::EndpointSliceApplied(slice("ns/a-1", "a", vec![ready("10.0.0.1")])),
    ]);
    for (kind, kept) in [(Kind::Service, "ns/a"), (Kind::EndpointSlice, "ns/a-1")] {
        tracker.apply(Event::ListStarted(kind));
        assert!(!tracker.apply(Event::Kept(kind, name(kept))));
        assert!(!tracker.apply(Event::Kept(kind, name("ns/unknown"))));
        tracker.apply(Event::ListDone(kind));
    }
    assert_eq!(tracker.fold().services.into_iter().collect::<Vec<_>>(), [port_name("ns/b", "")]);
    assert_eq!(addresses(tracker.snapshot(), "ns/a"), ["10.0.0.1:8080"]);
}

#[test]
fn terminating_entries_never_replace_and_others_always_do() {
    let both = |first, second| {
        let tracker = with(vec![
            applied(service("ns/a", "10.96.0.1")),
            Event::EndpointSliceApplied(slice("ns/a-1", "a", vec![first])),
            Event::EndpointSliceApplied(slice("ns/a-2", "a", vec![second])),
        ]);
        let endpoints = &tracker.snapshot().services[&port_name("ns/a", "")].endpoints;
        assert_eq!(endpoints.len(), 1);
        endpoints[0].clone()
    };
    assert!(both(terminating("10.0.0.1"), ready("10.0.0.1")).is_ready());
    assert!(both(ready("10.0.0.1"), terminating("10.0.0.1")).is_ready());
    assert!(
        both(ready("10.0.0.1"), on_node("here", ready("10.0.0.1"))).is_local(),
        "the later one"
    );
}

#[test]
fn a_ready_duplicate_wins_over_one_that_is_not() {
    let unready = |terminating| {
        let conditions = Conditions { ready: false, serving: true, terminating };
        SliceEndpoint { conditions, ..ready("10.0.0.1") }
    };
    let published_while_terminating = SliceEndpoint {
        conditions: Conditions { ready: true, serving: true, terminating: true },
        ..ready("10.0.0.1")
    };
    let silent = SliceEndpoint {
        conditions: Conditions { ready: false, serving: false, terminating: false },
        ..ready("10.0.0.1")
    };
    let hinted = SliceEndpoint { zone_hints: vec!["a".into()], ..ready("10.0.0.1") };
    let weighted = |weight, endpoint| SliceEndpoint { weight, ..endpoint };
    // Each goes before all that follow.
    let order = [
        weighted(2, ready("10.0.0.1")),
        on_node("here", hinted.clone()),
        on_node("here", ready("10.0.0.1")),
        on_node("there", hinted),
        on_node("there", ready("10.0.0.1")),
        ready("10.0.0.1"),
        weighted(0, on_node("here", ready("10.0.0.1"))),
        published_while_terminating,
        unready(false),
        silent,
        unready(true),
    ];
    let merged = |slices: Vec<(&str, &SliceEndpoint)>| {
        let mut events = vec![applied(service("ns/a", "10.96.0.1"))];
        events.extend(slices.into_iter().map(|(name, endpoint)| {
            Event::EndpointSliceApplied(slice(name, "a", vec![endpoint.clone()]))
        }));
        let tracker = with(events);
        let endpoints = &tracker.snapshot().services[&port_name("ns/a", "")].endpoints;
        assert_eq!(endpoints.len(), 1);
        endpoints[0].clone()
    };
    for (i, better) in order.iter().enumerate() {
        let alone = merged(vec![("ns/a-1", better)]);
        for worse in &order[i..] {
            assert_eq!(merged(vec![("ns/a-1", better), ("ns/a-2", worse)]), alone, "{worse:?}");
            assert_eq!(merged(vec![("ns/a-1", worse), ("ns/a-2", better)]), alone, "{worse:?}");
            assert_eq!(merged(vec![("ns/a-2", better), ("ns/a-1", worse)]), alone, "{worse:?}");
        }
    }
}

#[test]
fn a_weight_is_a_change_and_endpoints_of_one_pattern_share_it() {
    let weighted = |address: &str, weight| SliceEndpoint { weight, ..ready(address) };
    let slice = |weight| {
        let endpoints = vec![weighted("10.0.0.1", weight), weighted("10.0.0.2", weight)];
        Event::EndpointSliceApplied(slice("ns/a-1", "a", endpoints))
    };
    let mut tracker = with(vec![applied(service("ns/a", "10.96.0.1")), slice(1)]);
    let endpoints =
        |tracker: &Tracker| tracker.snapshot().services[&port_name("ns/a", "")].endpoints.clone();
    assert!(endpoints(&tracker).iter().all(|endpoint| endpoint.steering.is_none()));
    assert!(!tracker.apply(slice(1)), "the usual weight is none");
    assert!(tracker.apply(slice(7)));
    assert_eq!(tracker.fold().services.len(), 1);
    let [first, second] = &endpoints(&tracker)[..] else { panic!("there are two") };
    assert_eq!((first.weight(), second.weight()), (7, 7));
    assert!(Arc::ptr_eq(first.steering.as_ref().unwrap(), second.steering.as_ref().unwrap()));
    assert!(tracker.apply(slice(0)));
    tracker.fold();
    let entry = &tracker.snapshot().services[&port_name("ns/a", "")];
    assert!(
        entry.choice.cluster.is_empty() && !entry.choice.has_any_endpoint,
        "as without endpoints"
    );
    assert_eq!(entry.endpoints.len(), 2, "but they are known: UDP flows to them are right");
}

#[test]
fn a_slice_that_changes_its_service_leaves_the_old_one() {
    let mut tracker = with(vec![
        applied(service("ns/a", "10.96.0.1")),
        applied(service("ns/b", "10.96.0.2")),
        Event::EndpointSliceApplied(slice("ns/s", "a", vec![ready("10.0.0.1")])),
    ]);
    tracker.apply(Event::EndpointSliceApplied(slice("ns/s", "b", vec![ready("10.0.0.1")])));
    assert_eq!(tracker.fold().services.len(), 2);
    assert!(addresses(tracker.snapshot(), "ns/a").is_empty());
    assert_eq!(addresses(tracker.snapshot(), "ns/b"), ["10.0.0.1:8080"]);
}

#[test]
fn slices_of_the_other_family_and_of_unknown_services_do_no_harm() {
    let mut tracker = tracker();
    tracker.apply(applied(service("ns/a", "10.96.0.1")));
    assert!(!tracker.apply(Event::EndpointSliceApplied(slice(
        "ns/6",
        "a",
        vec![ready("fd00::1")]
    ))));
    tracker.apply(Event::EndpointSliceApplied(slice("ns/x", "nobody", vec![ready("10.0.0.9")])));
    assert_eq!(tracker.fold().services.len(), 1);
}

#[test]
fn a_service_without_a_cluster_ip_of_the_family_is_not_there() {
    let mut tracker = tracker();
    tracker.apply(applied(service("ns/six", "fd00::1")));
    assert!(tracker.fold().is_empty());
}

#[test]
fn a_zone_change_reports_only_services_whose_choice_differs() {
    let hinted = |zone: &str, address: &str| {
        let mut endpoint = ready(address);
        endpoint.zone_hints = vec![zone.into()];
        endpoint
    };
    let mut tracker = with(vec![
        applied(service("ns/plain", "10.96.0.1")),
        applied(service("ns/hinted", "10.96.0.2")),
        Event::EndpointSliceApplied(slice("ns/p", "plain", vec![ready("10.0.0.1")])),
        Event::EndpointSliceApplied(slice(
            "ns/h",
            "hinted",
            vec![hinted("a", "10.0.0.2"), hinted("b", "10.0.0.3")],
        )),
    ]);
    let node = Node { zone: Some("a".into()), ..Node::default() };
    assert!(tracker.apply(Event::NodeApplied(Arc::new(node))));
    let changes = tracker.fold();
    assert_eq!(changes.services.into_iter().collect::<Vec<_>>(), [port_name("ns/hinted", "")]);
    assert_eq!(tracker.snapshot().services[&port_name("ns/hinted", "")].choice.cluster.len(), 1);
}

#[test]
fn a_node_that_loses_its_address_stays_where_it_was() {
    let mut tracker = tracker();
    let node = Node { addresses: vec![ip("fd00::9"), ip("192.0.2.9")], ..Node::default() };
    tracker.apply(Event::NodeApplied(Arc::new(node)));
    assert!(tracker.fold().node_ip);
    assert_eq!(tracker.snapshot().node_ip, Some(ip("192.0.2.9")));
    assert!(!tracker.apply(Event::NodeDeleted));
    assert_eq!(tracker.snapshot().node_ip, Some(ip("192.0.2.9")));
}

#[test]
fn external_ips_count_only_where_they_are_allowed() {
    let mut external = service("ns/a", "10.96.0.1");
    external.external_ips = vec![ip("192.0.2.1"), ip("fd00::2")];
    external.policy.external_traffic_policy = TrafficPolicy::Local;
    for allow_external_ips in [true, false] {
        let mut tracker =
            Tracker::new(TrackerOptions { allow_external_ips, ..options(IpFamily::V4) });
        tracker.apply(applied(external.clone()));
        tracker.fold();
        let port = &tracker.snapshot().services[&port_name("ns/a", "")].port;
        assert_eq!(port.externally_reachable(), allow_external_ips);
        assert_eq!(port.uses_local_endpoints(), allow_external_ips);
    }
}

#[test]
fn service_cidrs_of_the_family_are_gathered() {
    let mut tracker = tracker();
    let nets = |texts: &[&str]| texts.iter().map(|t| t.parse().unwrap()).collect::<Vec<_>>();
    tracker.apply(Event::ServiceCidrApplied(name("/a"), nets(&["10.96.0.0/12", "fd00::/108"])));
    tracker.apply(Event::ServiceCidrApplied(name("/b"), nets(&["10.200.0.0/16"])));
    assert!(tracker.fold().service_cidrs);
    assert_eq!(tracker.snapshot().service_cidrs, nets(&["10.96.0.0/12", "10.200.0.0/16"]));
    assert!(tracker.apply(Event::ServiceCidrDeleted(name("/a"))));
    assert!(tracker.fold().service_cidrs);
}

#[test]
fn trigger_times_are_taken_once() {
    let mut tracker = with(vec![applied(service("ns/a", "10.96.0.1"))]);
    let mut changed = slice("ns/a-1", "a", vec![ready("10.0.0.1")]);
    changed.trigger_time = Some(std::time::SystemTime::UNIX_EPOCH);
    tracker.apply(Event::EndpointSliceApplied(changed));
    assert_eq!(tracker.take_trigger_times().len(), 1);
    assert!(tracker.take_trigger_times().is_empty());
}

/// A step of a random history over three services and four slices, small enough that events meet.
fn step() -> impl Strategy<Value = Event> {
    let service_step = (0_u8..3, 0_u8..3, prop::bool::ANY).prop_map(|(n, variant, gone)| {
        let text = format!("ns/s{n}");
        if gone {
            return Event::ServiceDeleted(name(&text));
        }
        // Services meet at the same addresses and node port, as different kinds of frontend; two of three at one cluster IP.
        let mut service = service(&text, &format!("10.96.0.{}", n / 2 + 10 * variant));
        match variant {
            0 => service.external_ips = vec![ip("192.0.2.1"), ip("10.96.0.1")],
            1 => service.load_balancer_vips = vec![ip("192.0.2.1")],
            _ => service.ports[0].node_port = Some(port(30080)),
        }
        if variant == 2 {
            service.policy.internal_traffic_policy = TrafficPolicy::Local;
            service.ports[0].protocol = Protocol::Udp;
        }
        applied(service)
    });
    let slice_step = (0_u8..4, 0_u8..3, prop::collection::vec(0_u8..6, 0..4), 0_u8..4).prop_map(
        |(n, owner, endpoints, kind)| {
            let text = format!("ns/x{n}");
            if kind == 0 {
                return Event::EndpointSliceDeleted(name(&text));
            }
            let endpoints = endpoints.iter().map(|e| {
                let address = format!("10.0.0.{e}");
                let endpoint = if kind == 1 { terminating(&address) } else { ready(&address) };
                on_node(if e % 2 == 0 { "here" } else { "there" }, endpoint)
            });
            Event::EndpointSliceApplied(slice(&text, &format!("s{owner}"), endpoints.collect()))
        },
    );
    prop_oneof![service_step, slice_step]
}

/// An endpoint at one of two addresses, in any state.
fn any_endpoint() -> impl Strategy<Value = SliceEndpoint> {
    let hints = || prop::collection::vec(prop::sample::select(vec!["a", "b", "here"]), 0..3);
    let node = prop::option::of(prop::sample::select(vec!["here", "there"]));
    (1_u8..3, prop::array::uniform3(prop::bool::ANY), node, hints(), hints(), 0_u16..3).prop_map(
        |(address, [ready, serving, terminating], node, zones, nodes, weight)| SliceEndpoint {
            weight,
            address: ip(&format!("10.0.0.{address}")),
            conditions: Conditions { ready, serving, terminating },
            node: node.map(Into::into),
            zone_hints: zones.into_iter().map(Into::into).collect(),
            node_hints: nodes.into_iter().map(Into::into).collect(),
        },
    )
}

proptest! {
    /// Neither the names of slices nor the order in which they arrive makes a difference.
    #[test]
    fn duplicates_merge_in_any_order(
        contents in prop::collection::vec(prop::collection::vec(any_endpoint(), 0..3), 1..5),
        (arrival, names) in (0..5_usize, 0..5_usize),
    ) {
        let merged = |arrival: usize, names: usize| {
            let mut events: Vec<_> = contents
                .iter()
                .enumerate()
                .map(|(i, endpoints)| {
                    let text = format!("ns/a-{}", (i + names) % contents.len());
                    let slice = slice(&text, "a", endpoints.clone());
                    Event::EndpointSliceApplied(EndpointSlice { family: IpFamily::V4, ..slice })
                })
                .collect();
            let middle = arrival % events.len();
            events.rotate_left(middle);
            events.push(applied(service("ns/a", "10.96.0.1")));
            let tracker = with(events);
            tracker.snapshot().services[&port_name("ns/a", "")].clone()
        };
        prop_assert_eq!(merged(arrival, names), merged(0, 0));
    }

    /// Folding after every few events ends in the same snapshot as one fold at the end, and reports every entry that differs.
    #[test]
    fn deltas_equal_a_rebuild(steps in prop::collection::vec((step(), prop::bool::ANY), 0..40)) {
        let mut stepwise = tracker();
        let mut at_once = tracker();
        for (event, fold) in steps {
            let before = stepwise.snapshot().services.clone();
            let woken = stepwise.apply(event.clone());
            at_once.apply(event);
            if fold {
                let changes = stepwise.fold();
                let after = &stepwise.snapshot().services;
                let names = before.keys().chain(after.keys());
                for name in names {
                    prop_assert_eq!(changes.services.contains(name), before.get(name) != after.get(name));
                }
                prop_assert!(!woken || !changes.is_empty() || before == *after);
            }
        }
        stepwise.fold();
        at_once.fold();
        prop_assert_eq!(&stepwise.snapshot().services, &at_once.snapshot().services);
        prop_assert_eq!(stepwise.contested_frontends(), at_once.contested_frontends());
        let entries = stepwise.snapshot().services.values();
        let mut owned: Vec<_> =
            entries.flat_map(|entry| entry.port.frontends.iter().map(|(frontend, _)| *frontend)).collect();
        let all = owned.len();
        owned.sort_unstable();
        owned.dedup();
        prop_assert_eq!(owned.len(), all, "a frontend in two service ports");
        let count: usize = stepwise.snapshot().services.values().map(|e| e.endpoints.len()).sum();
        prop_assert_eq!(stepwise.snapshot().endpoint_count, count);
    }

    /// Listing everything again, in any state, leaves exactly the listed objects.
    #[test]
    fn a_relist_equals_a_rebuild(
        history in prop::collection::vec(step(), 0..20),
        listed in prop::collection::vec(step(), 0..20),
    ) {
        let listed: Vec<Event> = listed
            .into_iter()
            .filter(|e| matches!(e, Event::ServiceApplied(_) | Event::EndpointSliceApplied(_)))
            .collect();
        let list = |tracker: &mut Tracker| {
            for kind in [Kind::Service, Kind::EndpointSlice] {
                tracker.apply(Event::ListStarted(kind));
            }
            for event in listed.clone() {
                tracker.apply(event);
            }
            for kind in [Kind::Service, Kind::EndpointSlice] {
                tracker.apply(Event::ListDone(kind));
            }
            tracker.fold();
        };
        let mut old = with(history);
        list(&mut old);
        let mut new = tracker();
        list(&mut new);
        prop_assert_eq!(&old.snapshot().services, &new.snapshot().services);
    }
}

#[test]
fn two_ports_of_one_name_and_protocol_count_once() {
    let mut twice: Service = service("ns/a", "10.96.0.1");
    twice.ports.push(twice.ports[0].clone());
    let tracker = with(vec![applied(twice)]);
    assert_eq!(tracker.snapshot().services.len(), 1);
}

#[test]
fn an_annotation_goes_before_the_setting_about_local_endpoints() {
    let options =
        TrackerOptions { no_local_endpoints: NoLocalEndpoints::Reject, ..options(IpFamily::V4) };
    let mut tracker = Tracker::new(options);
    let local = |name: &str, own| Service {
        external_ips: vec![ip("192.0.2.1")],
        policy: ServicePolicy {
            external_traffic_policy: TrafficPolicy::Local,
            no_local_endpoints: own,
            ..ServicePolicy::default()
        },
        ..service(name, "10.0.0.1")
    };
    let own = |tracker: &Tracker| {
        tracker.snapshot().services[&port_name("ns/a", "")].port.policy.no_local_endpoints
    };
    tracker.apply(applied(local("ns/a", None)));
    assert!(!tracker.fold().is_empty());
    assert_eq!(own(&tracker), Some(NoLocalEndpoints::Reject));
    tracker.apply(applied(local("ns/a", Some(NoLocalEndpoints::Passthrough))));
    assert!(!tracker.fold().is_empty());
    assert_eq!(own(&tracker), Some(NoLocalEndpoints::Passthrough));
    tracker.apply(applied(local("ns/a", Some(NoLocalEndpoints::Reject))));
    tracker.apply(applied(local("ns/a", None)));
    assert!(!tracker.fold().is_empty());
    tracker.apply(applied(local("ns/a", Some(NoLocalEndpoints::Reject))));
    assert!(tracker.fold().is_empty(), "the same as before");
}

fn annotated(pairs: &[(&str, &str)]) -> Event {
    let mut service = service("ns/a", "10.96.0.1");
    let texts = pairs.iter().map(|(name, value)| ((*name).into(), (*value).into()));
    service.policy.annotations = texts.collect();
    applied(service)
}

/// An annotation of the ipvs mode wakes no proxy whose backend does not read it, and reaches one that does.
#[test]
fn only_annotations_that_the_backend_reads_make_a_difference() {
    const SCHEDULER: &str = "kube-proxy.io/ipvs-scheduler";
    let carried = |tracker: &Tracker| {
        let entry = &tracker.snapshot().services[&port_name("ns/a", "")];
        entry.port.policy.annotation(SCHEDULER).map(str::to_owned)
    };
    let mut nftables = with(vec![annotated(&[])]);
    assert!(!nftables.apply(annotated(&[(SCHEDULER, "rr")])), "nobody is woken");
    assert!(!nftables.apply(annotated(&[(SCHEDULER, "sh"), ("other", "x")])));
    assert!(nftables.fold().is_empty());
    assert_eq!(carried(&nftables), None);
    nftables.carry_annotations(vec![SCHEDULER]);
    assert_eq!(nftables.fold().services.len(), 1, "another backend, which reads it");
    assert_eq!(carried(&nftables).as_deref(), Some("sh"), "the newest is known");

    let mut ipvs = tracker();
    ipvs.carry_annotations(vec![SCHEDULER]);
    ipvs.apply(annotated(&[(SCHEDULER, "rr"), ("other", "x")]));
    ipvs.fold();
    assert!(!ipvs.apply(annotated(&[(SCHEDULER, "rr"), ("other", "y")])));
    assert!(ipvs.apply(annotated(&[(SCHEDULER, "sh"), ("other", "y")])));
    assert_eq!(ipvs.fold().services.len(), 1);
    assert_eq!(carried(&ipvs).as_deref(), Some("sh"));
}
