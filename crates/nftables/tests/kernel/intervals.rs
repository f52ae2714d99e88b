//! Sets of intervals: any list of networks after any other, at run time and over a restart.

use std::collections::BTreeSet;
use std::net::IpAddr;

use anyhow::{Context as _, bail, ensure};
use ipnet::IpNet;
use kube_proxy_core::{Event, IpFamily, NodePortAddresses, ObjectName};
use libtest_mimic::Trial;
use serde_json::Value;

use crate::trial;
use crate::world::{Svc, World, ensure_nothing_sent};

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("intervals::another_list_after_a_restart", another_list),
        trial("intervals::any_list_after_any_other", any_list),
    ]
}

/// A list of node-port addresses that shares nothing with the one before: it holds at once.
fn another_list() -> anyhow::Result<()> {
    let mut world = World::with(&[], |config| {
        config.node_ports = node_ports(config.family, &nets(&["127.0.0.0/8", "10.0.0.0/8"]));
    })?;
    world.sync()?;
    let after = nets(&["192.168.0.0/16"]);
    world.restart_with(|config| config.node_ports = node_ports(config.family, &after))?;
    world.sync()?;
    ensure_ranges(&world, IpFamily::V4, "nodeport-addresses", &after)?;
    ensure_nothing_sent(world.full_sync()?)
}

/// A different random list each time: adjacent, nested, single addresses, up to the last address, the whole space.
fn any_list() -> anyhow::Result<()> {
    let mut random = Random(0x2545_f491_4f6c_dd1d);
    let mut world = World::new(&[(0, "a")])?;
    world.sync()?;
    for round in 0..60 {
        let mut lists = [(); 3].map(|()| random.nets());
        // A network that holds the node too would add the VIP to its sources.
        lists[1].retain(|net| net.prefix_len() > 1);
        let [cidrs, sources, addresses] = &lists;
        let apply = |world: &mut World| {
            world.apply(&Event::ServiceCidrApplied(
                ObjectName::new("", "kubernetes"),
                cidrs.clone(),
            ));
            let mut service = Svc(1).everything();
            service.policy.load_balancer_source_ranges.clone_from(sources);
            world.set(service);
        };
        // Each kind of set changes both at run time and over a restart.
        if round % 2 == 0 {
            apply(&mut world);
            world.sync().with_context(|| format!("round {round}: {lists:?}"))?;
            ensure_nothing_sent(world.full_sync()?)?;
        }
        world.restart_with(|config| config.node_ports = node_ports(config.family, addresses))?;
        if round % 2 == 1 {
            apply(&mut world);
        }
        world.sync().with_context(|| format!("round {round}: {lists:?}"))?;
        for family in IpFamily::BOTH {
            ensure_ranges(&world, family, "service-cidrs", cidrs)
                .and_then(|()| ensure_ranges(&world, family, "nodeport-addresses", addresses))
                .and_then(|()| ensure_ranges(&world, family, "firewall-sources", sources))
                .with_context(|| format!("round {round}: {lists:?}"))?;
        }
        ensure_nothing_sent(world.full_sync()?)?;
    }
    Ok(())
}

fn nets(texts: &[&str]) -> Vec<IpNet> {
    texts.iter().map(|text| text.parse().expect("a network")).collect()
}

fn node_ports(family: IpFamily, nets: &[IpNet]) -> NodePortAddresses {
    let own: Vec<_> = nets.iter().copied().filter(|net| IpFamily::of_net(net) == family).collect();
    NodePortAddresses::Within(own)
}

/// Xorshift: the same numbers each time.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 >> 16
    }

    fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    /// Up to six networks of each family, of few addresses so that they touch and contain each other often.
    fn nets(&mut self) -> Vec<IpNet> {
        let mut all = Vec::new();
        for _ in 0..self.below(7) {
            all.push(self.net(32, |bits| IpAddr::V4(u32::try_from(bits).expect("32 bits").into())));
        }
        for _ in 0..self.below(7) {
            all.push(self.net(128, |bits| IpAddr::V6(bits.into())));
        }
        all
    }

    fn net(&mut self, bits: u8, address: impl Fn(u128) -> IpAddr) -> IpNet {
        let prefix = match self.below(12) {
            0 => 0,
            1 => 1,
            2 => bits,
            _ => bits - u8::try_from(self.below(6)).expect("small"),
        };
        let low = u128::from(self.below(32));
        let ones = if bits == 32 { u128::from(u32::MAX) } else { u128::MAX };
        // At the beginning, in the middle and at the end of all addresses.
        let number = match self.below(4) {
            0 => low,
            1 => ones - low,
            _ => (10_u128 << (bits - 8)) + low,
        };
        IpNet::new(address(number), prefix).expect("a prefix that fits").trunc()
    }
}

/// The set holds the addresses of these networks and no others, as `nft` reads it.
fn ensure_ranges(world: &World, family: IpFamily, set: &str, nets: &[IpNet]) -> anyhow::Result<()> {
    let table = if family == IpFamily::V4 { "ip" } else { "ip6" };
    let text = world.nft(&format!("-j list set {table} kube-proxy {set}"))?;
    let json: Value = serde_json::from_str(&text)?;
    let listed = json["nftables"].as_array().into_iter().flatten().find_map(|o| o.get("set"));
    let elements = listed.context("no set")?["elem"].as_array().cloned().unwrap_or_default();
    let mut found = BTreeSet::new();
    for element in &elements {
        // Of a concatenation the last part is the source.
        let element =
            element["concat"].as_array().and_then(|parts| parts.last()).unwrap_or(element);
        found.insert(range(element)?);
    }
    let own = nets.iter().filter(|net| IpFamily::of_net(net) == family);
    let expected = own.map(|net| (number(net.network()), number(net.broadcast())));
    let (found, expected) = (joined(found), joined(expected.collect()));
    ensure!(found == expected, "{set} holds {found:x?}, not {expected:x?}: {text}");
    Ok(())
}

fn range(element: &Value) -> anyhow::Result<(u128, u128)> {
    let address = |value: &Value| {
        let text = value.as_str().with_context(|| format!("no address: {value}"))?;
        anyhow::Ok(text.parse::<IpAddr>()?)
    };
    if let Some(prefix) = element.get("prefix") {
        let length = u8::try_from(prefix["len"].as_u64().context("a prefix without length")?)?;
        let net = IpNet::new(address(&prefix["addr"])?, length)?;
        return Ok((number(net.network()), number(net.broadcast())));
    }
    if let Some(ends) = element.get("range").and_then(Value::as_array) {
        let [first, last] = ends.as_slice() else { bail!("a range of {ends:?}") };
        return Ok((number(address(first)?), number(address(last)?)));
    }
    let one = number(address(element)?);
    Ok((one, one))
}

fn number(ip: IpAddr) -> u128 {
    match ip {
        IpAddr::V4(ip) => u32::from(ip).into(),
        IpAddr::V6(ip) => ip.into(),
    }
}

fn joined(ranges: BTreeSet<(u128, u128)>) -> Vec<(u128, u128)> {
    let mut joined: Vec<(u128, u128)> = Vec::new();
    for (first, last) in ranges {
        match joined.last_mut() {
            Some(before) if before.1 >= first || before.1 + 1 == first => {
                before.1 = before.1.max(last);
            }
            _ => joined.push((first, last)),
        }
    }
    joined
}
