//! One test for each rule of endpoint choice, and a property test against a literal reading of the rules.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use proptest::prelude::*;

use super::{EndpointSelection, Selection, choose};
use crate::endpoint::{NodeHint, Place};
use crate::testing::{ip, port, service};
use crate::{
    Conditions, Endpoint, IpFamily, Protocol, ServicePort, Steering, TrafficPolicy, ZoneSpill,
};

/// Writes endpoints as words: an address' last number, then letters. `r` ready, `t` serving and terminating, `n` not serving; `L` local;
/// `@` names this node, `%` another; `a`/`b` are zone hints; `w` is weight 0.
fn endpoints(text: &str) -> Arc<[Endpoint]> {
    text.split_whitespace().map(endpoint).collect()
}

fn endpoint(word: &str) -> Endpoint {
    let digits = word.find(|c: char| !c.is_ascii_digit()).unwrap_or(word.len());
    let (number, letters) = word.split_at(digits);
    let has = |c| letters.contains(c);
    let zones: Vec<Arc<str>> =
        letters.chars().filter(|c| "ab".contains(*c)).map(|c| c.to_string().into()).collect();
    Endpoint {
        ip: IpAddr::from(Ipv4Addr::new(10, 0, 0, number.parse().expect("a number"))),
        port: port(8080),
        conditions: Conditions { ready: has('r'), serving: !has('n'), terminating: has('t') },
        place: if has('L') { Place::ThisNode } else { Place::OtherNode },
        node_hint: if has('@') {
            NodeHint::ThisNode
        } else if has('%') {
            NodeHint::OtherNode
        } else {
            NodeHint::Absent
        },
        steering: (!zones.is_empty() || has('w')).then(|| {
            let weight = u16::from(!has('w'));
            Arc::new(Steering { weight, zone_hints: zones, step: None })
        }),
    }
}

fn service_port(internal: TrafficPolicy, external: TrafficPolicy, node_port: bool) -> ServicePort {
    let mut service = service("ns/svc", "10.96.0.1");
    service.policy.internal_traffic_policy = internal;
    service.policy.external_traffic_policy = external;
    service.ports[0].node_port = node_port.then(|| port(30000));
    service.service_ports(IpFamily::V4).remove(0).1
}

use TrafficPolicy::{Cluster, Local};

fn numbers(list: &[Endpoint]) -> String {
    let number = |e: &Endpoint| match e.ip {
        IpAddr::V4(ip) => ip.octets()[3].to_string(),
        IpAddr::V6(_) => unreachable!("only IPv4 in here"),
    };
    list.iter().map(number).collect::<Vec<_>>().join(" ")
}

fn chosen(port: &ServicePort, words: &str) -> String {
    let choice = choose(port, &endpoints(words), Some("a"));
    format!(
        "cluster [{}] local [{}]{}",
        numbers(&choice.cluster),
        numbers(&choice.local),
        if choice.has_any_endpoint { "" } else { " none anywhere" }
    )
}

#[test]
fn rules() {
    let cluster = service_port(Cluster, Cluster, false);
    let internal_local = service_port(Local, Cluster, false);
    let external_local = service_port(Cluster, Local, true);
    let both_local = service_port(Local, Local, true);
    for (what, port, words, expected) in [
        ("no endpoints", &cluster, "", "cluster [] local [] none anywhere"),
        ("ready only", &cluster, "1r 2n 3r", "cluster [1 3] local []"),
        ("terminating as the last resort", &cluster, "1n 2t", "cluster [2] local []"),
        ("terminating not beside ready", &cluster, "1r 2t", "cluster [1] local []"),
        ("nothing serves", &cluster, "1n", "cluster [] local [] none anywhere"),
        ("internal local", &internal_local, "1r 2rL", "cluster [] local [2]"),
        ("internal local, none here", &internal_local, "1r", "cluster [] local []"),
        ("internal local, terminating here", &internal_local, "1r 2tL", "cluster [] local [2]"),
        ("external local", &external_local, "1r 2rL", "cluster [1 2] local [2]"),
        ("external local, none here", &external_local, "1r", "cluster [1] local []"),
        ("both local", &both_local, "1r 2rL 3tL", "cluster [1 2] local [2]"),
        ("both local, terminating here", &both_local, "1r 3tL", "cluster [1] local [3]"),
        ("same zone", &cluster, "1ra 2rb 3rab", "cluster [1 3] local []"),
        ("one ready without a zone", &cluster, "1ra 2rb 3r", "cluster [1 2 3] local []"),
        ("unready ones need no hint", &cluster, "1ra 2rb 3n", "cluster [1] local []"),
        ("no hint for our zone", &cluster, "1rb 2rb", "cluster [1 2] local []"),
        ("node before zone", &cluster, "1ra@ 2ra%", "cluster [1] local []"),
        ("no node hint for us", &cluster, "1ra% 2rb%", "cluster [1] local []"),
        ("one without a node hint", &cluster, "1r@ 2r", "cluster [1 2] local []"),
        ("hints do not bind local", &both_local, "1rL% 2r@", "cluster [2] local [1]"),
        ("one drains", &cluster, "1r 2rw", "cluster [1] local []"),
        ("all drain", &cluster, "1rw 2rw", "cluster [] local [] none anywhere"),
        ("all drain, all are local", &both_local, "1rLw", "cluster [] local [] none anywhere"),
        ("the local one drains", &external_local, "1rLw 2r", "cluster [2] local []"),
        ("ready ones drain, another terminates", &cluster, "1rw 2t", "cluster [2] local []"),
        ("a last resort may drain too", &cluster, "1rw 2tw", "cluster [] local [] none anywhere"),
        ("hints of one that drains", &cluster, "1raw 2rb", "cluster [2] local []"),
        ("one that drains needs no hint", &cluster, "1ra 2rb 3rw", "cluster [1] local []"),
    ] {
        assert_eq!(chosen(port, words), expected, "{what}");
    }
}

