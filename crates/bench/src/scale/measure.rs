//! One run of one program.

use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use kube_proxy_testkit::kube_proxy::KubeProxy;
use kube_proxy_testkit::say;

use super::contender::Contender;
use super::figures::{Figures, Run, as_f64, in_unit, megabytes, quantile};
use super::site::Site;
use super::{Arguments, IDLE_GUARD, LOAD_GUARD, changes, connect, metrics, restart};
use crate::usage::{self, ChildWatch, Resident};

/// Services at the end that must answer before the node counts as complete.
const LAST_SERVICES: usize = 10;

/// Connections to each service, for the latency of the first packet.
const CONNECTIONS: usize = 300;

/// Lines of its log shown when a program fails.
const LOG_LINES_SHOWN: usize = 40;

/// How often a slow program is reported to be at work.
const PROGRESS_PERIOD: Duration = Duration::from_secs(10);

/// Scrapes of the metrics, for their duration.
const SCRAPES: usize = 9;

const MILLISECOND: Duration = Duration::from_millis(1);
const MICROSECOND: Duration = Duration::from_micros(1);

/// Makes a node, runs the program on it and measures.
pub(super) fn run(
    arguments: &Arguments,
    contender: &Contender,
    services: u32,
) -> anyhow::Result<Run> {
    let site = Site::set_up(arguments, services)?;
    let objects = ["Service", "EndpointSlice"].map(|kind| site.api.objects(kind).len());
    say!("   the API server holds {} Services and {} EndpointSlices", objects[0], objects[1]);
    let command = || contender.command(arguments.variant, site.kubeconfig(), site.node().name());
    let begun = Instant::now();
    let mut proxy = KubeProxy::start(site.node().netns(), command())?;
    let mut figures = Figures::default();
    let measured = all(arguments, &site, &mut proxy, begun, &mut figures)
        .and_then(|()| restart::measure(arguments, &site, &mut proxy, command(), &mut figures));
    if let Err(error) = measured {
        let lines = proxy.lines();
        for line in &lines[lines.len().saturating_sub(LOG_LINES_SHOWN)..] {
            say!("   | {line}");
        }
        let ended = if proxy.is_running() { "" } else { " (it has ended by itself)" };
        return Err(error.context(format!("{}{ended}", contender.program().display())));
    }
    Ok(Run {
        contender: contender.name.clone(),
        program: contender.program().display().to_string(),
        services,
        figures: figures.0,
    })
}

fn all(
    arguments: &Arguments,
    site: &Site,
    proxy: &mut KubeProxy,
    begun: Instant,
    figures: &mut Figures,
) -> anyhow::Result<()> {
    let pid = proxy.pid();
    let children = ChildWatch::start(pid);
    load(site, proxy, begun, figures)?;
    memory(pid, figures)?;
    idle(pid, arguments.idle, figures)?;
    let counts = arguments.variant.count(site.node().netns())?;
    figures.add("rules", "IPv4 rules", "", as_f64(counts.rules));
    figures.add("chains", "IPv4 chains", "", as_f64(counts.chains));
    say!("   {} rules in {} chains", counts.rules, counts.chains);
    first_packets(site, figures)?;
    scrape(site, figures)?;
    change(site, pid, arguments.changes, figures)?;
    let (own, child) = (usage::peak_memory(pid)?, children.peak());
    figures.add("peak_rss_mb", "peak resident memory", "MB", megabytes(own));
    figures.add("child_peak_rss_mb", "the same, largest child", "MB", megabytes(child));
    say!("   peak memory {:.0} MB, of a child {:.0} MB", megabytes(own), megabytes(child));
    Ok(())
}

/// From the start of the program to the last service that answers, and what that cost.
fn load(
    site: &Site,
    proxy: &mut KubeProxy,
    begun: Instant,
    figures: &mut Figures,
) -> anyhow::Result<()> {
    let complete = wait_until_complete(site, proxy)?.saturating_duration_since(begun);
    figures.add("complete_s", "exec to dataplane complete", "s", complete.as_secs_f64());
    say!("   all services answer {:.2} s after exec", complete.as_secs_f64());
    usage::wait_until_idle(proxy.pid(), IDLE_GUARD)?;
    let cpu = usage::cpu(proxy.pid())?;
    figures.add("load_cpu_s", "CPU until idle after that", "s", cpu.as_secs_f64());
    let syncs = metrics::full_syncs(&site.node().probe())?;
    let syncs = syncs.context("the metrics show no full sync")?;
    figures.add("full_sync_s", "full syncs of both families", "s", syncs.seconds);
    figures.add("full_syncs", "their number", "", syncs.count);
    say!(
        "   idle; CPU {:.2} s, {} full syncs {:.2} s",
        cpu.as_secs_f64(),
        syncs.count,
        syncs.seconds
    );
    Ok(())
}

/// What is resident after the first syncs.
fn memory(pid: u32, figures: &mut Figures) -> anyhow::Result<()> {
    let Resident { all, files } = usage::resident(pid)?;
    figures.add("rss_mb", "resident memory after that", "MB", megabytes(all));
    figures.add("rss_file_mb", "of it program and libraries", "MB", megabytes(files));
    say!("   resident {:.1} MB, files {:.1} MB of it", megabytes(all), megabytes(files));
    Ok(())
}

