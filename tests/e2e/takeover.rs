//! A node whose rules were written by a Go kube-proxy: ours takes over without a failed connection.

use std::fmt::Write as _;
use std::net::SocketAddr;

use anyhow::{Context as _, ensure};
use kube_proxy_core::IpFamily;

use crate::PerMode;
use crate::objects::{Svc, cluster_ip, node_port};
use crate::traffic::Traffic;
use crate::world::{From, Mode, TARGET, World, cluster_address};

pub(crate) const TESTS: &[PerMode] = &[("takeover/from-go-layout", from_go_layout)];

/// The hash of `default/web:ptcp`.
const SERVICE: &str = "446JGJO3FXDO7OFC";
/// A Service that does not exist any more, and endpoint chains; their names need only be of the right form.
const GONE: &str = "GONEGONEGONEGONE";
const FIRST: &str = "AAAAAAAAAAAAAAAA";
const SECOND: &str = "BBBBBBBBBBBBBBBB";

/// What others have on a node, one of them using a chain of kube-proxy.
const FOREIGN: &[&str] = &[
    "-t nat -N CNI-HOSTPORT",
    "-t nat -A CNI-HOSTPORT -p tcp --dport 9 -j KUBE-MARK-MASQ",
    "-t nat -A PREROUTING -j CNI-HOSTPORT",
    "-t filter -N CALICO",
    "-t filter -A CALICO -j RETURN",
    "-t filter -A FORWARD -j CALICO",
    "-t mangle -N KUBE-KUBELET-CANARY",
    "-t mangle -N KUBE-IPTABLES-HINT",
];

fn from_go_layout(mode: Mode) -> anyhow::Result<()> {
    let mut world = World::without_proxy(mode, &[])?;
    let service = Svc::new("web", 1).node_port();
    world.serve(&service, &["local-1", "remote-1"])?;
    for family in IpFamily::BOTH {
        load(&world, mode, family)?;
        for rule in FOREIGN {
            world.on_node(&mode.program(family, ""), &rule.split(' ').collect::<Vec<_>>())?;
        }
    }
    let foreign = foreign_rules(&world, mode)?;
    ensure!(foreign.len() >= 2 * FOREIGN.len(), "the foreign rules are there: {foreign:#?}");
    let traffic = Traffic::to_service(&world, 1)?;
    let mut established = Vec::new();
    for family in IpFamily::BOTH {
        established.push(world.probe(From::Outside).connect(world.node_port(1, family))?);
    }
    world.start()?;
    traffic.go_on();
    world.settle()?;
    traffic.stop()?;
    for connection in &mut established {
        connection.ping().answer().context("a connection from before")?;
    }
    for family in IpFamily::BOTH {
        let rules = world.rules(mode, family)?;
        let is_left = |rule: &str| {
            // That one is ours.
            let of_endpoint = rule.contains("KUBE-SEP-") && !rule.contains("KUBE-SEP-HAIRPIN");
            of_endpoint || rule.contains(GONE)
        };
        let left: Vec<_> = rules.iter().filter(|rule| is_left(rule)).collect();
        ensure!(left.is_empty(), "{family}: left behind: {left:#?}");
        let pods = ["local-1", "remote-1"];
        world.check_pods(From::Pod("client"), cluster_address(1, family), &pods)?;
        world.check_pods(From::Outside, world.node_port(1, family), &pods)?;
    }
    ensure!(foreign_rules(&world, mode)? == foreign, "rules of others changed");
    Ok(())
}

/// Rules and chains that are not kube-proxy's.
fn foreign_rules(world: &World, mode: Mode) -> anyhow::Result<Vec<String>> {
    let mut rules = Vec::new();
    for family in IpFamily::BOTH {
        let named = |rule: &String| {
            ["CNI-HOSTPORT", "CALICO", "KUBELET", "HINT"].iter().any(|name| rule.contains(name))
        };
        rules.extend(world.rules(mode, family)?.into_iter().filter(named));
    }
    Ok(rules)
}

/// Loads the rules of a Go kube-proxy for the Service and one that is gone.
pub(crate) fn load(world: &World, mode: Mode, family: IpFamily) -> anyhow::Result<()> {
    let file = tempfile::NamedTempFile::new()?;
    std::fs::write(file.path(), go_rules(world, family))?;
    let path = file.path().to_str().context("a path of text")?;
    world.on_node(&mode.program(family, "-restore"), &["--noflush", path])?;
    Ok(())
}

fn go_rules(world: &World, family: IpFamily) -> String {
    format!("*filter\n{}COMMIT\n*nat\n{}COMMIT\n", filter(), nat(world, family))
}

