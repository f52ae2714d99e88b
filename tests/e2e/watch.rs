//! An API server that misbehaves or is away: traffic keeps its last good state, and changes arrive as soon as they can.

use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpListener};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use fake_apiserver::{ApiServer, Failure, Options, StreamingLists, Verb};
use kube_proxy_core::IpFamily;
use kube_proxy_testkit::eventually::eventually;
use kube_proxy_testkit::probe::Outcome;

use crate::Once;
use crate::objects::{Svc, node};
use crate::traffic::{Traffic, becomes, ends};
use crate::world::{From, GUARD, Mode, NODE, OTHER_NODE, World, cluster_address};

pub(crate) const TESTS: &[Once] = &[
    ("watch/protobuf-by-default", protobuf),
    ("watch/json-if-configured", json),
    ("watch/server-without-protobuf", json_only),
    ("watch/dropped", dropped),
    ("watch/silent", silent),
    ("watch/expired", expired),
    ("watch/server-gone", server_gone),
    ("watch/requests-fail", requests_fail),
    ("watch/first-lists-fail", first_lists_fail),
    ("watch/too-many-requests", too_many_requests),
    ("watch/streaming-lists-refused", streaming_refused),
    ("watch/streaming-lists-ignored", streaming_ignored),
    ("watch/malformed-lines", malformed_lines),
    ("watch/bookmarks", bookmarks),
    ("watch/no-request-storm", no_request_storm),
    ("watch/nothing-to-do", nothing_to_do),
    ("watch/starts-without-server", starts_without_server),
    ("watch/no-certificates-on-the-machine", no_certificates),
];

const MODE: Mode = Mode::IptablesNft;
const CLIENT: From = From::Pod("client");

/// A world with `steady`, which stays and has traffic; `changed`, `moved` and `deleted`, which are there to do so.
fn world() -> anyhow::Result<World> {
    let world = World::new(MODE)?;
    begin(&world)?;
    Ok(world)
}

fn begin(world: &World) -> anyhow::Result<()> {
    world.serve(&Svc::new("steady", 1).node_port(), &["local-1", "remote-1"])?;
    world.serve(&Svc::new("changed", 2), &["local-1"])?;
    world.serve(&Svc::new("deleted", 3), &["local-1"])?;
    world.settle()
}

/// Makes a change of every kind.
fn change(world: &World) -> anyhow::Result<()> {
    world.serve(&Svc::new("changed", 2), &["local-2"])?;
    world.delete("Service", "deleted")?;
    world.serve(&Svc::new("added", 4), &["remote-1"])
}

/// Waits until those changes are on the node, and checks that later ones come too.
fn changed(world: &World) -> anyhow::Result<()> {
    for family in IpFamily::BOTH {
        becomes(world.probe(CLIENT), cluster_address(2, family), "local-2");
        becomes(world.probe(CLIENT), cluster_address(4, family), "remote-1");
        ends(world.probe(CLIENT), cluster_address(3, family), Outcome::is_timed_out);
    }
    world.settle()
}

/// The changes are not on the node yet.
fn unchanged(world: &World) -> anyhow::Result<()> {
    for family in IpFamily::BOTH {
        for number in [2, 3] {
            let pod = world.probe(CLIENT).tcp(cluster_address(number, family)).answer()?.pod;
            ensure!(pod == "local-1", "{pod} answers before the change can be known");
        }
    }
    Ok(())
}

fn protobuf() -> anyhow::Result<()> {
    format(&[], false, "application/vnd.kubernetes.protobuf;stream=watch")
}

fn json() -> anyhow::Result<()> {
    format(&["--kube-api-content-type=application/json"], false, "application/json")
}

fn json_only() -> anyhow::Result<()> {
    format(&[], true, "application/json")
}

/// All watches are of one content type, and changes arrive by them, also after a list by pages.
fn format(flags: &[&str], json_only: bool, expected: &str) -> anyhow::Result<()> {
    let mut world = World::without_proxy(MODE, flags)?;
    world.api.faults().json_only(json_only);
    world.start()?;
    begin(&world)?;
    let traffic = Traffic::to_service(&world, 1)?;
    world.api.faults().streaming_lists(StreamingLists::Refused);
    world.api.stop();
    change(&world)?;
    world.api.faults().compact_history();
    resume(&world)?;
    changed(&world)?;
    traffic.stop()?;
    for resource in ["services", "endpointslices"] {
        let log = world.api.requests();
        let watches = log.stats(Verb::Watch, resource).content_types;
        ensure!(watches.keys().eq([expected]), "{resource}: {watches:?}");
        let lists = log.stats(Verb::List, resource).content_types;
        let whole = expected.trim_end_matches(";stream=watch");
        ensure!(lists.keys().eq([whole]), "{resource}: {lists:?}");
    }
    Ok(())
}

