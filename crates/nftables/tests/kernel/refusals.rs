//! Refusals that a full sync does not get rid of: another program made our sets so small that nothing fits in.
//! Nothing in the backend knows of sizes. What repeats goes deeper, by itself, and no packet is lost on the way.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use futures::executor::block_on;
use kube_proxy_core::{
    Event, Intervals, IpFamily, Kind, Proxy, ProxyBackend as _, Refusal, Repair, RepairLevel,
    Scope, Tracker, TrackerOptions,
};
use kube_proxy_netlink::Family;
use kube_proxy_netlink::nf_tables::{
    Expression, MapData, NfTables, SetSpec, Transaction, Verdict, user_data,
};
use kube_proxy_netlink::{Errno, Error, Refusal as KernelRefusal, Target};
use kube_proxy_nftables::{LastSync, NftablesBackend, TABLE};
use kube_proxy_testkit::cluster::plan;
use kube_proxy_testkit::prober::Prober;
use libtest_mimic::Trial;

use crate::trial;
use crate::world::{Svc, World};

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("refusals::of_one_set_end_with_the_set", one_set),
        trial("refusals::that_nobody_knows_go_deeper_each_time", unknown),
        trial("refusals::without_an_object_go_from_full_to_the_table", without_object),
        trial("refusals::of_several_sets_end_with_the_table", several_sets),
        trial("refusals::a_chain_is_written_again_whatever_it_says_of_itself", chain_again),
        trial("refusals::a_map_of_sessions_is_made_again_with_them", sessions_again),
    ]
}

const FAMILY: IpFamily = IpFamily::V4;
const ONE: Svc = Svc(1);

/// A node whose backend is driven as the program does it.
struct Driven {
    world: World,
    proxy: Proxy,
    events: Vec<Event>,
    now: Instant,
}

impl Driven {
    fn new() -> anyhow::Result<Self> {
        Self::with(|_| ())
    }

    /// With a backend that is changed before its first sync.
    fn with(adjust: impl FnOnce(&mut NftablesBackend)) -> anyhow::Result<Self> {
        let mut world = World::new(&[(0, "a"), (1, "b"), (0, "other")])?;
        let mut sticky = Svc(2).cluster_ip_only();
        sticky.policy.session_affinity = Some(Duration::from_hours(1));
        world.set(ONE.everything());
        world.set(sticky);
        world.endpoints(ONE, &["a", "b"]);
        world.endpoints(Svc(2), &["a", "b"]);
        let events = world.take_events();
        let mut backend = world.backend(FAMILY)?;
        adjust(&mut backend);
        let second = Duration::from_secs(1);
        let intervals = Intervals { min: second, retry: 30 * second, max: None };
        let mut driven = Self {
            proxy: Proxy::new(options(), intervals, Box::new(backend)),
            world,
            events: Vec::new(),
            now: Instant::now(),
        };
        for kind in [Kind::Service, Kind::EndpointSlice] {
            driven.proxy.apply(Event::ListStarted(kind), driven.now);
        }
        for event in events {
            driven.apply(event);
        }
        for kind in [Kind::Service, Kind::EndpointSlice] {
            driven.proxy.apply(Event::ListDone(kind), driven.now);
        }
        let first = driven.sync()?;
        ensure!(first == (None, true), "{first:?}");
        Ok(driven)
    }

    fn apply(&mut self, event: Event) {
        self.events.push(event.clone());
        self.proxy.apply(event, self.now);
    }

    /// Services without endpoints: more elements in several sets.
    fn add_services(&mut self, numbers: std::ops::Range<u8>) {
        for number in numbers {
            self.world.set(Svc(number).everything());
        }
        for event in self.world.take_events() {
            self.apply(event);
        }
    }

    /// Goes to when the next sync is due and does it: how deep it went, and whether it succeeded.
    fn sync(&mut self) -> anyhow::Result<(Option<RepairLevel>, bool)> {
        self.now = self.now.max(self.proxy.due().context("nothing is due")?);
        let now = self.now;
        let outcome = block_on(self.proxy.sync(|| now)).context("nothing to sync")?;
        if let Err(error) = &outcome.result {
            let expected = ["ENFILE", "EXFULL"];
            ensure!(expected.iter().any(|name| error.to_string().contains(name)), "{error}");
        }
        Ok((outcome.repair, outcome.result.is_ok()))
    }

    /// What another backend sends that knows nothing.
    fn sync_another(&self, scope: Scope<'_>) -> anyhow::Result<LastSync> {
        let mut backend = self.world.backend(FAMILY)?;
        let mut tracker = Tracker::new(options());
        for event in &self.events {
            tracker.apply(event.clone());
        }
        tracker.fold();
        block_on(backend.sync(tracker.snapshot(), scope))?;
        Ok(backend.last_sync())
    }