fn filter() -> String {
    let mut text = String::new();
    let chains =
        ["EXTERNAL-SERVICES", "NODEPORTS", "SERVICES", "FORWARD", "PROXY-FIREWALL", "FIREWALL"];
    for chain in chains.into_iter().chain(["PROXY-CANARY"]) {
        line(&mut text, &format!(":KUBE-{chain} - [0:0]"));
    }
    let new = "-m conntrack --ctstate NEW -m comment --comment";
    for (from, to, comment) in [
        ("INPUT", "EXTERNAL-SERVICES", "kubernetes externally-visible service portals"),
        ("FORWARD", "EXTERNAL-SERVICES", "kubernetes externally-visible service portals"),
        ("FORWARD", "SERVICES", "kubernetes service portals"),
        ("OUTPUT", "SERVICES", "kubernetes service portals"),
        ("INPUT", "PROXY-FIREWALL", "kubernetes load balancer firewall"),
        ("OUTPUT", "PROXY-FIREWALL", "kubernetes load balancer firewall"),
        ("FORWARD", "PROXY-FIREWALL", "kubernetes load balancer firewall"),
    ] {
        line(&mut text, &format!("-I {from} {new} \"{comment}\" -j KUBE-{to}"));
    }
    for rule in [
        "-I INPUT -m comment --comment \"kubernetes health check service ports\" -j KUBE-NODEPORTS",
        "-I FORWARD -m comment --comment \"kubernetes forwarding rules\" -j KUBE-FORWARD",
        "-I INPUT -j KUBE-FIREWALL",
        "-I OUTPUT -j KUBE-FIREWALL",
        "-A KUBE-FORWARD -m conntrack --ctstate INVALID -j DROP",
        "-A KUBE-FORWARD -m comment --comment \"kubernetes forwarding rules\" -m mark --mark 0x4000/0x4000 -j ACCEPT",
        "-A KUBE-FORWARD -m comment --comment \"kubernetes forwarding conntrack rule\" -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT",
    ] {
        line(&mut text, rule);
    }
    text
}

fn nat(world: &World, family: IpFamily) -> String {
    let mut text = String::new();
    for chain in ["SERVICES", "NODEPORTS", "POSTROUTING", "MARK-MASQ", "PROXY-CANARY"] {
        line(&mut text, &format!(":KUBE-{chain} - [0:0]"));
    }
    for chain in [
        format!("SVC-{SERVICE}"),
        format!("EXT-{SERVICE}"),
        format!("SEP-{FIRST}"),
        format!("SEP-{SECOND}"),
        format!("SVC-{GONE}"),
    ] {
        line(&mut text, &format!(":KUBE-{chain} - [0:0]"));
    }
    let portals = "-m comment --comment \"kubernetes service portals\" -j KUBE-SERVICES";
    line(&mut text, &format!("-I PREROUTING {portals}"));
    line(&mut text, &format!("-I OUTPUT {portals}"));
    for rule in [
        "-I POSTROUTING -m comment --comment \"kubernetes postrouting rules\" -j KUBE-POSTROUTING",
        "-A KUBE-MARK-MASQ -j MARK --set-xmark 0x4000/0x4000",
        "-A KUBE-POSTROUTING -m mark ! --mark 0x4000/0x4000 -j RETURN",
        "-A KUBE-POSTROUTING -j MARK --set-xmark 0x4000/0x0",
        "-A KUBE-POSTROUTING -m comment --comment \"kubernetes service traffic requiring SNAT\" -j MASQUERADE --random-fully",
    ] {
        line(&mut text, rule);
    }
    service(&mut text, world, family);
    let last = "kubernetes service nodeports; NOTE: this must be the last rule in this chain";
    let local = "-m addrtype --dst-type LOCAL -j KUBE-NODEPORTS";
    line(&mut text, &format!("-A KUBE-SERVICES -m comment --comment \"{last}\" {local}"));
    text
}

fn service(text: &mut String, world: &World, family: IpFamily) {
    let (ip, gone, bits) = (cluster_ip(1, family), cluster_ip(9, family), family.bits());
    let comment = "-m comment --comment \"default/web:p\"";
    let to = |ip| format!("-d {ip}/{bits} -p tcp -m tcp --dport 80");
    let port = node_port(1);
    for rule in [
        format!(
            "-A KUBE-SERVICES {} -m comment --comment \"default/web:p cluster IP\" -j KUBE-SVC-{SERVICE}",
            to(ip)
        ),
        format!(
            "-A KUBE-SERVICES {} -m comment --comment \"default/gone:p cluster IP\" -j KUBE-SVC-{GONE}",
            to(gone)
        ),
        format!("-A KUBE-NODEPORTS -p tcp {comment} -m tcp --dport {port} -j KUBE-EXT-{SERVICE}"),
        format!(
            "-A KUBE-EXT-{SERVICE} -m comment --comment \"masquerade traffic for default/web:p external destinations\" -j KUBE-MARK-MASQ"
        ),
        format!("-A KUBE-EXT-{SERVICE} -j KUBE-SVC-{SERVICE}"),
        format!(
            "-A KUBE-SVC-{SERVICE} {comment} -m statistic --mode random --probability 0.5 -j KUBE-SEP-{FIRST}"
        ),
        format!("-A KUBE-SVC-{SERVICE} {comment} -j KUBE-SEP-{SECOND}"),
    ] {
        line(text, &rule);
    }
    for (chain, pod) in [(FIRST, "local-1"), (SECOND, "remote-1")] {
        let address: SocketAddr = world.pod(pod).address(family, TARGET);
        let ip = address.ip();
        line(text, &format!("-A KUBE-SEP-{chain} -s {ip}/{bits} {comment} -j KUBE-MARK-MASQ"));
        line(
            text,
            &format!(
                "-A KUBE-SEP-{chain} -p tcp {comment} -m tcp -j DNAT --to-destination {address}"
            ),
        );
    }
}

fn line(text: &mut String, line: &str) {
    writeln!(text, "{line}").expect("writing to a string does not fail");
}
