//! What the comparison object by object names.

use futures::executor::block_on;
use kube_proxy_core::{Deviation, IpFamily, ProxyBackend as _, Snapshot};

use super::build::{backend, config, full};
use super::model::Model;
use super::samples::{service, snapshot};
use crate::IptablesBackend;
use crate::names::ServiceChains;

fn lines(backend: &mut IptablesBackend, snapshot: &Snapshot) -> Vec<(Deviation, String)> {
    let differences = block_on(backend.compare(snapshot)).unwrap();
    differences
        .into_iter()
        .map(|d| {
            let service = d.service.map(|name| format!(" ({name})")).unwrap_or_default();
            (d.deviation, format!("{} {}{service}", d.kind, d.name))
        })
        .collect()
}

fn expect(deviation: Deviation, text: &str) -> Vec<(Deviation, String)> {
    vec![(deviation, text.to_owned())]
}

#[test]
fn each_damage_is_named_and_none_repaired() {
    let samples: Vec<_> = (1..=3)
        .map(|n| service(&format!("s{n}"), &format!("10.96.0.{n}")).remote("10.1.0.1:80"))
        .collect();
    let snapshot = snapshot(IpFamily::V4, &samples);
    let model = Model::default();
    let mut backend = backend(config(IpFamily::V4), &model);
    full(&mut backend, &snapshot);
    assert_eq!(lines(&mut backend, &snapshot), []);
    let name = snapshot.services.keys().next().unwrap().clone();
    let chain = ServiceChains::of(&name).cluster;
    let hook = "PREROUTING -m comment --comment \"kubernetes service portals\" -j KUBE-SERVICES";
    let cases = [
        (
            format!("*nat\n:{chain} - [0:0]\nCOMMIT\n"),
            Deviation::Different,
            format!("chain nat {chain}: 0 rules instead of 2 ({name})"),
        ),
        (
            format!("*nat\n:{chain} - [0:0]\n-A {chain} -j DROP\n-A {chain} -j DROP\nCOMMIT\n"),
            Deviation::Different,
            format!("chain nat {chain}: another rule among its 2 ({name})"),
        ),
        (
            "*nat\n:KUBE-POSTROUTING - [0:0]\nCOMMIT\n".to_owned(),
            Deviation::Different,
            "chain nat KUBE-POSTROUTING: 0 rules instead of 4".to_owned(),
        ),
        (
            "*nat\n:KUBE-SVC-STALE - [0:0]\n-A KUBE-SVC-STALE -j KUBE-MARK-MASQ\nCOMMIT\n"
                .to_owned(),
            Deviation::Unexpected,
            "chain nat KUBE-SVC-STALE".to_owned(),
        ),
        (format!("*nat\n-D {hook}\nCOMMIT\n"), Deviation::Missing, format!("rule nat -A {hook}")),
    ];
    for (damage, deviation, text) in cases {
        model.apply(&damage).unwrap();
        let before = model.dump();
        assert_eq!(lines(&mut backend, &snapshot), expect(deviation, &text));
        assert_eq!(model.dump(), before, "nothing is written");
        full(&mut backend, &snapshot);
        assert_eq!(lines(&mut backend, &snapshot), []);
    }
    let mut fewer = snapshot.clone();
    fewer.services.remove(&name);
    let found = lines(&mut backend, &fewer);
    assert!(found.contains(&(Deviation::Unexpected, format!("chain nat {chain}"))), "{found:?}");
}
