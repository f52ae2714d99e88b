//! Word of changes of the rulesets.

use std::borrow::Cow;

use kube_proxy_netlink::nf_tables::{Element, HookPoint, Monitor, NfTables, Transaction};
use kube_proxy_netlink::wait::Ready;
use kube_proxy_netlink::{Error, Family};

use crate::{Test, run};

pub(crate) fn tests() -> Vec<Test> {
    vec![
        ("nf_tables::changes_are_told_with_their_table_and_sender", changes_are_told),
        ("nf_tables::pause_spares_the_notices", pause_spares_the_notices),
        ("nf_tables::overflow_is_told", overflow_is_told),
        ("nf_tables::chains_of_all_families_are_listed", all_chains),
        ("nf_tables::single_objects_are_looked_up", look_up),
    ]
}

fn nft(command: &str) {
    run("nft", &[command]);
}

/// Family, table, whether `own` sent it, and the set that lost elements.
fn heard(monitor: &mut Monitor, own: u32) -> Vec<(u8, String, bool, Option<String>)> {
    let mut heard = Vec::new();
    monitor
        .notices(|notice| {
            let set = notice.elements_gone_from.map(Cow::into_owned);
            heard.push((notice.family, notice.table.into_owned(), notice.port == own, set));
        })
        .expect("notices");
    heard.dedup();
    heard
}

fn changes_are_told() {
    let (mut monitor, waiter, stop) = Monitor::open().expect("monitor");
    let mut netlink = NfTables::open(Family::V6).expect("socket");
    let own = netlink.port().expect("port");
    let changes = [
        "add table ip told { }",
        "add chain ip told c",
        "add rule ip told c accept",
        "add set ip told s { type inet_proto ; elements = { tcp } ; }",
        "flush chain ip told c",
    ];
    for change in changes {
        nft(change);
        assert_eq!(waiter.wait(None).expect("wait"), Ready::MayRead);
        let expected = (2, "told".to_owned(), false, None);
        assert_eq!(heard(&mut monitor, own), [expected], "{change}");
    }
    nft("delete element ip told s { tcp }");
    let expected = (2, "told".to_owned(), false, Some("s".to_owned()));
    assert_eq!(heard(&mut monitor, own), [expected]);
    nft("delete table ip told");
    assert!(heard(&mut monitor, own).contains(&(2, "told".to_owned(), false, None)));

    let mut transaction = Transaction::new(Family::V6, "ours");
    transaction.add_table(&[]).expect("short");
    netlink.commit(&mut transaction).expect("commit");
    assert_eq!(heard(&mut monitor, own), [(10, "ours".to_owned(), true, None)]);
    nft("delete table ip6 ours");
    assert_eq!(heard(&mut monitor, own), [(10, "ours".to_owned(), false, None)]);
    stop.stop();
    assert_eq!(waiter.wait(None).expect("wait"), Ready::Stopped);
}

fn pause_spares_the_notices() {
    let (mut monitor, _waiter, _stop) = Monitor::open().expect("monitor");
    monitor.pause().expect("pause");
    nft("add table ip paused");
    monitor.resume().expect("resume");
    assert_eq!(heard(&mut monitor, 0), []);
    nft("delete table ip paused");
    assert_eq!(heard(&mut monitor, 0).len(), 1);
}

fn overflow_is_told() {
    let (mut monitor, _waiter, _stop) = Monitor::open().expect("monitor");
    nft("add table ip flood ; add set ip flood s { type ipv4_addr . ipv4_addr ; }");
    // One transaction of more elements than 8 MiB of kernel memory hold notices of.
    let elements = (0_u32..200_000).map(|n| format!("{} . 10.0.0.1", std::net::Ipv4Addr::from(n)));
    let elements = elements.collect::<Vec<_>>().join(",");
    let text = format!("add element ip flood s {{ {elements} }}");
    std::fs::write("/run/flood.nft", text).expect("a file in /run");
    run("nft", &["-f", "/run/flood.nft"]);
    let lost = monitor.notices(|_| {}).expect_err("not all fits");
    assert!(matches!(lost, Error::Lost { .. }), "{lost}");
    // It continues.
    let _ = monitor.notices(|_| {});
    nft("delete table ip flood");
    let _ = monitor.notices(|_| {});
    nft("add table ip flood");
    assert_eq!(heard(&mut monitor, 0).len(), 1);
    nft("delete table ip flood");
}

