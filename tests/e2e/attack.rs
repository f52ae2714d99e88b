//! Objects that no cluster should have, in every mode. Whatever they are, a good Service answers all the while, and the
//! next change comes through.
//!
//! What is said about them is looked at in `input.rs`; here it only matters what becomes of the others.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU16, Ordering};

use anyhow::{Context as _, ensure};
use kube_proxy_core::IpFamily;
use kube_proxy_testkit::eventually::{Patience, eventually};
use serde_json::Value;

use crate::PerMode;
use crate::objects::{NAMESPACE, Svc, cluster_ip};
use crate::world::{From, GUARD, Mode, World, cluster_address};

mod changes;
mod datagrams;
mod names;
mod services;
mod slices;

/// Those with thousands of source ranges, and a thousand endpoints.
pub(crate) const LARGE: [&str; 2] = ["attack/services", "attack/slices"];

pub(crate) const TESTS: &[PerMode] = &[
    ("attack/services", |mode| all(mode, services::all)),
    ("attack/slices", |mode| all(mode, slices::all)),
    ("attack/names-and-metadata", |mode| all(mode, names::all)),
    ("attack/changes", changes::one_by_one),
    ("attack/changes-while-down", changes::while_down),
    ("attack/datagrams-of-every-size", datagrams::of_every_size),
];

/// Some objects.
#[derive(Clone)]
pub(crate) struct Attack {
    name: String,
    objects: Vec<Value>,
}

impl Attack {
    fn new(name: &str, objects: impl IntoIterator<Item = Value>) -> Self {
        Self { name: name.to_owned(), objects: objects.into_iter().collect() }
    }
}

/// How often a look may find something that it does not expect, while much changes at once.
const REPAIRS: usize = 3;

/// A world under attack.
pub(crate) struct Siege {
    world: World,
    turns: AtomicU16,
}

/// The numbers of the Service that always works, and of the one that always changes.
const GOOD: u8 = 1;
const TURNING: u8 = 2;
/// The port of the latter, before the first change.
const FIRST_PORT: u16 = 1_000;

impl Siege {
    fn begin(mode: Mode) -> anyhow::Result<Self> {
        let world = World::new(mode)?;
        world.serve(&Svc::new("good", GOOD).node_port(), &["local-1"])?;
        world.settle()?;
        Ok(Self { world, turns: AtomicU16::new(0) })
    }

    /// The good Service answers, at once; then a change of a Service and of its slices arrives.
    fn holds(&self) -> anyhow::Result<()> {
        self.good()?;
        let turn = self.turns.fetch_add(1, Ordering::Relaxed) + 1;
        let pod = ["local-1", "local-2"][usize::from(turn % 2)];
        // A port that nothing answered at before.
        let port = FIRST_PORT + turn;
        self.world.serve(&Svc::new("turning", TURNING).with("/spec/ports/0/port", port), &[pod])?;
        for family in IpFamily::BOTH {
            let to = SocketAddr::new(cluster_ip(TURNING, family), port);
            let (probe, mut patience) =
                (self.world.probe(From::Pod("client")), Patience::default());
            eventually(GUARD, || {
                let answer = probe.timeout(patience.grow()).tcp(to).answer()?;
                ensure!(answer.pod == pod, "{} answers, not {pod}", answer.pod);
                Ok(())
            });
        }
        self.good()
    }

    fn good(&self) -> anyhow::Result<()> {
        for family in IpFamily::BOTH {
            let inside = self.world.probe(From::Pod("client")).tcp(cluster_address(GOOD, family));
            let outside = self.world.probe(From::Outside).tcp(self.world.node_port(GOOD, family));
            for answer in [inside.answer(), outside.answer()] {
                let answer = answer.with_context(|| format!("the good Service, {family}"))?;
                ensure!(answer.pod == "local-1", "{} answers for the good Service", answer.pod);
            }
        }
        Ok(())
    }

    /// The process lives, and no sync failed.
    fn end(mut self) -> anyhow::Result<()> {
        ensure!(self.world.proxy_mut().is_running(), "the proxy ended");
        let lines = self.world.proxy().lines();
        // What goes wrong with a port of one Service is said as an error as well.
        let of_sync =
            |line: &&String| line.contains("sync failed") || line.contains("no rules on this node");
        let failed = lines.iter().find(of_sync);
        ensure!(failed.is_none(), "{failed:?}");
        // What is never as it was written would be written again each second.
        let again = lines.iter().filter(|line| line.contains("writing them again")).count();
        ensure!(again <= REPAIRS, "written {again} times again:\n{}", lines.join("\n"));
        Ok(())
    }

    /// Deletes objects; those that are gone already do not matter.
    fn delete(&self, objects: &[Value]) {
        for object in objects {
            let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            let namespace = match text(&object["metadata"]["namespace"]) {
                none if none.is_empty() => NAMESPACE.to_owned(),
                named => named,
            };
            let (kind, name) = (text(&object["kind"]), text(&object["metadata"]["name"]));
            let _ = self.world.api.delete(&kind, &namespace, &name);
        }
    }
}

/// This many attacks at a time.
const AT_ONCE: usize = 8;

/// All of these; then all of them are deleted, and what they took is free again.
fn all(mode: Mode, attacks: impl Fn(&World) -> Vec<Attack>) -> anyhow::Result<()> {
    let siege = Siege::begin(mode)?;
    let attacks = attacks(&siege.world);
    for some in attacks.chunks(AT_ONCE) {
        let names: Vec<&str> = some.iter().map(|attack| &*attack.name).collect();
        for attack in some {
            siege.world.apply(attack.objects.clone()).with_context(|| attack.name.clone())?;
        }
        siege.holds().with_context(|| format!("one of {names:?}"))?;
    }
    for attack in &attacks {
        siege.delete(&attack.objects);
    }
    siege.holds().context("after all were deleted")?;
    siege.end()
}