    /// Another backend that knows nothing finds nothing to do.
    fn ensure_right(&self) -> anyhow::Result<()> {
        let last = self.sync_another(Scope::Full)?;
        ensure!(last.elements == 0 && last.chains == 0, "{last:?}");
        Ok(())
    }
}

fn options() -> TrackerOptions {
    TrackerOptions {
        node_name: "node-0".into(),
        node_ip: Some(*plan::node(0).get(FAMILY)),
        ..kube_proxy_core::testing::options(FAMILY)
    }
}

/// Makes a set again with room for one element, and empties chains that refer to it.
fn shrink(world: &World, set: &str, chains: &[&str]) -> anyhow::Result<()> {
    world.cluster.node(0).netns().run(|| {
        let mut netlink = NfTables::open(Family::V4)?;
        let sets = netlink.sets(TABLE)?;
        let old = sets.into_iter().find(|found| found.name == set).context("no such set")?;
        let (key_parts, data) = match set {
            "cluster-ips" => (vec![4], None),
            "unserved-ips" => (vec![4, 1, 2], Some(MapData::Verdict)),
            other => anyhow::bail!("{other}?"),
        };
        let mut transaction = Transaction::new(Family::V4, TABLE);
        for chain in chains {
            transaction.flush_chain(chain)?;
        }
        transaction.delete_set(set)?;
        transaction.add_set(&SetSpec {
            name: set,
            flags: old.flags,
            key_type: old.key_type,
            key_parts,
            data,
            size: Some(1),
            counter: set == "unserved-ips",
            user_data: old.user_data,
        })?;
        netlink.commit(&mut transaction)?;
        Ok(())
    })
}

fn one_set() -> anyhow::Result<()> {
    let mut driven = Driven::new()?;
    let probe = driven.world.pod("other").probe().timeout(Duration::from_secs(5));
    let prober = Prober::start(&probe, ONE.cluster_ip(FAMILY), Duration::from_millis(2))?;
    shrink(&driven.world, "cluster-ips", &["cluster-ips-check"])?;
    driven.add_services(10..14);
    let levels = [driven.sync()?, driven.sync()?, driven.sync()?];
    let (full, object) = (Some(RepairLevel::Full), Some(RepairLevel::Object));
    ensure!(levels == [(None, false), (full, false), (object, true)], "{levels:?}");
    thread::sleep(Duration::from_millis(100));
    prober.stop().check_no_failure()?;
    driven.ensure_right()
}

/// A node where the next transactions that are about a set are refused, with an error that the kernel has for nothing of the kind.
/// `named` says whether the refusal names the set.
fn refusing(named: bool) -> anyhow::Result<(Driven, Arc<AtomicUsize>)> {
    let left = Arc::new(AtomicUsize::new(0));
    let of_test = left.clone();
    let driven = Driven::with(|backend| {
        backend.judge_transactions(move |transaction| {
            let set = Target { kind: "set", name: "cluster-ips".to_owned() };
            let one_less = |left: usize| left.checked_sub(1);
            let is_refused =
                || left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, one_less).is_ok();
            if !transaction.targets().any(|target| target == set) || !is_refused() {
                return Ok(());
            }
            let first = KernelRefusal {
                object: "something about set cluster-ips".to_owned(),
                target: named.then(|| Box::new(set)),
                errno: Errno::EXFULL,
                code: Errno::EXFULL as i32,
                message: None,
                offset: None,
                missing: None,
            };
            Err(Error::Batch { first, others: Vec::new() })
        });
    })?;
    Ok((driven, of_test))
}

/// Refuses 0 to 5 times, and compares the levels of the syncs until one succeeds. No packet is lost.
fn ensure_levels(named: bool, expected: [Option<RepairLevel>; 6]) -> anyhow::Result<()> {
    let (mut driven, left) = refusing(named)?;
    let probe = driven.world.pod("other").probe().timeout(Duration::from_secs(5));
    let prober = Prober::start(&probe, ONE.cluster_ip(FAMILY), Duration::from_millis(2))?;
    for (times, number) in (0..expected.len()).zip(10..) {
        left.store(times, Ordering::SeqCst);
        driven.add_services(number..number + 1);
        let mut levels = Vec::new();
        for sync in 0..=times {
            let (level, succeeded) = driven.sync()?;
            ensure!(succeeded == (sync == times), "{level:?}: sync {sync} of {times}");
            levels.push(level);
        }
        ensure!(levels == expected[..=times], "refused {times} times: {levels:?}");
        ensure!(left.load(Ordering::SeqCst) == 0, "each sync is refused once");
        driven.ensure_right()?;
    }
    thread::sleep(Duration::from_millis(100));
    prober.stop().check_no_failure()
}

