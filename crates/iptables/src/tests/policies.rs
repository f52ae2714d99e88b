//! Traffic policies, source ranges, health checks and clashes.

use expect_test::{Expect, expect};
use kube_proxy_core::{IpFamily, NoLocalEndpoints};

use super::build::{backend, config, full, partial, rules_for};
use super::model::Model;
use super::samples::{Sample, service, snapshot};

#[expect(
    clippy::needless_pass_by_value,
    reason = "what `expect!` makes is meant to be handed over"
)]
fn check(samples: &[Sample], expected: Expect) {
    let rules = rules_for(config(IpFamily::V4), &snapshot(IpFamily::V4, samples));
    expected.assert_eq(&rules);
}

fn web() -> Sample {
    service("web", "10.96.0.10")
}

#[test]
fn internal_local_uses_local_endpoints() {
    let web = web().local("10.1.0.1:8080").remote("10.1.1.1:8080").internal_local();
    check(
        &[web],
        expect![[r#"
            filter KUBE-HAIRPIN -s 10.1.0.1/32 -d 10.1.0.1/32 -j ACCEPT
            nat KUBE-SEP-HAIRPIN -s 10.1.0.1/32 -d 10.1.0.1/32 -j MASQUERADE --random-fully
            nat KUBE-SERVICES -d 10.96.0.10/32 -p tcp -m comment --comment "default/web:http cluster IP" -m tcp --dport 80 -j KUBE-SVL-CDGGSHYLG3RE2FKL
            nat KUBE-SVL-CDGGSHYLG3RE2FKL ! -s 10.0.0.0/8 -d 10.96.0.10/32 -p tcp -m comment --comment "default/web:http cluster IP" -m tcp --dport 80 -j KUBE-MARK-MASQ
            nat KUBE-SVL-CDGGSHYLG3RE2FKL -p tcp -m comment --comment "default/web:http -> 10.1.0.1:8080" -j DNAT --to-destination 10.1.0.1:8080
        "#]],
    );
}

#[test]
fn internal_local_without_local_endpoints_is_dropped() {
    let web = web().remote("10.1.1.1:8080").internal_local().node_port(30080);
    check(
        &[web],
        expect![[r#"
        filter KUBE-SERVICES -d 10.96.0.10/32 -p tcp -m comment --comment "default/web:http has no local endpoints" -m tcp --dport 80 -j DROP
        nat KUBE-EXT-CDGGSHYLG3RE2FKL -m comment --comment "masquerade traffic for default/web:http external destinations" -j KUBE-MARK-MASQ
        nat KUBE-EXT-CDGGSHYLG3RE2FKL -j KUBE-SVC-CDGGSHYLG3RE2FKL
        nat KUBE-NODEPORTS -p tcp -m comment --comment "default/web:http" -m tcp --dport 30080 -j KUBE-EXT-CDGGSHYLG3RE2FKL
        nat KUBE-SVC-CDGGSHYLG3RE2FKL -p tcp -m comment --comment "default/web:http -> 10.1.1.1:8080" -j DNAT --to-destination 10.1.1.1:8080
    "#]],
    );
}

#[test]
fn external_local_keeps_clients_and_short_circuits_the_rest() {
    let web = web()
        .local("10.1.0.1:8080")
        .remote("10.1.1.1:8080")
        .external_local()
        .vip("198.51.100.1")
        .health_check(32000);
    check(
        &[web],
        expect![[r#"
            filter KUBE-HAIRPIN -s 10.1.0.1/32 -d 10.1.0.1/32 -j ACCEPT
            filter KUBE-NODEPORTS -p tcp -m comment --comment "default/web:http health check node port" -m tcp --dport 32000 -j ACCEPT
            nat KUBE-EXT-CDGGSHYLG3RE2FKL -s 10.0.0.0/8 -m comment --comment "pod traffic for default/web:http external destinations" -j KUBE-SVC-CDGGSHYLG3RE2FKL
            nat KUBE-EXT-CDGGSHYLG3RE2FKL -m comment --comment "masquerade LOCAL traffic for default/web:http external destinations" -m addrtype --src-type LOCAL -j KUBE-MARK-MASQ
            nat KUBE-EXT-CDGGSHYLG3RE2FKL -m comment --comment "route LOCAL traffic for default/web:http external destinations" -m addrtype --src-type LOCAL -j KUBE-SVC-CDGGSHYLG3RE2FKL
            nat KUBE-EXT-CDGGSHYLG3RE2FKL -j KUBE-SVL-CDGGSHYLG3RE2FKL
            nat KUBE-SEP-HAIRPIN -s 10.1.0.1/32 -d 10.1.0.1/32 -j MASQUERADE --random-fully
            nat KUBE-SERVICES -d 10.96.0.10/32 -p tcp -m comment --comment "default/web:http cluster IP" -m tcp --dport 80 -j KUBE-SVC-CDGGSHYLG3RE2FKL
            nat KUBE-SERVICES -d 198.51.100.1/32 -p tcp -m comment --comment "default/web:http loadbalancer IP" -m tcp --dport 80 -j KUBE-EXT-CDGGSHYLG3RE2FKL
            nat KUBE-SVC-CDGGSHYLG3RE2FKL ! -s 10.0.0.0/8 -d 10.96.0.10/32 -p tcp -m comment --comment "default/web:http cluster IP" -m tcp --dport 80 -j KUBE-MARK-MASQ
            nat KUBE-SVC-CDGGSHYLG3RE2FKL -p tcp -m comment --comment "default/web:http -> 10.1.0.1:8080" -m statistic --mode random --probability 0.5000000000 -j DNAT --to-destination 10.1.0.1:8080
            nat KUBE-SVC-CDGGSHYLG3RE2FKL -p tcp -m comment --comment "default/web:http -> 10.1.1.1:8080" -j DNAT --to-destination 10.1.1.1:8080
            nat KUBE-SVL-CDGGSHYLG3RE2FKL -p tcp -m comment --comment "default/web:http -> 10.1.0.1:8080" -j DNAT --to-destination 10.1.0.1:8080
        "#]],
    );
}

#[test]
fn external_local_without_local_endpoints_is_dropped_but_short_circuited() {
    let web = web()
        .remote("10.1.1.1:8080")
        .external_local()
        .vip("198.51.100.1")
        .external_ip("192.0.2.1")
        .node_port(30080);
    check(
        &[web],
        expect![[r#"
        filter KUBE-EXTERNAL-NODEPORTS -p tcp -m comment --comment "default/web:http has no local endpoints" -m tcp --dport 30080 -j DROP
        filter KUBE-EXTERNAL-SERVICES -d 192.0.2.1/32 -p tcp -m comment --comment "default/web:http has no local endpoints" -m tcp --dport 80 -j DROP
        filter KUBE-EXTERNAL-SERVICES -d 198.51.100.1/32 -p tcp -m comment --comment "default/web:http has no local endpoints" -m tcp --dport 80 -j DROP
        nat KUBE-EXT-CDGGSHYLG3RE2FKL -s 10.0.0.0/8 -m comment --comment "pod traffic for default/web:http external destinations" -j KUBE-SVC-CDGGSHYLG3RE2FKL
        nat KUBE-EXT-CDGGSHYLG3RE2FKL -m comment --comment "masquerade LOCAL traffic for default/web:http external destinations" -m addrtype --src-type LOCAL -j KUBE-MARK-MASQ
        nat KUBE-EXT-CDGGSHYLG3RE2FKL -m comment --comment "route LOCAL traffic for default/web:http external destinations" -m addrtype --src-type LOCAL -j KUBE-SVC-CDGGSHYLG3RE2FKL
        nat KUBE-NODEPORTS -p tcp -m comment --comment "default/web:http" -m tcp --dport 30080 -j KUBE-EXT-CDGGSHYLG3RE2FKL
        nat KUBE-SERVICES -d 10.96.0.10/32 -p tcp -m comment --comment "default/web:http cluster IP" -m tcp --dport 80 -j KUBE-SVC-CDGGSHYLG3RE2FKL
        nat KUBE-SERVICES -d 192.0.2.1/32 -p tcp -m comment --comment "default/web:http external IP" -m tcp --dport 80 -j KUBE-EXT-CDGGSHYLG3RE2FKL
        nat KUBE-SERVICES -d 198.51.100.1/32 -p tcp -m comment --comment "default/web:http loadbalancer IP" -m tcp --dport 80 -j KUBE-EXT-CDGGSHYLG3RE2FKL
        nat KUBE-SVC-CDGGSHYLG3RE2FKL ! -s 10.0.0.0/8 -d 10.96.0.10/32 -p tcp -m comment --comment "default/web:http cluster IP" -m tcp --dport 80 -j KUBE-MARK-MASQ
        nat KUBE-SVC-CDGGSHYLG3RE2FKL -p tcp -m comment --comment "default/web:http -> 10.1.1.1:8080" -j DNAT --to-destination 10.1.1.1:8080
    "#]],
    );
}

#[test]
fn terminating_endpoints_are_used_when_nothing_else_is_left() {
    let web = web()
        .local("10.1.0.1:8080")
        .terminating()
        .remote("10.1.1.1:8080")
        .terminating()
        .external_local()
        .node_port(30080)
        .affinity(5);
    check(
        &[web],
        expect![[r#"
            filter KUBE-HAIRPIN -s 10.1.0.1/32 -d 10.1.0.1/32 -j ACCEPT
            nat KUBE-EXT-CDGGSHYLG3RE2FKL -s 10.0.0.0/8 -m comment --comment "pod traffic for default/web:http external destinations" -j KUBE-SVC-CDGGSHYLG3RE2FKL
            nat KUBE-EXT-CDGGSHYLG3RE2FKL -m comment --comment "masquerade LOCAL traffic for default/web:http external destinations" -m addrtype --src-type LOCAL -j KUBE-MARK-MASQ
            nat KUBE-EXT-CDGGSHYLG3RE2FKL -m comment --comment "route LOCAL traffic for default/web:http external destinations" -m addrtype --src-type LOCAL -j KUBE-SVC-CDGGSHYLG3RE2FKL
            nat KUBE-EXT-CDGGSHYLG3RE2FKL -j KUBE-SVL-CDGGSHYLG3RE2FKL
            nat KUBE-NODEPORTS -p tcp -m comment --comment "default/web:http" -m tcp --dport 30080 -j KUBE-EXT-CDGGSHYLG3RE2FKL
            nat KUBE-SEP-4PEGADL5JIRVRWQU -p tcp -m comment --comment "default/web:http" -m recent --set --name KUBE-SEP-4PEGADL5JIRVRWQU --rsource -j DNAT --to-destination 10.1.1.1:8080
            nat KUBE-SEP-HAIRPIN -s 10.1.0.1/32 -d 10.1.0.1/32 -j MASQUERADE --random-fully
            nat KUBE-SEP-TNEBFAHAS3RAPUKU -p tcp -m comment --comment "default/web:http" -m recent --set --name KUBE-SEP-TNEBFAHAS3RAPUKU --rsource -j DNAT --to-destination 10.1.0.1:8080
            nat KUBE-SERVICES -d 10.96.0.10/32 -p tcp -m comment --comment "default/web:http cluster IP" -m tcp --dport 80 -j KUBE-SVC-CDGGSHYLG3RE2FKL
            nat KUBE-SVC-CDGGSHYLG3RE2FKL ! -s 10.0.0.0/8 -d 10.96.0.10/32 -p tcp -m comment --comment "default/web:http cluster IP" -m tcp --dport 80 -j KUBE-MARK-MASQ
            nat KUBE-SVC-CDGGSHYLG3RE2FKL -p tcp -m comment --comment "default/web:http -> 10.1.0.1:8080" -m recent --rcheck --seconds 5 --reap --name KUBE-SEP-TNEBFAHAS3RAPUKU --rsource -j KUBE-SEP-TNEBFAHAS3RAPUKU
            nat KUBE-SVC-CDGGSHYLG3RE2FKL -p tcp -m comment --comment "default/web:http -> 10.1.1.1:8080" -m recent --rcheck --seconds 5 --reap --name KUBE-SEP-4PEGADL5JIRVRWQU --rsource -j KUBE-SEP-4PEGADL5JIRVRWQU
            nat KUBE-SVC-CDGGSHYLG3RE2FKL -p tcp -m comment --comment "default/web:http -> 10.1.0.1:8080" -m statistic --mode random --probability 0.5000000000 -j KUBE-SEP-TNEBFAHAS3RAPUKU
            nat KUBE-SVC-CDGGSHYLG3RE2FKL -p tcp -m comment --comment "default/web:http -> 10.1.1.1:8080" -j KUBE-SEP-4PEGADL5JIRVRWQU
            nat KUBE-SVL-CDGGSHYLG3RE2FKL -p tcp -m comment --comment "default/web:http -> 10.1.0.1:8080" -m recent --rcheck --seconds 5 --reap --name KUBE-SEP-TNEBFAHAS3RAPUKU --rsource -j KUBE-SEP-TNEBFAHAS3RAPUKU
            nat KUBE-SVL-CDGGSHYLG3RE2FKL -p tcp -m comment --comment "default/web:http -> 10.1.0.1:8080" -j KUBE-SEP-TNEBFAHAS3RAPUKU
        "#]],
    );
}

#[test]
fn source_ranges_guard_the_vip_only() {
    let web = web()
        .remote("10.1.0.1:8080")
        .vip("198.51.100.1")
        .external_ip("192.0.2.1")
        .node_port(30080)
        .range("203.0.113.0/24")
        .range("203.0.114.7/32");
    check(
        &[web],
        expect![[r#"
        filter KUBE-PROXY-FIREWALL -d 198.51.100.1/32 -p tcp -m comment --comment "default/web:http traffic not accepted by KUBE-FW-CDGGSHYLG3RE2FKL" -m tcp --dport 80 -j DROP
        nat KUBE-EXT-CDGGSHYLG3RE2FKL -m comment --comment "masquerade traffic for default/web:http external destinations" -j KUBE-MARK-MASQ
        nat KUBE-EXT-CDGGSHYLG3RE2FKL -j KUBE-SVC-CDGGSHYLG3RE2FKL
        nat KUBE-FW-CDGGSHYLG3RE2FKL -s 203.0.113.0/24 -m comment --comment "default/web:http loadbalancer IP" -j KUBE-EXT-CDGGSHYLG3RE2FKL
        nat KUBE-FW-CDGGSHYLG3RE2FKL -s 203.0.114.7/32 -m comment --comment "default/web:http loadbalancer IP" -j KUBE-EXT-CDGGSHYLG3RE2FKL
        nat KUBE-FW-CDGGSHYLG3RE2FKL -m comment --comment "other traffic to default/web:http will be dropped by KUBE-PROXY-FIREWALL"
        nat KUBE-NODEPORTS -p tcp -m comment --comment "default/web:http" -m tcp --dport 30080 -j KUBE-EXT-CDGGSHYLG3RE2FKL
        nat KUBE-SERVICES -d 10.96.0.10/32 -p tcp -m comment --comment "default/web:http cluster IP" -m tcp --dport 80 -j KUBE-SVC-CDGGSHYLG3RE2FKL
        nat KUBE-SERVICES -d 192.0.2.1/32 -p tcp -m comment --comment "default/web:http external IP" -m tcp --dport 80 -j KUBE-EXT-CDGGSHYLG3RE2FKL
        nat KUBE-SERVICES -d 198.51.100.1/32 -p tcp -m comment --comment "default/web:http loadbalancer IP" -m tcp --dport 80 -j KUBE-FW-CDGGSHYLG3RE2FKL
        nat KUBE-SVC-CDGGSHYLG3RE2FKL ! -s 10.0.0.0/8 -d 10.96.0.10/32 -p tcp -m comment --comment "default/web:http cluster IP" -m tcp --dport 80 -j KUBE-MARK-MASQ
        nat KUBE-SVC-CDGGSHYLG3RE2FKL -p tcp -m comment --comment "default/web:http -> 10.1.0.1:8080" -j DNAT --to-destination 10.1.0.1:8080
    "#]],
    );
}

#[test]
fn a_node_within_the_ranges_reaches_the_vip_from_the_vip() {
    let web = web().remote("10.1.0.1:8080").vip("198.51.100.1").range("203.0.113.0/24");
    let model = Model::default();
    let mut backend = backend(config(IpFamily::V4), &model);
    let unknown = snapshot(IpFamily::V4, &[web]);
    full(&mut backend, &unknown);
    let firewall = || {
        let dump = model.dump();
        let rules: Vec<_> = dump.lines().filter(|l| l.starts_with("-A KUBE-FW-")).collect();
        rules.join("\n")
    };
    expect![[r#"
        -A KUBE-FW-CDGGSHYLG3RE2FKL -s 203.0.113.0/24 -m comment --comment "default/web:http loadbalancer IP" -j KUBE-EXT-CDGGSHYLG3RE2FKL
        -A KUBE-FW-CDGGSHYLG3RE2FKL -m comment --comment "other traffic to default/web:http will be dropped by KUBE-PROXY-FIREWALL""#]].assert_eq(&firewall());

    let mut known = unknown.clone();
    known.node_ip = Some("203.0.113.9".parse().unwrap());
    partial(&mut backend, &unknown, &known);
    expect![[r#"
        -A KUBE-FW-CDGGSHYLG3RE2FKL -s 203.0.113.0/24 -m comment --comment "default/web:http loadbalancer IP" -j KUBE-EXT-CDGGSHYLG3RE2FKL
        -A KUBE-FW-CDGGSHYLG3RE2FKL -s 198.51.100.1/32 -m comment --comment "default/web:http loadbalancer IP" -j KUBE-EXT-CDGGSHYLG3RE2FKL
        -A KUBE-FW-CDGGSHYLG3RE2FKL -m comment --comment "other traffic to default/web:http will be dropped by KUBE-PROXY-FIREWALL""#]].assert_eq(&firewall());
    // Those of the full sync, for our rules and for the canary of mangle, and one of the partial sync.
    assert_eq!(model.inputs().len(), 3);
}

#[test]
fn of_two_services_with_one_address_the_first_has_it() {
    let first =
        service("aaa", "10.96.0.1").remote("10.1.0.1:80").external_ip("192.0.2.1").node_port(30080);
    let second = service("bbb", "10.96.0.2").external_ip("192.0.2.1").node_port(30080);
    check(
        &[first, second],
        expect![[r#"
        filter KUBE-SERVICES -d 10.96.0.2/32 -p tcp -m comment --comment "default/bbb:http has no endpoints" -m tcp --dport 80 -j REJECT
        nat KUBE-EXT-UWEFWXLNJEIWVNEM -m comment --comment "masquerade traffic for default/aaa:http external destinations" -j KUBE-MARK-MASQ
        nat KUBE-EXT-UWEFWXLNJEIWVNEM -j KUBE-SVC-UWEFWXLNJEIWVNEM
        nat KUBE-NODEPORTS -p tcp -m comment --comment "default/aaa:http" -m tcp --dport 30080 -j KUBE-EXT-UWEFWXLNJEIWVNEM
        nat KUBE-SERVICES -d 10.96.0.1/32 -p tcp -m comment --comment "default/aaa:http cluster IP" -m tcp --dport 80 -j KUBE-SVC-UWEFWXLNJEIWVNEM
        nat KUBE-SERVICES -d 192.0.2.1/32 -p tcp -m comment --comment "default/aaa:http external IP" -m tcp --dport 80 -j KUBE-EXT-UWEFWXLNJEIWVNEM
        nat KUBE-SVC-UWEFWXLNJEIWVNEM ! -s 10.0.0.0/8 -d 10.96.0.1/32 -p tcp -m comment --comment "default/aaa:http cluster IP" -m tcp --dport 80 -j KUBE-MARK-MASQ
        nat KUBE-SVC-UWEFWXLNJEIWVNEM -p tcp -m comment --comment "default/aaa:http -> 10.1.0.1:80" -j DNAT --to-destination 10.1.0.1:80
    "#]],
    );
}

#[test]
fn the_second_takes_over_when_the_first_goes() {
    let first = service("aaa", "10.96.0.1").remote("10.1.0.1:80").node_port(30080);
    let second = service("bbb", "10.96.0.2").remote("10.1.0.2:80").node_port(30080);
    let both = snapshot(IpFamily::V4, &[first, second.clone()]);
    let one = snapshot(IpFamily::V4, &[second]);
    let model = Model::default();
    let mut backend = backend(config(IpFamily::V4), &model);
    full(&mut backend, &both);
    let before = model.chain("nat", "KUBE-NODEPORTS");
    partial(&mut backend, &both, &one);
    let after = model.chain("nat", "KUBE-NODEPORTS");
    expect![[r#"
        (
            Some(
                [
                    "-p tcp -m comment --comment \"default/aaa:http\" -m tcp --dport 30080 -j KUBE-EXT-UWEFWXLNJEIWVNEM",
                ],
            ),
            Some(
                [
                    "-p tcp -m comment --comment \"default/bbb:http\" -m tcp --dport 30080 -j KUBE-EXT-GFUQSTICATTDZ666",
                ],
            ),
        )
    "#]].assert_debug_eq(&(before, after));
}

/// A slice need not say where an endpoint is: it may be here, and talk to itself.
#[test]
fn endpoints_of_unknown_place_count_for_hairpin() {
    let web = web().somewhere("10.1.0.1:8080");
    check(
        &[web],
        expect![[r#"
        filter KUBE-HAIRPIN -s 10.1.0.1/32 -d 10.1.0.1/32 -j ACCEPT
        nat KUBE-SEP-HAIRPIN -s 10.1.0.1/32 -d 10.1.0.1/32 -j MASQUERADE --random-fully
        nat KUBE-SERVICES -d 10.96.0.10/32 -p tcp -m comment --comment "default/web:http cluster IP" -m tcp --dport 80 -j KUBE-SVC-CDGGSHYLG3RE2FKL
        nat KUBE-SVC-CDGGSHYLG3RE2FKL ! -s 10.0.0.0/8 -d 10.96.0.10/32 -p tcp -m comment --comment "default/web:http cluster IP" -m tcp --dport 80 -j KUBE-MARK-MASQ
        nat KUBE-SVC-CDGGSHYLG3RE2FKL -p tcp -m comment --comment "default/web:http -> 10.1.0.1:8080" -j DNAT --to-destination 10.1.0.1:8080
    "#]],
    );
}

#[test]
fn external_local_without_local_endpoints_is_rejected_or_left_alone_where_asked() {
    let refusals = |value| {
        let web = web()
            .remote("10.1.1.1:8080")
            .internal_local()
            .external_local()
            .vip("198.51.100.1")
            .external_ip("192.0.2.1")
            .node_port(30080)
            .with(|service| service.policy.no_local_endpoints = Some(value));
        let rules = rules_for(config(IpFamily::V4), &snapshot(IpFamily::V4, &[web]));
        let filter = rules.lines().filter(|rule| rule.starts_with("filter "));
        filter.fold(String::new(), |all, rule| all + rule + "\n")
    };
    expect![[r#"
        filter KUBE-EXTERNAL-NODEPORTS -p tcp -m comment --comment "default/web:http has no local endpoints" -m tcp --dport 30080 -j REJECT
        filter KUBE-EXTERNAL-SERVICES -d 192.0.2.1/32 -p tcp -m comment --comment "default/web:http has no local endpoints" -m tcp --dport 80 -j REJECT
        filter KUBE-EXTERNAL-SERVICES -d 198.51.100.1/32 -p tcp -m comment --comment "default/web:http has no local endpoints" -m tcp --dport 80 -j REJECT
        filter KUBE-SERVICES -d 10.96.0.10/32 -p tcp -m comment --comment "default/web:http has no local endpoints" -m tcp --dport 80 -j DROP
    "#]].assert_eq(&refusals(NoLocalEndpoints::Reject));
    expect![[r#"
        filter KUBE-SERVICES -d 10.96.0.10/32 -p tcp -m comment --comment "default/web:http has no local endpoints" -m tcp --dport 80 -j DROP
    "#]].assert_eq(&refusals(NoLocalEndpoints::Passthrough));
}

/// A node port is TCP, UDP or SCTP of services; that a health check of another service has its number takes nothing from it.
#[test]
fn a_health_check_on_a_node_port_leaves_both() {
    let port = web().local("10.1.0.1:8080").node_port(32000);
    let check = |name| {
        let balanced = service(name, "10.96.0.11").local("10.1.0.2:8080");
        balanced.vip("198.51.100.1").external_local().health_check(32000)
    };
    // Whichever comes first by name.
    for name in ["a", "z"] {
        let samples = [port.clone(), check(name)];
        let rules = rules_for(config(IpFamily::V4), &snapshot(IpFamily::V4, &samples));
        for list in ["nat KUBE-NODEPORTS -p tcp", "filter KUBE-NODEPORTS -p tcp"] {
            let found = rules.lines().filter(|l| l.starts_with(list) && l.contains("dport 32000"));
            assert_eq!(found.count(), 1, "{list} in:\n{rules}");
        }
    }
}
