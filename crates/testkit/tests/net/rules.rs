//! Rules written by hand do here what they do on a real node.

use std::net::IpAddr;
use std::time::Duration;

use anyhow::ensure;
use kube_proxy_core::IpFamily;
use kube_proxy_testkit::cluster::{Cluster, Node, plan};
use kube_proxy_testkit::probe::Outcome;
use libtest_mimic::Trial;
use nix::errno::Errno;

use crate::trial;

pub(crate) fn trials() -> Vec<Trial> {
    let mut trials = Vec::new();
    for variant in ["legacy", "nft"] {
        for family in IpFamily::BOTH {
            trials.push(trial(format!("rules::dnat::{variant}::{family}"), move || {
                dnat_and_hairpin(variant, family)
            }));
            trials.push(trial(format!("rules::reject::{variant}::{family}"), move || {
                reject_and_drop(variant, family)
            }));
        }
    }
    trials
}

/// Runs `iptables` or `ip6tables` of this variant on a node.
pub(crate) fn iptables(
    node: &Node,
    variant: &str,
    family: IpFamily,
    arguments: &str,
) -> anyhow::Result<String> {
    let program = match family {
        IpFamily::V4 => format!("iptables-{variant}"),
        IpFamily::V6 => format!("ip6tables-{variant}"),
    };
    node.netns().output(&program, &arguments.split_whitespace().collect::<Vec<_>>())
}

/// The rules of a service with one endpoint; without the second the hairpin path fails.
pub(crate) fn forward(
    node: &Node,
    variant: &str,
    vip: IpAddr,
    endpoint: IpAddr,
) -> anyhow::Result<()> {
    let family = IpFamily::of(&vip);
    let target = std::net::SocketAddr::new(endpoint, 80);
    for chain in ["PREROUTING", "OUTPUT"] {
        for protocol in ["tcp", "udp"] {
            let rule = format!(
                "-t nat -A {chain} -d {vip} -p {protocol} --dport 80 -j DNAT --to-destination {target}"
            );
            iptables(node, variant, family, &rule)?;
        }
    }
    let hairpin = format!("-t nat -A POSTROUTING -s {endpoint} -d {endpoint} -j MASQUERADE");
    iptables(node, variant, family, &hairpin)?;
    Ok(())
}

fn dnat_and_hairpin(variant: &str, family: IpFamily) -> anyhow::Result<()> {
    let cluster = Cluster::builder().nodes(2).build()?;
    let pods = cluster.add_pods(&[(0, "a"), (0, "b")])?;
    for pod in &pods {
        pod.serve_tcp(80)?;
        pod.serve_udp(80)?;
    }
    let vip = plan::service_net().get(family).network();
    let (node, address) = (cluster.node(0), (vip, 80).into());
    forward(node, variant, vip, pods[0].ip(family))?;
    let sources = [
        (pods[0].probe(), node.pod_gateway(family)),
        (pods[1].probe(), pods[1].ip(family)),
        (cluster.client().probe(), cluster.client().ip(family)),
    ];
    for (probe, source) in sources {
        for outcome in [probe.tcp(address), probe.udp(address)] {
            let answer = outcome.answer()?;
            ensure!(answer.pod == "a", "{answer:?}");
            ensure!(answer.source_seen.ip() == source, "{answer:?} not from {source}");
        }
    }
    node.probe().tcp(address).answer()?;
    let spread = cluster.client().probe().spread_parallel(address, 50, 4);
    spread.check_even(&["a"])?;
    ensure!(spread.total() == 50);
    ensure!(
        cluster.node(1).probe().timeout(Duration::from_millis(200)).tcp(address).is_timed_out()
    );
    Ok(())
}

fn reject_and_drop(variant: &str, family: IpFamily) -> anyhow::Result<()> {
    let cluster = Cluster::builder().build()?;
    let (node, pod) = (cluster.node(0), cluster.add_pod(0, "a")?);
    let net = *plan::service_net().get(family);
    let (rejected, dropped) = ((net.network(), 80).into(), (net.network(), 81).into());
    for protocol in ["tcp", "udp"] {
        for chain in ["FORWARD", "OUTPUT"] {
            let rule = format!("-A {chain} -d {net} -p {protocol} --dport 80 -j REJECT");
            iptables(node, variant, family, &rule)?;
            let rule = format!("-A {chain} -d {net} -p {protocol} --dport 81 -j DROP");
            iptables(node, variant, family, &rule)?;
        }
    }
    let from = [("pod", pod.probe()), ("node", node.probe()), ("client", cluster.client().probe())];
    for (who, probe) in from {
        // More often than the kernel's default limit of ICMP errors to one host allows.
        for _ in 0..20 {
            ensure!(probe.tcp(rejected).is_refused(), "tcp from {who}: {}", probe.tcp(rejected));
            ensure!(probe.udp(rejected).is_refused(), "udp from {who}: {}", probe.udp(rejected));
        }
    }
    for probe in [pod.probe(), cluster.client().probe()] {
        let probe = probe.timeout(Duration::from_millis(200));
        ensure!(probe.tcp(dropped).is_timed_out(), "tcp: {}", probe.tcp(dropped));
        ensure!(probe.udp(dropped).is_timed_out(), "udp: {}", probe.udp(dropped));
    }
    // A sender on the node itself is told that its datagram was dropped.
    let outcome = node.probe().udp(dropped);
    ensure!(outcome == Outcome::Unreachable(Errno::EPERM), "udp from node: {outcome}");
    Ok(())
}
