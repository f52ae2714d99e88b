//! What the comparison object by object names.

use kube_proxy_core::{Deviation, Difference};
use kube_proxy_netlink::ipvs::ServerKey;

use super::*;

impl World {
    fn compare(&mut self) -> Vec<Difference> {
        let mut found = block_on(self.backend.compare(self.tracker.snapshot())).unwrap();
        // The model has no rules to list.
        found.retain(|difference| difference.kind != "rule");
        found
    }

    /// The only thing that differs.
    fn only(&mut self) -> (Deviation, &'static str, String, Option<String>) {
        let held = self.fake.held();
        self.fake.take_sent();
        let mut found = self.compare();
        assert_eq!(self.fake.held(), held, "it changed something");
        let sent = self.fake.take_sent();
        assert_eq!((sent.changes, sent.entries, sent.addresses, sent.restores), (0, 0, 0, 0));
        assert_eq!(found.len(), 1, "{found:#?}");
        let found = found.remove(0);
        (found.deviation, found.kind, found.name, found.service.map(|name| name.to_string()))
    }
}

#[test]
fn each_damage_is_named_and_none_repaired() {
    let mut world = many(3, 2);
    world.full();
    assert_eq!(world.compare(), []);
    let key = ServerKey::Frontend { protocol: 6, address: (address(96, 1), 80).into() };
    let service = Some("ns/s1".to_owned());

    let removed = world.fake.lock().0.servers.remove(&key).unwrap();
    let found = world.compare();
    assert!(found.iter().any(|d| d.kind == "virtual server" && d.deviation == Deviation::Missing));
    assert_eq!(found.iter().filter(|d| d.kind == "destination").count(), 2, "{found:#?}");
    world.fake.lock().0.servers.insert(key, removed.clone());

    let gone = *removed.1.keys().next().unwrap();
    world.fake.lock().0.servers.get_mut(&key).unwrap().1.remove(&gone);
    let name = format!("{gone} of {key}");
    assert_eq!(world.only(), (Deviation::Missing, "destination", name, service));
    world.full();

    let other = "10.96.7.7".parse().unwrap();
    world.fake.lock().0.device.as_mut().unwrap().insert(other);
    let name = "10.96.7.7 on kube-ipvs0".to_owned();
    assert_eq!(world.only(), (Deviation::Unexpected, "address", name, None));
    world.full();

    world.fake.lock().0.sets.get_mut("KUBE-CLUSTER-IP").unwrap().2.clear();
    let found = world.compare();
    assert_eq!(found.len(), 3, "{found:#?}");
    let entry = |d: &Difference| d.kind == "ipset entry" && d.deviation == Deviation::Missing;
    assert!(found.iter().all(entry), "{found:#?}");
    assert!(found[0].name.starts_with("KUBE-CLUSTER-IP: "), "{found:#?}");
    world.full();
    assert_eq!(world.compare(), []);
}

/// An endpoint that drains is as it should be.
#[test]
fn what_drains_is_no_difference_and_drains_on() {
    let mut world = many(2, 2);
    world.full();
    world.endpoints(1, Protocol::Tcp, &[(0, true)]);
    world.partial();
    let waiting = world.backend.drains.waiting.clone();
    assert_eq!(waiting.len(), 1);
    assert_eq!(world.compare(), []);
    assert_eq!(world.backend.drains.waiting, waiting);
}
