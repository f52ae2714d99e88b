use kube_proxy_netlink::nf_tables::Verdict;

use super::*;
use crate::commands::frontends::tests::services;

/// An IPv4 header of TCP, and the ports.
fn headers(source: [u8; 4], to: [u8; 4], port: u16) -> (Vec<u8>, Vec<u8>) {
    let mut network = vec![0x45, 0, 0, 60, 0, 0, 0, 0, 64, 6, 0, 0];
    network.extend(source);
    network.extend(to);
    let mut transport = 4000_u16.to_be_bytes().to_vec();
    transport.extend(port.to_be_bytes());
    (network, transport)
}

fn step<'a>(
    table: &'a str,
    chain: &'a str,
    decision: Decision,
    verdict: Verdict<'a>,
    headers: Option<&'a (Vec<u8>, Vec<u8>)>,
) -> Step<'a> {
    Step {
        id: 1,
        family: 2,
        table: table.into(),
        chain: chain.into(),
        decision,
        verdict,
        network: headers.map(|(network, _)| &network[..]),
        transport: headers.map(|(_, transport)| &transport[..]),
        mark: 0,
        input: None,
        output: None,
    }
}

const POD: [u8; 4] = [10, 244, 0, 9];

#[test]
fn way_through_the_nftables_mode() {
    let terms = Terms::of(Some(&services()));
    let before = headers(POD, [10, 96, 0, 1], 80);
    let after = headers(POD, [10, 244, 1, 5], 8080);
    let goto = |chain| Verdict::Goto(std::borrow::Cow::Borrowed(chain));
    let steps = [
        step("kube-proxy-trace", "output", Decision::Rule(3), Verdict::Continue, Some(&before)),
        step(
            "kube-proxy",
            "nat-output",
            Decision::Rule(9),
            Verdict::Jump("services".into()),
            Some(&before),
        ),
        step("kube-proxy", "services", Decision::Rule(12), goto("cluster-2"), None),
        step("kube-proxy", "cluster-2", Decision::Rule(20), Verdict::Accept, None),
        step("filter", "FORWARD", Decision::Policy, Verdict::Accept, Some(&after)),
    ];
    let mut packet = Packet::default();
    for step in &steps {
        packet.add(step, &terms);
    }
    let text = packet.text(1);
    let expected = "\
packet 1: tcp 10.244.0.9:4000 -> 10.96.0.1:80, from this node
  ip kube-proxy nat-output rule 9: jump services the choice of an endpoint, packets of this node
  ip kube-proxy services rule 12: goto cluster-2 looks for the Service of this address or node port
  ip kube-proxy cluster-2 rule 20: accept      Service address: picks one of 2 endpoints
  the destination is 10.244.1.5:8080 now
=> passed to 10.244.1.5:8080
";
    assert_eq!(text, expected);
    let json = serde_json::to_value(&packet).unwrap();
    assert_eq!(json["sentTo"], "10.244.1.5:8080");
    assert_eq!(json["steps"][3]["nowTo"], "10.244.1.5:8080");
    assert_eq!(json["steps"].as_array().unwrap().len(), 4, "also those that decide nothing");
    assert!(text.lines().all(|line| line.chars().count() <= WIDTH), "{text}");
}

#[test]
fn what_stops_a_packet_is_named() {
    let terms = Terms::of(Some(&services()));
    let to = headers(POD, [10, 96, 0, 1], 80);
    let way = |steps: &[Step<'_>]| {
        let mut packet = Packet::default();
        for step in steps {
            packet.add(step, &terms);
        }
        packet.text(1).lines().last().unwrap_or_default().to_owned()
    };
    let rule = Decision::Rule(4);
    let rejected = step("kube-proxy", "reject-chain", rule, Verdict::Drop, Some(&to));
    assert_eq!(
        way(&[rejected]),
        "=> stopped by ip kube-proxy reject-chain rule 4: drop: refuses: the sender is told that the port is unreachable"
    );
    let forward = step("filter", "FORWARD", Decision::Policy, Verdict::Drop, Some(&to));
    assert_eq!(
        way(&[forward]),
        "=> stopped by ip filter FORWARD: policy drop: iptables: packets for others"
    );
    let foreign = step("mine", "c", Decision::Policy, Verdict::Accept, Some(&to));
    assert_eq!(way(&[foreign]), "=> passed to 10.96.0.1:80, which no rule rewrote");
}

#[test]
fn chains_of_iptables_name_their_service() {
    let terms = Terms::of(Some(&services()));
    let id = &services().service_ports[0].id;
    let name = format!("{}/{}:{}", id.namespace, id.name, id.port_name);
    let service = kube_proxy_core::ServicePortName {
        service: kube_proxy_core::ObjectName::new("shop", "web"),
        port: "http".into(),
        protocol: kube_proxy_core::Protocol::Tcp,
    };
    let [(cluster, what), ..] = kube_proxy_iptables::service_chains(&service);
    assert_eq!(terms.meaning("nat", &cluster), format!("{name}: {what}"));
    assert_eq!(terms.meaning("nat", "KUBE-SEP-ABCDEFGHIJKLMNOP"), "one endpoint of a Service");
    assert_eq!(terms.meaning("nat", "SOMEBODY"), "not of kube-proxy");
    assert_eq!(terms.meaning("nat", "é"), "not of kube-proxy");
}

#[test]
fn broken_headers_are_no_addresses() {
    for length in 0..40 {
        for version in [0x45, 0x60, 0x00] {
            let mut network = vec![0; length];
            if let Some(first) = network.first_mut() {
                *first = version;
            }
            let _ = addresses(&network, Some(&[1]));
            let _ = addresses(&network, None);
        }
    }
}
