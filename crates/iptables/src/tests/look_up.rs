//! What the look-up of one frontend names, and that other Services cost it nothing.

use std::net::SocketAddr;

use futures::executor::block_on;
use kube_proxy_core::{
    Frontend, FrontendQuery, IpFamily, Protocol, ProxyBackend as _, ServicePortName, Snapshot,
};

use super::build::{backend, config, full};
use super::model::Model;
use super::samples::{Sample, service, snapshot};
use crate::IptablesBackend;
use crate::names::ServiceChains;

const CLUSTER_IP: &str = "10.96.0.1:80";
const EXTERNAL_IP: &str = "203.0.113.1:80";
const VIP: &str = "203.0.113.2:80";
const NODE_PORT: &str = "192.0.2.1:30001";

fn everything() -> Sample {
    let web = service("web", "10.96.0.1").local("10.1.0.1:80").remote("10.1.0.2:80");
    let web = web.external_ip("203.0.113.1").vip("203.0.113.2").range("198.51.100.0/24");
    web.node_port(30001)
}

fn name(snapshot: &Snapshot, of: &str) -> ServicePortName {
    snapshot.services.keys().find(|name| *name.service.name == *of).unwrap().clone()
}

fn query(snapshot: &Snapshot, of: &str, to: &str) -> FrontendQuery {
    let to: SocketAddr = to.parse().unwrap();
    let frontend = match to.port() {
        30_000.. => Frontend::NodePort(Protocol::Tcp, to.port()),
        _ => Frontend::Address(Protocol::Tcp, to),
    };
    FrontendQuery::new(name(snapshot, of), frontend, to)
}

fn lines(backend: &mut IptablesBackend, snapshot: &Snapshot, to: &str) -> Vec<String> {
    let query = query(snapshot, "web", to);
    let objects = block_on(backend.look_up(snapshot, &query)).unwrap();
    objects.iter().map(ToString::to_string).collect()
}

/// What is not as it should be.
fn wrong(backend: &mut IptablesBackend, snapshot: &Snapshot, to: &str) -> Vec<String> {
    let mut lines = lines(backend, snapshot, to);
    lines.retain(|line| !line.starts_with("rule ") && !line.starts_with("chain "));
    lines
}

#[test]
fn each_frontend_has_its_rules() {
    let snapshot = snapshot(IpFamily::V4, &[everything(), service("other", "10.96.0.2")]);
    let model = Model::default();
    let mut backend = backend(config(IpFamily::V4), &model);
    full(&mut backend, &snapshot);
    let before = model.dump();
    let chains = ServiceChains::of(&name(&snapshot, "web"));
    for (to, leads) in [
        (
            CLUSTER_IP,
            format!(
                "nat -A KUBE-SERVICES -d 10.96.0.1/32 -p tcp -m comment --comment \"default/web:http cluster IP\" -m tcp --dport 80 -j {}",
                chains.cluster
            ),
        ),
        (
            EXTERNAL_IP,
            format!(
                "nat -A KUBE-SERVICES -d 203.0.113.1/32 -p tcp -m comment --comment \"default/web:http external IP\" -m tcp --dport 80 -j {}",
                chains.external
            ),
        ),
        (
            VIP,
            format!(
                "filter -A KUBE-PROXY-FIREWALL -d 203.0.113.2/32 -p tcp -m comment --comment \"default/web:http traffic not accepted by {}\" -m tcp --dport 80 -j DROP",
                chains.firewall
            ),
        ),
        (
            NODE_PORT,
            format!(
                "nat -A KUBE-NODEPORTS -p tcp -m comment --comment \"default/web:http\" -m tcp --dport 30001 -j {}",
                chains.external
            ),
        ),
    ] {
        let lines = lines(&mut backend, &snapshot, to);
        assert!(lines.contains(&format!("rule {leads}")), "{to}: {lines:#?}");
        let last = format!("rule nat -A {} ", chains.cluster);
        assert!(lines.iter().any(|line| line.starts_with(&last)), "{to}: {lines:#?}");
        assert!(lines.iter().any(|line| line.contains("-A PREROUTING")), "{to}: {lines:#?}");
        assert_eq!(wrong(&mut backend, &snapshot, to), [] as [&str; 0], "{to}");
        let own = |line: &&String| line.contains("10.96.0.2");
        assert_eq!(lines.iter().find(own), None, "of another Service");
    }
    assert_eq!(model.dump(), before, "it changed something");
}

