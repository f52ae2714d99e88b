//! What syncs write after refusals that repeat.

use futures::executor::block_on;
use kube_proxy_core::{IpFamily, ProxyBackend, Refusal, Repair, Scope, Snapshot, SyncError};

use super::build::{backend, config, fresh, full};
use super::model::Model;
use super::samples::{service, snapshot};
use crate::IptablesBackend;
use crate::layout::Table;

fn of(count: u8) -> Snapshot {
    let sample =
        |n| service(&format!("s{n}"), &format!("10.96.0.{n}")).remote(&format!("10.1.0.{n}:80"));
    snapshot(IpFamily::V4, &(1..=count).map(sample).collect::<Vec<_>>())
}

fn refusal(backend: &mut IptablesBackend, snapshot: &Snapshot, scope: Scope<'_>) -> Refusal {
    match block_on(backend.sync(snapshot, scope)) {
        Err(SyncError::RefusedObject { refusal, .. }) => refusal,
        other => panic!("{other:?}"),
    }
}

fn repair(backend: &mut IptablesBackend, snapshot: &Snapshot, repair: Repair<'_>) {
    block_on(backend.sync(snapshot, Scope::Repair(repair))).unwrap();
}

/// The chains of services that `nat` has with `before` and not with `after`.
fn stale(before: u8, after: u8) -> Vec<String> {
    let chains = |count| {
        let dump = fresh(config(IpFamily::V4), &of(count));
        let declared = dump.lines().filter_map(|line| line.strip_prefix(":KUBE-SVC-"));
        declared.map(|rest| format!("KUBE-SVC-{}", &rest[..16])).collect::<Vec<_>>()
    };
    let after = chains(after);
    chains(before).into_iter().filter(|chain| !after.contains(chain)).collect()
}

/// Deleting the chain is refused for a reason that nothing shows. It is emptied instead, and all the rest gets written.
#[test]
fn a_refused_chain_is_emptied_and_kept() {
    let model = Model::default();
    let mut backend = backend(config(IpFamily::V4), &model);
    full(&mut backend, &of(3));
    let stale = stale(3, 2);
    let [chain] = &*stale else { panic!("{stale:?}") };
    model.lead_to(&stale);
    for _ in 0..2 {
        let refusal = refusal(&mut backend, &of(2), Scope::Full);
        assert_eq!((refusal.kind, &*refusal.name), ("chain", &*format!("nat {chain}")));
    }
    let refusal = refusal(&mut backend, &of(2), Scope::Full);
    repair(&mut backend, &of(2), Repair::Object(&refusal));
    assert_eq!(model.chain("nat", chain), Some(vec![]));
    assert!(!model.dump().contains("10.96.0.3"));
    model.lead_to(&[]);
    full(&mut backend, &of(2));
    assert_eq!(model.dump(), fresh(config(IpFamily::V4), &of(2)));
}

#[test]
fn several_refused_chains_end_with_the_table() {
    let model = Model::default();
    let mut backend = backend(config(IpFamily::V4), &model);
    full(&mut backend, &of(4));
    model.lead_to(&stale(4, 2));
    let first = refusal(&mut backend, &of(2), Scope::Full);
    let second = refusal(&mut backend, &of(2), Scope::Repair(Repair::Object(&first)));
    assert_ne!(first, second);
    repair(&mut backend, &of(2), Repair::Table);
    assert!(!model.dump().contains("10.96.0.3"));
}

/// All chains and hooks are written whole, by one restore, whatever is there.
#[test]
fn the_table_is_written_whole() {
    let model = Model::default();
    let mut backend = backend(config(IpFamily::V4), &model);
    full(&mut backend, &of(3));
    let right = model.dump();
    let hook = model.chain("nat", "PREROUTING").unwrap().remove(0);
    model.apply(&format!("*nat\n-A PREROUTING {hook}\nCOMMIT\n")).unwrap();
    let inputs = model.inputs().len();
    repair(&mut backend, &of(3), Repair::Table);
    assert_eq!(model.inputs().len(), inputs + 1);
    assert_eq!(model.dump(), right, "no hook is there twice");
    let input = model.inputs().pop().unwrap();
    for chain in right.lines().filter(|line| line.starts_with(":KUBE-SVC-")) {
        assert!(input.contains(chain), "{chain} in {input}");
    }
    assert!(input.contains(&format!("-D PREROUTING {hook}\n")), "{input}");
    // And one chain only.
    let refusal = Refusal { kind: "chain", name: "nat KUBE-SERVICES".to_owned(), errno: 0 };
    repair(&mut backend, &of(3), Repair::Object(&refusal));
    let input = model.inputs().pop().unwrap();
    assert_eq!(input.lines().filter(|line| line.starts_with(':')).count(), 1, "{input}");
    assert!(input.contains(":KUBE-SERVICES "), "{input}");
    assert_eq!(model.dump(), right);
}

#[test]
fn lines_know_their_chains() {
    let model = Model::default();
    full(&mut backend(config(IpFamily::V4), &model), &of(1));
    let mut batch = crate::restore::Batch::default();
    batch.table(Table::Nat).command("-I PREROUTING 1 -j KUBE-SERVICES");
    let line = batch.line(2).unwrap();
    assert!(line.starts_with("-I"), "{line}");
    assert_eq!(batch.chain_of_line(2), Some((Table::Nat, "PREROUTING".to_owned())));
    // The table, and its end.
    assert_eq!((batch.chain_of_line(1), batch.chain_of_line(3)), (None, None));
    assert_eq!((batch.chain_of_line(0), batch.chain_of_line(4)), (None, None));
}
