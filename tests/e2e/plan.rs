//! `kube-proxy plan`: what it says of a change of mode holds once the mode is changed, and asking changes nothing.
//! And answers without a running proxy.

use std::fs;
use std::net::SocketAddr;

use anyhow::{Context as _, ensure};
use kube_proxy_core::IpFamily;
use kube_proxy_testkit::eventually::eventually;
use kube_proxy_testkit::probe::Outcome;
use serde_json::{Value, json};

use crate::check::{Answer, ask};
use crate::objects::{Svc, node, node_port, vip};
use crate::traffic::{SILENCE, becomes};
use crate::world::{From, GUARD, Mode, NODE, TARGET, World, binary, cluster_address};
use crate::{Once, PerMode};

pub(crate) const TESTS: &[PerMode] = &[("plan/to-every-mode", to_every_mode)];
pub(crate) const IPVS_TESTS: &[PerMode] = &[("plan/schedulers", schedulers)];
pub(crate) const ONCE: &[Once] = &[
    ("plan/localhost-node-ports", localhost_node_ports),
    ("plan/firewall", firewall),
    ("plan/what-stands-in-the-way", in_the_way),
    ("plan/no-proxy", no_proxy),
    ("explain/no-proxy-but-manifests", from_manifests),
    ("explain/no-proxy-but-an-api-server", from_api_server),
];

fn plan(world: &World, arguments: &[&str]) -> anyhow::Result<(Answer, Value)> {
    let answer = ask(world, &[&["plan", "-o", "json", "--proxy-mode"], arguments].concat())?;
    let value = serde_json::from_str(&answer.stdout)
        .with_context(|| format!("{} {}", answer.stdout, answer.stderr))?;
    Ok((answer, value))
}

/// The finding with this id.
fn finding<'a>(plan: &'a Value, id: &str) -> anyhow::Result<&'a Value> {
    let mut all = plan["findings"].as_array().into_iter().flatten();
    all.find(|finding| finding["id"] == id).with_context(|| format!("no {id}: {plan:#}"))
}

/// All rules and addresses of the node, without what counts packets.
fn state(world: &World) -> anyhow::Result<String> {
    let mut state = world.on_node("nft", &["--stateless", "list", "ruleset"])?;
    for program in ["iptables-legacy-save", "ip6tables-legacy-save"] {
        let rules = world.on_node(program, &[])?;
        state.extend(
            rules.lines().filter(|line| line.starts_with("-A")).map(|line| format!("{line}\n")),
        );
    }
    state += &world.on_node("ip", &["-br", "address"])?;
    state +=
        &world.on_node("sysctl", &["net.ipv4.conf.all.route_localnet", "net.ipv4.ip_forward"])?;
    Ok(state)
}

fn world(mode: Mode) -> anyhow::Result<World> {
    let periods = ["--iptables-sync-period=1h", "--ipvs-sync-period=1h"];
    let world = World::with_flags(mode, &periods)?;
    let web = Svc::new("web", 1).load_balancer().external_ips().node_port();
    world.serve(&web, &["local-1", "remote-1"])?;
    world.serve(&Svc::new("dns", 2).udp().affinity(60), &["local-1"])?;
    world.serve(&Svc::new("nobody", 3), &[])?;
    world.settle()?;
    Ok(world)
}

fn to_every_mode(mode: Mode) -> anyhow::Result<()> {
    let world = world(mode)?;
    let before = state(&world)?;
    let (running, ipvs) =
        (mode.flags()[0].trim_start_matches("--proxy-mode="), Mode::Ipvs.is_here(false));
    for to in ["iptables", "nftables", "userspace", "ipvs"] {
        let (answer, plan) = plan(&world, &[to])?;
        ensure!(plan["node"] == NODE && plan["from"] == running && plan["to"] == to, "{plan:#}");
        // The kernel of user-mode Linux has no nftables rules that translate.
        let has_nftables = mode != Mode::Ipvs || plan["ok"] == true;
        if (to == "ipvs" && !ipvs) || (to == "nftables" && !has_nftables) {
            let why = finding(&plan, "mode-impossible")?;
            ensure!(answer.code == Some(1) && plan["ok"] == false && why["severity"] == "problem");
            continue;
        }
        ensure!(answer.code == Some(0) && plan["ok"] == true, "{plan:#}");
        let written = plan["written"].as_array().context("written")?;
        ensure!(
            written.len() == 2 && written.iter().all(|w| w["objects"][0]["count"] != 0),
            "{plan:#}"
        );
        if to == running {
            // The same packets in the same mode.
            for id in ["localhost-node-ports", "node-ports", "service-addresses", "other-ports"] {
                ensure!(finding(&plan, id).is_err(), "{id}: {plan:#}");
            }
        }
    }
    let printed = ask(&world, &["plan", "--proxy-mode=iptables", "--print"])?;
    ensure!(printed.code == Some(0), "{}", printed.stderr);
    ensure!(printed.stdout.contains("default/web:p"), "{}", printed.stdout);
    ensure!(printed.stdout.contains("KUBE-SVC-"), "{}", printed.stdout);
    let after = state(&world)?;
    ensure!(before == after, "asking changed something:\n{before}\n{after}");
    Ok(())
}

