//! Endpoints whose addresses the kernel takes for those of no host.

use kube_proxy_netlink::ipvs::ServerKey;

use super::*;

const BROADCAST: (u8, bool) = (255, false);

fn world() -> World {
    let world = many(2, 2);
    world.fake.lock().0.unfit.insert(IpAddr::from([10, 244, 1, BROADCAST.0]));
    world
}

impl World {
    /// The last byte of each destination of the first Service.
    fn hosts(&self) -> Vec<u8> {
        let key = ServerKey::Frontend { protocol: 6, address: (address(96, 0), 80).into() };
        let ip = |to: &SocketAddr| to.ip().to_string();
        let last = |to: &SocketAddr| ip(to).rsplit('.').next().unwrap().parse().unwrap();
        self.fake.held().servers[&key].1.keys().map(last).collect()
    }

    fn is_intact(&mut self) -> bool {
        block_on(self.backend.intact()).unwrap()
    }

    fn different_destinations(&mut self) -> usize {
        let all = block_on(self.backend.compare(self.tracker.snapshot())).unwrap();
        all.iter().filter(|difference| difference.kind == "destination").count()
    }
}

#[test]
fn a_full_sync_leaves_them_out_and_offers_them_again() {
    let mut world = world();
    world.endpoints(0, Protocol::Tcp, &[(1, false), BROADCAST]);
    world.full();
    assert_eq!(world.hosts(), [1]);
    assert!(world.is_intact());
    assert_eq!(world.different_destinations(), 0);
    world.fake.lock().0.unfit.clear();
    world.full();
    assert_eq!(world.hosts(), [1, BROADCAST.0]);
}

#[test]
fn a_partial_sync_writes_the_others_and_forgets_them_without_a_change() {
    let mut world = world();
    world.full();
    world.endpoints(0, Protocol::Tcp, &[(7, false), BROADCAST]);
    world.partial();
    assert!(world.hosts().contains(&7) && !world.hosts().contains(&BROADCAST.0));
    assert!(world.is_intact());
    world.fake.take_sent();
    world.weighted(0, Protocol::Tcp, &[(7, false), BROADCAST], &[5]);
    world.partial();
    assert!(world.is_intact());
    world.fake.take_sent();
    world.weighted(0, Protocol::Tcp, &[(7, false)], &[5]);
    world.partial();
    assert_eq!(world.fake.take_sent().changes, 0, "it was never there");
    assert!(world.is_intact());
}

/// The kernel looks at addresses of new destinations alone: one that was there before stays.
#[test]
fn one_that_another_virtual_server_has_stays_there() {
    let mut world = World::new();
    world.service(service(0, Protocol::Tcp));
    world.endpoints(0, Protocol::Tcp, &[(1, false), BROADCAST]);
    world.full();
    world.fake.lock().0.unfit.insert(IpAddr::from([10, 244, 1, BROADCAST.0]));
    world.service(service(1, Protocol::Tcp));
    world.endpoints(1, Protocol::Tcp, &[(1, false), BROADCAST]);
    world.full();
    assert_eq!(world.hosts(), [1, BROADCAST.0]);
    assert!(world.is_intact());
    assert_eq!(world.different_destinations(), 0);
}
