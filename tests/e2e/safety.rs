//! What a proxy may do and what may be done to it: privileges, files, listeners, and addresses that objects name.

use std::collections::BTreeSet;
use std::fs;
use std::net::SocketAddr;
use std::process::Command;

use anyhow::{Context as _, ensure};
use kube_proxy_core::IpFamily;
use kube_proxy_testkit::eventually::eventually;
use serde_json::{Value, json};

use crate::objects::{Svc, external_ip};
use crate::traffic::{becomes, ends, works};
use crate::world::{From, GUARD, Mode, World, cluster_address};
use crate::{Once, PerMode};

pub(crate) const PER_MODE: &[PerMode] = &[
    ("safety/least-privilege", least_privilege),
    ("safety/system-calls-are-in-the-profile", system_calls),
];
pub(crate) const TESTS: &[Once] = &[
    ("safety/special-endpoints", special_endpoints),
    ("safety/external-ips-within-networks", external_ip_cidrs),
    ("safety/external-ips-off", external_ips_off),
];

/// The capabilities that a mode needs, as docs/security.md has them.
fn capabilities(mode: Mode) -> &'static [&'static str] {
    match mode {
        // The legacy programs speak to the kernel over a raw socket.
        Mode::IptablesLegacy | Mode::Ipvs => &["net_admin", "net_raw"],
        Mode::IptablesNft | Mode::Nftables | Mode::Userspace => &["net_admin"],
    }
}

/// Makes all files read-only but the lock of iptables-legacy, and says so if that did not work.
const READ_ONLY: &str = "\
touch /run/xtables.lock && mount --bind /run/xtables.lock /run/xtables.lock &&
mount -o remount,bind,ro /run && mount -o remount,bind,ro / &&
! touch /probe 2>/dev/null && ! touch /run/probe 2>/dev/null && ! touch /tmp/probe 2>/dev/null && exec \"$@\"";

/// Words before the command line of the proxy: read-only files, and these capabilities only.
fn confined(capabilities: &[&str]) -> Vec<String> {
    let mut bounding = "--bounding-set=-all".to_owned();
    for capability in capabilities {
        bounding.push_str(",+");
        bounding.push_str(capability);
    }
    let words = ["unshare", "--mount", "sh", "-c", READ_ONLY, "sh"].map(str::to_owned);
    let setpriv = ["setpriv", "--inh-caps=-all", "--no-new-privs", &bounding].map(str::to_owned);
    words.into_iter().chain(setpriv).collect()
}

fn wrapped(world: &World, words: &[String]) -> anyhow::Result<Command> {
    let command = world.command()?;
    let mut wrapped = Command::new(&words[0]);
    wrapped.args(&words[1..]).arg(command.get_program()).args(command.get_args());
    Ok(wrapped)
}

/// With the capabilities of its mode and nothing to write to, a proxy does everything; without one of them it says what is wrong.
fn least_privilege(mode: Mode) -> anyhow::Result<()> {
    let mut world = World::without_proxy(mode, &[])?;
    let needed = capabilities(mode);
    for (at, missing) in needed.iter().enumerate() {
        let rest: Vec<&str> = [&needed[..at], &needed[at + 1..]].concat();
        world.start_without_waiting(wrapped(&world, &confined(&rest))?)?;
        let status = world.proxy_mut().wait(GUARD)?;
        let lines = world.proxy().lines();
        let said = lines.iter().any(|line| line.starts_with("kube-proxy: not supported"));
        ensure!(status.code() == Some(1) && said, "without {missing}: {status}: {lines:#?}");
    }
    world.serve(&Svc::new("web", 1).load_balancer().affinity(60), &["local-1"])?;
    world.serve(&Svc::new("dns", 2).udp(), &["local-1"])?;
    world.start_without_waiting(wrapped(&world, &confined(needed))?)?;
    for family in IpFamily::BOTH {
        works(world.probe(From::Pod("client")), cluster_address(1, family));
        works(world.probe(From::Outside), world.node_port(1, family));
        let mut flow = world.probe(From::Pod("client")).udp_flow(cluster_address(2, family))?;
        eventually(GUARD, || flow.ping().answer());
    }
    // Deleting flows is part of it.
    world.serve(&Svc::new("dns", 2).udp(), &["local-2"])?;
    for family in IpFamily::BOTH {
        let mut flow = world.probe(From::Pod("client")).udp_flow(cluster_address(2, family))?;
        eventually(GUARD, || {
            let pod = flow.ping().answer()?.pod;
            ensure!(pod == "local-2", "{pod} answers");
            Ok(())
        });
    }
    // iptables-legacy has a raw socket open while it runs.
    eventually(GUARD, || only_documented_listeners(&world, mode));
    world.stop()?;
    let complaints: Vec<_> =
        world.proxy().lines().into_iter().filter(|line| line.contains(" ERROR ")).collect();
    ensure!(complaints.is_empty(), "{complaints:#?}");
    Ok(())
}

