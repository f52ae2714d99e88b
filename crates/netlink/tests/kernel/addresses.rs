//! Interface addresses against what `ip` says.

use std::fmt::Write as _;
use std::net::IpAddr;
use std::time::Duration;

use kube_proxy_netlink::route::{
    Address, AddressChange, AddressFlags, AddressMonitor, Route, Scope, Wake,
};
use kube_proxy_netlink::socket::DumpEnd;
use serde_json::Value;

use crate::{Test, run};

/// Only to end a test that would hang.
const GUARD: Option<Duration> = Some(Duration::from_mins(1));

pub(crate) fn tests() -> Vec<Test> {
    vec![
        ("addresses::same_as_ip_lists", same_as_ip_lists),
        ("addresses::odd_names", odd_names),
        ("addresses::flags_and_usability", flags_and_usability),
        ("monitor::notices_added_and_removed", notices_added_and_removed),
        ("routes::next_hops", next_hops),
        ("routes::interface_of_an_address", interface_of),
        ("monitor::stops_and_times_out", stops_and_times_out),
        ("monitor::overflow_is_told", overflow_is_told),
    ]
}

fn addresses() -> Vec<Address> {
    let (addresses, end) = Route::open().expect("route socket").addresses().expect("addresses");
    assert_eq!(end, DumpEnd::Complete);
    addresses
}

/// A pair of interfaces, both up.
fn add_link(name: &str) {
    let peer = format!("{name}-peer");
    run("ip", &["link", "add", name, "type", "veth", "peer", "name", &peer]);
    for end in [name, &peer] {
        // No link-local address that comes some time after the carrier does.
        run("ip", &["link", "set", end, "addrgenmode", "none"]);
        run("ip", &["link", "set", end, "up"]);
    }
}

fn remove_link(name: &str) {
    run("ip", &["link", "del", name]);
}

/// The kernel takes interface names of any bytes but a few: one such name hides no address.
fn odd_names() {
    add_link("named");
    // `ip` takes it only as an argument of bytes.
    let rename = r"ip link set named down; ip link set named name $(printf 'q\377\001w'); ip link set $(printf 'q\377\001w') up";
    run("sh", &["-c", rename]);
    run("sh", &["-c", r"ip addr add 192.0.2.77/24 dev $(printf 'q\377\001w')"]);
    let found = addresses().into_iter().find(|a| a.address == IpAddr::from([192, 0, 2, 77]));
    assert_eq!(found.and_then(|a| a.label).as_deref(), Some("q\u{fffd}\u{1}w"));
    run("ip", &["link", "del", "named-peer"]);
}

fn same_as_ip_lists() {
    add_link("listed");
    run("ip", &["addr", "add", "192.0.2.1/24", "dev", "listed"]);
    run("ip", &["addr", "add", "192.0.2.2/24", "dev", "listed", "label", "listed:two"]);
    run("ip", &["addr", "add", "198.51.100.1", "peer", "198.51.100.2", "dev", "listed"]);
    run("ip", &["addr", "add", "203.0.113.1/32", "scope", "link", "dev", "listed"]);
    run("ip", &["addr", "add", "2001:db8::1/64", "dev", "listed", "nodad"]);
    run("ip", &["addr", "add", "2001:db8:1::1", "peer", "2001:db8:1::2", "dev", "listed", "nodad"]);
    let mut ours: Vec<_> = addresses()
        .into_iter()
        .map(|a| (a.interface, a.address, a.prefix_len, scope_name(a.scope), a.label))
        .collect();
    let mut theirs = listed_by_ip();
    ours.sort();
    theirs.sort();
    assert_eq!(ours, theirs);
    assert!(ours.len() >= 8, "{ours:?}");
    remove_link("listed");
}

