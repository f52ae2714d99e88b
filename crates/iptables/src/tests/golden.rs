//! What each kind of frontend and option puts on the node.

use expect_test::{Expect, expect};
use kube_proxy_core::{IpFamily, LocalTrafficDetector, NodePortAddresses, Protocol, Snapshot};

use super::build::{config, fresh, rules_for};
use super::samples::{Sample, service, snapshot};
use crate::Config;

fn check(samples: &[Sample], expected: Expect) {
    check_with(|_| (), samples, expected);
}

#[expect(
    clippy::needless_pass_by_value,
    reason = "what `expect!` makes is meant to be handed over"
)]
fn check_with(change: impl FnOnce(&mut Config), samples: &[Sample], expected: Expect) {
    let mut config = config(IpFamily::V4);
    change(&mut config);
    let rules = rules_for(config.clone(), &snapshot(config.family, samples));
    expected.assert_eq(&rules);
}

fn web() -> Sample {
    service("web", "10.96.0.10")
}

#[test]
fn an_empty_node_gets_hooks_and_fixed_chains() {
    let config = config(IpFamily::V4);
    expect![[r#"
        *filter
        :FORWARD - [0:0]
        :INPUT - [0:0]
        :KUBE-EXTERNAL-NODEPORTS - [0:0]
        :KUBE-EXTERNAL-SERVICES - [0:0]
        :KUBE-FIREWALL - [0:0]
        :KUBE-FORWARD - [0:0]
        :KUBE-HAIRPIN - [0:0]
        :KUBE-NODEPORTS - [0:0]
        :KUBE-PROXY-CANARY - [0:0]
        :KUBE-PROXY-FIREWALL - [0:0]
        :KUBE-SERVICES - [0:0]
        :OUTPUT - [0:0]
        :POSTROUTING - [0:0]
        :PREROUTING - [0:0]
        -A FORWARD -m conntrack --ctstate NEW -m comment --comment "kubernetes load balancer firewall" -j KUBE-PROXY-FIREWALL
        -A FORWARD -m comment --comment "kubernetes forwarding rules" -j KUBE-FORWARD
        -A FORWARD -m conntrack --ctstate NEW -m comment --comment "kubernetes service portals" -j KUBE-SERVICES
        -A FORWARD -m conntrack --ctstate NEW -m comment --comment "kubernetes externally-visible service portals" -j KUBE-EXTERNAL-SERVICES
        -A INPUT -j KUBE-FIREWALL
        -A INPUT -m conntrack --ctstate NEW -m comment --comment "kubernetes load balancer firewall" -j KUBE-PROXY-FIREWALL
        -A INPUT -m comment --comment "kubernetes health check service ports" -j KUBE-NODEPORTS
        -A INPUT -m conntrack --ctstate NEW -m comment --comment "kubernetes externally-visible service portals" -j KUBE-EXTERNAL-SERVICES
        -A KUBE-EXTERNAL-SERVICES ! -d 127.0.0.0/8 -m comment --comment "kubernetes service nodeports without endpoints" -m addrtype --dst-type LOCAL -j KUBE-EXTERNAL-NODEPORTS
        -A KUBE-FORWARD -m conntrack --ctstate INVALID -j DROP
        -A KUBE-FORWARD -m comment --comment "kubernetes forwarding rules" -m mark --mark 0x4000/0x4000 -j ACCEPT
        -A KUBE-FORWARD -m comment --comment "kubernetes forwarding conntrack rule" -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
        -A KUBE-FORWARD -m comment --comment "kubernetes hairpin traffic" -m conntrack --ctstate DNAT -j KUBE-HAIRPIN
        -A OUTPUT -j KUBE-FIREWALL
        -A OUTPUT -m conntrack --ctstate NEW -m comment --comment "kubernetes load balancer firewall" -j KUBE-PROXY-FIREWALL
        -A OUTPUT -m conntrack --ctstate NEW -m comment --comment "kubernetes service portals" -j KUBE-SERVICES
        *mangle
        :FORWARD - [0:0]
        :INPUT - [0:0]
        :KUBE-PROXY-CANARY - [0:0]
        :OUTPUT - [0:0]
        :POSTROUTING - [0:0]
        :PREROUTING - [0:0]
        *nat
        :FORWARD - [0:0]
        :INPUT - [0:0]
        :KUBE-MARK-MASQ - [0:0]
        :KUBE-NODEPORTS - [0:0]
        :KUBE-POSTROUTING - [0:0]
        :KUBE-PROXY-CANARY - [0:0]
        :KUBE-SEP-HAIRPIN - [0:0]
        :KUBE-SERVICES - [0:0]
        :OUTPUT - [0:0]
        :POSTROUTING - [0:0]
        :PREROUTING - [0:0]
        -A KUBE-MARK-MASQ -j MARK --or-mark 0x4000
        -A KUBE-POSTROUTING -m comment --comment "kubernetes hairpin traffic" -m mark ! --mark 0x4000/0x4000 -m conntrack --ctstate DNAT -j KUBE-SEP-HAIRPIN
        -A KUBE-POSTROUTING -m mark ! --mark 0x4000/0x4000 -j RETURN
        -A KUBE-POSTROUTING -j MARK --xor-mark 0x4000
        -A KUBE-POSTROUTING -m comment --comment "kubernetes service traffic requiring SNAT" -j MASQUERADE --random-fully
        -A KUBE-SERVICES ! -d 127.0.0.0/8 -m comment --comment "kubernetes service nodeports; NOTE: this must be the last rule in this chain" -m addrtype --dst-type LOCAL -j KUBE-NODEPORTS
        -A OUTPUT -m comment --comment "kubernetes service portals" -j KUBE-SERVICES
        -A POSTROUTING -m comment --comment "kubernetes postrouting rules" -j KUBE-POSTROUTING
        -A PREROUTING -m comment --comment "kubernetes service portals" -j KUBE-SERVICES
    "#]].assert_eq(&fresh(config, &Snapshot::new(IpFamily::V4)));
}

#[test]
fn cluster_ip_spreads_over_all_endpoints() {
    let web = web().remote("10.1.0.1:8080").remote("10.1.0.2:8080").remote("10.1.0.3:8080");
    check(
        &[web],
        expect![[r#"
        nat KUBE-SERVICES -d 10.96.0.10/32 -p tcp -m comment --comment "default/web:http cluster IP" -m tcp --dport 80 -j KUBE-SVC-CDGGSHYLG3RE2FKL
        nat KUBE-SVC-CDGGSHYLG3RE2FKL ! -s 10.0.0.0/8 -d 10.96.0.10/32 -p tcp -m comment --comment "default/web:http cluster IP" -m tcp --dport 80 -j KUBE-MARK-MASQ
        nat KUBE-SVC-CDGGSHYLG3RE2FKL -p tcp -m comment --comment "default/web:http -> 10.1.0.1:8080" -m statistic --mode random --probability 0.3333333333 -j DNAT --to-destination 10.1.0.1:8080
        nat KUBE-SVC-CDGGSHYLG3RE2FKL -p tcp -m comment --comment "default/web:http -> 10.1.0.2:8080" -m statistic --mode random --probability 0.5000000000 -j DNAT --to-destination 10.1.0.2:8080
        nat KUBE-SVC-CDGGSHYLG3RE2FKL -p tcp -m comment --comment "default/web:http -> 10.1.0.3:8080" -j DNAT --to-destination 10.1.0.3:8080
    "#]],
    );
}

#[test]
fn weights_are_probabilities() {
    let web = web().remote("10.1.0.1:8080").weight(3).remote("10.1.0.2:8080");
    let web = web.remote("10.1.0.3:8080").weight(0).remote("10.1.0.4:8080").weight(4);
    check(
        &[web],
        expect![[r#"
        nat KUBE-SERVICES -d 10.96.0.10/32 -p tcp -m comment --comment "default/web:http cluster IP" -m tcp --dport 80 -j KUBE-SVC-CDGGSHYLG3RE2FKL
        nat KUBE-SVC-CDGGSHYLG3RE2FKL ! -s 10.0.0.0/8 -d 10.96.0.10/32 -p tcp -m comment --comment "default/web:http cluster IP" -m tcp --dport 80 -j KUBE-MARK-MASQ
        nat KUBE-SVC-CDGGSHYLG3RE2FKL -p tcp -m comment --comment "default/web:http -> 10.1.0.1:8080" -m statistic --mode random --probability 0.3750000000 -j DNAT --to-destination 10.1.0.1:8080
        nat KUBE-SVC-CDGGSHYLG3RE2FKL -p tcp -m comment --comment "default/web:http -> 10.1.0.2:8080" -m statistic --mode random --probability 0.2000000000 -j DNAT --to-destination 10.1.0.2:8080
        nat KUBE-SVC-CDGGSHYLG3RE2FKL -p tcp -m comment --comment "default/web:http -> 10.1.0.4:8080" -j DNAT --to-destination 10.1.0.4:8080
    "#]],
    );
}

#[test]
fn a_new_endpoint_has_a_tenth_of_its_weight() {
    let web = web().remote("10.1.0.1:8080").remote("10.1.0.2:8080").weight(2);
    let web = web.with(|service| service.policy.slow_start = Some("1h".parse().unwrap()));
    check(
        &[web.remote("10.1.0.3:8080").weight(10)],
        expect![[r#"
            nat KUBE-SERVICES -d 10.96.0.10/32 -p tcp -m comment --comment "default/web:http cluster IP" -m tcp --dport 80 -j KUBE-SVC-CDGGSHYLG3RE2FKL
            nat KUBE-SVC-CDGGSHYLG3RE2FKL ! -s 10.0.0.0/8 -d 10.96.0.10/32 -p tcp -m comment --comment "default/web:http cluster IP" -m tcp --dport 80 -j KUBE-MARK-MASQ
            nat KUBE-SVC-CDGGSHYLG3RE2FKL -p tcp -m comment --comment "default/web:http -> 10.1.0.1:8080" -m statistic --mode random --probability 0.2500000000 -j DNAT --to-destination 10.1.0.1:8080
            nat KUBE-SVC-CDGGSHYLG3RE2FKL -p tcp -m comment --comment "default/web:http -> 10.1.0.2:8080" -m statistic --mode random --probability 0.6666666667 -j DNAT --to-destination 10.1.0.2:8080
            nat KUBE-SVC-CDGGSHYLG3RE2FKL -p tcp -m comment --comment "default/web:http -> 10.1.0.3:8080" -j DNAT --to-destination 10.1.0.3:8080
        "#]],
    );
}

#[test]
fn all_weights_alike_are_none() {
    let with = |weight| {
        let web = web().remote("10.1.0.1:8080").weight(weight).remote("10.1.0.2:8080");
        let samples = [web.weight(weight).remote("10.1.0.3:8080").weight(weight)];
        rules_for(config(IpFamily::V4), &snapshot(IpFamily::V4, &samples))
    };
    assert_eq!(with(7), with(1));
}

#[test]
fn ipv6() {
    let web = service("web", "fd00:10:96::a").local("[fd00:10:1::1]:8080").node_port(30080);
    let config = config(IpFamily::V6);
    expect![[r#"
        filter KUBE-HAIRPIN -s fd00:10:1::1/128 -d fd00:10:1::1/128 -j ACCEPT
        nat KUBE-EXT-CDGGSHYLG3RE2FKL -m comment --comment "masquerade traffic for default/web:http external destinations" -j KUBE-MARK-MASQ
        nat KUBE-EXT-CDGGSHYLG3RE2FKL -j KUBE-SVC-CDGGSHYLG3RE2FKL
        nat KUBE-NODEPORTS -p tcp -m comment --comment "default/web:http" -m tcp --dport 30080 -j KUBE-EXT-CDGGSHYLG3RE2FKL
        nat KUBE-SEP-HAIRPIN -s fd00:10:1::1/128 -d fd00:10:1::1/128 -j MASQUERADE --random-fully
        nat KUBE-SERVICES -d fd00:10:96::a/128 -p tcp -m comment --comment "default/web:http cluster IP" -m tcp --dport 80 -j KUBE-SVC-CDGGSHYLG3RE2FKL
        nat KUBE-SVC-CDGGSHYLG3RE2FKL ! -s fd00::/8 -d fd00:10:96::a/128 -p tcp -m comment --comment "default/web:http cluster IP" -m tcp --dport 80 -j KUBE-MARK-MASQ
        nat KUBE-SVC-CDGGSHYLG3RE2FKL -p tcp -m comment --comment "default/web:http -> [fd00:10:1::1]:8080" -j DNAT --to-destination [fd00:10:1::1]:8080
    "#]].assert_eq(&rules_for(config, &snapshot(IpFamily::V6, &[web])));
}

#[test]
fn protocols() {
    let udp = service("dns", "10.96.0.11").remote("10.1.0.1:53").protocol(Protocol::Udp);
    let sctp = service("sctp", "10.96.0.12").remote("10.1.0.1:53").protocol(Protocol::Sctp);
    check(
        &[udp, sctp],
        expect![[r#"
        nat KUBE-SERVICES -d 10.96.0.11/32 -p udp -m comment --comment "default/dns:http cluster IP" -m udp --dport 80 -j KUBE-SVC-J4UA57X2QOA3VNZC
        nat KUBE-SERVICES -d 10.96.0.12/32 -p sctp -m comment --comment "default/sctp:http cluster IP" -m sctp --dport 80 -j KUBE-SVC-F2FPSKVP2IXPRLMD
        nat KUBE-SVC-F2FPSKVP2IXPRLMD ! -s 10.0.0.0/8 -d 10.96.0.12/32 -p sctp -m comment --comment "default/sctp:http cluster IP" -m sctp --dport 80 -j KUBE-MARK-MASQ
        nat KUBE-SVC-F2FPSKVP2IXPRLMD -p sctp -m comment --comment "default/sctp:http -> 10.1.0.1:53" -j DNAT --to-destination 10.1.0.1:53
        nat KUBE-SVC-J4UA57X2QOA3VNZC ! -s 10.0.0.0/8 -d 10.96.0.11/32 -p udp -m comment --comment "default/dns:http cluster IP" -m udp --dport 80 -j KUBE-MARK-MASQ
        nat KUBE-SVC-J4UA57X2QOA3VNZC -p udp -m comment --comment "default/dns:http -> 10.1.0.1:53" -j DNAT --to-destination 10.1.0.1:53
    "#]],
    );
}

#[test]
fn local_endpoints_have_hairpin_rules_once_for_all_services() {
    let one = web().local("10.1.0.1:8080").remote("10.1.1.1:8080");
    let two = service("www", "10.96.0.11").local("10.1.0.1:8081");
    check(
        &[one, two],
        expect![[r#"
            filter KUBE-HAIRPIN -s 10.1.0.1/32 -d 10.1.0.1/32 -j ACCEPT
            nat KUBE-SEP-HAIRPIN -s 10.1.0.1/32 -d 10.1.0.1/32 -j MASQUERADE --random-fully
            nat KUBE-SERVICES -d 10.96.0.10/32 -p tcp -m comment --comment "default/web:http cluster IP" -m tcp --dport 80 -j KUBE-SVC-CDGGSHYLG3RE2FKL
            nat KUBE-SERVICES -d 10.96.0.11/32 -p tcp -m comment --comment "default/www:http cluster IP" -m tcp --dport 80 -j KUBE-SVC-LM73DAPSWPTIXQL3
            nat KUBE-SVC-CDGGSHYLG3RE2FKL ! -s 10.0.0.0/8 -d 10.96.0.10/32 -p tcp -m comment --comment "default/web:http cluster IP" -m tcp --dport 80 -j KUBE-MARK-MASQ
            nat KUBE-SVC-CDGGSHYLG3RE2FKL -p tcp -m comment --comment "default/web:http -> 10.1.0.1:8080" -m statistic --mode random --probability 0.5000000000 -j DNAT --to-destination 10.1.0.1:8080
            nat KUBE-SVC-CDGGSHYLG3RE2FKL -p tcp -m comment --comment "default/web:http -> 10.1.1.1:8080" -j DNAT --to-destination 10.1.1.1:8080
            nat KUBE-SVC-LM73DAPSWPTIXQL3 ! -s 10.0.0.0/8 -d 10.96.0.11/32 -p tcp -m comment --comment "default/www:http cluster IP" -m tcp --dport 80 -j KUBE-MARK-MASQ
            nat KUBE-SVC-LM73DAPSWPTIXQL3 -p tcp -m comment --comment "default/www:http -> 10.1.0.1:8081" -j DNAT --to-destination 10.1.0.1:8081
        "#]],
    );
}

#[test]
fn every_kind_of_frontend() {
    let web =
        web().remote("10.1.0.1:8080").node_port(30080).external_ip("192.0.2.1").vip("198.51.100.1");
    check(
        &[web],
        expect![[r#"
        nat KUBE-EXT-CDGGSHYLG3RE2FKL -m comment --comment "masquerade traffic for default/web:http external destinations" -j KUBE-MARK-MASQ
        nat KUBE-EXT-CDGGSHYLG3RE2FKL -j KUBE-SVC-CDGGSHYLG3RE2FKL
        nat KUBE-NODEPORTS -p tcp -m comment --comment "default/web:http" -m tcp --dport 30080 -j KUBE-EXT-CDGGSHYLG3RE2FKL
        nat KUBE-SERVICES -d 10.96.0.10/32 -p tcp -m comment --comment "default/web:http cluster IP" -m tcp --dport 80 -j KUBE-SVC-CDGGSHYLG3RE2FKL
        nat KUBE-SERVICES -d 192.0.2.1/32 -p tcp -m comment --comment "default/web:http external IP" -m tcp --dport 80 -j KUBE-EXT-CDGGSHYLG3RE2FKL
        nat KUBE-SERVICES -d 198.51.100.1/32 -p tcp -m comment --comment "default/web:http loadbalancer IP" -m tcp --dport 80 -j KUBE-EXT-CDGGSHYLG3RE2FKL
        nat KUBE-SVC-CDGGSHYLG3RE2FKL ! -s 10.0.0.0/8 -d 10.96.0.10/32 -p tcp -m comment --comment "default/web:http cluster IP" -m tcp --dport 80 -j KUBE-MARK-MASQ
        nat KUBE-SVC-CDGGSHYLG3RE2FKL -p tcp -m comment --comment "default/web:http -> 10.1.0.1:8080" -j DNAT --to-destination 10.1.0.1:8080
    "#]],
    );
}

#[test]
fn no_endpoints_is_refused_on_every_frontend() {
    let web =
        web().node_port(30080).external_ip("192.0.2.1").vip("198.51.100.1").range("203.0.113.0/24");
    check(
        &[web],
        expect![[r#"
        filter KUBE-EXTERNAL-NODEPORTS -p tcp -m comment --comment "default/web:http has no endpoints" -m tcp --dport 30080 -j REJECT
        filter KUBE-EXTERNAL-SERVICES -d 192.0.2.1/32 -p tcp -m comment --comment "default/web:http has no endpoints" -m tcp --dport 80 -j REJECT
        filter KUBE-EXTERNAL-SERVICES -d 198.51.100.1/32 -p tcp -m comment --comment "default/web:http has no endpoints" -m tcp --dport 80 -j REJECT
        filter KUBE-SERVICES -d 10.96.0.10/32 -p tcp -m comment --comment "default/web:http has no endpoints" -m tcp --dport 80 -j REJECT
    "#]],
    );
}

#[test]
fn session_affinity_has_a_chain_for_each_endpoint() {
    let web = web().remote("10.1.0.1:8080").remote("10.1.0.2:8080").affinity(10_800);
    check(
        &[web],
        expect![[r#"
        nat KUBE-SEP-IMFC5XQKDZMFROSF -p tcp -m comment --comment "default/web:http" -m recent --set --name KUBE-SEP-IMFC5XQKDZMFROSF --rsource -j DNAT --to-destination 10.1.0.2:8080
        nat KUBE-SEP-TNEBFAHAS3RAPUKU -p tcp -m comment --comment "default/web:http" -m recent --set --name KUBE-SEP-TNEBFAHAS3RAPUKU --rsource -j DNAT --to-destination 10.1.0.1:8080
        nat KUBE-SERVICES -d 10.96.0.10/32 -p tcp -m comment --comment "default/web:http cluster IP" -m tcp --dport 80 -j KUBE-SVC-CDGGSHYLG3RE2FKL
        nat KUBE-SVC-CDGGSHYLG3RE2FKL ! -s 10.0.0.0/8 -d 10.96.0.10/32 -p tcp -m comment --comment "default/web:http cluster IP" -m tcp --dport 80 -j KUBE-MARK-MASQ
        nat KUBE-SVC-CDGGSHYLG3RE2FKL -p tcp -m comment --comment "default/web:http -> 10.1.0.1:8080" -m recent --rcheck --seconds 10800 --reap --name KUBE-SEP-TNEBFAHAS3RAPUKU --rsource -j KUBE-SEP-TNEBFAHAS3RAPUKU
        nat KUBE-SVC-CDGGSHYLG3RE2FKL -p tcp -m comment --comment "default/web:http -> 10.1.0.2:8080" -m recent --rcheck --seconds 10800 --reap --name KUBE-SEP-IMFC5XQKDZMFROSF --rsource -j KUBE-SEP-IMFC5XQKDZMFROSF
        nat KUBE-SVC-CDGGSHYLG3RE2FKL -p tcp -m comment --comment "default/web:http -> 10.1.0.1:8080" -m statistic --mode random --probability 0.5000000000 -j KUBE-SEP-TNEBFAHAS3RAPUKU
        nat KUBE-SVC-CDGGSHYLG3RE2FKL -p tcp -m comment --comment "default/web:http -> 10.1.0.2:8080" -j KUBE-SEP-IMFC5XQKDZMFROSF
    "#]],
    );
}

#[test]
fn masquerade_all() {
    let web = web().remote("10.1.0.1:8080");
    check_with(
        |config| config.masquerade_all = true,
        &[web],
        expect![[r#"
        nat KUBE-SERVICES -d 10.96.0.10/32 -p tcp -m comment --comment "default/web:http cluster IP" -m tcp --dport 80 -j KUBE-SVC-CDGGSHYLG3RE2FKL
        nat KUBE-SVC-CDGGSHYLG3RE2FKL -d 10.96.0.10/32 -p tcp -m comment --comment "default/web:http cluster IP" -m tcp --dport 80 -j KUBE-MARK-MASQ
        nat KUBE-SVC-CDGGSHYLG3RE2FKL -p tcp -m comment --comment "default/web:http -> 10.1.0.1:8080" -j DNAT --to-destination 10.1.0.1:8080
    "#]],
    );
}

#[test]
fn no_detector_masquerades_no_cluster_ip() {
    let web = web().remote("10.1.0.1:8080").node_port(30080).external_local();
    check_with(
        |config| config.local_traffic = LocalTrafficDetector::None,
        &[web],
        expect![[r#"
        filter KUBE-EXTERNAL-NODEPORTS -p tcp -m comment --comment "default/web:http has no local endpoints" -m tcp --dport 30080 -j DROP
        nat KUBE-EXT-CDGGSHYLG3RE2FKL -m comment --comment "masquerade LOCAL traffic for default/web:http external destinations" -m addrtype --src-type LOCAL -j KUBE-MARK-MASQ
        nat KUBE-EXT-CDGGSHYLG3RE2FKL -m comment --comment "route LOCAL traffic for default/web:http external destinations" -m addrtype --src-type LOCAL -j KUBE-SVC-CDGGSHYLG3RE2FKL
        nat KUBE-NODEPORTS -p tcp -m comment --comment "default/web:http" -m tcp --dport 30080 -j KUBE-EXT-CDGGSHYLG3RE2FKL
        nat KUBE-SERVICES -d 10.96.0.10/32 -p tcp -m comment --comment "default/web:http cluster IP" -m tcp --dport 80 -j KUBE-SVC-CDGGSHYLG3RE2FKL
        nat KUBE-SVC-CDGGSHYLG3RE2FKL -p tcp -m comment --comment "default/web:http -> 10.1.0.1:8080" -j DNAT --to-destination 10.1.0.1:8080
    "#]],
    );
}

#[test]
fn pods_behind_a_bridge() {
    let web = web().local("10.1.0.1:8080").node_port(30080).external_local();
    check_with(
        |config| config.local_traffic = LocalTrafficDetector::Bridge("cbr0".to_owned()),
        &[web],
        expect![[r#"
            filter KUBE-HAIRPIN -s 10.1.0.1/32 -d 10.1.0.1/32 -j ACCEPT
            nat KUBE-EXT-CDGGSHYLG3RE2FKL -i cbr0 -m comment --comment "pod traffic for default/web:http external destinations" -j KUBE-SVC-CDGGSHYLG3RE2FKL
            nat KUBE-EXT-CDGGSHYLG3RE2FKL -m comment --comment "masquerade LOCAL traffic for default/web:http external destinations" -m addrtype --src-type LOCAL -j KUBE-MARK-MASQ
            nat KUBE-EXT-CDGGSHYLG3RE2FKL -m comment --comment "route LOCAL traffic for default/web:http external destinations" -m addrtype --src-type LOCAL -j KUBE-SVC-CDGGSHYLG3RE2FKL
            nat KUBE-EXT-CDGGSHYLG3RE2FKL -j KUBE-SVL-CDGGSHYLG3RE2FKL
            nat KUBE-NODEPORTS -p tcp -m comment --comment "default/web:http" -m tcp --dport 30080 -j KUBE-EXT-CDGGSHYLG3RE2FKL
            nat KUBE-SEP-HAIRPIN -s 10.1.0.1/32 -d 10.1.0.1/32 -j MASQUERADE --random-fully
            nat KUBE-SERVICES -d 10.96.0.10/32 -p tcp -m comment --comment "default/web:http cluster IP" -m tcp --dport 80 -j KUBE-SVC-CDGGSHYLG3RE2FKL
            nat KUBE-SVC-CDGGSHYLG3RE2FKL -d 10.96.0.10/32 ! -i cbr0 -p tcp -m comment --comment "default/web:http cluster IP" -m tcp --dport 80 -j KUBE-MARK-MASQ
            nat KUBE-SVC-CDGGSHYLG3RE2FKL -p tcp -m comment --comment "default/web:http -> 10.1.0.1:8080" -j DNAT --to-destination 10.1.0.1:8080
            nat KUBE-SVL-CDGGSHYLG3RE2FKL -p tcp -m comment --comment "default/web:http -> 10.1.0.1:8080" -j DNAT --to-destination 10.1.0.1:8080
        "#]],
    );
}

#[test]
fn pods_behind_interfaces_of_a_prefix() {
    let web = web().local("10.1.0.1:8080").node_port(30080).external_local();
    check_with(
        |config| config.local_traffic = LocalTrafficDetector::InterfacePrefix("veth".to_owned()),
        &[web],
        expect![[r#"
            filter KUBE-HAIRPIN -s 10.1.0.1/32 -d 10.1.0.1/32 -j ACCEPT
            nat KUBE-EXT-CDGGSHYLG3RE2FKL -i veth+ -m comment --comment "pod traffic for default/web:http external destinations" -j KUBE-SVC-CDGGSHYLG3RE2FKL
            nat KUBE-EXT-CDGGSHYLG3RE2FKL -m comment --comment "masquerade LOCAL traffic for default/web:http external destinations" -m addrtype --src-type LOCAL -j KUBE-MARK-MASQ
            nat KUBE-EXT-CDGGSHYLG3RE2FKL -m comment --comment "route LOCAL traffic for default/web:http external destinations" -m addrtype --src-type LOCAL -j KUBE-SVC-CDGGSHYLG3RE2FKL
            nat KUBE-EXT-CDGGSHYLG3RE2FKL -j KUBE-SVL-CDGGSHYLG3RE2FKL
            nat KUBE-NODEPORTS -p tcp -m comment --comment "default/web:http" -m tcp --dport 30080 -j KUBE-EXT-CDGGSHYLG3RE2FKL
            nat KUBE-SEP-HAIRPIN -s 10.1.0.1/32 -d 10.1.0.1/32 -j MASQUERADE --random-fully
            nat KUBE-SERVICES -d 10.96.0.10/32 -p tcp -m comment --comment "default/web:http cluster IP" -m tcp --dport 80 -j KUBE-SVC-CDGGSHYLG3RE2FKL
            nat KUBE-SVC-CDGGSHYLG3RE2FKL -d 10.96.0.10/32 ! -i veth+ -p tcp -m comment --comment "default/web:http cluster IP" -m tcp --dport 80 -j KUBE-MARK-MASQ
            nat KUBE-SVC-CDGGSHYLG3RE2FKL -p tcp -m comment --comment "default/web:http -> 10.1.0.1:8080" -j DNAT --to-destination 10.1.0.1:8080
            nat KUBE-SVL-CDGGSHYLG3RE2FKL -p tcp -m comment --comment "default/web:http -> 10.1.0.1:8080" -j DNAT --to-destination 10.1.0.1:8080
        "#]],
    );
}

fn node_port_rules(family: IpFamily, addresses: NodePortAddresses, localhost: bool) -> String {
    let mut config = config(family);
    config.node_ports = addresses;
    config.localhost_node_ports = localhost;
    let dump = fresh(config, &Snapshot::new(family));
    dump.lines()
        .filter(|line| {
            line.contains("-j KUBE-NODEPORTS") && line.contains("-A KUBE") || line.contains("block")
        })
        .flat_map(|line| [line, "\n"])
        .collect()
}

fn within(nets: &[&str]) -> NodePortAddresses {
    NodePortAddresses::Within(nets.iter().map(|net| net.parse().unwrap()).collect())
}

#[test]
fn node_ports_on_all_addresses() {
    expect![[r#"
        -A KUBE-SERVICES ! -d 127.0.0.0/8 -m comment --comment "kubernetes service nodeports; NOTE: this must be the last rule in this chain" -m addrtype --dst-type LOCAL -j KUBE-NODEPORTS
    "#]].assert_eq(&node_port_rules(IpFamily::V4, NodePortAddresses::All, false));
    expect![[r#"
        -A KUBE-FIREWALL -d 127.0.0.0/8 ! -s 127.0.0.0/8 -m comment --comment "block incoming localnet connections" -m conntrack ! --ctstate RELATED,ESTABLISHED,DNAT -j DROP
        -A KUBE-SERVICES -m comment --comment "kubernetes service nodeports; NOTE: this must be the last rule in this chain" -m addrtype --dst-type LOCAL -j KUBE-NODEPORTS
    "#]].assert_eq(&node_port_rules(IpFamily::V4, NodePortAddresses::All, true));
    expect![[r#"
        -A KUBE-SERVICES ! -d ::1/128 -m comment --comment "kubernetes service nodeports; NOTE: this must be the last rule in this chain" -m addrtype --dst-type LOCAL -j KUBE-NODEPORTS
    "#]].assert_eq(&node_port_rules(IpFamily::V6, NodePortAddresses::All, true));
}

#[test]
fn node_ports_on_some_addresses() {
    let nets = ["192.0.2.0/24", "127.0.0.0/8"];
    expect![[r#"
        -A KUBE-SERVICES -d 192.0.2.0/24 -m comment --comment "kubernetes service nodeports; NOTE: this must be the last rule in this chain" -m addrtype --dst-type LOCAL -j KUBE-NODEPORTS
    "#]].assert_eq(&node_port_rules(IpFamily::V4, within(&nets), false));
    expect![[r#"
        -A KUBE-FIREWALL -d 127.0.0.0/8 ! -s 127.0.0.0/8 -m comment --comment "block incoming localnet connections" -m conntrack ! --ctstate RELATED,ESTABLISHED,DNAT -j DROP
        -A KUBE-SERVICES -d 192.0.2.0/24 -m comment --comment "kubernetes service nodeports; NOTE: this must be the last rule in this chain" -m addrtype --dst-type LOCAL -j KUBE-NODEPORTS
        -A KUBE-SERVICES -d 127.0.0.0/8 -m comment --comment "kubernetes service nodeports; NOTE: this must be the last rule in this chain" -m addrtype --dst-type LOCAL -j KUBE-NODEPORTS
    "#]].assert_eq(&node_port_rules(IpFamily::V4, within(&nets), true));
    // Loopback is cut out of a network around it.
    expect![[r#"
        -A KUBE-SERVICES -d 120.0.0.0/6 -m comment --comment "kubernetes service nodeports; NOTE: this must be the last rule in this chain" -m addrtype --dst-type LOCAL -j KUBE-NODEPORTS
        -A KUBE-SERVICES -d 124.0.0.0/7 -m comment --comment "kubernetes service nodeports; NOTE: this must be the last rule in this chain" -m addrtype --dst-type LOCAL -j KUBE-NODEPORTS
        -A KUBE-SERVICES -d 126.0.0.0/8 -m comment --comment "kubernetes service nodeports; NOTE: this must be the last rule in this chain" -m addrtype --dst-type LOCAL -j KUBE-NODEPORTS
    "#]].assert_eq(&node_port_rules(IpFamily::V4, within(&["120.0.0.0/5"]), false));
    expect![[r#"
        -A KUBE-SERVICES -d ::/128 -m comment --comment "kubernetes service nodeports; NOTE: this must be the last rule in this chain" -m addrtype --dst-type LOCAL -j KUBE-NODEPORTS
        -A KUBE-SERVICES -d ::2/127 -m comment --comment "kubernetes service nodeports; NOTE: this must be the last rule in this chain" -m addrtype --dst-type LOCAL -j KUBE-NODEPORTS
    "#]].assert_eq(&node_port_rules(IpFamily::V6, within(&["::/126"]), true));
    expect![[""]].assert_eq(&node_port_rules(IpFamily::V4, within(&[]), false));
}

#[test]
fn comments_keep_to_their_line_and_length() {
    let name = format!("x\" -j ACCEPT\n-A INPUT \\{}", "y".repeat(300));
    let web = service(&name, "10.96.0.10").remote("10.1.0.1:8080");
    check(
        &[web],
        expect![[r#"
        nat KUBE-SERVICES -d 10.96.0.10/32 -p tcp -m comment --comment "default/x_ -j ACCEPT_-A INPUT _yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy" -m tcp --dport 80 -j KUBE-SVC-5Q7OAKFJX4S7OMO2
        nat KUBE-SVC-5Q7OAKFJX4S7OMO2 ! -s 10.0.0.0/8 -d 10.96.0.10/32 -p tcp -m comment --comment "default/x_ -j ACCEPT_-A INPUT _yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy" -m tcp --dport 80 -j KUBE-MARK-MASQ
        nat KUBE-SVC-5Q7OAKFJX4S7OMO2 -p tcp -m comment --comment "default/x_ -j ACCEPT_-A INPUT _yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy" -j DNAT --to-destination 10.1.0.1:8080
    "#]],
    );
}

#[test]
fn large_clusters_have_no_comments_on_endpoints() {
    let web = web().remote("10.1.0.1:8080");
    let mut many = service("many", "10.96.0.11");
    for number in 0..1001 {
        many = many.remote(&format!("10.2.{}.{}:80", number / 250, number % 250));
    }
    let rules = rules_for(config(IpFamily::V4), &snapshot(IpFamily::V4, &[web, many]));
    let of_web: Vec<&str> = rules.lines().filter(|l| l.contains("10.1.0.1")).collect();
    expect!["nat KUBE-SVC-CDGGSHYLG3RE2FKL -p tcp -j DNAT --to-destination 10.1.0.1:8080"]
        .assert_eq(&of_web.join("\n"));
}