fn unknown() -> anyhow::Result<()> {
    let [full, object, table] = RepairLevel::ALL.map(Some);
    ensure_levels(true, [None, full, object, table, table, table])
}

fn without_object() -> anyhow::Result<()> {
    let [full, _, table] = RepairLevel::ALL.map(Some);
    ensure_levels(false, [None, full, table, table, table, table])
}

fn several_sets() -> anyhow::Result<()> {
    let mut driven = Driven::new()?;
    let mut open = driven.world.pod("other").probe().connect(ONE.cluster_ip(FAMILY));
    let open = open.as_mut().map_err(|outcome| anyhow::anyhow!("{outcome}"))?;
    let sticky = Svc(2).cluster_ip(FAMILY);
    let before = driven.world.cluster.client().probe().tcp(sticky).answer()?.pod;
    let probe = driven.world.pod("other").probe().timeout(Duration::from_secs(5));
    let prober = Prober::start(&probe, ONE.cluster_ip(FAMILY), Duration::from_millis(2))?;
    shrink(&driven.world, "unserved-ips", &["service-endpoints-check"])?;
    shrink(&driven.world, "cluster-ips", &["cluster-ips-check"])?;
    driven.add_services(10..14);
    let levels = [driven.sync()?, driven.sync()?, driven.sync()?, driven.sync()?];
    let [full, object, table] = RepairLevel::ALL.map(Some);
    let expected = [(None, false), (full, false), (object, false), (table, true)];
    ensure!(levels == expected, "{levels:?}");
    thread::sleep(Duration::from_millis(100));
    prober.stop().check_no_failure()?;
    ensure!(open.ping().is_answer(), "the open connection continues");
    for _ in 0..10 {
        let after = driven.world.cluster.client().probe().tcp(sticky).answer()?.pod;
        ensure!(after == before, "{after} after {before}: sessions continue");
    }
    driven.ensure_right()
}

fn object(kind: &'static str, name: &str) -> Refusal {
    Refusal { kind, name: name.to_owned(), errno: 2 }
}

/// A rule that carries the fingerprint of another is taken for that one by a full sync, not by a repair of its chain.
fn chain_again() -> anyhow::Result<()> {
    const CHAIN: &str = "service-endpoints-check";
    let driven = Driven::new()?;
    driven.world.cluster.node(0).netns().run(|| {
        let mut netlink = NfTables::open(Family::V4)?;
        let rules = netlink.rules(TABLE)?;
        let rule = rules.into_iter().find(|rule| rule.chain == CHAIN).context("no rule")?;
        let fingerprint = rule.fingerprint.context("no fingerprint")?;
        let mut transaction = Transaction::new(Family::V4, TABLE);
        transaction.flush_chain(CHAIN)?;
        let drop = [Expression::Verdict(Verdict::Drop)];
        transaction.add_rule(CHAIN, &drop, &user_data::rule(None, fingerprint))?;
        netlink.commit(&mut transaction)?;
        anyhow::Ok(())
    })?;
    let probe = || driven.world.pod("other").probe();
    driven.ensure_right().context("a full sync believes it")?;
    let dropped = probe().timeout(Duration::from_secs(2)).tcp(ONE.cluster_ip(FAMILY));
    ensure!(!dropped.is_answer(), "{dropped:?}");
    let last = driven.sync_another(Scope::Repair(Repair::Object(&object("chain", CHAIN))))?;
    ensure!(last.chains == 1 && last.elements == 0, "{last:?}");
    probe().timeout(Duration::from_mins(1)).tcp(ONE.cluster_ip(FAMILY)).answer()?;
    driven.ensure_right()
}

fn sessions_again() -> anyhow::Result<()> {
    const MAP: &str = "client-affinity";
    let driven = Driven::new()?;
    let client = || driven.world.cluster.client().probe().timeout(Duration::from_mins(1));
    let sticky = Svc(2).cluster_ip(FAMILY);
    let before = client().tcp(sticky).answer()?.pod;
    let list = || driven.world.nft(&format!("-a list map ip {TABLE} {MAP}"));
    let handle = |listed: &str| {
        let line = listed.lines().find(|line| line.contains(&format!("map {MAP} ")));
        line.and_then(|line| line.split_once("# handle ")).map(|(_, handle)| handle.to_owned())
    };
    let old = list()?;
    driven.sync_another(Scope::Repair(Repair::Object(&object("set", MAP))))?;
    let new = list()?;
    ensure!(handle(&old).is_some() && handle(&new) != handle(&old), "the same map: {new}");
    ensure!(new.contains("expires"), "no session: {new}");
    for _ in 0..10 {
        let after = client().tcp(sticky).answer()?.pod;
        ensure!(after == before, "{after} after {before}: sessions continue");
    }
    driven.ensure_right()
}
