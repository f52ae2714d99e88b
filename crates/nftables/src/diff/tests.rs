use std::net::SocketAddr;

use super::*;
use crate::element::Value;
use crate::key::Key;

fn item(slot: u32, port: u16) -> (SetId, Item) {
    let value = Value::Endpoint(SocketAddr::from(([10, 0, 0, 1], port)));
    (SetId::ClusterEndpoints, Item::new(Key::new().number(slot), value))
}

fn keys(elements: &PerSet) -> Vec<(SetId, Vec<Key>)> {
    elements.iter().map(|(set, items)| (set, items.iter().map(|i| i.key).collect())).collect()
}

#[test]
fn only_what_differs_is_deleted_and_added() {
    let mut diff = Diff::default();
    let other = |slot| (SetId::LocalEndpoints, item(slot, 1).1);
    let before = vec![item(3, 1), item(1, 1), item(2, 1), other(1)];
    let after = vec![item(2, 2), item(1, 1), item(4, 1)];
    diff.compare(before, after);
    let key = |slot| Key::new().number(slot);
    let cluster = SetId::ClusterEndpoints;
    let mut deleted = keys(&diff.deleted);
    deleted[0].1.sort_unstable();
    assert_eq!(deleted, [(cluster, vec![key(2), key(3)]), (SetId::LocalEndpoints, vec![key(1)])]);
    assert_eq!(keys(&diff.added), [(cluster, vec![key(2), key(4)])]);
}

#[test]
fn equal_lists_have_no_difference() {
    let mut diff = Diff::default();
    diff.compare(vec![item(1, 1), item(2, 1)], vec![item(2, 1), item(1, 1)]);
    assert!(diff.is_empty());
}