/// A service port under the policy `Cluster` with this threshold.
fn spilling(zone_spill: Option<ZoneSpill>) -> ServicePort {
    let mut service = service("ns/svc", "10.96.0.1");
    service.policy.zone_spill = zone_spill;
    service.service_ports(IpFamily::V4).remove(0).1
}

#[test]
fn a_zone_with_too_few_endpoints_is_joined_by_others() {
    use ZoneSpill::{Below, BelowPercent};
    for (what, spill, words, expected) in [
        ("enough", Below(2), "1ra 2ra 3rb", "1 2"),
        ("too few", Below(3), "1ra 2ra 3rb", "1 2 3"),
        ("none needed", Below(0), "1ra 2rb", "1"),
        ("only ready ones count", Below(2), "1ra 2na 3rb", "1 3"),
        ("one for two zones counts", Below(2), "1ra 2rab 3rb", "1 2"),
        ("half is enough", BelowPercent(50), "1ra 2rb", "1"),
        ("a third is not", BelowPercent(34), "1ra 2rb 3rb", "1 2 3"),
        ("all of them", BelowPercent(100), "1ra 2ra", "1 2"),
        ("no zone, no spill", Below(9), "1ra 2r", "1 2"),
        ("the node goes before the zone", Below(9), "1ra@ 2ra%", "1"),
        ("nothing ready", Below(9), "1ta 2na", "1"),
    ] {
        let choice = choose(&spilling(Some(spill)), &endpoints(words), Some("a"));
        assert_eq!(numbers(&choice.cluster), expected, "{what}");
    }
}

#[test]
fn a_spill_says_why() {
    let (port, all) = (spilling(Some(ZoneSpill::Below(3))), endpoints("1ra 2na 3rb 4rb"));
    let spill = Selection::of(Cluster, &port, &all, Some("a")).spill().expect("a spill");
    assert_eq!((spill.in_zone, spill.ready, spill.below), (1, 3, ZoneSpill::Below(3)));
    for (policy, port, zone) in [
        (Cluster, spilling(None), Some("a")),
        (Cluster, port.clone(), Some("c")),
        (Cluster, port.clone(), None),
        (Local, port, Some("a")),
    ] {
        assert_eq!(Selection::of(policy, &port, &all, zone).spill(), None);
    }
}

#[test]
fn a_node_without_a_zone_ignores_zone_hints() {
    let port = service_port(Cluster, Cluster, false);
    let choice = choose(&port, &endpoints("1ra 2rb"), None);
    assert_eq!(numbers(&choice.cluster), "1 2");
}

#[test]
fn lists_equal_to_the_full_one_share_its_memory() {
    let all = endpoints("1rL 2rL");
    let choice = choose(&service_port(Cluster, Local, true), &all, None);
    assert!(Arc::ptr_eq(&all, &choice.cluster));
    assert!(Arc::ptr_eq(&all, &choice.local));
}

#[test]
fn reachable_has_each_endpoint_once() {
    let choice = choose(&service_port(Cluster, Local, true), &endpoints("1r 2rL 4tL"), None);
    assert_eq!(numbers(&choice.reachable().cloned().collect::<Vec<_>>()), "1 2");
    let choice = choose(&service_port(Cluster, Local, true), &endpoints("1r 4tL"), None);
    assert_eq!(numbers(&choice.reachable().cloned().collect::<Vec<_>>()), "1 4");
}

