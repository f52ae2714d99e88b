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

/// Three chains of two services in two tables, one rule of nobody.
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
    text.delete(vec![name("OLD"), name("KUBE-SEP-OLD")]);
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
        :KUBE-SEP-OLD - [0:0]
        -X KUBE-SEP-OLD
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
