//! A restart with the rules in place, under traffic.

use std::net::IpAddr;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use kube_proxy_testkit::kube_proxy::KubeProxy;
use kube_proxy_testkit::prober::{Attempt, Prober};
use kube_proxy_testkit::say;

use super::figures::{Figures, as_f64, megabytes};
use super::site::Site;
use super::{Arguments, IDLE_GUARD, LOAD_GUARD, connect, metrics};
use crate::usage;

/// Time between two connections of the prober.
const PERIOD: Duration = Duration::from_millis(5);

/// Connections that have to end before and after what they are to show.
const ENOUGH: usize = 50;

/// How long a process may take to end.
const END_GUARD: Duration = Duration::from_mins(1);

/// A handshake that takes so long has lost a packet: the first SYN is repeated after a second.
const LOST: Duration = Duration::from_millis(900);

/// Ends the program, changes an endpoint meanwhile, and starts it again: it has to take over what is there, and see the change.
pub(super) fn measure(
    arguments: &Arguments,
    site: &Site,
    proxy: &mut KubeProxy,
    command: Command,
    figures: &mut Figures,
) -> anyhow::Result<()> {
    let probe = site.client.probe().timeout(Duration::from_secs(10));
    let prober = Prober::start(&probe, site.service_address(0), PERIOD)?;
    go_on(&prober)?;
    proxy.terminate()?;
    proxy.wait(END_GUARD)?;
    let change = arguments.changes + 1;
    site.change(change)?;
    let endpoint = IpAddr::from(site.probed_endpoint(change));
    let begun = Instant::now();
    *proxy = KubeProxy::start(site.node().netns(), command)?;
    let obeyed = site
        .client
        .netns()
        .run(|| connect::until(site.probed_address(), LOAD_GUARD, |ip| ip == endpoint))
        .context("after the restart")?;
    usage::wait_until_idle(proxy.pid(), IDLE_GUARD)?;
    go_on(&prober)?;
    let report = prober.stop();
    let syncs =
        metrics::full_syncs(&site.node().probe())?.context("no full sync in the metrics")?;
    let seconds = obeyed.begun.saturating_duration_since(begun).as_secs_f64();
    let memory = megabytes(usage::peak_memory(proxy.pid())?);
    let cpu = usage::cpu(proxy.pid())?.as_secs_f64();
    let has_failed = |attempt: &&Attempt| !attempt.outcome.is_answer() || attempt.took >= LOST;
    let failed = report.attempts.iter().filter(has_failed).count();
    figures.add("restart_s", "restart: exec to a change obeyed", "s", seconds);
    figures.add("restart_sync_s", "the same, full syncs", "s", syncs.seconds);
    figures.add("restart_cpu_s", "the same, CPU until idle", "s", cpu);
    figures.add("restart_rss_mb", "the same, peak resident memory", "MB", memory);
    figures.add("restart_connections", "connections meanwhile", "", as_f64(report.attempts.len()));
    figures.add("restart_failed", "those that failed or lost a packet", "", as_f64(failed));
    say!(
        "   restart: a change obeyed {seconds:.2} s after exec, full syncs {:.2} s, CPU {cpu:.2} s; \
         {failed} of {} connections failed",
        syncs.seconds,
        report.attempts.len()
    );
    proxy.terminate()?;
    proxy.wait(END_GUARD).map(|_| ())
}

/// Waits until a good number of further connections have ended.
fn go_on(prober: &Prober) -> anyhow::Result<()> {
    let (start, mark) = (Instant::now(), prober.ended() + ENOUGH);
    while prober.ended() < mark {
        ensure!(start.elapsed() < END_GUARD, "the prober makes no connections");
        thread::sleep(PERIOD);
    }
    Ok(())
}