#[test]
fn each_damage_is_named() {
    let snapshot = snapshot(IpFamily::V4, &[everything()]);
    let model = Model::default();
    let mut backend = backend(config(IpFamily::V4), &model);
    full(&mut backend, &snapshot);
    let ServiceChains { cluster, external, firewall, .. } =
        ServiceChains::of(&name(&snapshot, "web"));
    let rule = model.chain("nat", cluster.as_str()).unwrap().remove(1);
    let hook = "PREROUTING -m comment --comment \"kubernetes service portals\" -j KUBE-SERVICES";
    let drop = "-d 10.96.0.0/24 -j DROP";
    let cases = [
        (
            CLUSTER_IP,
            format!("-D {cluster} {rule}"),
            format!("missing rule nat -A {cluster} {rule}"),
        ),
        (
            CLUSTER_IP,
            format!("-I {cluster} 1 -j RETURN"),
            format!("in the way: rule nat -A {cluster} -j RETURN"),
        ),
        (
            CLUSTER_IP,
            format!("-I KUBE-SERVICES 1 {drop}"),
            format!("in the way: rule nat -A KUBE-SERVICES {drop}"),
        ),
        (CLUSTER_IP, format!("-D {hook}"), format!("missing rule nat -A {hook}")),
        (
            EXTERNAL_IP,
            format!(":{external} - [0:0]"),
            format!("missing rule nat -A {external} -j {cluster}"),
        ),
        (
            VIP,
            format!(":{firewall} - [0:0]"),
            format!("missing rule nat -A {firewall} -s 198.51.100.0/24"),
        ),
        (
            NODE_PORT,
            ":KUBE-NODEPORTS - [0:0]".to_owned(),
            "missing rule nat -A KUBE-NODEPORTS -p tcp".to_owned(),
        ),
        (
            NODE_PORT,
            ":KUBE-POSTROUTING - [0:0]".to_owned(),
            "missing rule nat -A KUBE-POSTROUTING".to_owned(),
        ),
    ];
    for (to, damage, expected) in cases {
        model.apply(&format!("*nat\n{damage}\nCOMMIT\n")).unwrap();
        let found = wrong(&mut backend, &snapshot, to);
        assert!(found.iter().any(|line| line.starts_with(&expected)), "{damage}: {found:#?}");
        full(&mut backend, &snapshot);
        assert_eq!(wrong(&mut backend, &snapshot, to), [] as [&str; 0], "{damage}");
    }
    // A rule for other destinations is not in the way here.
    let others = "-I KUBE-SERVICES 1 -d 10.97.0.0/24 -j DROP\n-I KUBE-SERVICES 1 -d 10.96.0.1/32 -p udp -j DROP\n-I KUBE-SERVICES 1 -d 10.96.0.1/32 -p tcp -m tcp --dport 81:90 -j DROP";
    model.apply(&format!("*nat\n{others}\nCOMMIT\n")).unwrap();
    assert_eq!(wrong(&mut backend, &snapshot, CLUSTER_IP), [] as [&str; 0]);
    // Two rules that change places.
    let [first, second, third] = &model.chain("nat", cluster.as_str()).unwrap()[..] else {
        panic!("three rules")
    };
    let swapped = format!(
        "*nat\n:{cluster} - [0:0]\n-A {cluster} {first}\n-A {cluster} {third}\n-A {cluster} {second}\nCOMMIT\n"
    );
    model.apply(&swapped).unwrap();
    let order =
        format!("different chain nat {cluster}, there is one with its rules in another order");
    assert_eq!(wrong(&mut backend, &snapshot, CLUSTER_IP), [order]);
}

