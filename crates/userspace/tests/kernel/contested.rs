//! Frontends that several Services ask for: a stream of changes leaves the rules that a new start writes.

use std::ops::RangeInclusive;

use anyhow::ensure;
use futures::executor::block_on;
use kube_proxy_core::testing::{applied, applied_slice, ip, options, port, ready, service, slice};
use kube_proxy_core::{
    Event, IpFamily, ObjectName, Protocol, ProxyBackend as _, Scope, Service, Tracker,
};

use crate::Test;
use crate::world::{Options, World};

pub(crate) const TESTS: &[Test] = &[("contested/changes_equal_a_rebuild", changes_equal_a_rebuild)];

/// Where the backend may listen: no other number in a rule is among these.
const RANGE: RangeInclusive<u16> = 20_000..=20_999;
const STEPS: u32 = 60;
/// After this number of steps the rules are compared.
const COMPARED: u32 = 6;

/// Numbers that are the same in each run.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}

fn world() -> anyhow::Result<World> {
    World::new(Options { range: Some(RANGE), ..Options::default() })
}

/// One of five Services, with frontends out of so few that most are contested.
fn some_service(number: u64, random: &mut Random) -> Service {
    let mut some = service(&format!("ns/s{number}"), &format!("10.96.0.{}", 1 + random.below(3)));
    if random.below(2) == 0 {
        some.external_ips = vec![ip(&format!("198.51.100.{}", random.below(3)))];
    }
    if random.below(2) == 0 {
        some.load_balancer_vips = vec![ip(&format!("198.51.100.{}", random.below(3)))];
    }
    if random.below(3) == 0 {
        some.policy.load_balancer_source_ranges = vec!["203.0.113.0/24".parse().expect("a range")];
    }
    if random.below(2) == 0 {
        some.ports[0].node_port = Some(port(30_001 + u16::from(random.below(2) == 0)));
    }
    some.ports[0].protocol = if random.below(3) == 0 { Protocol::Udp } else { Protocol::Tcp };
    some
}

fn event(random: &mut Random) -> Event {
    let number = random.below(5);
    match random.below(6) {
        0 => Event::ServiceDeleted(ObjectName::new("ns", format!("s{number}"))),
        1 => {
            let endpoints = (0..random.below(3)).map(|last| ready(&format!("127.0.1.{last}")));
            let name = format!("s{number}");
            let mut some = slice(&format!("ns/{name}-x"), &name, endpoints.collect());
            let mut udp = some.ports[0].clone();
            udp.protocol = Protocol::Udp;
            some.ports.push(udp);
            applied_slice(some)
        }
        _ => applied(some_service(number, random)),
    }
}

/// The rules in any order, with one word for each listening port.
fn rules(world: &World) -> anyhow::Result<Vec<String>> {
    let text = world.netns.output("iptables-nft-save", &[])?;
    let is_listening = |word: &&str| word.parse().is_ok_and(|number| RANGE.contains(&number));
    let rules = text.lines().filter(|line| line.starts_with("-A"));
    let mut rules: Vec<String> = rules
        .map(|rule| {
            let words = rule.split(' ').map(|word| if is_listening(&word) { "PORT" } else { word });
            words.collect::<Vec<_>>().join(" ")
        })
        .collect();
    rules.sort_unstable();
    Ok(rules)
}

fn changes_equal_a_rebuild() -> anyhow::Result<()> {
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let mut tracker = Tracker::new(options(IpFamily::V4));
    let mut world = world()?;
    world.netns.run(|| block_on(world.backend.sync(tracker.snapshot(), Scope::Full)))?;
    let mut contested = 0;
    for step in 1..=STEPS {
        let event = event(&mut random);
        tracker.apply(event.clone());
        let changes = tracker.fold();
        contested += tracker.contested_frontends();
        let (netns, backend) = (&world.netns, &mut world.backend);
        netns.run(|| block_on(backend.sync(tracker.snapshot(), Scope::Partial(&changes))))?;
        if step % COMPARED == 0 {
            let mut fresh = self::world()?;
            let (netns, backend) = (&fresh.netns, &mut fresh.backend);
            netns.run(|| block_on(backend.sync(tracker.snapshot(), Scope::Full)))?;
            let (found, expected) = (rules(&world)?, rules(&fresh)?);
            ensure!(found == expected, "step {step}, {event:?}: {found:#?}, not {expected:#?}");
        }
    }
    ensure!(contested > 20, "only {contested} frontends were contested");
    Ok(())
}
