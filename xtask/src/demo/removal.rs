//! A pod goes away while clients ask steadily, and no client notices.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};

use super::requests::{self, Asked};
use super::scene::{GUARD, Scene};
use kube_proxy_testkit::say;

/// Clients that ask at the same time.
const CLIENTS: usize = 2;

/// Pause of a client between two requests.
const PAUSE: Duration = Duration::from_millis(2);

/// Answers of the remaining pod in a row after which the removed one is known to get none.
///
/// With two pods left in the rules this happens once in 2^40 cases.
const IN_A_ROW: usize = 40;

/// How long the clients ask before the removal and after it.
const AROUND: Duration = Duration::from_millis(500);

/// A request, and when it had ended.
type Ended = (Instant, Asked);

/// Everything the clients have seen, in the order of the answers.
#[derive(Debug, Default)]
struct Seen(Mutex<Vec<Ended>>);

impl Seen {
    fn push(&self, asked: Asked) {
        let ended = (Instant::now(), asked);
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(ended);
    }

    fn all(&self) -> Vec<Ended> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Removes the last pod as a cluster does: first from the EndpointSlice, then for good.
pub(super) fn show(scene: &mut Scene) -> anyhow::Result<String> {
    let removed = scene.web.pop().context("no pod is left to remove")?;
    let (name, seen, stop) = (removed.name().to_owned(), Seen::default(), AtomicBool::new(false));
    let scene = &*scene;
    thread::scope(|scope| {
        for _ in 0..CLIENTS {
            scope.spawn(|| ask_steadily(scene, &seen, &stop));
        }
        let result = (|| {
            thread::sleep(AROUND);
            let before = seen.all().len();
            let edited = Instant::now();
            scene.set_endpoints(&scene.web)?;
            say!("   {name} is taken out of the EndpointSlice after {before} requests");
            let last = wait_until_avoided(&seen, before, &name)?;
            let after = last.saturating_duration_since(edited);
            say!("   {after:.0?} later it has served its last request");
            drop(removed);
            say!("   the pod is stopped, its address is gone");
            thread::sleep(AROUND);
            Ok(())
        })();
        // The threads must end, whatever happened.
        stop.store(true, Ordering::Relaxed);
        result
    })
    .and_then(|()| judge(&seen.all(), &name))
}

fn ask_steadily(scene: &Scene, seen: &Seen, stop: &AtomicBool) {
    while !stop.load(Ordering::Relaxed) {
        seen.push(requests::ask(&scene.client, scene.service, requests::PATIENCE));
        thread::sleep(PAUSE);
    }
}

/// Waits until the pod has served none of the last [`IN_A_ROW`], and returns when it last did.
fn wait_until_avoided(seen: &Seen, before: usize, name: &str) -> anyhow::Result<Instant> {
    let start = Instant::now();
    let by_name = |asked: &Asked| matches!(asked, Asked::Answered(pod) if pod == name);
    loop {
        let all = seen.all();
        let others = all.iter().skip(before).rev().take_while(|(_, asked)| !by_name(asked)).count();
        if others >= IN_A_ROW {
            let last = all.iter().rev().find(|(_, asked)| by_name(asked));
            return Ok(last.map_or(start, |(when, _)| *when));
        }
        if start.elapsed() > GUARD {
            bail!("{name} still gets requests {GUARD:?} after it left the EndpointSlice");
        }
        thread::sleep(PAUSE);
    }
}

fn judge(seen: &[Ended], removed: &str) -> anyhow::Result<String> {
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for (_, asked) in seen {
        *counts.entry(asked.to_string()).or_default() += 1;
    }
    for (what, count) in &counts {
        say!("   {count:>4} x {what}");
    }
    let failed = seen.iter().filter(|(_, asked)| matches!(asked, Asked::Failed(_))).count();
    ensure!(failed == 0, "{failed} of {} requests failed while a pod was removed", seen.len());
    let had_requests =
        seen.iter().any(|(_, asked)| matches!(asked, Asked::Answered(pod) if pod == removed));
    ensure!(had_requests, "{removed} had no request before it was removed");
    Ok(format!("{} requests while a pod was removed, none failed", seen.len()))
}