/// How often it wakes up with nothing to do.
fn idle(pid: u32, seconds: u32, figures: &mut Figures) -> anyhow::Result<()> {
    if seconds == 0 {
        return Ok(());
    }
    let (before, cpu) = (usage::wakeups(pid)?, usage::cpu(pid)?);
    thread::sleep(Duration::from_secs(seconds.into()));
    let wakeups = as_f64(usize::try_from(usage::wakeups(pid)?.saturating_sub(before))?);
    let cpu = usage::cpu(pid)?.saturating_sub(cpu);
    let minutes = f64::from(seconds) / 60.0;
    figures.add("idle_wakeups", "wake-ups a minute, idle", "", wakeups / minutes);
    let cpu = cpu.div_duration_f64(MILLISECOND) / minutes;
    figures.add("idle_cpu_ms", "CPU a minute, idle", "ms", cpu);
    say!("   idle: {:.0} wake-ups and {cpu:.0} ms of CPU a minute", wakeups / minutes);
    Ok(())
}

/// Connects to the last services, one after the other, until each has answered.
fn wait_until_complete(site: &Site, proxy: &mut KubeProxy) -> anyhow::Result<Instant> {
    let count = site.scale.services;
    let mut addresses: Vec<SocketAddr> = (count.saturating_sub(LAST_SERVICES)..count)
        .chain([0, count / 2])
        .flat_map(|service| site.service_addresses(service))
        .collect();
    addresses.push(site.probed_address());
    let start = Instant::now();
    let (mut complete, mut shown) = (start, start);
    for address in addresses {
        let step = Duration::from_secs(1);
        let connected = loop {
            let tried = site.client.netns().run(|| connect::until(address, step, |_| true));
            match tried {
                Ok(connected) => break connected,
                Err(error) if start.elapsed() > LOAD_GUARD => return Err(error),
                Err(_) if !proxy.is_running() => bail!("the program ended before it had loaded"),
                Err(_) => progress(start, &mut shown),
            }
        };
        complete = complete.max(connected.begun);
    }
    Ok(complete)
}

/// Says now and then that it still loads.
fn progress(start: Instant, shown: &mut Instant) {
    if shown.elapsed() > PROGRESS_PERIOD {
        say!("   loading for {:.0} s", start.elapsed().as_secs_f64());
        *shown = Instant::now();
    }
}

/// How long the handshake of a connection takes, by the place of its service.
fn first_packets(site: &Site, figures: &mut Figures) -> anyhow::Result<()> {
    let count = site.scale.services;
    let places = [
        site.endpoint_address(0),
        site.service_address(0),
        site.service_address(count / 2),
        site.service_address(count - 1),
    ];
    let mut handshakes: [Vec<Duration>; 4] = Default::default();
    site.client.netns().run(|| {
        // In turn, so that a drift of the machine hits all of them.
        for _ in 0..CONNECTIONS {
            for (address, list) in places.iter().zip(&mut handshakes) {
                let connected = connect::once(*address).with_context(|| address.to_string())?;
                list.push(connected.handshake);
            }
        }
        anyhow::Ok(())
    })?;
    let medians = handshakes.map(|list| quantile(&in_unit(&list, MICROSECOND), 0.5));
    let [direct, first, middle, last] = medians;
    figures.add("handshake_direct_us", "handshake with an endpoint", "us", direct);
    figures.add("handshake_first_us", "with the first service", "us", first);
    figures.add("handshake_middle_us", "with the middle service", "us", middle);
    figures.add("handshake_last_us", "with the last service", "us", last);
    say!(
        "   handshake: endpoint {direct:.0}, first {first:.0}, middle {middle:.0}, last {last:.0} us"
    );
    Ok(())
}

/// How long the metrics take, with whatever is read for them.
fn scrape(site: &Site, figures: &mut Figures) -> anyhow::Result<()> {
    let mut durations = Vec::new();
    for _ in 0..SCRAPES {
        let begun = Instant::now();
        metrics::scrape(&site.node().probe())?;
        durations.push(begun.elapsed());
    }
    let median = quantile(&in_unit(&durations, MILLISECOND), 0.5);
    figures.add("scrape_ms", "one scrape of the metrics", "ms", median);
    Ok(())
}

fn change(site: &Site, pid: u32, count: u32, figures: &mut Figures) -> anyhow::Result<()> {
    if count == 0 {
        return Ok(());
    }
    let partial = || metrics::partial_syncs(&site.node().probe());
    let earlier = partial()?.unwrap_or_default();
    let before = usage::cpu(pid)?;
    let latencies = in_unit(&changes::latencies(site, count)?, MILLISECOND);
    usage::wait_until_idle(pid, IDLE_GUARD)?;
    let cpu = usage::cpu(pid)?.saturating_sub(before) / count;
    let [median, p90, max] = [0.5, 0.9, 1.0].map(|share| quantile(&latencies, share));
    figures.add("change_median_ms", "change to first packet, median", "ms", median);
    figures.add("change_p90_ms", "90th percentile", "ms", p90);
    figures.add("change_max_ms", "largest", "ms", max);
    let cpu = cpu.div_duration_f64(MILLISECOND);
    if let Some(syncs) = partial()?.filter(|syncs| syncs.count > earlier.count) {
        let mean = 1e3 * (syncs.seconds - earlier.seconds) / (syncs.count - earlier.count);
        figures.add("change_sync_ms", "sync of a change, mean", "ms", mean);
    }
    figures.add("change_cpu_ms", "CPU per change", "ms", cpu);
    say!(
        "   {count} changes: median {median:.1}, p90 {p90:.1}, max {max:.1} ms; CPU {cpu:.1} ms each"
    );
    Ok(())
}
