//! What the look-up of one frontend names, and that other Services cost it nothing.

use kube_proxy_core::{Frontend, FrontendQuery};
use kube_proxy_netlink::ipset::Entry;
use kube_proxy_netlink::ipvs::ServerKey;

use super::*;

/// Service 1 with every kind of frontend, among others.
fn world(others: u16) -> World {
    let mut world = many(others, 2);
    let mut one = service(1, Protocol::Tcp);
    one.external_ips = vec!["203.0.113.1".parse().unwrap()];
    one.load_balancer_vips = vec!["203.0.113.2".parse().unwrap()];
    one.policy.load_balancer_source_ranges = vec!["198.51.100.0/24".parse().unwrap()];
    one.ports[0].node_port = NonZeroU16::new(30_001);
    world.service(one);
    world.full();
    world
}

const NODE_PORT: &str = "172.18.0.2:30001";

fn frontends() -> Vec<SocketAddr> {
    let cluster_ip = (address(96, 1), 80).into();
    let others = ["203.0.113.1:80", "203.0.113.2:80", NODE_PORT];
    std::iter::once(cluster_ip).chain(others.map(|to| to.parse().unwrap())).collect()
}

impl World {
    fn look_up(&mut self, to: SocketAddr) -> Vec<String> {
        let services = self.tracker.snapshot().services.keys();
        let name = services.into_iter().find(|name| *name.service.name == *"s1").unwrap();
        let frontend = match to.port() {
            30_000.. => Frontend::NodePort(Protocol::Tcp, to.port()),
            _ => Frontend::Address(Protocol::Tcp, to),
        };
        let query = FrontendQuery::new(name.clone(), frontend, to);
        let objects = block_on(self.backend.look_up(self.tracker.snapshot(), &query)).unwrap();
        objects.iter().map(ToString::to_string).collect()
    }

    /// What is not as it should be.
    fn wrong(&mut self, to: SocketAddr) -> Vec<String> {
        let held = self.fake.held();
        let mut lines = self.look_up(to);
        assert_eq!(self.fake.held(), held, "it changed something");
        let right = ["virtual server ", "destination ", "ipset entry ", "address ", "rule "];
        lines.retain(|line| !right.iter().any(|start| line.starts_with(start)));
        lines
    }
}

#[test]
fn each_frontend_has_its_objects() {
    let mut world = world(3);
    for to in frontends() {
        assert_eq!(world.wrong(to), [] as [&str; 0], "{to}");
        let lines = world.look_up(to);
        let server = format!("virtual server tcp {to} with scheduler rr");
        assert_eq!(lines[0], server);
        let destinations = lines.iter().filter(|line| line.starts_with("destination "));
        assert_eq!(destinations.count(), 2, "{lines:#?}");
        assert!(lines.iter().any(|line| line.starts_with("ipset entry KUBE-")), "{lines:#?}");
        assert!(lines.iter().any(|line| line.starts_with("rule nat -A PREROUTING ")), "{lines:#?}");
    }
    let vip = world.look_up(frontends()[2]);
    for line in [
        "ipset entry KUBE-LOAD-BALANCER-FW: 203.0.113.2,tcp:80",
        "ipset entry KUBE-LOAD-BALANCER-SOURCE-CIDR: 203.0.113.2,tcp:80,198.51.100.0/24",
        "address 203.0.113.2 on kube-ipvs0",
    ] {
        assert!(vip.iter().any(|found| found == line), "{line}: {vip:#?}");
    }
}

