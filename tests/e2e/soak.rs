//! Random changes for a while, and then: is the node as a fresh process would make it?
//!
//! `SOAK_SECONDS` says for how long, `SOAK_SEED` which changes; `cargo xtask soak` sets both.

mod changes;
mod growth;
mod state;

use std::io::Write as _;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};

use self::changes::Changes;
use self::growth::Held;
use crate::PerMode;
use crate::world::{Mode, World};

pub(crate) const TESTS: &[PerMode] = &[("soak/random-changes", random_changes)];

/// How long it takes by default.
const SECONDS: u64 = 5;
/// Longest pause between two changes: some meet in one sync, others do not.
const MAX_PAUSE_MS: u64 = 20;
/// One in this many changes is followed by a restart.
const RESTART_EVERY: u64 = 150;

fn variable(name: &str) -> anyhow::Result<Option<u64>> {
    let value = std::env::var(name).ok();
    value.map(|value| value.parse().with_context(|| format!("{name}={value}"))).transpose()
}

/// Ends the proxy, which must not have met anything unexpected.
fn stop(world: &mut World) -> anyhow::Result<()> {
    let lines = world.proxy().lines();
    let unexpected = |line: &&String| line.contains(" ERROR ") || line.contains("not what was");
    if let Some(line) = lines.iter().find(unexpected) {
        bail!("the proxy said: {line}");
    }
    world.stop()
}

/// Makes changes for a while, and now and then a restart where those are wanted; how many of both.
fn change(
    world: &mut World,
    changes: &mut Changes,
    duration: Duration,
    restarts: bool,
) -> anyhow::Result<(u64, u64)> {
    let (end, mut count, mut restarted) = (Instant::now() + duration, 0_u64, 0_u64);
    while Instant::now() < end {
        changes.next(world).with_context(|| format!("change {count}"))?;
        count += 1;
        if restarts && changes.below(RESTART_EVERY) == 0 {
            restarted += 1;
            stop(world)?;
            world.start()?;
        }
        // A pace, nothing that anybody waits for.
        thread::sleep(Duration::from_millis(changes.below(MAX_PAUSE_MS)));
    }
    Ok((count, restarted))
}

/// Makes changes in one process, and compares what it holds without any of the objects, early and late.
fn grow(
    world: &mut World,
    changes: &mut Changes,
    duration: Duration,
) -> anyhow::Result<(u64, Held, Held)> {
    let mut rest = |world: &mut World, duration| -> anyhow::Result<(u64, Held)> {
        let (count, _) = change(world, changes, duration, false)?;
        changes.delete_all(world)?;
        let marker = world.settle_with_marker()?;
        world.delete("Service", &marker)?;
        Ok((count, Held::at_rest(world.proxy().pid())?))
    };
    let (few, early) = rest(world, duration / 5)?;
    let (many, late) = rest(world, duration * 4 / 5)?;
    early.has_not_grown(late)?;
    Ok((few + many, early, late))
}

fn random_changes(mode: Mode) -> anyhow::Result<()> {
    let seconds = Duration::from_secs(variable("SOAK_SECONDS")?.unwrap_or(SECONDS));
    let seed = variable("SOAK_SEED")?.unwrap_or(1);
    let mut world = World::new(mode)?;
    let mut changes = Changes::new(seed);
    let (in_one, early, late) = grow(&mut world, &mut changes, seconds / 2)?;
    let (count, restarts) = change(&mut world, &mut changes, seconds / 2, true)?;
    let count = in_one + count;
    world.settle()?;
    let after = state::read(&world, mode)?;
    stop(&mut world)?;
    if mode == Mode::Nftables {
        // One rule less, to be sure that it would show.
        world.on_node("nft", &["flush", "chain", "ip6", "kube-proxy", "masquerading"])?;
        ensure!(!state::differences(&after, &state::read(&world, mode)?).is_empty(), "damage");
    }
    state::wipe(&world, mode)?;
    world.start()?;
    let fresh = state::read(&world, mode)?;
    let differences = state::differences(&after, &fresh);
    ensure!(
        differences.is_empty(),
        "seed {seed}, after {count} changes: {} facts differ from what a fresh process writes: {:#?}",
        differences.len(),
        &differences[..differences.len().min(20)]
    );
    // For those who watch a long one.
    let _ = writeln!(
        std::io::stderr(),
        "{mode}: seed {seed}, {count} changes and {restarts} restarts in {} s; {} facts as in a fresh build; \
         after {in_one} changes in one process {late}, {early} before",
        seconds.as_secs(),
        fresh.len()
    );
    Ok(())
}
