//! `kube-proxy check`: what it names on a node where something is wrong, and that it changes nothing.

use anyhow::{Context as _, ensure};
use kube_proxy_core::IpFamily;
use kube_proxy_netlink::ipvs::{Change, Ipvs};
use kube_proxy_testkit::eventually::eventually;
use serde_json::Value;

use crate::PerMode;
use crate::objects::{Svc, cluster_ip};
use crate::world::{GUARD, Mode, World, binary};

pub(crate) const TESTS: &[PerMode] = &[
    ("check/clean-node-differs-in-nothing", clean),
    ("check/what-somebody-removed-is-named", removed_by_hand),
    ("check/surroundings-are-named", surroundings),
    ("check/no-proxy-is-a-clear-sentence", no_proxy),
];

/// What a command answered.
pub(crate) struct Answer {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// Runs a command of the binary on the node under test.
pub(crate) fn ask(world: &World, arguments: &[&str]) -> anyhow::Result<Answer> {
    let mut command = world.cluster.node(0).netns().command(binary()?);
    let output = command.args(arguments).output().context("kube-proxy")?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
    Ok(Answer { code: output.status.code(), stdout, stderr })
}

fn report(world: &World) -> anyhow::Result<(Option<i32>, Value)> {
    let answer = ask(world, &["check", "-o", "json"])?;
    let value = serde_json::from_str(&answer.stdout)
        .with_context(|| format!("{} {}", answer.stdout, answer.stderr))?;
    Ok((answer.code, value))
}

/// The findings, each as `id: what`.
fn findings(report: &Value) -> Vec<String> {
    let findings = report["findings"].as_array().into_iter().flatten();
    let text =
        |finding: &Value, field: &str| finding[field].as_str().unwrap_or_default().to_owned();
    findings.map(|finding| format!("{}: {}", text(finding, "id"), text(finding, "what"))).collect()
}

fn has(report: &Value, id: &str) -> bool {
    findings(report).iter().any(|finding| finding.starts_with(&format!("{id}: ")))
}

/// With a Service of each kind, and a proxy that looks at its rules only when it is told to.
fn world(mode: Mode) -> anyhow::Result<World> {
    let periods = ["--iptables-sync-period=1h", "--ipvs-sync-period=1h"];
    let world = World::with_flags(mode, &periods)?;
    world.serve(&Svc::new("web", 1).load_balancer().external_ips(), &["local-1", "remote-1"])?;
    world.serve(&Svc::new("dns", 2).udp(), &["local-1"])?;
    world.serve(&Svc::new("nobody", 3), &[])?;
    world.settle()?;
    Ok(world)
}

fn clean(mode: Mode) -> anyhow::Result<()> {
    let world = world(mode)?;
    // Other Services of the test may still be on their way.
    eventually(GUARD, || {
        let (code, report) = report(&world)?;
        ensure!(code == Some(0), "{:#?}", findings(&report));
        let families = report["check"]["families"].as_array().context("families")?;
        ensure!(families.len() == 2);
        for family in families {
            ensure!(family["compared"] == true && family["total"] == 0, "{family:#}");
        }
        Ok(())
    });
    let answer = ask(&world, &["check"])?;
    ensure!(
        answer.stdout.contains("everything is on the node as it should be"),
        "{}",
        answer.stdout
    );
    ensure!(answer.stdout.lines().all(|line| !line.starts_with("PROBLEM")), "{}", answer.stdout);
    Ok(())
}

/// Something of the first Service that is removed by hand, and how it is named.
fn remove(world: &World, mode: Mode) -> anyhow::Result<String> {
    let ip = cluster_ip(1, IpFamily::V4);
    let iptables = mode.program(IpFamily::V4, "");
    match mode {
        Mode::Nftables => {
            let element = format!("{ip} . tcp . 80");
            world.on_node(
                "nft",
                &[
                    "delete",
                    "element",
                    "ip",
                    "kube-proxy",
                    "frontend-ips",
                    &format!("{{ {element} }}"),
                ],
            )?;
            Ok(format!("frontend-ips: {element}"))
        }
        Mode::IptablesLegacy | Mode::IptablesNft => {
            let rules = world.on_node(&mode.program(IpFamily::V4, "-save"), &["-t", "nat"])?;
            let of_web =
                |line: &&str| line.starts_with("-A KUBE-SVC-") && line.contains("default/web");
            let rule = rules.lines().find(of_web).context("no chain of the Service")?;
            let chain = rule.split(' ').nth(1).context("chain")?;
            world.on_node(&iptables, &["-t", "nat", "-F", chain])?;
            Ok(chain.to_owned())
        }
        Mode::Userspace => {
            world.on_node(&iptables, &["-t", "nat", "-F", "KUBE-PORTALS-HOST"])?;
            Ok("KUBE-PORTALS-HOST".to_owned())
        }
        Mode::Ipvs => {
            let key = world.cluster.node(0).netns().run(|| -> anyhow::Result<_> {
                let mut ipvs = Ipvs::open()?;
                let servers = ipvs.servers()?;
                let of_web = |key: &kube_proxy_netlink::ipvs::ServerKey| {
                    key.frontend().is_some_and(|(_, address)| address.ip() == ip)
                };
                let key = servers.iter().map(|found| found.key).find(of_web).context("server")?;
                ipvs.change(&[Change::Delete(key)])?;
                Ok(key)
            })?;
            Ok(key.to_string())
        }
    }
}

fn removed_by_hand(mode: Mode) -> anyhow::Result<()> {
    let world = world(mode)?;
    eventually(GUARD, || {
        let (code, report) = report(&world)?;
        ensure!(code == Some(0), "{:#?}", findings(&report));
        Ok(())
    });
    let name = remove(&world, mode)?;
    // The nftables mode is notified and repairs it at once, which the report says.
    let repaired = mode == Mode::Nftables;
    eventually(GUARD, || {
        let (code, report) = report(&world)?;
        let found = findings(&report);
        let id = if repaired { "rules-repaired: " } else { "rules-differ: " };
        let named = found.iter().any(|f| f.starts_with(id) && f.contains(&name));
        ensure!(named, "{name}: {found:#?}");
        ensure!(code == Some(i32::from(!repaired)) || repaired, "{code:?}");
        Ok(())
    });
    let answer = ask(&world, &["check"])?;
    let screen: Vec<&str> = answer.stdout.lines().take(24).collect();
    ensure!(screen.iter().any(|line| line.contains(&name)), "{name}:\n{}", answer.stdout);
    if !repaired {
        // Nothing was repaired by asking.
        let (_, again) = report(&world)?;
        ensure!(has(&again, "rules-differ"), "{again:#}");
    }
    Ok(())
}

fn surroundings(mode: Mode) -> anyhow::Result<()> {
    let world = world(mode)?;
    let netns = world.cluster.node(0).netns();
    let variant = mode.program(IpFamily::V4, "");
    world.on_node(&variant, &["-P", "FORWARD", "DROP"])?;
    netns.ip("link add cilium_host type veth peer name cilium_net\nlink add nodelocaldns type veth peer name dns-peer")?;
    netns.sysctl(&[("ipv4/ip_forward", "0")])?;
    eventually(GUARD, || {
        let (code, report) = report(&world)?;
        ensure!(code == Some(1), "{code:?}");
        for id in ["other-proxy", "node-local-dns", "ip-forward"] {
            ensure!(has(&report, id), "{id}: {:#?}", findings(&report));
        }
        ensure!(
            has(&report, "forward-drop") == (mode == Mode::Nftables),
            "{:#?}",
            findings(&report)
        );
        Ok(())
    });
    let answer = ask(&world, &["check"])?;
    let screen: Vec<&str> = answer.stdout.lines().take(24).collect();
    ensure!(
        screen.iter().any(|line| line.starts_with("PROBLEM: net.ipv4.ip_forward is 0")),
        "{screen:#?}"
    );
    ensure!(screen.iter().any(|line| line.contains("Cilium")), "{screen:#?}");
    // A second proxy in this network namespace.
    let second = world.command()?;
    let second = kube_proxy_testkit::kube_proxy::KubeProxy::start(netns, second)?;
    eventually(GUARD, || {
        let (_, report) = report(&world)?;
        ensure!(has(&report, "two-kube-proxies"), "{:#?}", findings(&report));
        Ok(())
    });
    drop(second);
    Ok(())
}

fn no_proxy(mode: Mode) -> anyhow::Result<()> {
    let world = World::without_proxy(mode, &[])?;
    let answer = ask(&world, &["check"])?;
    ensure!(answer.code == Some(1), "{:?}", answer.code);
    let first = answer.stdout.lines().find(|line| !line.is_empty()).unwrap_or_default();
    ensure!(
        first.starts_with("PROBLEM: no kube-proxy answers at 127.0.0.1:10249"),
        "{}",
        answer.stdout
    );
    Ok(())
}
