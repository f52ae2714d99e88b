//! Which commands are understood, and as what.

use super::super::Script;
use super::{Command, To, parse};

#[test]
fn commands_of_clusters_are_understood() {
    let address = Some([0x0a, 0x58, 0x0a, 0xf4, 0, 2]);
    let cases = [
        ("link set eth0 up", Command::SetUp { name: "eth0", master: None }),
        ("link set port0 master br0 up", Command::SetUp { name: "port0", master: Some("br0") }),
        (
            "link add cni0 address 0a:58:0a:f4:00:02 type bridge mcast_snooping 0",
            Command::AddBridge { name: "cni0", address },
        ),
        (
            "link add veth1 type veth peer name eth0 address 0a:58:0a:f4:00:02 netns pod",
            Command::AddVeth { name: "veth1", peer: "eth0", address, netns: "pod" },
        ),
        (
            "addr add fd00:18::a/64 dev eth0 nodad",
            Command::AddAddress {
                net: "fd00:18::a/64".parse().unwrap(),
                device: "eth0",
                no_dad: true,
            },
        ),
        (
            "route replace 10.96.0.0/16 via 172.18.0.10",
            Command::Route {
                replace: true,
                net: "10.96.0.0/16".parse().unwrap(),
                to: To::Gateway([172, 18, 0, 10].into()),
            },
        ),
        (
            "route add default via fd00:18::1",
            Command::Route {
                replace: false,
                net: "::/0".parse().unwrap(),
                to: To::Gateway("fd00:18::1".parse().unwrap()),
            },
        ),
        (
            "route add 10.244.0.1 dev eth0",
            Command::Route {
                replace: false,
                net: "10.244.0.1/32".parse().unwrap(),
                to: To::Device("eth0"),
            },
        ),
        (
            "route add blackhole ::/0",
            Command::Route { replace: false, net: "::/0".parse().unwrap(), to: To::Nowhere },
        ),
    ];
    for (line, expected) in cases {
        assert_eq!(parse(line), Some(expected), "{line}");
    }
}

#[test]
fn one_that_is_not_understood_leaves_all_to_the_program() {
    assert!(Script::parse("link set lo up\n\nlink del x\n").is_some());
    for other in ["link set eth0 mtu 1400", "addr add here dev eth0", "route add default", ""] {
        let text = format!("link set lo up\n{other} -\n");
        assert!(Script::parse(&text).is_none(), "{other}");
    }
}
