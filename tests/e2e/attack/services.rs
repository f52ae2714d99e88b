//! Services with odd fields. All have slices, so that what is left of them gets rules.

use std::sync::atomic::{AtomicU8, Ordering};

use kube_proxy_core::IpFamily;
use serde_json::{Value, json};

use super::{Attack, GOOD};
use crate::objects::{Svc, cluster_ip, node_port};
use crate::world::{TARGET, World};

/// The first number of a Service that no other test uses.
const FIRST: u8 = 20;

/// Makes Services that share no address with others, with an endpoint.
struct Forge<'a> {
    world: &'a World,
    next: AtomicU8,
}

impl Forge<'_> {
    fn fresh(&self, name: &str) -> Svc {
        Svc::new(name, self.next.fetch_add(1, Ordering::Relaxed))
    }

    /// A Service and its slices.
    fn served(&self, service: &Svc) -> Attack {
        let slices = service.slices(TARGET, &self.world.endpoints(&["local-2"]));
        Attack::new(&service.name, [service.object()].into_iter().chain(slices))
    }

    /// With one field of each of these values, each in a Service of its own.
    fn each(&self, name: &str, pointer: &str, values: &[Value]) -> Vec<Attack> {
        let services = values.iter().enumerate().map(|(index, value)| {
            self.fresh(&format!("{name}-{index}")).with(pointer, value.clone())
        });
        services.map(|service| self.served(&service)).collect()
    }
}

pub(super) fn all(world: &World) -> Vec<Attack> {
    let forge = Forge { world, next: AtomicU8::new(FIRST) };
    [ports(&forge), cluster_ips(&forge), external_ips(&forge), balancers(&forge), rest(&forge)]
        .concat()
}

fn ports(forge: &Forge<'_>) -> Vec<Attack> {
    let port = |name: Value, port: Value| json!({ "name": name, "protocol": "TCP", "port": port });
    let many: Vec<Value> = (1..=100).map(|i| port(json!(format!("p{i}")), json!(i))).collect();
    let lists = [
        // Without names, the same name, the same port, the same port of two protocols.
        json!([port(Value::Null, json!(80)), port(Value::Null, json!(81))]),
        json!([port(json!("p"), json!(80)), port(json!("p"), json!(81))]),
        json!([port(json!("p"), json!(80)), port(json!("q"), json!(80))]),
        json!([port(json!("p"), json!(80)), { "name": "p", "protocol": "UDP", "port": 80 }, { "name": "p", "protocol": "SCTP", "port": 80 }]),
        json!(many),
        json!([null, {}, [], "80", 80, port(json!("p"), json!(80))]),
    ];
    let mut all = forge.each("ports", "/spec/ports", &lists);
    let numbers =
        [json!(0), json!(65_536), json!(-1), json!(1e9), json!("80"), json!(80.5), Value::Null];
    all.extend(forge.each("port", "/spec/ports/0/port", &numbers));
    let node_ports = [json!(-1), json!(65_536), json!("x"), json!(1), json!(node_port(GOOD))];
    let nodes = node_ports.into_iter().enumerate().map(|(index, value)| {
        let service = forge.fresh(&format!("node-port-{index}")).node_port();
        forge.served(&service.with("/spec/ports/0/nodePort", value))
    });
    all.extend(nodes);
    let targets = [json!(0), json!("no such name"), json!(-7), json!([]), Value::Null];
    all.extend(forge.each("target", "/spec/ports/0/targetPort", &targets));
    let protocols = [json!("tcp"), json!("SCTP"), json!("ICMP"), json!(""), json!(17), Value::Null];
    all.extend(forge.each("protocol", "/spec/ports/0/protocol", &protocols));
    let applications = [json!("kubernetes.io/ws"), json!(""), json!(7)];
    all.extend(forge.each("application", "/spec/ports/0/appProtocol", &applications));
    let names = [
        json!("x".repeat(63)),
        json!("UPPER"),
        json!("a b\"c\\d\n-j DROP"),
        json!("-"),
        json!("ä"),
    ];
    all.extend(forge.each("port-name", "/spec/ports/0/name", &names));
    all
}

fn cluster_ips(forge: &Forge<'_>) -> Vec<Attack> {
    let number = 250;
    let [v4, v6] = IpFamily::BOTH.map(|family| cluster_ip(number, family).to_string());
    let zeros = v4.replace("10.96.0.", "010.096.000.");
    let lists = [
        json!(["None"]),
        json!(["none"]),
        json!([""]),
        json!([]),
        json!([v4, v4]),
        json!([v6, v4]),
        json!([format!("::ffff:{v4}")]),
        json!([format!("{v6}%eth0")]),
        json!([zeros]),
        json!([v6.to_uppercase()]),
        json!(["0.0.0.0", "::"]),
        json!(["127.0.0.1", "::1"]),
        json!(["169.254.7.7", "fe80::7"]),
        json!(["224.0.0.7", "ff02::7"]),
        json!(["255.255.255.255"]),
        json!(["10.96.0.1/32", "not an address"]),
        json!([null, 7, v4]),
    ];
    let lists = lists.into_iter().enumerate().map(|(index, list)| {
        let service =
            forge.fresh(&format!("cluster-ips-{index}")).with("/spec/ipFamilies", Value::Null);
        let first = list.get(0).cloned().unwrap_or_default();
        forge.served(&service.with("/spec/clusterIP", first).with("/spec/clusterIPs", list))
    });
    let mut all: Vec<Attack> = lists.collect();
    // Another program's, later by name.
    let good = IpFamily::BOTH.map(|family| cluster_ip(GOOD, family).to_string());
    let same = forge.fresh("same-cluster-ip").with("/spec/clusterIP", good[0].clone());
    all.push(forge.served(&same.with("/spec/clusterIPs", good.to_vec())));
    let kinds = [json!("ExternalName"), json!("Unheard"), json!(""), json!(5)];
    all.extend(forge.each("type", "/spec/type", &kinds));
    all
}