/// Of the main table and another one, alone and among several, of the family of the route and of the other one.
fn next_hops() {
    add_link("routed");
    run("ip", &["addr", "add", "192.0.2.1/24", "dev", "routed"]);
    run("ip", &["addr", "add", "2001:db8::1/64", "dev", "routed", "nodad"]);
    for route in [
        "-4 route add 198.51.100.0/26 via 192.0.2.11",
        "-4 route add 198.51.100.64/26 via 192.0.2.12 table 77",
        "-4 route add 198.51.100.128/26 nexthop via 192.0.2.13 nexthop via 192.0.2.14",
        "-4 route add 203.0.113.0/26 via inet6 2001:db8::15 dev routed",
        "-4 route add 203.0.113.64/26 dev routed",
        "-6 route add 2001:db8:1::/64 via 2001:db8::16",
        "-6 route add 2001:db8:2::/64 nexthop via 2001:db8::17 nexthop via 2001:db8::18",
        "nexthop add id 9 via 192.0.2.19 dev routed",
        "-4 route add 203.0.113.128/26 nhid 9",
    ] {
        run("ip", &route.split(' ').collect::<Vec<_>>());
    }
    let (hops, end) = Route::open().expect("route socket").next_hops().expect("next hops");
    assert_eq!(end, DumpEnd::Complete);
    let wanted = ["192.0.2.11", "192.0.2.12", "192.0.2.13", "192.0.2.14", "2001:db8::15"];
    let wanted = wanted.into_iter().chain(["2001:db8::16", "2001:db8::17", "2001:db8::18"]);
    let wanted = wanted.chain(["192.0.2.19"]).map(|ip| ip.parse().expect("an address"));
    assert_eq!(hops, wanted.collect());
    remove_link("routed");
}

/// Also on an interface that is down; an address of another host, or of no host, is on none.
fn interface_of() {
    add_link("near");
    run("ip", &["link", "add", "held", "type", "veth", "peer", "name", "held-peer"]);
    for (address, link) in [
        ("192.0.2.193/26", "near"),
        ("2001:db8:9::1/64", "near"),
        ("203.0.113.200/32", "held"),
        ("2001:db8:a::c8/128", "held"),
    ] {
        // It is local once duplicate address detection is over.
        let nodad: &[&str] = if address.contains(':') { &["nodad"] } else { &[] };
        run("ip", &[&["addr", "add", address, "dev", link], nodad].concat());
    }
    let mut route = Route::open().expect("route socket");
    let mut interface = |ip: &str| {
        route.interface_of(ip.parse().expect("an address")).expect("interface of an address")
    };
    let listed: Value = serde_json::from_str(&run("ip", &["-j", "link"])).expect("JSON");
    let index = |name: &str| {
        let links = listed.as_array().expect("a list of links");
        let link = links.iter().find(|link| link["ifname"] == name).expect("the link");
        u32::try_from(link["ifindex"].as_u64().expect("a number")).ok()
    };
    assert_eq!(interface("192.0.2.193"), index("near"));
    assert_eq!(interface("2001:db8:9::1"), index("near"));
    assert_eq!(interface("203.0.113.200"), index("held"));
    assert_eq!(interface("2001:db8:a::c8"), index("held"));
    assert_eq!(interface("127.0.0.1"), index("lo"));
    for elsewhere in ["192.0.2.194", "203.0.113.201", "2001:db8:9::2", "2001:db8:b::1"] {
        assert_eq!(interface(elsewhere), None, "{elsewhere}");
    }
    run("ip", &["route", "add", "blackhole", "203.0.113.202"]);
    assert_eq!(interface("203.0.113.202"), None);
    remove_link("near");
    remove_link("held");
}

type Row = (u32, IpAddr, u8, &'static str, Option<String>);

fn listed_by_ip() -> Vec<Row> {
    let json: Value = serde_json::from_str(&run("ip", &["-j", "addr"])).expect("JSON");
    let mut rows = Vec::new();
    for link in json.as_array().expect("a list of links") {
        let number = |value: &Value| value.as_u64().expect("a number");
        let index = u32::try_from(number(&link["ifindex"])).expect("an index");
        for address in link["addr_info"].as_array().expect("a list of addresses") {
            let text = |key: &str| address[key].as_str();
            let scope = match text("scope").expect("a scope") {
                "global" => "global",
                "link" => "link",
                "host" => "host",
                other => panic!("scope {other}"),
            };
            rows.push((
                index,
                text("local").expect("an address").parse().expect("an address"),
                u8::try_from(number(&address["prefixlen"])).expect("a prefix length"),
                scope,
                text("label").map(str::to_owned),
            ));
        }
    }
    rows
}

fn scope_name(scope: Scope) -> &'static str {
    match scope {
        Scope::Global => "global",
        Scope::Link => "link",
        Scope::Host => "host",
        other => panic!("{other:?}"),
    }
}

fn find(address: &str) -> Address {
    let address: IpAddr = address.parse().expect("an address");
    addresses().into_iter().find(|a| a.address == address).expect("the address is there")
}