/// Without endpoints a frontend is refused in `filter`, and nothing in `nat` may take it before.
#[test]
fn refused_frontends_have_rules_too() {
    let web = service("web", "10.96.0.1").node_port(30001);
    let snapshot = snapshot(IpFamily::V4, &[web]);
    let model = Model::default();
    let mut backend = backend(config(IpFamily::V4), &model);
    full(&mut backend, &snapshot);
    for (to, root, before) in
        [(CLUSTER_IP, "KUBE-SERVICES", "FORWARD"), (NODE_PORT, "KUBE-EXTERNAL-NODEPORTS", "INPUT")]
    {
        let lines = lines(&mut backend, &snapshot, to);
        let refuses = |line: &String| {
            line.starts_with(&format!("rule filter -A {root} ")) && line.ends_with("-j REJECT")
        };
        assert!(lines.iter().any(refuses), "{to}: {lines:#?}");
        let hook = format!("rule filter -A {before} ");
        assert!(lines.iter().any(|line| line.starts_with(&hook)), "{to}: {lines:#?}");
        assert_eq!(wrong(&mut backend, &snapshot, to), [] as [&str; 0]);
        model.apply(&format!("*filter\n:{root} - [0:0]\nCOMMIT\n")).unwrap();
        let found = wrong(&mut backend, &snapshot, to);
        assert!(found[0].starts_with(&format!("missing rule filter -A {root} ")), "{found:#?}");
        full(&mut backend, &snapshot);
    }
    let foreign = "-I KUBE-SERVICES 1 -d 10.96.0.1/32 -j DNAT --to-destination 192.0.2.7";
    model.apply(&format!("*nat\n{foreign}\nCOMMIT\n")).unwrap();
    let found = wrong(&mut backend, &snapshot, CLUSTER_IP);
    assert_eq!(found.len(), 1, "{found:#?}");
    assert!(found[0].starts_with("in the way: rule nat -A KUBE-SERVICES -d 10.96.0.1/32"));
}

/// Under session affinity each endpoint has a chain, of which some are looked at.
#[test]
fn chains_of_endpoints_are_bounded() {
    let mut web = service("web", "10.96.0.1").affinity(60);
    for number in 0..50 {
        web = web.remote(&format!("10.1.0.{number}:80"));
    }
    let snapshot = snapshot(IpFamily::V4, &[web]);
    let model = Model::default();
    let mut backend = backend(config(IpFamily::V4), &model);
    full(&mut backend, &snapshot);
    let found = wrong(&mut backend, &snapshot, CLUSTER_IP);
    assert_eq!(found.len(), 1, "{found:#?}");
    assert!(found[0].starts_with("not known: chain 18 more chains of endpoints: "), "{found:#?}");
    let lines = lines(&mut backend, &snapshot, CLUSTER_IP);
    assert_eq!(lines.iter().filter(|line| line.starts_with("rule nat -A KUBE-SEP-")).count(), 32);
}

/// Chains listed, rules in them, and rules asked for.
fn cost(others: u32) -> [(usize, usize, usize); 2] {
    let mut samples = vec![everything()];
    samples.extend((0..others).map(|number| {
        let [_, a, b, c] = number.to_be_bytes();
        service(&format!("s{number}"), &format!("10.{}.{b}.{c}", 97 + a)).remote("10.1.0.9:80")
    }));
    let snapshot = snapshot(IpFamily::V4, &samples);
    let model = Model::default();
    let mut backend = backend(config(IpFamily::V4), &model);
    full(&mut backend, &snapshot);
    let saves = model.saves();
    let counts = [CLUSTER_IP, NODE_PORT].map(|to| {
        model.take_asked();
        assert_eq!(wrong(&mut backend, &snapshot, to), [] as [&str; 0]);
        model.take_asked()
    });
    assert_eq!(model.saves(), saves, "a table was listed");
    counts
}

#[test]
fn other_services_cost_nothing() {
    let few = cost(300);
    for counts in few {
        assert!(counts.0 < 14 && counts.1 < 400 && counts.2 < 8, "{few:?}");
    }
    let many = cost(3_000);
    for (few, many) in few.iter().zip(&many) {
        // Where dispatch divides once more there is a chain more.
        assert!(many.0 <= few.0 + 2 && many.1 <= few.1 + 64 && many.2 == few.2, "{few:?} {many:?}");
    }
}
