//! What the programs say of the chains and rules of one frontend.

use std::net::IpAddr;

use futures::executor::block_on;
use kube_proxy_core::{
    Frontend, FrontendQuery, IpFamily, ObjectState, ProxyBackend as _, ServicePortName, Snapshot,
};
use kube_proxy_iptables::{IptablesBackend, Variant};

use crate::namespace::run;
use crate::samples::snapshot;
use crate::syncs::{Test, backend, every_kind, full, program, saved};

pub(crate) const TESTS: &[(&str, Test)] = &[
    ("look_up_finds_all_rules_of_every_frontend", finds_all),
    ("look_up_names_what_somebody_changed", names_damage),
];

/// A question for each frontend of a service port.
fn queries(snapshot: &Snapshot, name: &ServicePortName) -> Vec<FrontendQuery> {
    let node: IpAddr = match snapshot.family {
        IpFamily::V4 => "192.0.2.1".parse().unwrap(),
        IpFamily::V6 => "2001:db8::1".parse().unwrap(),
    };
    let frontends = snapshot.services[name].port.frontends.iter();
    let query = |frontend: &Frontend| {
        let to = (frontend.ip().unwrap_or(node), frontend.port()).into();
        FrontendQuery::new(name.clone(), *frontend, to)
    };
    frontends.map(|(frontend, _)| query(frontend)).collect()
}

/// What is not as it should be, and how much is.
fn look_up(
    backend: &mut IptablesBackend,
    snapshot: &Snapshot,
    query: &FrontendQuery,
) -> (Vec<String>, usize) {
    let objects = block_on(backend.look_up(snapshot, query)).unwrap();
    let (right, wrong): (Vec<_>, Vec<_>) =
        objects.iter().partition(|object| object.state == ObjectState::AsWanted);
    (wrong.iter().map(ToString::to_string).collect(), right.len())
}

fn finds_all(variant: Variant, family: IpFamily) {
    let mut backend = backend(variant, family);
    let snapshot = snapshot(family, &every_kind(family));
    full(&mut backend, &snapshot);
    let before = saved(variant, family);
    for name in snapshot.services.keys() {
        for query in queries(&snapshot, name) {
            let (wrong, right) = look_up(&mut backend, &snapshot, &query);
            assert_eq!(wrong, [] as [&str; 0], "{query:?}");
            assert!(right > 2, "{query:?}");
        }
    }
    assert_eq!(saved(variant, family), before, "it changed something");
}

fn names_damage(variant: Variant, family: IpFamily) {
    let mut backend = backend(variant, family);
    let snapshot = snapshot(family, &every_kind(family)[1..]);
    full(&mut backend, &snapshot);
    let name = snapshot.services.keys().find(|name| *name.service.name == *"s4").unwrap();
    let [cluster_ip, vip] = &queries(&snapshot, name)[..] else { panic!("two frontends") };
    let iptables = program(variant, family, "");
    let ours = saved(variant, family);
    let chain = |start: &str| -> String {
        let of = |(chain, rules): &(&String, &Vec<String>)| {
            chain.starts_with(start) && rules.iter().any(|rule| rule.contains("default/s4:http"))
        };
        let found = ours.iter().find(of).unwrap().0;
        found.rsplit(' ').next().unwrap().to_owned()
    };
    let (policy, firewall) = (chain("nat KUBE-SVC-"), chain("nat KUBE-FW-"));
    let to = cluster_ip.address.ip().to_string();
    let full_again = |backend: &mut IptablesBackend| {
        full(backend, &snapshot);
        assert_eq!(look_up(backend, &snapshot, cluster_ip).0, [] as [&str; 0]);
    };
    // A chain of the service port without its rules.
    run(&iptables, &["-t", "nat", "-F", &policy]);
    let (wrong, _) = look_up(&mut backend, &snapshot, cluster_ip);
    assert_eq!(wrong.len(), 2, "{wrong:#?}");
    let start = format!("missing rule nat -A {policy} ");
    assert!(wrong.iter().all(|line| line.starts_with(&start)), "{wrong:#?}");
    full_again(&mut backend);
    // The chain itself gone: so is the rule that led to it.
    run(&iptables, &["-t", "nat", "-F", "KUBE-SERVICES"]);
    run(&iptables, &["-t", "nat", "-F", &firewall]);
    run(&iptables, &["-t", "nat", "-X", &firewall]);
    let (wrong, _) = look_up(&mut backend, &snapshot, vip);
    assert!(wrong.contains(&format!("missing chain nat {firewall}")), "{wrong:#?}");
    let led = |line: &String| line.starts_with("missing rule nat -A KUBE-SERVICES ");
    assert!(wrong.iter().any(led), "{wrong:#?}");
    full_again(&mut backend);
    // Another program's rules, before ours.
    run(&iptables, &["-t", "nat", "-I", "KUBE-SERVICES", "-d", &to, "-j", "RETURN"]);
    run(&iptables, &["-t", "nat", "-I", &policy, "-j", "ACCEPT"]);
    let (wrong, _) = look_up(&mut backend, &snapshot, cluster_ip);
    let in_the_way = |line: &String| line.starts_with("in the way: rule nat -A ");
    assert!(wrong.len() == 2 && wrong.iter().all(in_the_way), "{wrong:#?}");
    assert!(wrong.iter().any(|line| line.contains(&to)), "{wrong:#?}");
    full(&mut backend, &snapshot);
    // The way to all chains.
    run(&iptables, &["-t", "nat", "-F", "PREROUTING"]);
    let (wrong, _) = look_up(&mut backend, &snapshot, cluster_ip);
    assert_eq!(wrong.len(), 1, "{wrong:#?}");
    assert!(wrong[0].starts_with("missing rule nat -A PREROUTING "), "{wrong:#?}");
}
