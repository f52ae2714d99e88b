//! What a restart makes of rules that are there, and what cleaning up leaves.

use std::net::SocketAddr;

use kube_proxy_core::Frontend;
use kube_proxy_core::{IpFamily, Protocol, Removed, Snapshot};

use super::build::{backend, config, fresh, full};
use super::model::{Counters, Model};
use super::samples::{Sample, service, snapshot};
use crate::cleanup::cleanup;

fn of(samples: &[Sample]) -> Snapshot {
    snapshot(IpFamily::V4, samples)
}

fn samples(count: u16) -> Vec<Sample> {
    let address = |n: u16| format!("10.96.{}.{}", n / 250, n % 250);
    (0..count).map(|n| service(&format!("s{n}"), &address(n)).remote("10.1.0.1:80")).collect()
}

#[test]
fn a_restart_writes_what_changed_meanwhile() {
    let model = Model::default();
    let mut samples = samples(600);
    full(&mut backend(config(IpFamily::V4), &model), &of(&samples));
    samples[300] = samples[300].clone().remote("10.1.0.2:80");
    samples.remove(100);
    let inputs = model.inputs().len();
    let report = full(&mut backend(config(IpFamily::V4), &model), &of(&samples));
    assert_eq!(model.dump(), fresh(config(IpFamily::V4), &of(&samples)));
    assert_eq!(model.inputs().len(), inputs + 1);
    let written: usize = report.counts.iter().map(|count| count.written).sum();
    // One chain of a service, and a chain of the tree with those on the way to it.
    assert!((1..60).contains(&written), "{written}");
}

#[test]
fn a_restart_repairs_what_somebody_changed() {
    let model = Model::default();
    let snapshot = of(&samples(5));
    full(&mut backend(config(IpFamily::V4), &model), &snapshot);
    let before = model.dump();
    let changes = [
        "*nat\n-A KUBE-SERVICES -j RETURN\nCOMMIT\n",
        "*nat\n:KUBE-POSTROUTING - [0:0]\nCOMMIT\n",
        "*filter\n-A KUBE-PROXY-CANARY -j RETURN\nCOMMIT\n",
        "*filter\n:KUBE-HAIRPIN - [0:0]\n-A KUBE-HAIRPIN -j DROP\nCOMMIT\n",
        "*nat\n:KUBE-SVC-STALE - [0:0]\n-A KUBE-SVC-STALE -j KUBE-MARK-MASQ\nCOMMIT\n",
        "*nat\n-D PREROUTING -m comment --comment \"kubernetes service portals\" -j KUBE-SERVICES\nCOMMIT\n",
    ];
    for change in changes {
        model.apply(change).unwrap();
        assert_ne!(model.dump(), before, "{change}");
        full(&mut backend(config(IpFamily::V4), &model), &snapshot);
        assert_eq!(model.dump(), before, "{change}");
    }
}

/// The rule that tries whether packets can be counted is not written where they are.
#[test]
fn a_restart_over_rules_that_count_writes_nothing() {
    let model = Model::default();
    model.can_count(true);
    let snapshot = of(&samples(5));
    full(&mut backend(config(IpFamily::V4), &model), &snapshot);
    assert_eq!(model.counters(), Counters::There);
    let (inputs, dump) = (model.inputs().len(), model.dump());
    assert!(dump.contains("-m nfacct"));
    full(&mut backend(config(IpFamily::V4), &model), &snapshot);
    assert_eq!((model.inputs().len(), model.dump()), (inputs, dump));
}

fn udp(address: &str) -> Frontend {
    Frontend::Address(Protocol::Udp, address.parse::<SocketAddr>().unwrap())
}

