use kube_proxy_core::{ObjectName, Protocol};

use super::*;

fn owner(name: &str) -> Arc<ServicePortName> {
    Arc::new(ServicePortName {
        service: ObjectName::new("ns", name),
        port: "".into(),
        protocol: Protocol::Tcp,
    })
}

fn name(text: &'static str) -> ChainName {
    ChainName::fixed(text)
}

/// Three chains of two services in two tables, one rule of no service.
fn batch() -> Batch {
    let mut batch = Batch::default();
    let text = batch.table(Table::Nat);
    text.chain(Part::Dispatch, name("ROOT"), None, |rules| {
        for service in ["a", "b"] {
            rules.on_behalf_of(&owner(service));
            rules.rule().whole(&format!("-j {service}"));
        }
    });
    text.chain(Part::Cluster, name("B"), None, |rules| {
        rules.on_behalf_of(&owner("b"));
        rules.rule().whole("-j one");
        rules.rule().whole("-j two");
    });
    text.command("-I OUTPUT 1 -j ROOT");
    text.delete(vec![name("OLD"), name("KUBE-SEP-OLDOLDOLDOLDOLDO")]);
    let text = batch.table(Table::Filter);
    text.chain(Part::Dispatch, name("F"), None, |rules| {
        rules.on_behalf_of(&owner("a"));
        rules.rule().whole("-j REJECT");
    });
    batch.mangle_canary = Some(Canary::Create);
    batch
}

#[test]
fn chains_are_declared_before_they_are_jumped_to_and_deleted_last() {
    expect_test::expect![[r#"
        *filter
        :F - [0:0]
        -A F -j REJECT
        COMMIT
        *nat
        :B - [0:0]
        -A B -j one
        -A B -j two
        :ROOT - [0:0]
        -A ROOT -j a
        -A ROOT -j b
        -I OUTPUT 1 -j ROOT
        :OLD - [0:0]
        :KUBE-SEP-OLDOLDOLDOLDOLDO - [0:0]
        -X KUBE-SEP-OLDOLDOLDOLDOLDO
        -X OLD
        COMMIT
        *mangle
        :KUBE-PROXY-CANARY - [0:0]
        COMMIT
    "#]]
    .assert_eq(&batch().pieces().concat());
}

#[test]
fn every_line_knows_its_service() {
    let batch = batch();
    let text = batch.pieces().concat();
    for (index, line) in text.lines().enumerate() {
        let expected = match line {
            "-A F -j REJECT" | "-A ROOT -j a" => Some("a"),
            "-A B -j one" | "-A B -j two" | "-A ROOT -j b" => Some("b"),
            _ => None,
        };
        let found = batch.owner_of_line(index + 1).map(|o| o.service.name.to_string());
        assert_eq!(found.as_deref(), expected, "{line}");
        assert_eq!(batch.line(index + 1).as_deref(), Some(line));
    }
    assert_eq!(batch.owner_of_line(0), None);
    assert_eq!(batch.owner_of_line(1000), None);
    assert_eq!(batch.line(1000), None);
}

#[test]
fn a_chain_that_is_there_already_is_not_written() {
    let mut first = Batch::default();
    let rule = |rules: &mut Rules<'_>| {
        rules.on_behalf_of(&owner("a"));
        rules.rule().whole("-j ACCEPT");
    };
    let state = first.table(Table::Nat).chain(Part::Cluster, name("C"), None, rule);
    assert_eq!(first.written(Table::Nat), 1);
    let mut second = Batch::default();
    let again = second.table(Table::Nat).chain(Part::Cluster, name("C"), Some(state), rule);
    assert_eq!(again, state);
    assert!(second.is_empty());
    assert_eq!(second.written(Table::Nat), 0);
    let other = second.table(Table::Nat).chain(Part::Cluster, name("C"), Some(state), |rules| {
        rules.rule().whole("-j DROP");
    });
    assert_ne!(other, state);
    assert!(!second.is_empty());
}

/// This many chains, and the hook of a first sync or not.
fn chains(table: Table, count: usize, hook: bool) -> Batch {
    let mut batch = Batch::default();
    let text = batch.table(table);
    for number in 0..count {
        text.declare(ChainName::fixed(format!("KUBE-SVC-{number}").leak()));
    }
    if hook {
        text.command("-I OUTPUT 1 -j KUBE-SVC-0");
    }
    batch
}

#[test]
fn a_large_first_sync_begins_with_a_command_on_the_whole_table() {
    let mut batch = chains(Table::Nat, all_chains::MANY, true);
    batch.table(Table::Filter).command("-I INPUT 1 -j KUBE-FIREWALL");
    let text = batch.pieces_with_all_chains().unwrap().concat();
    let (begin, end) = text.split_once("KUBE-SVC-0").unwrap();
    expect_test::expect![[r#"
        *filter
        -I INPUT 1 -j KUBE-FIREWALL
        COMMIT
        *nat
        -I OUTPUT 1
        -D OUTPUT 1
        -I POSTROUTING 1
        -D POSTROUTING 1
        -I PREROUTING 1
        -D PREROUTING 1
        COMMIT
        *nat
        -S
        :"#]]
    .assert_eq(begin);
    // What follows is what would be written otherwise.
    assert!(batch.pieces().concat().ends_with(end));

    let text = chains(Table::Filter, all_chains::MANY, true);
    let text = text.pieces_with_all_chains().unwrap().concat();
    expect_test::expect![[r#"
        *filter
        -I FORWARD 1
        -D FORWARD 1
        -I INPUT 1
        -D INPUT 1
        -I OUTPUT 1
        -D OUTPUT 1
        COMMIT
        *filter
        -S
        :"#]]
    .assert_eq(text.split_once("KUBE-SVC-0").unwrap().0);
}

#[test]
fn where_little_is_searched_or_much_is_listed_no_such_command_is_given() {
    for (count, hook) in [(all_chains::MANY - 1, true), (2 * all_chains::MANY, false)] {
        assert_eq!(chains(Table::Nat, count, hook).pieces_with_all_chains(), None, "{count}");
    }
}
