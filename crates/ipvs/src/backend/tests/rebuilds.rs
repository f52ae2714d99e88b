//! What is made again after refusals that repeat.

use kube_proxy_core::{Refusal, Repair};
use kube_proxy_netlink::ipvs::ServerKey;

use super::*;

fn key(number: u16) -> ServerKey {
    ServerKey::Frontend { protocol: 6, address: (address(96, number), 80).into() }
}

impl World {
    fn refusal(&mut self, scope: Scope<'_>) -> Refusal {
        self.tracker.fold();
        match block_on(self.backend.sync(self.tracker.snapshot(), scope)) {
            Err(SyncError::RefusedObject { refusal, .. }) => refusal,
            other => panic!("{other:?}"),
        }
    }

    fn repair(&mut self, repair: Repair<'_>) {
        let scope = Scope::Repair(repair);
        block_on(self.backend.sync(self.tracker.snapshot(), scope)).unwrap();
    }

    /// What a node would hold where nothing ever went wrong.
    fn ensure_right(&mut self) {
        let fresh = Fake::default();
        fresh.lock().0.node = self.fake.held().node;
        let mut other = IpvsBackend::with_kernel(config(), Box::new(fresh.clone()), true);
        block_on(other.sync(self.tracker.snapshot(), Scope::Full)).unwrap();
        assert_eq!(settled(&self.fake), settled(&fresh));
    }
}

#[test]
fn a_refused_server_is_made_again_and_no_other() {
    let mut world = many(5, 3);
    world.full();
    world.fake.lock().0.stuck_servers.insert(key(2));
    world.endpoints(2, Protocol::Tcp, &[(1, false), (7, false)]);
    for _ in 0..2 {
        let refusal = world.refusal(Scope::Full);
        assert_eq!((refusal.kind, &*refusal.name), ("virtual server", "tcp 10.96.0.2:80"));
    }
    let refusal = world.refusal(Scope::Full);
    world.fake.take_sent();
    world.repair(Repair::Object(&refusal));
    // The server goes and comes, and so do its three destinations, of which two drain now; the new one is added.
    assert_eq!(world.fake.take_sent().changes, 2 + 3 + 1);
    let held = world.fake.held();
    let weights: Vec<_> = held.servers[&key(2)].1.values().map(|(weight, _)| *weight).collect();
    assert_eq!(weights.iter().filter(|weight| **weight == 0).count(), 2, "{weights:?}");
    world.ensure_right();
}

#[test]
fn a_refused_set_is_made_again_and_no_other() {
    let mut world = many(3, 2);
    world.full();
    world.fake.lock().0.stuck_sets.insert("KUBE-CLUSTER-IP".to_owned());
    world.service(service(9, Protocol::Tcp));
    world.endpoints(9, Protocol::Tcp, &[(1, false)]);
    let refusal = world.refusal(Scope::Full);
    assert_eq!((refusal.kind, &*refusal.name), ("set", "KUBE-CLUSTER-IP"));
    world.repair(Repair::Object(&refusal));
    world.ensure_right();
    assert!(world.fake.held().stuck_sets.is_empty());
}

#[test]
fn several_refused_objects_end_with_all() {
    let mut world = many(3, 2);
    world.full();
    world.fake.lock().0.stuck_sets.extend(["KUBE-CLUSTER-IP", "KUBE-IPVS-IPS"].map(str::to_owned));
    world.fake.lock().0.stuck_servers.extend([key(0), key(1)]);
    world.service(service(9, Protocol::Tcp));
    for number in [0, 1, 9] {
        world.endpoints(number, Protocol::Tcp, &[(4, false)]);
    }
    let first = world.refusal(Scope::Full);
    let second = world.refusal(Scope::Repair(Repair::Object(&first)));
    assert_ne!(first, second);
    world.repair(Repair::Table);
    world.ensure_right();
}