#[test]
fn udp_frontends_that_went_while_nobody_looked_are_named() {
    let model = Model::default();
    let dns = |n: u16| {
        let sample = service(&format!("dns{n}"), &format!("10.96.1.{}", n % 250));
        sample.protocol(Protocol::Udp).remote("10.1.0.1:53")
    };
    let mut all: Vec<_> = (1..=3).map(dns).collect();
    all[0] = all[0].clone().node_port(30001).external_ip("192.0.2.1").vip("192.0.2.2");
    all[1] = all[1].clone().node_port(30002);
    all.push(service("web", "10.96.1.9").remote("10.1.0.1:80").node_port(30009));
    full(&mut backend(config(IpFamily::V4), &model), &of(&all));
    // Nothing went: nothing is named.
    let report = full(&mut backend(config(IpFamily::V4), &model), &of(&all));
    assert_eq!(report.removed_udp, []);
    // A Service goes, another loses its node port, a third its endpoints: the last still has its address.
    let mut left = all.split_off(1);
    left[0] = dns(2);
    left[1] = service("dns3", "10.96.1.3").protocol(Protocol::Udp);
    let report = full(&mut backend(config(IpFamily::V4), &model), &of(&left));
    let gone = [
        udp("10.96.1.1:80"),
        udp("192.0.2.1:80"),
        udp("192.0.2.2:80"),
        Frontend::NodePort(Protocol::Udp, 30001),
        Frontend::NodePort(Protocol::Udp, 30002),
    ];
    assert_eq!(report.removed_udp, gone);
}

/// In chains of the tree too, and in those of a Go kube-proxy.
#[test]
fn udp_frontends_of_many_services_and_of_others_are_named() {
    let model = Model::default();
    let many: Vec<_> = (0..500_u16)
        .map(|n| {
            let sample = service(&format!("dns{n}"), &format!("10.96.{}.{}", n / 250, n % 250));
            sample.protocol(Protocol::Udp).remote("10.1.0.1:53").node_port(30000 + n)
        })
        .collect();
    full(&mut backend(config(IpFamily::V4), &model), &of(&many));
    let report = full(&mut backend(config(IpFamily::V4), &model), &of(&many[1..]));
    assert_eq!(report.removed_udp, [udp("10.96.0.0:80"), Frontend::NodePort(Protocol::Udp, 30000)]);
    let go = "*nat\n:KUBE-SERVICES - [0:0]\n:KUBE-NODEPORTS - [0:0]\n:KUBE-SVC-A - [0:0]\n:KUBE-EXT-A - [0:0]\n\
        -A KUBE-SERVICES -d 10.96.7.7/32 -p udp -m comment --comment \"a/b:c cluster IP\" -m udp --dport 53 -j KUBE-SVC-A\n\
        -A KUBE-NODEPORTS -p udp -m comment --comment a/b:c -m udp --dport 31000 -j KUBE-EXT-A\n\
        -A KUBE-SVC-A ! -s 10.0.0.0/8 -d 10.96.7.7/32 -p udp -m comment --comment \"a/b:c cluster IP\" -m udp --dport 53 -j RETURN\nCOMMIT\n";
    let model = Model::default();
    model.apply(go).unwrap();
    let report = full(&mut backend(config(IpFamily::V4), &model), &of(&samples(1)));
    assert_eq!(report.removed_udp, [udp("10.96.7.7:53"), Frontend::NodePort(Protocol::Udp, 31000)]);
}

/// Others may use what we have: what they lead to stays, empty, and the result says so, as often as it is asked for.
#[test]
fn cleanup_says_what_rules_of_others_lead_to() {
    let model = Model::default();
    full(&mut backend(config(IpFamily::V4), &model), &of(&samples(3)));
    model
        .apply("*nat\n:CRIO-HOSTPORTS-MASQ - [0:0]\n-A CRIO-HOSTPORTS-MASQ -j KUBE-MARK-MASQ\nCOMMIT\n")
        .unwrap();
    for found in [true, false] {
        let cleaned = cleanup(&model, false).unwrap();
        assert_eq!((cleaned.found, cleaned.kept), (found, 1));
        assert_eq!(Removed::from(cleaned), Removed::Referenced { chains: 1 });
        assert_eq!(model.chain("nat", "KUBE-MARK-MASQ"), Some(vec![]));
        assert_eq!(model.chain("nat", "KUBE-SERVICES"), None);
    }
}