fn dropped() -> anyhow::Result<()> {
    let world = world()?;
    let traffic = Traffic::to_service(&world, 1)?;
    for _ in 0..3 {
        world.api.faults().drop_watches();
    }
    change(&world)?;
    changed(&world)?;
    traffic.stop()?;
    let log = world.api.requests();
    ensure!(log.count(Verb::List, "services") == 0, "a dropped watch is no reason to list");
    Ok(())
}

/// Watches that stay open and say nothing, for less time than it takes to give them up.
fn silent() -> anyhow::Result<()> {
    let world = world()?;
    let traffic = Traffic::to_service(&world, 1)?;
    world.api.faults().stall_watches(true);
    change(&world)?;
    traffic.go_on();
    unchanged(&world)?;
    world.api.faults().stall_watches(false);
    changed(&world)?;
    traffic.stop()?;
    Ok(())
}

/// The server has forgotten the version at which a watch is to continue (410): what was deleted meanwhile must go too.
fn expired() -> anyhow::Result<()> {
    let world = world()?;
    let traffic = Traffic::to_service(&world, 1)?;
    world.api.stop();
    change(&world)?;
    world.api.faults().compact_history();
    resume(&world)?;
    changed(&world)?;
    traffic.stop()?;
    Ok(())
}

fn resume(world: &World) -> anyhow::Result<()> {
    Ok(world.cluster.node(0).netns().run(|| world.api.resume())?)
}

fn server_gone() -> anyhow::Result<()> {
    let world = world()?;
    let traffic = Traffic::to_service(&world, 1)?;
    world.api.stop();
    change(&world)?;
    for _ in 0..10 {
        traffic.go_on();
    }
    unchanged(&world)?;
    resume(&world)?;
    changed(&world)?;
    traffic.stop()?;
    Ok(())
}

fn requests_fail() -> anyhow::Result<()> {
    let world = world()?;
    let traffic = Traffic::to_service(&world, 1)?;
    world.api.faults().fail(Failure::new(500).times(6));
    world.api.faults().fail(Failure::new(429).times(3).retry_after(1));
    world.api.faults().drop_watches();
    change(&world)?;
    changed(&world)?;
    traffic.stop()?;
    Ok(())
}

/// The very first lists fail: the rules of an earlier run stay until they succeed.
fn first_lists_fail() -> anyhow::Result<()> {
    let mut world = world()?;
    world.stop()?;
    change(&world)?;
    let traffic = Traffic::to_service(&world, 1)?;
    for verb in [Verb::List, Verb::Watch] {
        world.api.faults().fail(Failure::new(500).times(6).verb(verb));
    }
    world.start()?;
    changed(&world)?;
    traffic.stop()?;
    Ok(())
}

fn too_many_requests() -> anyhow::Result<()> {
    let mut world = world()?;
    world.stop()?;
    change(&world)?;
    world.api.faults().fail(Failure::new(429).times(4).retry_after(2));
    let begin = Instant::now();
    world.start()?;
    ensure!(begin.elapsed() >= Duration::from_secs(2), "did not wait as long as it was asked to");
    changed(&world)
}

fn streaming_refused() -> anyhow::Result<()> {
    without_streaming(StreamingLists::Refused)
}

fn streaming_ignored() -> anyhow::Result<()> {
    without_streaming(StreamingLists::Ignored)
}

/// Lists page by page where the server does not stream them.
fn without_streaming(mode: StreamingLists) -> anyhow::Result<()> {
    let mut world = World::without_proxy(MODE, &[])?;
    world.api.faults().streaming_lists(mode);
    for number in 0..600 {
        // More than a page.
        let service = Svc::new(&format!("other-{number}"), 9).with("/spec/clusterIP", "None");
        world.apply(service.slices(1, &[]))?;
    }
    world.start()?;
    begin(&world)?;
    let log = world.api.requests();
    ensure!(log.count(Verb::List, "services") > 0, "the services were listed");
    let pages = log.count(Verb::List, "endpointslices");
    ensure!(pages >= 3, "{pages} pages for 1,200 slices");
    let traffic = Traffic::to_service(&world, 1)?;
    world.api.stop();
    change(&world)?;
    world.api.faults().compact_history();
    resume(&world)?;
    changed(&world)?;
    traffic.stop()?;
    Ok(())
}

/// Events that cannot be read, as from a proxy in between that cuts them.
fn malformed_lines() -> anyhow::Result<()> {
    let world = world()?;
    let traffic = Traffic::to_service(&world, 1)?;
    world.api.faults().corrupt_watch_lines(2, Some("services"));
    world.api.faults().corrupt_watch_lines(2, None);
    change(&world)?;
    changed(&world)?;
    traffic.stop()?;
    Ok(())
}