fn flags_and_usability() {
    run("ip", &["link", "add", "flagged", "type", "veth", "peer", "name", "other"]);
    run("ip", &["link", "set", "flagged", "up"]);
    // Without a carrier duplicate address detection cannot begin: the address stays tentative.
    run("ip", &["addr", "add", "2001:db8:2::1/64", "dev", "flagged"]);
    run(
        "ip",
        &["addr", "add", "2001:db8:2::2/64", "dev", "flagged", "nodad", "preferred_lft", "0"],
    );
    run("ip", &["addr", "add", "192.0.2.65/26", "dev", "flagged"]);
    let tentative = find("2001:db8:2::1");
    assert!(tentative.flags.contains(AddressFlags::TENTATIVE), "{tentative:?}");
    assert!(!tentative.is_usable());
    let deprecated = find("2001:db8:2::2");
    assert!(deprecated.flags.contains(AddressFlags::DEPRECATED), "{deprecated:?}");
    assert!(deprecated.is_usable());
    let plain = find("192.0.2.65");
    assert_eq!(plain.flags, AddressFlags::PERMANENT);
    assert!(plain.is_usable());
    remove_link("flagged");
}

/// Waits until a change about `address` comes; others are skipped.
fn next_about(monitor: &mut AddressMonitor, address: &str) -> AddressChange {
    let wanted: IpAddr = address.parse().expect("an address");
    loop {
        let Wake::Changed(changes) = monitor.wait(GUARD).expect("wait") else {
            panic!("no change of {address}");
        };
        let about = changes.into_iter().find(|change| match change {
            AddressChange::Present(a) | AddressChange::Gone(a) => a.address == wanted,
            AddressChange::Missed => true,
        });
        if let Some(change) = about {
            return change;
        }
    }
}

fn notices_added_and_removed() {
    add_link("watched");
    let (mut monitor, _stop) = AddressMonitor::open().expect("monitor");
    for address in ["192.0.2.129", "2001:db8:3::1"] {
        let prefix = format!("{address}/{}", if address.contains(':') { 128 } else { 32 });
        run("ip", &["addr", "add", &prefix, "dev", "watched"]);
        let added = next_about(&mut monitor, address);
        assert_eq!(added, AddressChange::Present(find(address)));
        run("ip", &["addr", "del", &prefix, "dev", "watched"]);
        let removed = next_about(&mut monitor, address);
        assert!(matches!(removed, AddressChange::Gone(_)), "{removed:?}");
    }
    remove_link("watched");
}

fn stops_and_times_out() {
    let (mut monitor, stop) = AddressMonitor::open().expect("monitor");
    assert_eq!(monitor.wait(Some(Duration::from_millis(5))).expect("wait"), Wake::TimedOut);
    let waiting = std::thread::spawn(move || {
        let first = monitor.wait(GUARD);
        (first, monitor.wait(GUARD))
    });
    stop.clone().stop();
    let (first, second) = waiting.join().expect("the thread ends");
    assert_eq!(first.expect("wait"), Wake::Stopped);
    assert_eq!(second.expect("wait"), Wake::Stopped);

    let (mut monitor, stop) = AddressMonitor::open().expect("monitor");
    drop(stop);
    assert_eq!(monitor.wait(GUARD).expect("wait"), Wake::Stopped);
}

fn overflow_is_told() {
    add_link("flooded");
    let (mut monitor, _stop) = AddressMonitor::open().expect("monitor");
    // More notifications than 8 MiB of kernel memory hold; `ip -batch` makes them fast.
    let mut batch = String::new();
    for index in 0_u32..12_000 {
        let [_, high, middle, low] = index.to_be_bytes();
        writeln!(batch, "addr add 10.{high}.{middle}.{low}/32 dev flooded").expect("memory");
    }
    std::fs::write("/run/flood", batch).expect("a file in /run");
    run("ip", &["-batch", "/run/flood"]);
    let changes = monitor.changes().expect("changes");
    assert_eq!(changes.last(), Some(&AddressChange::Missed), "{} changes", changes.len());
    // Nothing is lost for good: the listing has them all, and the monitor continues.
    assert!(addresses().len() >= 12_000);
    monitor.changes().expect("what was still queued");
    run("ip", &["addr", "add", "192.0.2.200/32", "dev", "flooded"]);
    assert_eq!(
        next_about(&mut monitor, "192.0.2.200"),
        AddressChange::Present(find("192.0.2.200"))
    );
    remove_link("flooded");
}
