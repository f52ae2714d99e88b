use kube_proxy_core::IpFamily;

use super::*;
use crate::chain::{Pick, examples};
use crate::layout::CHAINS;

#[test]
fn every_chain_has_a_meaning_and_those_of_others_have_none() {
    let names = CHAINS.iter().map(|chain| chain.name.to_owned());
    let all = Pick::ALL.into_iter().flat_map(|pick| examples(IpFamily::V4, pick));
    let dynamic = all.map(|chain| chain.to_string());
    for name in names.chain(dynamic) {
        let meaning = chain_meaning(&name).unwrap_or_default();
        assert!(!meaning.is_empty() && meaning.len() < 100, "{name}: {meaning:?}");
    }
    assert_eq!(chain_meaning("somebody"), None);
    assert_eq!(chain_meaning("cluster-03"), None);
}

#[test]
fn the_number_of_endpoints_and_masquerading_are_said() {
    let meaning = |name| chain_meaning(name).unwrap();
    assert_eq!(meaning("cluster-3"), "Service address: picks one of 3 endpoints");
    assert_eq!(meaning("masq-cluster-1"), "Service address: its only endpoint, masqueraded");
    assert_eq!(
        meaning("masq-outside-nodeport-cluster-2"),
        "node port: picks one of 2 endpoints, masqueraded if the packet is not from a pod of this node"
    );
}
