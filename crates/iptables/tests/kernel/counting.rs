//! Packets that rules count in objects of the kernel, where it has them.

use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::os::fd::AsRawFd;

use futures::executor::block_on;
use kube_proxy_core::{IpFamily, ProxyBackend, Removed, Scope, Snapshot};
use kube_proxy_iptables::{InUse, IptablesBackend, PacketCounts, Variant, remove};
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrIn, sendto, socket,
};

use crate::namespace::{in_new_network, run};
use crate::samples::{service, snapshot};
use crate::syncs::{config, name, program, saved};

type Test = fn(Variant);

const TESTS: &[(&str, Test)] = &[
    ("counts_packets", counts),
    ("counts_in_the_same_objects_for_both_families", both_families),
    ("leaves_counters_that_are_in_use", in_use),
];

const VARIANTS: [Variant; 2] = [Variant::Legacy, Variant::Nft];

/// The tests, if rules can count here.
pub(crate) fn trials() -> Vec<(String, impl Fn() + Send + Sync + 'static)> {
    let possible = in_new_network(|| {
        full(Variant::Nft, IpFamily::V4, &Snapshot::new(IpFamily::V4));
        read() != PacketCounts::default()
    });
    if !possible {
        eprintln!("left out on this kernel, which has no nfacct: rules that count packets");
        return Vec::new();
    }
    let all =
        VARIANTS.into_iter().flat_map(|variant| TESTS.iter().map(move |(n, t)| (variant, n, t)));
    all.map(|(variant, of, test)| (format!("{}_{of}", name(variant)), move || test(variant)))
        .collect()
}

fn full(variant: Variant, family: IpFamily, snapshot: &Snapshot) -> IptablesBackend {
    let mut backend = IptablesBackend::new(config(variant, family)).unwrap();
    block_on(backend.sync(snapshot, Scope::Full)).unwrap();
    backend
}

fn read() -> PacketCounts {
    PacketCounts::read().unwrap().unwrap_or_default()
}

fn counted() -> (u64, u64) {
    let PacketCounts { invalid_dropped, localhost_accepted } = read();
    (invalid_dropped.unwrap(), localhost_accepted.unwrap())
}

/// An answer to an echo request that nothing made.
fn send_unasked_echo_reply() {
    let raw =
        socket(AddressFamily::Inet, SockType::Raw, SockFlag::empty(), SockProtocol::Icmp).unwrap();
    let to = SockaddrIn::from(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0));
    // Type, code, checksum, identifier, sequence number.
    let reply = [0, 0, 0xff, 0xfd, 0, 1, 0, 1];
    // A packet that is dropped on its way out is an error here.
    let _ = sendto(raw.as_raw_fd(), &reply, &to, MsgFlags::empty());
}

fn send_to_node_port() {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    for _ in 0..2 {
        // Nothing listens at the endpoint, which the second packet may be told.
        let _ = socket.send_to(b"hello", "127.0.0.1:30053");
    }
}

fn counts(variant: Variant) {
    run("ip", &["link", "set", "lo", "up"]);
    run("ip", &["address", "add", "10.1.0.1/32", "dev", "lo"]);
    let dns = service("dns", "10.96.0.10").protocol(kube_proxy_core::Protocol::Udp);
    let services = snapshot(IpFamily::V4, &[dns.remote("10.1.0.1:53").node_port(30053)]);
    let mut backend = full(variant, IpFamily::V4, &services);
    assert!(block_on(backend.intact()).unwrap());
    let rules = saved(variant, IpFamily::V4);
    assert_eq!(rules["filter KUBE-PROXY-CANARY"], [""; 0]);
    assert_eq!(counted(), (0, 0));
    // A packet of this node comes by the rule that is for those it forwards.
    let iptables = program(variant, IpFamily::V4, "");
    run(&iptables, &["-I", "OUTPUT", "-p", "icmp", "-j", "KUBE-FORWARD"]);
    for expected in 1..=3 {
        send_unasked_echo_reply();
        assert_eq!(counted(), (expected, 0));
    }
    send_to_node_port();
    let (_, connections) = counted();
    assert_eq!(connections, 1, "the second packet is of the same flow");
    // Later syncs, and another process, count on.
    run(&iptables, &["-D", "OUTPUT", "-p", "icmp", "-j", "KUBE-FORWARD"]);
    block_on(backend.sync(&services, Scope::Full)).unwrap();
    assert_eq!(saved(variant, IpFamily::V4), rules);
    let mut next = full(variant, IpFamily::V4, &services);
    assert_eq!(saved(variant, IpFamily::V4), rules);
    assert!(block_on(next.intact()).unwrap());
    assert_eq!(counted(), (3, 1));
    remove(IpFamily::V4, InUse::default()).unwrap();
    assert_eq!(read(), PacketCounts::default());
}

fn both_families(variant: Variant) {
    let of = |family| full(variant, family, &Snapshot::new(family));
    let (four, six) = (of(IpFamily::V4), of(IpFamily::V6));
    for family in IpFamily::BOTH {
        let rules = saved(variant, family);
        let forward = &rules["filter KUBE-FORWARD"];
        assert!(forward.iter().any(|rule| rule.contains("nfacct")), "{forward:?}");
    }
    drop((four, six));
    assert_eq!(remove(IpFamily::V4, InUse::default()).unwrap(), Removed::All);
    // Rules of the other family use only one of them.
    let left = PacketCounts { invalid_dropped: Some(0), localhost_accepted: None };
    assert_eq!(read(), left);
    assert_eq!(remove(IpFamily::V6, InUse::default()).unwrap(), Removed::All);
    assert_eq!(read(), PacketCounts::default());
    assert_eq!(remove(IpFamily::V6, InUse::default()).unwrap(), Removed::Nothing);
}

/// What a running proxy may be about to use stays, and what a rule of another program uses.
fn in_use(variant: Variant) {
    let backend = full(variant, IpFamily::V4, &Snapshot::new(IpFamily::V4));
    assert_eq!(remove(IpFamily::V6, backend.in_use()).unwrap(), Removed::Nothing);
    assert_eq!(counted(), (0, 0));
    let rule = ["-m", "nfacct", "--nfacct-name", "localhost_nps_accepted_pkts", "-j", "ACCEPT"];
    run(&program(variant, IpFamily::V4, ""), &[&["-A", "INPUT"], &rule[..]].concat());
    assert_eq!(remove(IpFamily::V4, InUse::default()).unwrap(), Removed::All);
    let left = PacketCounts { invalid_dropped: None, localhost_accepted: Some(0) };
    assert_eq!(read(), left);
}
