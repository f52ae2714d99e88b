//! Traced packets, and tables that end with the socket of their owner.

use std::net::UdpSocket;
use std::process::Command;
use std::time::Duration;

use kube_proxy_netlink::nf_tables::{
    ChainType, Decision, Expression, Hook, HookPoint, MetaKey, NfTables, Register, Tracer,
    Transaction, Verdict,
};
use kube_proxy_netlink::{Error, Family};

use crate::{Test, run};

const PATIENCE: Duration = Duration::from_mins(1);
const TABLE: &str = "traced";

pub(crate) fn tests() -> Vec<Test> {
    vec![
        ("trace::packet_is_followed_through_chains_and_dnat", packet_is_followed),
        ("trace::owned_table_ends_with_its_socket", owned_table_ends_with_its_socket),
        ("trace::overflow_is_told_and_it_continues", overflow),
    ]
}

/// A table of this socket that traces all that this host sends.
fn tracing(family: Family) -> NfTables {
    let mut netlink = NfTables::open(family).expect("socket");
    let mut transaction = Transaction::new(family, TABLE);
    let hook = Hook { kind: ChainType::Filter, point: HookPoint::Output, priority: -190 };
    let rule = [
        Expression::Immediate { value: vec![1], to: Register::word(0) },
        Expression::SetMeta { key: MetaKey::Trace, from: Register::word(0) },
    ];
    transaction.add_owned_table(&[]).expect("short");
    transaction.add_chain("output", Some(hook), "").expect("short");
    transaction.add_rule("output", &rule, &[]).expect("short");
    netlink.commit(&mut transaction).expect("commit");
    netlink
}

/// What a step said, without what differs each time.
type Seen = (String, String, bool, String, Option<Vec<u8>>);

fn packet_is_followed() {
    run("nft", &["add table ip way"]);
    run("nft", &["add chain ip way nat { type nat hook output priority -100 ; }"]);
    run("nft", &["add chain ip way inner"]);
    run("nft", &["add rule ip way nat ip daddr 127.0.0.78 jump inner"]);
    run("nft", &["add rule ip way inner udp dport 53 meta mark set 0x4000 dnat to 127.0.0.1:99"]);
    run("nft", &["add chain ip way late { type filter hook output priority 10 ; policy drop ; }"]);
    run("nft", &["add rule ip way late meta mark 0x4000 counter"]);
    let (mut tracer, _stop) = Tracer::open().expect("tracer");
    let owner = tracing(Family::V4);
    let client = UdpSocket::bind("127.0.0.1:0").expect("port");
    // The last chain drops it: sending fails or not, as the kernel likes.
    let _ = client.send_to(b"?", "127.0.0.78:53");
    let mut seen: Vec<Seen> = Vec::new();
    let mut ids = Vec::new();
    let last = |seen: &[Seen]| seen.last().is_some_and(|step| step.3.starts_with("drop"));
    while !last(&seen) {
        let before = seen.len();
        tracer
            .wait(Some(PATIENCE), |step| {
                // iptables rules of this namespace are on the way too.
                if step.table != "way" {
                    return;
                }
                ids.push(step.id);
                let destination = step.network.map(|header| header[16..20].to_vec());
                let rule = matches!(step.decision, Decision::Rule(_));
                let chain = step.chain.to_string();
                let marked = if step.mark == 0x4000 { " marked" } else { "" };
                seen.push((
                    step.table.to_string(),
                    chain,
                    rule,
                    format!("{}{marked}", step.verdict),
                    destination,
                ));
            })
            .expect("steps");
        assert_ne!(seen.len(), before, "nothing came");
    }
    let step = |chain: &str, rule, verdict: &str, to: Option<[u8; 4]>| {
        ("way".to_owned(), chain.to_owned(), rule, verdict.to_owned(), to.map(|to| to.to_vec()))
    };
    let expected = [
        step("nat", true, &Verdict::Jump("inner".into()).to_string(), Some([127, 0, 0, 78])),
        step("inner", true, "accept marked", None),
        step("late", true, "continue marked", Some([127, 0, 0, 1])),
        step("late", false, "continue marked", None),
        step("late", false, "drop marked", None),
    ];
    assert_eq!(seen, expected);
    ids.dedup();
    assert_eq!(ids.len(), 1, "one packet");
    drop(owner);
    run("nft", &["delete table ip way"]);
}

fn owned_table_ends_with_its_socket() {
    let owner = tracing(Family::V6);
    assert!(run("nft", &["list tables"]).contains("table ip6 traced"));
    let refused = Command::new("nft").args(["delete table ip6 traced"]).output().expect("nft");
    assert!(!refused.status.success(), "somebody else deleted it");
    drop(owner);
    // The kernel deletes it as the socket is closed, or a moment later.
    let mut other = NfTables::open(Family::V6).expect("socket");
    for _ in 0..600 {
        if other.table(TABLE).expect("look-up").is_none() {
            return;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    panic!("the table is still there");
}

fn overflow() {
    let (mut tracer, _stop) = Tracer::open().expect("tracer");
    let owner = tracing(Family::V4);
    let client = UdpSocket::bind("127.0.0.1:0").expect("port");
    // More steps than 8 MiB of kernel memory hold.
    for _ in 0..20_000 {
        client.send_to(b"?", "127.0.0.1:9").ok();
    }
    let mut steps = 0;
    let lost = loop {
        match tracer.wait(Some(PATIENCE), |_| steps += 1) {
            Ok(_) => assert!(steps < 200_000, "nothing was lost"),
            Err(error) => break error,
        }
    };
    assert!(matches!(lost, Error::Lost { .. }), "{lost}");
    let mut after = 0;
    while after == 0 {
        client.send_to(b"?", "127.0.0.1:9").ok();
        let _ = tracer.wait(Some(PATIENCE), |_| after += 1);
    }
    drop(owner);
}