/// The health and the metrics server, and no other: neither TCP nor UDP, in no family. In userspace mode there is one for each
/// service port as well, on a port of its own.
fn only_documented_listeners(world: &World, mode: Mode) -> anyhow::Result<()> {
    let api = world.api.address().port();
    let found = world.cluster.node(0).netns().run(|| -> anyhow::Result<BTreeSet<String>> {
        let mut found = BTreeSet::new();
        for protocol in ["tcp", "tcp6", "udp", "udp6", "raw", "raw6"] {
            let text = fs::read_to_string(format!("/proc/thread-self/net/{protocol}"))?;
            for line in text.lines().skip(1) {
                let fields: Vec<&str> = line.split_whitespace().collect();
                let (Some(local), Some(state)) = (fields.get(1), fields.get(3)) else { continue };
                let port = local.rsplit(':').next().unwrap_or_default();
                let port = u16::from_str_radix(port, 16)?;
                // 0A is LISTEN; a datagram socket always takes what comes.
                if (*state == "0A" || !protocol.starts_with("tcp")) && port != api {
                    found.insert(format!("{} {port}", protocol.trim_end_matches('6')));
                }
            }
        }
        Ok(found)
    })?;
    let documented = BTreeSet::from(["tcp 10249".to_owned(), "tcp 10256".to_owned()]);
    if mode == Mode::Userspace {
        let tcp = found.iter().filter(|port| port.starts_with("tcp")).count();
        ensure!(found.is_superset(&documented) && tcp == 4, "listeners: {found:?}");
        return Ok(());
    }
    ensure!(found == documented, "listeners: {found:?}");
    Ok(())
}

/// Every system call of the proxy and the programs it starts is one that `deploy/seccomp.json` allows.
fn system_calls(mode: Mode) -> anyhow::Result<()> {
    let mut world = World::without_proxy(mode, &[])?;
    let file = tempfile::NamedTempFile::new()?;
    let path = file.path().to_str().context("a path of text")?;
    let strace = ["strace", "-D", "-f", "-qq", "-e", "signal=none", "-o", path].map(str::to_owned);
    world.serve(&Svc::new("web", 1).load_balancer().affinity(60), &["local-1", "remote-1"])?;
    world.serve(&Svc::new("dns", 2).udp(), &["local-1"])?;
    let traced = wrapped(&world, &strace)?;
    world.start_without_waiting(traced)?;
    for family in IpFamily::BOTH {
        works(world.probe(From::Pod("client")), cluster_address(1, family));
    }
    world.serve(&Svc::new("dns", 2).udp(), &["local-2"])?;
    world.settle()?;
    let health: SocketAddr = "127.0.0.1:10256".parse()?;
    let node = world.cluster.node(0).probe();
    eventually(GUARD, || node.http_get(health, "/healthz"));
    world.stop()?;
    let allowed = profile()?;
    let pid = world.proxy().pid().to_string();
    let text = eventually(GUARD, || {
        let text = fs::read_to_string(path)?;
        // strace ends, and writes the rest, after the proxy has ended.
        let ended = text.lines().any(|line| {
            line.split_whitespace().next() == Some(&pid) && line.contains(" exit_group(")
        });
        ensure!(ended, "the trace does not end with the proxy");
        Ok(text)
    });
    let seen: BTreeSet<&str> = text.lines().filter_map(name_of_call).collect();
    ensure!(seen.contains("sendmsg") || seen.contains("sendto"), "a trace of netlink: {seen:?}");
    let missing: Vec<_> = seen.iter().filter(|name| !allowed.contains(**name)).collect();
    ensure!(missing.is_empty(), "not in deploy/seccomp.json: {missing:?}");
    Ok(())
}