#[test]
fn each_damage_is_named() {
    let mut world = world(3);
    let [cluster_ip, external_ip, vip, node_port] = frontends()[..] else { panic!("four") };
    let key = ServerKey::Frontend { protocol: 6, address: cluster_ip };
    let check = |world: &mut World, to, expected: &[String]| {
        assert_eq!(world.wrong(to), expected);
        world.full();
        assert_eq!(world.wrong(to), [] as [&str; 0], "{expected:?}");
    };
    let held = |world: &World| world.fake.held();
    let (_, destinations) = held(&world).servers[&key].clone();
    let to = *destinations.keys().next().unwrap();

    world.fake.lock().0.servers.remove(&key);
    let missing = |line: &str| format!("missing {line}");
    let mut expected = vec![missing(&format!("virtual server {key} with scheduler rr"))];
    expected.extend(
        destinations.keys().map(|to| missing(&format!("destination {to} of {key}, weight 1"))),
    );
    check(&mut world, cluster_ip, &expected);

    world.fake.lock().0.servers.get_mut(&key).unwrap().0.scheduler = "lc".to_owned();
    let actual = format!("{key} with scheduler lc, flags 0x0 and timeout 0 s");
    let expected = format!("different virtual server {key} with scheduler rr, there is {actual}");
    check(&mut world, cluster_ip, &[expected]);

    world.fake.lock().0.servers.get_mut(&key).unwrap().1.insert(to, (0, 0));
    let expected = format!("different destination {to} of {key}, weight 1, there is weight 0");
    check(&mut world, cluster_ip, &[expected]);

    let other: SocketAddr = "192.0.2.9:80".parse().unwrap();
    world.fake.lock().0.servers.get_mut(&key).unwrap().1.insert(other, (5, 0));
    let expected = format!("in the way: destination {other} of {key}, weight 5");
    check(&mut world, cluster_ip, &[expected]);
    // That one drains now, as a full sync had it do.
    assert_eq!(held(&world).servers[&key].1[&other].0, 0);

    world.fake.lock().0.device.as_mut().unwrap().remove(&external_ip.ip());
    check(&mut world, external_ip, &[missing("address 203.0.113.1 on kube-ipvs0")]);
    world.fake.lock().0.device.as_mut().unwrap().remove(&external_ip.ip());
    world.fake.lock().0.node.push(external_ip.ip());
    let there = "203.0.113.1 on interface number 2";
    let expected = format!("different address 203.0.113.1 on kube-ipvs0, there is {there}");
    assert_eq!(world.wrong(external_ip), [expected]);
    world.fake.lock().0.node.pop();
    world.full();

    let source = Entry::IpPortNet(vip.ip(), 6, 80, "198.51.100.0".parse().unwrap(), 24);
    for (to, set, entry) in [
        (cluster_ip, "KUBE-CLUSTER-IP", Entry::IpPort(cluster_ip.ip(), 6, 80)),
        (cluster_ip, "KUBE-IPVS-IPS", Entry::Ip(cluster_ip.ip())),
        (vip, "KUBE-LOAD-BALANCER-SOURCE-CIDR", source),
        (node_port, "KUBE-NODE-PORT-TCP", Entry::Port(30_001)),
    ] {
        assert!(world.fake.lock().0.sets.get_mut(set).unwrap().2.remove(&entry));
        check(&mut world, to, &[missing(&format!("ipset entry {set}: {entry}"))]);
    }

    let entry = Entry::IpPort(cluster_ip.ip(), 6, 80);
    world.fake.lock().0.sets.get_mut("KUBE-DROP").unwrap().2.insert(entry);
    check(&mut world, cluster_ip, &[format!("in the way: ipset entry KUBE-DROP: {entry}")]);

    let rules = world.fake.lock().0.rules.replace("-j KUBE-SERVICES", "-j NOWHERE");
    world.fake.lock().0.rules = rules;
    let found = world.wrong(cluster_ip);
    assert!(found.iter().all(|line| line.starts_with("missing rule nat -A ")), "{found:#?}");
    assert_eq!(found.len(), 2, "{found:#?}");
}

/// Who is not served here has nothing of it on the node.
#[test]
fn an_address_that_the_node_needs_otherwise_is_named() {
    let mut world = world(3);
    let external_ip = frontends()[1];
    world.fake.lock().0.next_hops.insert(external_ip.ip());
    world.full();
    let found = world.wrong(external_ip);
    assert_eq!(found.len(), 1, "{found:#?}");
    assert!(found[0].starts_with("in the way: address 203.0.113.1: it is the next hop"));
}

#[test]
fn what_drains_is_in_nobodys_way() {
    let mut world = world(2);
    world.endpoints(1, Protocol::Tcp, &[(0, true)]);
    world.partial();
    assert_eq!(world.backend.drains.waiting.len(), 5, "one at each of two node addresses");
    for to in frontends() {
        assert_eq!(world.wrong(to), [] as [&str; 0]);
    }
}

#[test]
fn other_services_cost_nothing() {
    let cost = |others| {
        let mut world = world(others);
        let cost = frontends().into_iter().map(|to| {
            world.fake.take_sent();
            world.look_up(to);
            let sent = world.fake.take_sent();
            assert_eq!((sent.changes, sent.entries, sent.addresses, sent.restores), (0, 0, 0, 0));
            (sent.lists, sent.look_ups)
        });
        cost.collect::<Vec<_>>()
    };
    let few = cost(3);
    // The destinations are listed, of one virtual server.
    assert!(few.iter().all(|(lists, look_ups)| *lists == 1 && *look_ups < 60), "{few:?}");
    assert_eq!(cost(200), few);
}