fn external_ips(forge: &Forge<'_>) -> Vec<Attack> {
    let node = forge.world.cluster.node(0);
    let of_node = IpFamily::BOTH.map(|family| node.ip(family).to_string());
    let of_good = IpFamily::BOTH.map(|family| cluster_ip(GOOD, family).to_string());
    let of_pod = IpFamily::BOTH.map(|family| forge.world.pod("local-2").ip(family).to_string());
    let lists = [
        json!(["0.0.0.0", "::"]),
        json!(["127.0.0.1", "::1"]),
        json!(["169.254.1.1", "fe80::1"]),
        json!(["224.0.0.1", "ff02::1", "255.255.255.255"]),
        json!(of_node),
        json!(of_good),
        json!(of_pod),
        json!(["203.0.113.200", "203.0.113.200", "::ffff:203.0.113.200", "203.0.113.0200"]),
        json!(["", " ", null, 7, "example.com", "1.2.3", "::g"]),
        json!((0..200).map(|i| format!("203.0.113.{i}")).collect::<Vec<_>>()),
    ];
    forge.each("external-ips", "/spec/externalIPs", &lists)
}

fn balancers(forge: &Forge<'_>) -> Vec<Attack> {
    let ingress = [
        json!([{ "ip": "203.0.113.240", "ipMode": "Proxy" }, { "ip": "203.0.113.241", "ipMode": "vip" }, { "ip": "203.0.113.242", "ipMode": 7 }]),
        json!([{ "hostname": "lb.example.com" }]),
        json!([{}, null, { "ip": "" }, { "ip": null, "ipMode": null }]),
        json!([{ "ip": "203.0.113.243", "ports": [{ "port": 80, "error": "no" }] }]),
        json!({ "ip": "203.0.113.244" }),
        json!("203.0.113.245"),
    ];
    let mut all: Vec<Attack> = ingress
        .into_iter()
        .enumerate()
        .map(|(index, ingress)| {
            let service = forge.fresh(&format!("ingress-{index}")).load_balancer();
            forge.served(&service.with("/status/loadBalancer/ingress", ingress))
        })
        .collect();
    let thousands: Vec<String> =
        (0..3_000).map(|i| format!("10.{}.{}.0/24", i / 250, i % 250)).collect();
    let ranges = [
        json!(["10.1.2.3/8", "10.0.0.0/9", "10.0.0.0/8", "10.0.0.1/32", "10.255.255.255/32"]),
        json!([" 10.0.0.0/8 ", "", "\t", "10.0.0.0/8\n"]),
        json!(["0.0.0.0/0", "::/0", "10.0.0.0/8", "::1/128"]),
        json!([
            "0.0.0.0/1",
            "128.0.0.0/1",
            "255.255.255.255/32",
            "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff/128"
        ]),
        json!(["10.0.0.0/33", "10.0.0.0", "/8", "a/b", "10.0.0.0/-1", "10.0.0.0/08"]),
        json!(thousands),
    ];
    let ranges = ranges.into_iter().enumerate().map(|(index, ranges)| {
        let service = forge.fresh(&format!("ranges-{index}")).load_balancer();
        forge.served(&service.with("/spec/loadBalancerSourceRanges", ranges))
    });
    all.extend(ranges);
    let checks = [
        json!(0),
        json!(-5),
        json!(65_536),
        json!(31_999),
        json!(31_999),
        json!(node_port(GOOD)),
        json!(10_256),
        json!("x"),
    ];
    let checks = checks.into_iter().enumerate().map(|(index, port)| {
        let service = forge.fresh(&format!("check-{index}")).load_balancer().external_local();
        forge.served(&service.with("/spec/healthCheckNodePort", port))
    });
    all.extend(checks);
    all
}

fn rest(forge: &Forge<'_>) -> Vec<Attack> {
    let timeouts =
        [json!(0), json!(-1), json!(86_400), json!(u64::MAX), json!("10"), json!(0.5), Value::Null];
    let mut all: Vec<Attack> = timeouts
        .into_iter()
        .enumerate()
        .map(|(index, timeout)| {
            let service = forge.fresh(&format!("timeout-{index}")).affinity(1);
            forge.served(
                &service.with("/spec/sessionAffinityConfig/clientIP/timeoutSeconds", timeout),
            )
        })
        .collect();
    for field in [
        "type",
        "clusterIP",
        "ipFamilies",
        "ipFamilyPolicy",
        "internalTrafficPolicy",
        "sessionAffinity",
        "ports",
        "selector",
    ] {
        all.extend(forge.each(
            &format!("null-{}", field.to_lowercase()),
            &format!("/spec/{field}"),
            &[Value::Null],
        ));
    }
    all.extend(forge.each("spec", "/spec", &[Value::Null, json!([]), json!("x"), json!({})]));
    all.extend(forge.each(
        "status",
        "/status",
        &[Value::Null, json!([]), json!({ "loadBalancer": null })],
    ));
    all
}
