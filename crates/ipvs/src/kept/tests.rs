use kube_proxy_core::Protocol;

use super::*;

fn key(protocol: Protocol, address: &str) -> ServerKey {
    ServerKey::Frontend { protocol: protocol.number(), address: address.parse().unwrap() }
}

fn kept() -> Kept {
    let mut ours = vec![
        key(Protocol::Tcp, "10.96.0.1:80"),
        key(Protocol::Tcp, "10.96.0.2:80"),
        key(Protocol::Udp, "172.18.0.2:30053"),
    ];
    ours.sort_unstable();
    ours.extend([0x1001, 0x1002, 0x5001].map(|mark| ServerKey::Mark { v6: false, mark }));
    let marks = [("10.96.0.1", 0x1001), ("10.96.0.2", 0x1002)];
    let marks = marks.map(|(ip, mark)| ((ip.parse().unwrap(), 6, 80), mark)).into_iter().collect();
    let connection = |server, ended| Connection { server, ended };
    Kept::new(
        &ours,
        &[
            connection(ours[0], false),
            connection(ours[0], false),
            connection(ours[0], true),
            connection(ours[1], true),
            connection(ours[2], false),
            connection(key(Protocol::Tcp, "10.97.0.1:80"), false),
        ],
        (&marks, 0x1f7f),
    )
}

#[test]
fn what_goes_on_counts_and_what_ended_does_not() {
    let kept = kept();
    assert_eq!(kept.connections(), 3);
    assert!(kept.contains(&key(Protocol::Tcp, "10.96.0.1:80")));
    assert!(!kept.contains(&key(Protocol::Tcp, "10.96.0.2:80")), "only ended ones");
    assert!(!kept.contains(&key(Protocol::Tcp, "10.97.0.1:80")), "not ours");
    let by_mark = [0x1001, 0x1002, 0x5001].map(|mark| ServerKey::Mark { v6: false, mark });
    assert_eq!(by_mark.map(|key| kept.contains(&key)), [true, false, true]);
}

#[test]
fn entries_stay_as_long_as_their_virtual_server_does() {
    let kept = kept();
    let ip = |text: &str| text.parse::<IpAddr>().unwrap();
    let entry = |address: &str, port| Entry::IpPort(ip(address), 6, port);
    assert!(kept.needs_entry(Set::ClusterIp, &entry("10.96.0.1", 80)));
    assert!(!kept.needs_entry(Set::ClusterIp, &entry("10.96.0.1", 81)));
    assert!(!kept.needs_entry(Set::ClusterIp, &entry("10.96.0.2", 80)));
    assert!(!kept.needs_entry(Set::Drop, &entry("10.96.0.1", 80)));
    let marked = |address: &str| Entry::IpPortMark {
        ip: ip(address),
        protocol: 6,
        port: 80,
        mark: 0x1001,
        mask: 0x1f7f,
    };
    assert!(kept.needs_entry(Set::Mark, &marked("10.96.0.1")));
    assert!(!kept.needs_entry(Set::Mark, &marked("10.96.0.2")));
    assert!(kept.needs_entry(Set::Addresses, &Entry::Ip(ip("10.96.0.1"))));
    assert!(!kept.needs_entry(Set::Addresses, &Entry::Ip(ip("10.96.0.2"))));
    assert!(kept.needs_entry(Set::NodePort(Protocol::Udp), &Entry::Port(30053)));
    assert!(!kept.needs_entry(Set::NodePort(Protocol::Tcp), &Entry::Port(30053)));
    assert!(!kept.needs_entry(Set::HealthCheck, &Entry::Port(30053)));
}

#[test]
fn without_connections_no_set_stays() {
    assert!(kept().needs_set(Set::ClusterIp) && !kept().needs_set(Set::LoopBack));
    assert!(kept().needs_set(Set::Mark));
    assert!(!Kept::default().needs_set(Set::ClusterIp));
}