#[test]
fn external_ips_make_a_cluster_ip_service_externally_reachable() {
    let mut service = service("ns/svc", "10.96.0.1");
    service.policy.external_traffic_policy = Local;
    let plain = service.service_ports(IpFamily::V4).remove(0).1;
    assert!(!plain.uses_local_endpoints());
    service.external_ips = vec![ip("192.0.2.1")];
    assert!(service.service_ports(IpFamily::V4).remove(0).1.uses_local_endpoints());
    assert_eq!(plain.protocol, Protocol::Tcp);
}

/// The rules read out literally, list by list, without sharing.
fn literal(
    port: &ServicePort,
    all: &[Endpoint],
    zone: &str,
) -> (Vec<Endpoint>, Vec<Endpoint>, bool) {
    let keep = |f: &dyn Fn(&Endpoint) -> bool| -> Vec<Endpoint> {
        all.iter().filter(|e| f(e)).cloned().collect()
    };
    let takes_new = |e: &Endpoint| e.weight() > 0;
    let ready = keep(&|e| e.conditions.ready && takes_new(e));
    let in_zone =
        |e: &Endpoint| e.zone_hints().is_some_and(|zones| zones.iter().any(|z| &**z == zone));
    let here = |e: &Endpoint| e.node_hint == NodeHint::ThisNode;
    let leaves = |e: &Endpoint| e.conditions.serving && e.conditions.terminating;
    let mut cluster = Vec::new();
    let mut local = Vec::new();
    let mut any = false;
    if port.policy.internal_traffic_policy == Cluster || port.node_port().is_some() {
        let hinted_nodes = ready.iter().all(|e| e.node_hint != NodeHint::Absent);
        let hinted_zones = ready.iter().all(|e| e.zone_hints().is_some());
        cluster = if hinted_nodes && ready.iter().any(here) {
            keep(&|e| e.conditions.ready && takes_new(e) && here(e))
        } else if hinted_zones
            && ready.iter().any(in_zone)
            && match port.policy.zone_spill {
                None => true,
                Some(ZoneSpill::Below(least)) => {
                    keep(&|e| e.conditions.ready && takes_new(e) && in_zone(e)).len()
                        >= least as usize
                }
                Some(ZoneSpill::BelowPercent(percent)) => {
                    let in_zone = keep(&|e| e.conditions.ready && takes_new(e) && in_zone(e)).len();
                    in_zone * 100 >= ready.len() * usize::from(percent)
                }
            }
        {
            keep(&|e| e.conditions.ready && takes_new(e) && in_zone(e))
        } else {
            ready
        };
        if cluster.is_empty() {
            cluster = keep(&|e| leaves(e) && takes_new(e));
        }
        any = !cluster.is_empty();
    }
    if port.policy.internal_traffic_policy == Local
        || (port.policy.external_traffic_policy == Local && port.node_port().is_some())
    {
        any |= !keep(&|e| (e.conditions.ready || leaves(e)) && takes_new(e)).is_empty();
        local = keep(&|e| e.is_local() && e.conditions.ready && takes_new(e));
        if local.is_empty() {
            local = keep(&|e| e.is_local() && leaves(e) && takes_new(e));
        }
    }
    (cluster, local, any)
}

proptest! {
    #[test]
    fn equals_the_literal_rules(
        words in prop::collection::vec("[rtn]L?[@%]?a?b?w?", 0..8),
        internal in any::<bool>(),
        external in any::<bool>(),
        node_port in any::<bool>(),
        spill in prop::option::of(prop_oneof![
            (0..6_u32).prop_map(ZoneSpill::Below),
            (0..=100_u8).prop_map(ZoneSpill::BelowPercent),
        ]),
    ) {
        let policy = |local| if local { Local } else { Cluster };
        let mut port = service_port(policy(internal), policy(external), node_port);
        Arc::make_mut(&mut port.policy).zone_spill = spill;
        let words: Vec<String> =
            words.iter().enumerate().map(|(i, letters)| format!("{}{letters}", i + 1)).collect();
        let all = endpoints(&words.join(" "));
        let EndpointSelection { cluster, local, has_any_endpoint } = choose(&port, &all, Some("a"));
        let expected = literal(&port, &all, "a");
        prop_assert_eq!((cluster.to_vec(), local.to_vec(), has_any_endpoint), expected);
    }
}

/// Memory follows the number of endpoints: hints are shared, and an address needs no more than IPv6 takes.
#[test]
fn an_endpoint_takes_32_bytes() {
    assert_eq!(size_of::<Endpoint>(), 32);
}