/// A watch on which nothing happens continues where the last bookmark was, not where the last object was.
fn bookmarks() -> anyhow::Result<()> {
    let mut world = World::without_proxy(MODE, &[])?;
    let address = SocketAddr::from(([127, 0, 0, 1], 0));
    let options = Options { bookmark_interval: Duration::from_millis(100), ..Options::default() };
    world.api = world.cluster.node(0).netns().run(|| {
        let listener = TcpListener::bind(address)?;
        let bound = listener.local_addr()?;
        ApiServer::on_listener(listener, Box::new(move || TcpListener::bind(bound)), options)
    })?;
    world.source = vec![format!("--master={}", world.api.url())];
    world.apply([node(NODE, 0, "zone-a"), node(OTHER_NODE, 1, "zone-b")])?;
    world.start()?;
    begin(&world)?;
    for _ in 0..20 {
        world.serve(&Svc::new("steady", 1).node_port(), &["remote-1"])?;
        world.serve(&Svc::new("steady", 1).node_port(), &["local-1"])?;
    }
    world.settle()?;
    let version = world.api.version();
    std::thread::sleep(Duration::from_secs(1));
    world.api.clear_requests();
    world.api.faults().drop_watches();
    // Nodes did not change since the start.
    let query = eventually(GUARD, || {
        let log = world.api.requests();
        log.last_query(Verb::Watch, "nodes").map(str::to_owned).context("no new watch of nodes")
    });
    let resumed: u64 = query
        .split('&')
        .find_map(|field| field.strip_prefix("resourceVersion="))
        .context("a watch without a version")?
        .parse()?;
    ensure!(resumed >= version, "goes on at {resumed}, though bookmarks told {version}");
    change(&world)?;
    changed(&world)
}

/// A proxy without anything to do sleeps: nothing in it looks every second whether something has happened.
fn nothing_to_do() -> anyhow::Result<()> {
    const WINDOW: Duration = Duration::from_secs(10);
    let world = World::with_flags(Mode::Nftables, &["--iptables-sync-period=1h"])?;
    begin(&world)?;
    let begin = Instant::now();
    loop {
        let before = wake_ups(world.proxy().pid())?;
        std::thread::sleep(WINDOW);
        let after = wake_ups(world.proxy().pid())?;
        let rise = |(thread, count): (&String, &u64)| count - before.get(thread).unwrap_or(count);
        // The rules are checked now and then, and a connection may be closed.
        let sum: u64 = after.iter().map(rise).sum();
        if sum <= 5 {
            return Ok(());
        }
        ensure!(begin.elapsed() < GUARD.max(WINDOW * 6), "{sum} wake-ups in {WINDOW:?}");
    }
}

/// How often each thread went to sleep.
fn wake_ups(pid: u32) -> anyhow::Result<BTreeMap<String, u64>> {
    let mut counts = BTreeMap::new();
    for thread in std::fs::read_dir(format!("/proc/{pid}/task"))? {
        // One may end meanwhile.
        let thread = thread?;
        let Ok(status) = std::fs::read_to_string(thread.path().join("status")) else { continue };
        let count = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
        let count = count.context("no such line")?.trim().parse()?;
        counts.insert(thread.file_name().to_string_lossy().into_owned(), count);
    }
    Ok(counts)
}

/// However long the server fails, it is asked now and then only.
fn no_request_storm() -> anyhow::Result<()> {
    let world = world()?;
    let traffic = Traffic::to_service(&world, 1)?;
    world.api.clear_requests();
    world.api.faults().fail(Failure::new(500).times(100_000));
    world.api.faults().drop_watches();
    let begin = Instant::now();
    let asked = || world.api.requests().iter().map(|(_, _, stats)| stats.count).sum::<u64>();
    while begin.elapsed() < Duration::from_secs(4) || (asked() < 4 && begin.elapsed() < GUARD) {
        traffic.go_on();
    }
    let asked = asked();
    // Four kinds, and pauses that double from at least 0.2 s: 1 + 4 requests each in the first 4 s, and a few more on a slow machine.
    ensure!((4..=40).contains(&asked), "{asked} requests in {:?}", begin.elapsed());
    let complaints: Vec<String> = world
        .proxy()
        .lines()
        .into_iter()
        .filter(|line| line.contains("last known state"))
        .collect();
    ensure!((1..=4).contains(&complaints.len()), "not a line for each cause: {complaints:#?}");
    world.api.faults().clear_failures();
    change(&world)?;
    changed(&world)?;
    traffic.stop()?;
    Ok(())
}

/// A node that starts before its API server.
fn starts_without_server() -> anyhow::Result<()> {
    let mut world = World::without_proxy(MODE, &[])?;
    world.api.stop();
    world.start_without_waiting(world.command()?)?;
    world.proxy().wait_for_line(GUARD, |line| line.contains("retrying"))?;
    resume(&world)?;
    begin(&world)?;
    change(&world)?;
    changed(&world)
}

/// A minimal image has no certificates of authorities: where nothing is encrypted, or a kubeconfig says not to check, none are needed.
fn no_certificates() -> anyhow::Result<()> {
    let mut world = World::without_proxy(MODE, &[])?;
    let mut command = world.command()?;
    for variable in ["SSL_CERT_FILE", "SSL_CERT_DIR"] {
        command.env(variable, "/nonexistent");
    }
    world.start_without_waiting(command)?;
    begin(&world)
}