/// `123 openat(AT_FDCWD, …` is `openat`.
fn name_of_call(line: &str) -> Option<&str> {
    let (_, call) = line.split_once(' ')?;
    let (name, _) = call.trim_start().split_once('(')?;
    name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_').then_some(name)
}

fn profile() -> anyhow::Result<BTreeSet<String>> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/seccomp.json");
    let profile: Value = serde_json::from_str(&fs::read_to_string(path)?)?;
    let rules = profile["syscalls"].as_array().context("a list of rules")?;
    let names = rules.iter().filter(|rule| rule["action"] == "SCMP_ACT_ALLOW");
    let names = names.flat_map(|rule| rule["names"].as_array().into_iter().flatten());
    Ok(names.filter_map(|name| name.as_str().map(str::to_owned)).collect())
}

/// An endpoint on a loopback address would lead clients to what listens on the node itself.
fn special_endpoints() -> anyhow::Result<()> {
    let mut world = World::without_proxy(Mode::Nftables, &[])?;
    let service = Svc::new("web", 1);
    world.apply([service.object()])?;
    let mut slices = service.slices(8080, &world.endpoints(&["local-1"]));
    for (slice, special) in slices.iter_mut().zip(["127.0.0.1", "::1"]) {
        let endpoints = slice["endpoints"].as_array_mut().context("endpoints")?;
        endpoints.push(json!({ "addresses": [special], "nodeName": "node-a" }));
    }
    world.apply(slices)?;
    world.start()?;
    for (family, special) in IpFamily::BOTH.into_iter().zip(["127.0.0.1", "::1"]) {
        world.proxy().wait_for_line(GUARD, |line| {
            line.contains("EndpointSlice default/web") && line.contains(&format!("\"{special}\""))
        })?;
        for _ in 0..10 {
            becomes(world.probe(From::Pod("client")), cluster_address(1, family), "local-1");
        }
    }
    let metrics: SocketAddr = "127.0.0.1:10249".parse()?;
    let text = world.cluster.node(0).probe().http_get(metrics, "/metrics")?.body;
    let line = "kubeproxy_invalid_objects{kind=\"EndpointSlice\"} 2";
    ensure!(text.contains(line), "no {line:?} in:\n{text}");
    world.stop()?;
    // Operators who opt out get what the objects say.
    let mut command = world.command()?;
    command.arg("--allow-special-endpoints");
    world.start_without_waiting(command)?;
    eventually(GUARD, || {
        let map =
            world.on_node("nft", &["list", "map", "ip", "kube-proxy", "cluster-endpoints"])?;
        ensure!(map.contains("127.0.0.1 . 8080"), "{map}");
        Ok(())
    });
    Ok(())
}

fn external_ip_cidrs() -> anyhow::Result<()> {
    let nets: Vec<String> = IpFamily::BOTH
        .iter()
        .map(|family| format!("{}/{}", external_ip(1, *family), family.bits()))
        .collect();
    let flag = format!("--external-ip-cidrs={}", nets.join(","));
    let world = World::with_flags(Mode::IptablesNft, &[&flag])?;
    for number in [1, 2] {
        let service = Svc::new(&format!("web-{number}"), number).external_ips();
        world.serve(&service, &["local-1"])?;
    }
    world.settle()?;
    for family in IpFamily::BOTH {
        let at = |number| SocketAddr::new(external_ip(number, family), 80);
        becomes(world.probe(From::Outside), at(1), "local-1");
        ends(world.probe(From::Outside), at(2), |outcome| !outcome.is_answer());
        becomes(world.probe(From::Pod("client")), cluster_address(2, family), "local-1");
    }
    world.proxy().wait_for_line(GUARD, |line| {
        line.contains("Service default/web-2: spec.externalIPs[0]") && line.contains("may be of")
    })?;
    Ok(())
}

fn external_ips_off() -> anyhow::Result<()> {
    let flag = "--feature-gates=AllowServiceExternalIPs=false";
    let world = World::with_flags(Mode::IptablesNft, &[flag])?;
    world.serve(&Svc::new("web", 1).external_ips(), &["local-1"])?;
    world.settle()?;
    for family in IpFamily::BOTH {
        let external = SocketAddr::new(external_ip(1, family), 80);
        ends(world.probe(From::Outside), external, |outcome| !outcome.is_answer());
        becomes(world.probe(From::Pod("client")), cluster_address(1, family), "local-1");
    }
    Ok(())
}
