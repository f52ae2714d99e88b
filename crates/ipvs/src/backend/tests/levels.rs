//! A virtual server that is refused some number of times, for an unknown reason: each sync goes deeper than the one before.

use kube_proxy_core::testing::{applied, applied_slice, check_repair_levels, synced};
use kube_proxy_netlink::ipvs::ServerKey;

use super::*;

fn key(number: u16) -> ServerKey {
    ServerKey::Frontend { protocol: 6, address: (address(96, number), 80).into() }
}

#[test]
fn what_is_refused_again_goes_deeper_each_time() {
    check_repair_levels(
        |times, now| {
            let fake = Fake::default();
            fake.lock().0.node = vec!["172.18.0.2".parse().unwrap()];
            let backend = IpvsBackend::with_kernel(config(), Box::new(fake.clone()), true);
            let one = slice(1, Protocol::Tcp, &[(1, false)]);
            let first = vec![applied(service(1, Protocol::Tcp)), applied_slice(one)];
            let mut proxy = synced(Box::new(backend), first, now);
            let both = slice(1, Protocol::Tcp, &[(1, false), (2, false)]);
            proxy.apply(applied_slice(both), now);
            fake.lock().0.refused_servers.insert(key(1), times);
            (proxy, fake)
        },
        |fake, _| {
            let held = fake.held();
            assert_eq!(held.servers[&key(1)].1.len(), 2, "{held:?}");
            assert_eq!(held.refused_servers[&key(1)], 0);
        },
    );
}
