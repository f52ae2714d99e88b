//! Rules that count packets, where the kernel and iptables can.

use expect_test::expect;
use futures::executor::block_on;
use kube_proxy_core::{IpFamily, ProxyBackend, Snapshot};

use super::build::{backend, config, fresh, full, partial};
use super::model::{Counters, Model};
use super::samples::{Sample, service, snapshot};
use crate::Config;

fn of(samples: &[Sample]) -> Snapshot {
    snapshot(IpFamily::V4, samples)
}

fn web() -> Vec<Sample> {
    vec![service("web", "10.96.0.10").local("10.1.0.1:8080").node_port(30080)]
}

fn localhost(family: IpFamily) -> Config {
    Config { localhost_node_ports: true, ..config(family) }
}

/// A kernel with the objects, and iptables with the match.
fn counting() -> Model {
    let model = Model::default();
    model.can_count(true);
    model
}

/// The rules that are there because packets are counted.
fn counting_rules(config: Config) -> String {
    let model = counting();
    full(&mut backend(config.clone(), &model), &Snapshot::new(config.family));
    let without = fresh(config, &Snapshot::new(IpFamily::V4));
    model
        .dump()
        .lines()
        .filter(|line| !without.lines().any(|other| other == *line))
        .flat_map(|line| [line, "\n"])
        .collect()
}

#[test]
fn rules_that_count() {
    expect![[r#"
        -A KUBE-FORWARD -m conntrack --ctstate INVALID -m nfacct --nfacct-name ct_state_invalid_dropped_pkts -j DROP
        -A KUBE-MARK-MASQ -d 127.0.0.0/8 -m nfacct --nfacct-name localhost_nps_accepted_pkts
    "#]]
    .assert_eq(&counting_rules(localhost(IpFamily::V4)));
}

/// Nothing is dropped, and nothing comes to loopback.
#[test]
fn nothing_to_count() {
    let config = Config { drop_invalid: false, ..config(IpFamily::V4) };
    expect![""].assert_eq(&counting_rules(config));
}

#[test]
fn ipv6_has_no_node_ports_on_localhost() {
    let model = counting();
    full(&mut backend(localhost(IpFamily::V6), &model), &Snapshot::new(IpFamily::V6));
    let dump = model.dump();
    let counting: Vec<&str> = dump.lines().filter(|line| line.contains("nfacct")).collect();
    assert_eq!(
        counting,
        [
            "-A KUBE-FORWARD -m conntrack --ctstate INVALID -m nfacct --nfacct-name ct_state_invalid_dropped_pkts -j DROP"
        ]
    );
}

/// The objects without the match are as good as none: the rules are the same as ever.
#[test]
fn without_the_match_nothing_counts() {
    let model = Model::default();
    model.can_count(false);
    let mut backend = backend(localhost(IpFamily::V4), &model);
    full(&mut backend, &of(&web()));
    assert_eq!(model.dump(), fresh(localhost(IpFamily::V4), &of(&web())));
    // The probe, the rules, the canary of mangle; later nothing any more.
    assert_eq!(model.inputs().len(), 3);
    full(&mut backend, &of(&web()));
    assert_eq!(model.inputs().len(), 3);
    assert!(block_on(backend.intact()).unwrap());
}

/// The probe leaves nothing behind, and is made once.
#[test]
fn counting_is_tried_once() {
    let model = counting();
    let mut backend = backend(localhost(IpFamily::V4), &model);
    let report = full(&mut backend, &of(&web()));
    assert_eq!(model.chain("filter", "KUBE-PROXY-CANARY"), Some(vec![]));
    assert_eq!(model.inputs().len(), 3);
    assert!(block_on(backend.intact()).unwrap());
    let dump = model.dump();
    let again = full(&mut backend, &of(&web()));
    assert_eq!((model.dump(), model.inputs().len()), (dump, 3));
    let totals = |counts: &[kube_proxy_core::ObjectCount]| -> Vec<_> {
        counts.iter().map(|count| (count.kind, count.total)).collect()
    };
    assert_eq!(totals(&again.counts), totals(&report.counts));
}

/// An older version, or one on a kernel without the objects, left rules that do not count.
#[test]
fn the_probe_over_rules_that_do_not_count_leaves_nothing_behind() {
    let model = Model::default();
    full(&mut backend(localhost(IpFamily::V4), &model), &of(&web()));
    model.can_count(true);
    full(&mut backend(localhost(IpFamily::V4), &model), &of(&web()));
    assert_eq!(model.chain("filter", "KUBE-PROXY-CANARY"), Some(vec![]));
    assert!(model.dump().contains("-m nfacct"));
}

#[test]
fn partial_syncs_leave_counting_rules_alone() {
    let model = counting();
    let mut partly = backend(localhost(IpFamily::V4), &model);
    let (before, after) = (of(&[]), of(&web()));
    full(&mut partly, &before);
    partial(&mut partly, &before, &after);
    let input = model.inputs().pop().unwrap();
    assert!(!input.contains("nfacct"), "{input}");
    let fresh = counting();
    full(&mut backend(localhost(IpFamily::V4), &fresh), &after);
    assert_eq!(model.dump(), fresh.dump());
}

/// Deleted behind our back, which the kernel allows to no program while rules use them: after all rules were flushed.
#[test]
fn objects_that_were_deleted_are_made_again() {
    let model = counting();
    let mut backend = backend(localhost(IpFamily::V4), &model);
    full(&mut backend, &of(&web()));
    let dump = model.dump();
    model
        .apply("*filter\n:KUBE-FORWARD - [0:0]\nCOMMIT\n*nat\n:KUBE-MARK-MASQ - [0:0]\nCOMMIT\n")
        .unwrap();
    model.can_count(true);
    assert!(!block_on(backend.intact()).unwrap());
    full(&mut backend, &of(&web()));
    assert_eq!((model.dump(), model.counters()), (dump, Counters::There));
}