fn schedulers(mode: Mode) -> anyhow::Result<()> {
    let world = World::with_flags(mode, &["--ipvs-scheduler=lc"])?;
    let own = Svc::new("own", 1)
        .with("/metadata/annotations", json!({"kube-proxy.io/ipvs-scheduler": "sh"}));
    world.serve(&own, &["local-1"])?;
    world.settle()?;
    let (_, plan) = plan(&world, &["iptables"])?;
    let what = finding(&plan, "schedulers")?["what"].as_str().unwrap_or_default();
    ensure!(what.contains("lc (Services: 1)") && what.contains("sh (Services: 1)"), "{what}");
    Ok(())
}

/// What is said of node ports on the loopback address is what packets do, before and after.
fn localhost_node_ports() -> anyhow::Result<()> {
    let mut world = World::with_flags(Mode::IptablesNft, &[])?;
    world.serve(&Svc::new("web", 1).node_port(), &["local-1"])?;
    world.settle()?;
    let at = SocketAddr::from(([127, 0, 0, 1], node_port(1)));
    becomes(world.probe(From::Node), at, "local-1");
    let connection = world.probe(From::Node).connect(at)?;
    let (answer, plan) = plan(&world, &["nftables"])?;
    ensure!(answer.code == Some(0), "{}", answer.stderr);
    let lost = finding(&plan, "localhost-node-ports")?;
    let text = |field: &str| lost[field].as_str().unwrap_or_default();
    ensure!(lost["severity"] == "warning", "{lost:#}");
    ensure!(text("what").contains("will be refused; now they reach an endpoint"), "{lost:#}");
    ensure!(text("what").contains(&format!("{at}/tcp (default/web:p)")), "{lost:#}");
    let open = text("meaning");
    ensure!(open.contains("tracked now") && !open.starts_with("No connection"), "{open}");
    drop(connection);
    let screen = ask(&world, &["plan", "--proxy-mode=nftables"])?.stdout;
    let screen: Vec<_> = screen.lines().take(24).collect();
    ensure!(screen.iter().any(|line| line.contains("loopback address")), "{screen:#?}");
    world.use_mode(Mode::Nftables);
    world.start()?;
    eventually(GUARD, || {
        let outcome = world.probe(From::Node).timeout(SILENCE).tcp(at);
        ensure!(matches!(outcome, Outcome::Refused), "{outcome:?}");
        Ok(())
    });
    Ok(())
}

fn firewall() -> anyhow::Result<()> {
    let world = World::with_flags(Mode::IptablesNft, &[])?;
    world.settle()?;
    world.on_node("iptables-nft", &["-A", "FORWARD", "-j", "REJECT"])?;
    let (_, planned) = plan(&world, &["nftables"])?;
    let what = finding(&planned, "firewall")?["what"].as_str().unwrap_or_default();
    ensure!(what.contains("the chain FORWARD ends by refusing the rest"), "{what}");
    world.on_node("iptables-nft", &["-P", "FORWARD", "DROP"])?;
    let (_, planned) = plan(&world, &["nftables"])?;
    let drop = finding(&planned, "forward-drop")?;
    ensure!(drop["severity"] == "warning", "{drop:#}");
    let (_, planned) = plan(&world, &["userspace"])?;
    ensure!(finding(&planned, "forward-drop").is_err(), "{planned:#}");
    Ok(())
}

fn in_the_way() -> anyhow::Result<()> {
    let world = World::with_flags(Mode::Nftables, &[])?;
    world.settle()?;
    let program = binary()?.display().to_string();
    let run = |words: &[&str]| -> anyhow::Result<(Option<i32>, Value)> {
        let (first, rest) = words.split_first().context("words")?;
        let mut command = world.cluster.node(0).netns().command(first);
        let output = command
            .args(rest)
            .args([&*program, "plan", "-o", "json"])
            .arg("--proxy-mode=iptables")
            .output()?;
        let text = String::from_utf8_lossy(&output.stdout);
        let error = String::from_utf8_lossy(&output.stderr);
        let plan = serde_json::from_str(&text).with_context(|| format!("{text} {error}"))?;
        Ok((output.status.code(), plan))
    };
    // No programs of iptables.
    let (code, plan) = run(&["env", "PATH=/nowhere"])?;
    let why = finding(&plan, "mode-impossible")?["what"].as_str().unwrap_or_default();
    ensure!(code == Some(1) && why.contains("iptables"), "{plan:#}");
    // No new network namespaces.
    let (code, plan) = run(&["setpriv", "--inh-caps=-all", "--bounding-set=-all,+net_admin"])?;
    ensure!(code == Some(0), "{plan:#}");
    finding(&plan, "not-tried")?;
    Ok(())
}

