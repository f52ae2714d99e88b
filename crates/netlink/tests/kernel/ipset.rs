//! Sets that `ipset create -exist` of another program takes for its own.

use std::net::IpAddr;
use std::process::Command;

use kube_proxy_netlink::Family;
use kube_proxy_netlink::ipset::{Entry, Ipset, SetType};

use crate::Test;

pub(crate) fn tests() -> Vec<Test> {
    vec![
        ("ipset::is_what_the_go_kube_proxy_creates", is_what_go_creates),
        ("ipset::single_entries_are_looked_up", look_up),
        ("ipset::entries_have_marks", entries_have_marks),
    ]
}

const MAX: u32 = 65_536;

/// Whether `ipset create NAME … -exist` with the options of the Go kube-proxy works.
fn go_creates(name: &str, kind: SetType, family: &str) -> bool {
    let mut ipset = Command::new("ipset");
    ipset.args(["create", name, kind.name()]);
    if kind == SetType::Port {
        ipset.args(["range", "0-65535"]);
    } else {
        ipset.args(["family", family, "hashsize", "1024", "maxelem", "65536"]);
    }
    let output = ipset.arg("-exist").output().expect("package ipset");
    output.status.success()
}

fn look_up() {
    let mut sets = Ipset::open().expect("open");
    let families = [
        (Family::V4, IpAddr::from([10, 0, 0, 1]), IpAddr::from([10, 0, 1, 0]), 24),
        (
            Family::V6,
            IpAddr::from([0xfd00, 0, 0, 0, 0, 0, 0, 1]),
            IpAddr::from([0xfd01, 0, 0, 0, 0, 0, 0, 0]),
            64,
        ),
    ];
    let name = "KUBE-TRY";
    for (family, ip, net, length) in families {
        let kinds = [
            (SetType::Ip, Entry::Ip(ip), Entry::Ip(net)),
            (SetType::IpPort, Entry::IpPort(ip, 6, 80), Entry::IpPort(ip, 17, 80)),
            (SetType::IpPortIp, Entry::IpPortIp(ip, 6, 80, ip), Entry::IpPortIp(ip, 6, 80, net)),
            (
                SetType::IpPortNet,
                Entry::IpPortNet(ip, 6, 80, net, length),
                Entry::IpPortNet(ip, 6, 80, net, length + 1),
            ),
            (SetType::Port, Entry::Port(30_080), Entry::Port(30_081)),
        ];
        for (kind, entry, other) in kinds {
            assert_eq!(sets.contains(name, entry), Ok(None), "no such set");
            sets.create(name, kind, family, MAX).expect("create");
            assert_eq!(sets.contains(name, entry), Ok(Some(false)), "{entry}");
            sets.add(name, &[entry]).expect("add");
            assert_eq!(sets.contains(name, entry), Ok(Some(true)), "{entry}");
            assert_eq!(sets.contains(name, other), Ok(Some(false)), "{other}");
            assert_eq!(sets.members(name).expect("members"), [entry], "it changed something");
            sets.destroy(name).expect("destroy");
        }
    }
}

/// It takes over a set that is there only if type, family and size are the same; what is in it stays.
fn is_what_go_creates() {
    let mut sets = Ipset::open().expect("open");
    let families = [
        (Family::V4, "inet", IpAddr::from([10, 0, 0, 1])),
        (Family::V6, "inet6", IpAddr::from([0xfd00, 0, 0, 0, 0, 0, 0, 1])),
    ];
    for (family, word, ip) in families {
        let kinds = [
            (SetType::Ip, Entry::Ip(ip)),
            (SetType::IpPort, Entry::IpPort(ip, 6, 80)),
            (SetType::IpPortIp, Entry::IpPortIp(ip, 6, 80, ip)),
            (SetType::IpPortNet, Entry::IpPortNet(ip, 6, 80, ip, 24)),
            (SetType::Port, Entry::Port(30_080)),
        ];
        for (kind, entry) in kinds {
            let name = "KUBE-TRY";
            sets.create(name, kind, family, MAX).expect("create");
            sets.add(name, &[entry]).expect("add");
            assert!(go_creates(name, kind, word), "{word} {}", kind.name());
            assert_eq!(sets.members(name).expect("members").len(), 1, "{word} {}", kind.name());
            sets.destroy(name).expect("destroy");
            if kind != SetType::Port {
                sets.create(name, kind, family, 2 * MAX).expect("create");
                assert!(!go_creates(name, kind, word), "{word} {}: of another size", kind.name());
                sets.destroy(name).expect("destroy");
            }
        }
    }
}

/// The program shows the mark of an entry; adding it again changes that, and deleting it asks for none.
fn entries_have_marks() {
    let mut sets = Ipset::open().expect("open");
    let families = [
        (Family::V4, IpAddr::from([10, 0, 0, 1])),
        (Family::V6, IpAddr::from([0xfd00, 0, 0, 0, 0, 0, 0, 1])),
    ];
    for (family, ip) in families {
        let name = "KUBE-MARK-TRY";
        let entry = |mark| Entry::IpPortMark { ip, protocol: 6, port: 80, mark, mask: 0x1f7f };
        sets.create(name, SetType::IpPortMark, family, MAX).expect("create");
        let header = |sets: &mut Ipset| {
            let headers = sets.headers().expect("headers");
            headers.into_iter().find(|header| header.name == name).expect("the set")
        };
        assert!(header(&mut sets).has_marks);
        for mark in [0x1001, 0x1002] {
            sets.add(name, &[entry(mark)]).expect("add");
            assert_eq!(sets.members(name).expect("members"), [entry(mark)]);
            let output = Command::new("ipset").args(["list", name]).output().expect("ipset");
            let shown = String::from_utf8_lossy(&output.stdout).into_owned();
            // Without the mask if that is of all bits.
            let line = entry(mark).to_string();
            assert!(shown.lines().any(|found| found.trim() == line), "{line} in {shown}");
        }
        sets.delete(name, &[entry(0x1001)]).expect("delete");
        assert_eq!(sets.members(name).expect("members"), []);
        sets.destroy(name).expect("destroy");
        sets.create(name, SetType::IpPort, family, MAX).expect("create");
        assert!(!header(&mut sets).has_marks);
        assert!(sets.add(name, &[entry(0x1001)]).is_err(), "a set without marks");
        sets.destroy(name).expect("destroy");
    }
}