/// The places of elements that are there, each with the keys that the kernel answered.
fn found(netlink: &mut NfTables, set: &str, wanted: &[Element<'_>]) -> Vec<Option<Vec<u8>>> {
    let mut all = Vec::new();
    netlink
        .find_elements("looked", set, wanted, |place, element| {
            assert_eq!(place, all.len(), "in their order");
            all.push(element.map(|element| element.key.to_vec()));
        })
        .expect("look up");
    all
}

fn look_up() {
    nft(
        "add table ip looked ; add chain ip looked c { type filter hook forward priority 5 ; } ; add chain ip looked d ; add rule ip looked d accept ; add rule ip looked c drop",
    );
    nft("add set ip looked s { type inet_service ; elements = { 1-300 } ; flags interval ; }");
    nft("add set ip looked p { type inet_service ; }");
    let ports = (0..600_u16).filter(|port| port % 100 != 7).map(|port| port.to_string());
    nft(&format!("add element ip looked p {{ {} }}", ports.collect::<Vec<_>>().join(", ")));
    nft(
        "add set ip looked r { type inet_service . inet_service ; flags interval ; elements = { 1-9 . 5-6 } ; }",
    );
    let mut netlink = NfTables::open(Family::V4).expect("socket");
    let before = netlink.last_request();
    let keys: Vec<_> = (0..600_u16).map(u16::to_be_bytes).collect();
    let wanted: Vec<_> = keys.iter().map(|key| Element { key, ..Element::default() }).collect();
    let all = found(&mut netlink, "p", &wanted);
    assert_eq!(all.len(), 600);
    for (port, found) in all.iter().enumerate() {
        let key = (port % 100 != 7).then(|| keys[port].to_vec());
        assert_eq!(*found, key, "{port}");
    }
    // One for every 256 keys, and one more for each that is missing.
    let requests = netlink.last_request() - before;
    assert!((3..=9).contains(&requests), "{requests} requests");
    // Intervals: by any key within; the end is an element of its own.
    let key = 5_u16.to_be_bytes();
    let start = Element { key: &key, ..Element::default() };
    let end = Element { interval_end: true, ..start.clone() };
    let outside = 400_u16.to_be_bytes();
    let outside = Element { key: &outside, ..Element::default() };
    let bytes = |port: u16| Some(port.to_be_bytes().to_vec());
    assert_eq!(found(&mut netlink, "s", &[start, end, outside]), [bytes(1), bytes(301), None]);
    let concatenated = |first: u16, second: u16| {
        let ([a, b], [c, d]) = (first.to_be_bytes(), second.to_be_bytes());
        vec![a, b, 0, 0, c, d, 0, 0]
    };
    let (inside, outside) = (concatenated(3, 5), concatenated(3, 7));
    let wanted = [&inside, &outside].map(|key| Element { key, ..Element::default() });
    assert_eq!(found(&mut netlink, "r", &wanted), [Some(concatenated(1, 5)), None]);
    assert_eq!(found(&mut netlink, "nowhere", &wanted), [None, None]);
    let chain = netlink.chain("looked", "c").expect("chain").expect("it is there");
    assert_eq!(chain.hook.map(|hook| hook.priority), Some(5));
    assert_eq!(netlink.chain("looked", "nowhere").expect("chain"), None);
    let rules = |netlink: &mut NfTables, chain: &str| {
        netlink.rules_of_chain("looked", chain).expect("rules").len()
    };
    assert_eq!((rules(&mut netlink, "c"), rules(&mut netlink, "nowhere")), (1, 0));
    nft("add rule ip looked d accept");
    assert_eq!((rules(&mut netlink, "c"), rules(&mut netlink, "d")), (1, 2));
    nft("delete table ip looked");
}

fn all_chains() {
    nft(
        "add table inet firewall ; add chain inet firewall f { type filter hook forward priority 5 ; policy drop ; }",
    );
    nft("add table ip6 plain ; add chain ip6 plain c");
    let chains = NfTables::open(Family::V4).expect("socket").all_chains().expect("chains");
    let find = |table: &str| chains.iter().find(|(_, chain)| chain.table == table);
    let (family, chain) = find("firewall").expect("it is listed");
    let point = chain.hook.map(|hook| (hook.point, hook.priority));
    assert_eq!((*family, chain.drops, point), (1, true, Some((HookPoint::Forward, 5))));
    let (family, chain) = find("plain").expect("it is listed");
    assert_eq!((*family, chain.drops, chain.hook), (10, false, None));
    nft("delete table inet firewall ; delete table ip6 plain");
}
