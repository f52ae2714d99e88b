//! The metrics of packets that rules of the iptables mode count, on kernels with nfacct.

use std::fs;

use anyhow::{Context as _, ensure};
use kube_proxy_core::IpFamily;
use libtest_mimic::Trial;

use crate::PerMode;
use crate::objects::{Svc, node_port};
use crate::world::{From, Mode, World, cluster_address};

pub(crate) const TESTS: &[PerMode] = &[("metrics/counted-packets", counted)];

const LOCALHOST: &str = "kubeproxy_iptables_localhost_nodeports_accepted_packets_total";
const INVALID: &str = "kubeproxy_iptables_ct_state_invalid_dropped_packets_total";

/// The same once more where the tests of the ipvs mode run: that may be another kernel, one that has nfacct.
pub(crate) fn beside_ipvs(rootless: bool) -> Trial {
    let test = || counted(Mode::IptablesLegacy);
    let name = "ipvs/metrics/counted-packets-in-iptables-mode";
    crate::trial(name, test).with_ignored_flag(!Mode::Ipvs.is_here(rootless))
}

/// Whether the kernel has objects to count in, and the match; asked after kube-proxy has had their modules loaded.
fn kernel_counts() -> anyhow::Result<bool> {
    let symbols = fs::read_to_string("/proc/kallsyms").context("/proc/kallsyms")?;
    let has = |name: &str| symbols.split_whitespace().any(|word| word == name);
    Ok(has("nfnl_acct_new") && has("nfacct_mt"))
}

fn value(world: &World, metric: &str) -> anyhow::Result<Option<u64>> {
    let answer = world.cluster.node(0).probe().http_get("127.0.0.1:10249".parse()?, "/metrics")?;
    ensure!(answer.status == 200, "{answer:?}");
    let mut lines = answer.body.lines();
    let value = lines.find_map(|line| line.strip_prefix(metric)?.strip_prefix(' '));
    Ok(value.map(str::parse).transpose()?)
}

fn ensure_counted(world: &World, localhost: u64, when: &str) -> anyhow::Result<()> {
    let found = (value(world, LOCALHOST)?, value(world, INVALID)?);
    ensure!(found == (Some(localhost), Some(0)), "{when}: {found:?}, not {localhost}");
    Ok(())
}

fn counted(mode: Mode) -> anyhow::Result<()> {
    let mut world = World::new(mode)?;
    world.serve(&Svc::new("web", 1).node_port(), &["remote-1"])?;
    world.settle()?;
    let rules = world.rules(mode, IpFamily::V4)?;
    let counting = rules.iter().filter(|rule| rule.contains("nfacct")).count();
    if !kernel_counts()? {
        // The objects may be there without the match.
        let values = [value(&world, LOCALHOST)?, value(&world, INVALID)?];
        let none = values.into_iter().flatten().all(|value| value == 0);
        ensure!(none && counting == 0, "this kernel cannot count: {values:?}, {rules:#?}");
        return Ok(());
    }
    ensure!(counting == 2, "{counting} rules count, not 2: {rules:#?}");
    ensure_counted(&world, 0, "before the first packet")?;
    let localhost = ([127, 0, 0, 1], node_port(1)).into();
    for _ in 0..3 {
        world.probe(From::Node).tcp(localhost).answer().context("a NodePort on localhost")?;
    }
    ensure_counted(&world, 3, "after three connections")?;
    for family in IpFamily::BOTH {
        for (from, to) in [
            (From::Node, cluster_address(1, family)),
            (From::Node, world.node_port(1, family)),
            (From::Outside, world.node_port(1, family)),
        ] {
            world.probe(from).tcp(to).answer().with_context(|| to.to_string())?;
        }
    }
    ensure_counted(&world, 3, "after connections to other addresses")?;
    world.stop()?;
    world.start()?;
    world.settle()?;
    world.probe(From::Node).tcp(localhost).answer().context("a NodePort on localhost")?;
    ensure_counted(&world, 4, "after another start")
}