fn no_proxy() -> anyhow::Result<()> {
    let world = World::without_proxy(Mode::Nftables, &[])?;
    let answer = ask(&world, &["plan", "--proxy-mode=nftables"])?;
    ensure!(answer.code == Some(1) && answer.stdout.is_empty(), "{}", answer.stdout);
    ensure!(answer.stderr.contains("no kube-proxy answers at"), "{}", answer.stderr);
    let wrong = ask(&world, &["plan", "--proxy-mode=ebpf", "--", &world.source[0]])?;
    ensure!(wrong.code == Some(1) && wrong.stderr.contains("ebpf"), "{}", wrong.stderr);
    Ok(())
}

fn manifests(world: &World) -> anyhow::Result<tempfile::TempDir> {
    let directory = tempfile::tempdir()?;
    let web = Svc::new("web", 1).node_port();
    let far = Svc::new("far", 2).load_balancer().external_local();
    let mut objects = vec![node(NODE, 0, "zone-a"), web.object(), far.object()];
    objects.extend(web.slices(TARGET, &world.endpoints(&["local-1"])));
    objects.extend(far.slices(TARGET, &world.endpoints(&["remote-1"])));
    let documents = objects.iter().map(|object| format!("---\n{object:#}\n"));
    fs::write(directory.path().join("all.yaml"), documents.collect::<String>())?;
    Ok(directory)
}

/// A process that is down: what it would do, and what is around it.
fn from_manifests() -> anyhow::Result<()> {
    let world = World::without_proxy(Mode::Nftables, &[])?;
    let directory = manifests(&world)?;
    let path = directory.path().display().to_string();
    let own = format!("--hostname-override={NODE}");
    let source = ["--manifests", &path, "--", &own, "--proxy-mode=nftables"];
    let ask = |words: &[&str]| ask(&world, &[words, &source].concat());
    let explained = ask(&["explain", "default/web"])?;
    ensure!(explained.code == Some(0), "{}", explained.stderr);
    let to = cluster_address(1, IpFamily::V4);
    for text in
        ["Warning: no proxy was asked", "default/web:p", "goes to endpoint", &to.to_string()]
    {
        ensure!(explained.stdout.contains(text), "{text}:\n{}", explained.stdout);
    }
    ensure!(!explained.stdout.contains("Last change"), "{}", explained.stdout);
    let far = SocketAddr::new(vip(2, IpFamily::V6), 80).to_string();
    let dropped = ask(&["explain", "--from=outside", &far])?;
    ensure!(dropped.stdout.contains("dropped"), "{}", dropped.stdout);
    let unknown = ask(&["explain", "default/nothing"])?;
    ensure!(unknown.code == Some(1), "{}", unknown.stdout);
    world.on_node("iptables-nft", &["-P", "FORWARD", "DROP"])?;
    let checked = ask(&["check"])?;
    ensure!(checked.code == Some(1), "{}", checked.stdout);
    // That no proxy answers, and what only matters in this mode.
    for text in ["PROBLEM: no kube-proxy answers", "the policy for forwarded packets is to drop"] {
        ensure!(checked.stdout.contains(text), "{text}:\n{}", checked.stdout);
    }
    let planned = ask(&["plan", "--proxy-mode=iptables"])?;
    ensure!(planned.code == Some(0), "{}{}", planned.stdout, planned.stderr);
    ensure!(
        planned.stdout.contains("node-a: from nftables to iptables mode"),
        "{}",
        planned.stdout
    );
    Ok(())
}

fn from_api_server() -> anyhow::Result<()> {
    let world = World::without_proxy(Mode::IptablesNft, &[])?;
    world.serve(&Svc::new("web", 1), &["local-1"])?;
    let directory = tempfile::tempdir()?;
    let file = directory.path().join("kubeconfig");
    let url = world.api.url();
    fs::write(
        &file,
        format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: c\n\
             clusters:\n- name: c\n  cluster: {{server: \"{url}\"}}\n\
             contexts:\n- name: c\n  context: {{cluster: c, user: u}}\nusers:\n- name: u\n  user: {{}}\n"
        ),
    )?;
    let file = file.display().to_string();
    // As a file of the Go kube-proxy would have it.
    let config = directory.path().join("config.conf");
    fs::write(
        &config,
        json!({
            "apiVersion": "kubeproxy.config.k8s.io/v1alpha1", "kind": "KubeProxyConfiguration",
            "clientConnection": {"kubeconfig": file}, "mode": "iptables", "hostnameOverride": NODE,
        })
        .to_string(),
    )?;
    let config = config.display().to_string();
    for source in [["--kubeconfig", &*file], ["--config", &*config]] {
        let explained = ask(&world, &[&["explain", "default/web"], &source[..]].concat())?;
        ensure!(explained.code == Some(0), "{}", explained.stderr);
        ensure!(explained.stdout.contains("goes to endpoint"), "{}", explained.stdout);
    }
    let planned = ask(&world, &["plan", "--proxy-mode=nftables", "--config", &config])?;
    ensure!(planned.code == Some(0), "{}{}", planned.stdout, planned.stderr);
    ensure!(planned.stdout.contains("from iptables to nftables mode"), "{}", planned.stdout);
    Ok(())
}
