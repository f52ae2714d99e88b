//! Clocks that jump: batteries that are empty, machines that slept, and the first answer of a time server.
//!
//! A network or time namespace has no wall clock of its own. So these tests run on machines that run nothing else: those that
//! `cargo xtask uml` and `cargo xtask kernels` boot.

use std::net::SocketAddr;
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, ensure};
use kube_proxy_core::IpFamily;
use kube_proxy_testkit::eventually::eventually;
use libtest_mimic::Trial;

use crate::objects::Svc;
use crate::traffic::{becomes, works};
use crate::world::{From, GUARD, Mode, World, cluster_address};

/// Set on a machine that is there for tests only.
const OWN_MACHINE: &str = "TESTKIT_OWN_MACHINE";
const HOUR: i64 = 3600;

/// Among the tests of ipvs mode, because these run on such machines.
pub(crate) fn trials() -> Vec<Trial> {
    let elsewhere = std::env::var_os(OWN_MACHINE).is_none();
    [Mode::Ipvs, Mode::IptablesLegacy]
        .into_iter()
        .map(|mode| crate::trial(&format!("ipvs/clock/jumps-in-{mode}"), move || jumps(mode)))
        .map(|trial| trial.with_ignored_flag(elsewhere))
        .collect()
}

/// Whichever way the clock jumps: changes arrive, damage is repaired at the next period, and the node is healthy.
fn jumps(mode: Mode) -> anyhow::Result<()> {
    let world = World::new(mode)?;
    let service = Svc::new("web", 1).node_port();
    world.serve(&service, &["local-1"])?;
    world.settle()?;
    for (hours, pod) in [(1, "local-2"), (-2, "local-1"), (1, "local-2")] {
        let jump = format!("by {hours} h");
        turn_clock(hours * HOUR).context(jump.clone())?;
        world.serve(&service, &[pod])?;
        for family in IpFamily::BOTH {
            becomes(world.probe(From::Pod("client")), cluster_address(1, family), pod);
            damage(&world, mode, family)?;
            works(world.probe(From::Pod("client")), cluster_address(1, family));
        }
        // A repair may still be under way: the machine that this runs on is slow.
        eventually(GUARD, || is_healthy(&world).with_context(|| jump.clone()));
    }
    Ok(())
}

fn is_healthy(world: &World) -> anyhow::Result<()> {
    let server = SocketAddr::from(([127, 0, 0, 1], 10_256));
    let answer = world.probe(From::Node).http_get(server, "/healthz")?;
    let health: serde_json::Value = serde_json::from_str(&answer.body)?;
    ensure!(health["healthy"] == true, "{}", answer.body);
    ensure!(health["lastUpdated"] == health["currentTime"], "{}", answer.body);
    Ok(())
}

/// Takes away what leads to the Service; within a period, which is a second here, it is back.
fn damage(world: &World, mode: Mode, family: IpFamily) -> anyhow::Result<()> {
    if mode == Mode::Ipvs {
        world.on_node("ipvsadm", &["-C"])?;
    } else {
        let program = mode.program(family, "");
        world.on_node(&program, &["-t", "nat", "-F", "KUBE-SERVICES"])?;
    }
    Ok(())
}

fn turn_clock(seconds: i64) -> anyhow::Result<()> {
    let now = || SystemTime::now().duration_since(UNIX_EPOCH).map(|since| since.as_secs());
    let target = now()?.checked_add_signed(seconds).context("no such time")?;
    let output = Command::new("date").args(["-s", &format!("@{target}")]).output()?;
    ensure!(output.status.success(), "date: {}", String::from_utf8_lossy(&output.stderr));
    let distance = now()?.abs_diff(target);
    ensure!(distance < HOUR.unsigned_abs() / 2, "the clock is {distance} s off");
    Ok(())
}
