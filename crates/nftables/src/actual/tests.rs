use super::*;
use crate::chain::Pick;
use crate::key::KeyKind;

fn plain(key: KeyKind, count: u32) -> Chain {
    let balance = Balance {
        key,
        endpoints: TrafficPolicy::Cluster,
        count,
        pick: Pick::Random,
        affinity: None,
    };
    Chain::Entry(Masquerade::Never, balance)
}

fn spares(needed: &[Chain]) -> Vec<String> {
    let mut names: Vec<_> =
        spare(&needed.iter().copied().collect()).iter().map(Chain::to_string).collect();
    names.sort();
    names
}

#[test]
fn a_new_table_has_chains_for_some_endpoints_more() {
    let (address, node_port) = (KeyKind::Address, KeyKind::NodePort);
    assert_eq!(spares(&[]), [""; 0]);
    let names = spares(&[plain(address, 3), plain(address, 2), plain(node_port, 8)]);
    assert_eq!(names.len(), 8 + 16, "{names:?}");
    for name in ["cluster-1", "cluster-8", "nodeport-cluster-9", "nodeport-cluster-16"] {
        assert!(names.iter().any(|known| known == name), "{name}: {names:?}");
    }
    assert_eq!(spares(&[plain(address, u32::MAX)]).len(), 128, "not without end");
    let Chain::Entry(masquerade, balance) = plain(address, 1021) else { panic!("an entry") };
    let table = Chain::Entry(masquerade, Balance { pick: Pick::SourcePort, ..balance });
    assert_eq!(spares(&[table]), [""; 0], "a table does not grow by one");
}
