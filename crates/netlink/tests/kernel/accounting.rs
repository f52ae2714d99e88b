//! Accounting objects, and a rule that counts in one.

use std::net::UdpSocket;

use kube_proxy_netlink::accounting::{Accounting, MAX_NAME, is_unknown};

use crate::{Test, run};

pub(crate) fn tests() -> Vec<Test> {
    // Said by `nfnetlink` for a subsystem that is not there.
    let lacking = Accounting::open().and_then(|mut objects| objects.get("none")).is_err();
    if lacking {
        return vec![("accounting::a_kernel_without_it_says_so", says_so)];
    }
    vec![("accounting::counts_what_a_rule_matches", counts)]
}

fn says_so() {
    let error = Accounting::open().expect("a socket").create("none").expect_err("no subsystem");
    assert!(error.to_string().starts_with("create accounting object none: "), "{error}");
    assert!(is_unknown(&error), "{error}");
}

fn counts() {
    let mut objects = Accounting::open().expect("a socket");
    let name = "n".repeat(MAX_NAME);
    assert_eq!(objects.get(&name).expect("an answer"), None);
    objects.create(&name).expect("a new object");
    let again = objects.create(&name).expect_err("it is there");
    assert!(again.is_exists() && !is_unknown(&again), "{again}");
    let packets = |objects: &mut Accounting| {
        let counter = objects.get(&name).expect("an answer").expect("an object");
        assert_eq!(counter.name, name);
        (counter.packets, counter.bytes)
    };
    assert_eq!(packets(&mut objects), (0, 0));
    let rule = ["OUTPUT", "-p", "udp", "--dport", "9", "-m", "nfacct", "--nfacct-name", &name];
    run("iptables", &[&["-I"], &rule[..]].concat());
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    for _ in 0..3 {
        // Nothing listens there, which later ones are told.
        let _ = socket.send_to(b"four", "127.0.0.1:9");
    }
    let (counted, bytes) = packets(&mut objects);
    assert!((1..=3).contains(&counted), "{counted}");
    // 20 bytes of IP and 8 of UDP.
    assert_eq!(bytes, counted * 32);
    // Asking does not reset.
    assert_eq!(packets(&mut objects), (counted, bytes));
    let used = objects.delete(&name).expect_err("a rule counts in it");
    assert!(used.is_busy(), "{used}");
    assert_eq!(packets(&mut objects), (counted, bytes));
    let unused = "unused";
    objects.create(unused).expect("a new object");
    objects.delete(unused).expect("nobody uses it");
    let gone = objects.delete(unused).expect_err("it is gone");
    assert!(gone.is_not_found(), "{gone}");
    run("iptables", &[&["-D"], &rule[..]].concat());
}
