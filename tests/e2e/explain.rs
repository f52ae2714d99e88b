//! The commands that explain, in situations that an administrator meets: each is named in the first screen of the answer.

use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context as _, ensure};
use kube_proxy_core::IpFamily;
use kube_proxy_testkit::cluster::plan;
use kube_proxy_testkit::kube_proxy::METRICS;
use serde_json::{Value, json};

use crate::objects::{NAMESPACE, Svc, external_ip, vip};
use crate::world::{From, Mode, TARGET, World, binary, cluster_address};
use crate::{Once, PerMode};

mod on_node;

pub(crate) const TESTS: &[PerMode] = &[
    ("explain/broken", broken),
    ("explain/changes", changes),
    ("explain/session", session),
    ("explain/on-the-node", on_node::on_the_node),
    ("explain/removed-by-hand", on_node::removed_by_hand),
];
/// Where the kernel translates to endpoints itself.
pub(crate) const TRANSLATED: &[PerMode] = &[("explain/open-connection", open_connection)];
pub(crate) const ONCE: &[Once] =
    &[("explain/no-proxy", no_proxy), ("explain/pages-off", pages_off)];

/// Lines of the first screen.
const SCREEN: usize = 24;

/// What a command printed.
struct Printed {
    code: Option<i32>,
    out: String,
    error: String,
}

fn ask(world: &World, line: &str) -> anyhow::Result<Printed> {
    let mut command = Command::new(binary()?);
    command.args(line.split_whitespace()).stdin(Stdio::null());
    let output = world.cluster.node(0).netns().run(|| command.output()).context("cannot start")?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Ok(Printed {
        code: output.status.code(),
        out: text(&output.stdout),
        error: text(&output.stderr),
    })
}

/// Fails unless the first screen of the answer has each of these texts.
pub(crate) fn named(world: &World, line: &str, texts: &[&str]) -> anyhow::Result<()> {
    let Printed { code, out, error } = ask(world, line)?;
    ensure!(code == Some(0), "{line}: exit code {code:?}: {error}");
    let screen: Vec<&str> = out.lines().take(SCREEN).collect();
    let screen = screen.join("\n");
    for text in texts {
        ensure!(screen.contains(text), "{line}: {text:?} is not in the first screen:\n{out}");
    }
    Ok(())
}

fn broken(mode: Mode) -> anyhow::Result<()> {
    let world = World::new(mode)?;
    let unready = Svc::new("unready", 1);
    world.apply([unready.object()])?;
    world.apply(unready.slices(TARGET, &[world.endpoint("local-1").unready()]))?;
    world.serve(&Svc::new("far", 2).load_balancer().external_local(), &["remote-1"])?;
    world.serve(&Svc::new("plain", 3), &["local-1"])?;
    let ranges = Svc::new("ranges", 4).load_balancer();
    let nobody = ["192.0.2.0/24".to_owned(), "2001:db8:192::/64".to_owned()].to_vec();
    world.serve(&ranges.with("/spec/loadBalancerSourceRanges", nobody), &["local-1"])?;
    world.serve(&Svc::new("taken", 5).external_ips(), &["local-1"])?;
    let contested = IpFamily::BOTH.map(|family| external_ip(5, family).to_string());
    world.serve(
        &Svc::new("unlucky", 6).with("/spec/externalIPs", contested.to_vec()),
        &["local-1"],
    )?;
    world.settle()?;
    for family in IpFamily::BOTH {
        let at = |ip| SocketAddr::new(ip, 80);
        let client = plan::client().get(family).to_string();
        let plain = cluster_address(3, family);
        let target = SocketAddr::new(plain.ip(), TARGET);
        named(
            &world,
            &format!("explain {}", cluster_address(1, family)),
            &["default/unready:p", "not ready", "refused at once", "readiness probes"],
        )?;
        named(
            &world,
            &format!("explain --from {client} {}", at(vip(2, family))),
            &["default/far:p", "not on this node", "dropped", "1 endpoint on other nodes"],
        )?;
        named(
            &world,
            &format!("explain {target}"),
            &[&format!("perhaps default/plain:p at {plain}/tcp is meant"), "the targetPort"],
        )?;
        named(
            &world,
            &format!("explain --from {client} {}", at(vip(4, family))),
            &["default/ranges:p", "dropped", "none of the loadBalancerSourceRanges"],
        )?;
        named(
            &world,
            &format!("explain {}", at(external_ip(5, family))),
            &["default/taken:p", "default/unlucky:p asks for this frontend too"],
        )?;
    }
    named(&world, "explain default/plain", &["default/plain:p", "goes to endpoint"])?;
    named(&world, "endpoints default/unready", &["unready:p", "not ready"])?;
    let contested = format!("!{}", SocketAddr::new(external_ip(5, IpFamily::V4), 80));
    named(&world, "services -n default -o wide", &["unlucky:p", &contested, "0/0/1"])?;
    let unknown = ask(&world, "explain default/nothing")?;
    ensure!(unknown.code == Some(1), "exit code {:?}", unknown.code);
    ensure!(unknown.out.contains("default/plain:p"), "no similar Service:\n{}", unknown.out);
    Ok(())
}

/// What changed, with its times in their order.
fn changes(mode: Mode) -> anyhow::Result<()> {
    let world = World::new(mode)?;
    let service = Svc::new("web", 1);
    world.serve(&service, &["local-1"])?;
    world.settle()?;
    let cause = world.on_node("date", &["-u", "+%FT%T.%3NZ"])?;
    let cause = cause.trim();
    let mut slices = service.slices(TARGET, &world.endpoints(&["local-1", "remote-1"]));
    for slice in &mut slices {
        slice["metadata"]["annotations"] = serde_json::json!({
            "endpoints.kubernetes.io/last-change-trigger-time": cause
        });
    }
    world.apply(slices)?;
    world.settle()?;
    let page = world
        .cluster
        .node(0)
        .probe()
        .http_get("127.0.0.1:10249".parse()?, "/debug/changes?namespace=default&name=web")?;
    let page: Value = serde_json::from_str(&page.body)?;
    let all = page["changes"].as_array().context("changes")?;
    for family in IpFamily::BOTH {
        let of_family = all.iter().filter(|change| change["family"] == family.to_string());
        let of_family: Vec<_> = of_family.collect();
        let what: Vec<_> = of_family.iter().map(|c| (&c["kind"], &c["what"])).collect();
        let what = format!("{what:?}");
        let count = |word: &str| what.matches(word).count();
        ensure!((count("Service"), count("added"), count("changed")) == (1, 2, 1), "{what}");
        // The last first.
        let last = of_family[0];
        ensure!(last["what"] == "changed" && last["endpointsReady"] == 2, "{last}");
        let time =
            |field: &str| last[field].as_str().with_context(|| format!("no {field}: {last}"));
        // In one form, so that texts are in the order of their times.
        ensure!(time("triggered")? == cause, "{last}");
        ensure!(cause <= time("received")?, "{last}");
        ensure!(time("received")? <= time("inKernel")?, "{last}");
    }
    let last = "EndpointSlice web-";
    named(&world, "explain default/web", &["Last change", last, "2 of 2 endpoints ready"])?;
    named(&world, "endpoints default/web", &["Last change default/web IPv4", "from the cause"])?;
    named(&world, "services -n default", &["CHANGED", "s\n"])
}

/// The endpoint of a client under session affinity, and for how long it stays.
fn session(mode: Mode) -> anyhow::Result<()> {
    const TIMEOUT: u32 = 300;
    let timeout = u64::from(TIMEOUT);
    let world = World::new(mode)?;
    let web = Svc::new("web", 1).affinity(TIMEOUT);
    let near = Svc::new("near", 2).load_balancer().external_local().affinity(TIMEOUT);
    world.serve(&web, &["local-1", "remote-1"])?;
    world.serve(&near, &["local-1", "local-2", "remote-1"])?;
    world.settle()?;
    for family in IpFamily::BOTH {
        let outside = plan::client().get(family).to_string();
        let pod = world.pod("client").ip(family).to_string();
        let vip = SocketAddr::new(vip(2, family), 80);
        for (from, address, to) in [
            (From::Pod("client"), &pod, cluster_address(1, family)),
            (From::Outside, &outside, vip),
        ] {
            let line = format!("explain --from {address} {to}");
            named(&world, &line, &["Session       none", "goes to one of 2 endpoints"])?;
            let begin = Instant::now();
            let endpoint = world.probe(from).tcp(to).answer()?.pod;
            let endpoint = SocketAddr::new(world.pod(&endpoint).ip(family), TARGET);
            let leads = format!("goes to endpoint {endpoint}, where its session leads for another");
            let found = format!("Session       {endpoint} for another ");
            named(&world, &line, &[&found, &leads])?;
            let left = seconds_left(&ask(&world, &line)?.out, &found)?;
            let passed = begin.elapsed().as_secs() + 2;
            ensure!(left <= timeout && left + passed >= timeout, "{left} s left, {passed} passed");
        }
        // It is the session of that client alone, and asking did not begin one.
        for other in [&outside, &world.pod("local-2").ip(family).to_string()] {
            let line = format!("explain --from {other} {}", cluster_address(1, family));
            named(&world, &line, &["Session       none", "goes to one of 2 endpoints"])?;
        }
        let unasked = ask(&world, &format!("explain {}", cluster_address(1, family)))?.out;
        ensure!(!unasked.contains("Session  "), "whose session?\n{unasked}");
    }
    // A session with an endpoint that is gone leads nowhere.
    world.serve(&web, &["local-2"])?;
    world.settle()?;
    for family in IpFamily::BOTH {
        let pod = world.pod("client").ip(family);
        let only = SocketAddr::new(world.pod("local-2").ip(family), TARGET);
        let line = format!("explain --from {pod} {}", cluster_address(1, family));
        named(&world, &line, &["Session  ", &format!("goes to endpoint {only}, with")])?;
    }
    Ok(())
}

fn seconds_left(out: &str, before: &str) -> anyhow::Result<u64> {
    let (_, rest) = out.split_once(before).context("no session")?;
    let (number, _) = rest.split_once(" s").context("no seconds")?;
    number.parse().with_context(|| format!("{number:?} is no number"))
}

/// A connection whose endpoint was replaced continues to the old one, and the answer says so.
fn open_connection(mode: Mode) -> anyhow::Result<()> {
    let world = World::new(mode)?;
    let ports = json!([{ "name": "p", "port": 80 }, { "name": "idle", "port": 81 }]);
    let service = Svc::new("moved", 1).with("/spec/ports", ports);
    world.serve(&service, &["local-1"])?;
    world.settle()?;
    let to = cluster_address(1, IpFamily::V4);
    let connection = world.probe(From::Pod("client")).connect(to)?;
    let old = SocketAddr::new(world.pod("local-1").ip(IpFamily::V4), TARGET);
    let lead = format!("1 to {old}");
    named(&world, &format!("explain {to}"), &["Connections", &lead, "goes to endpoint"])?;
    connections_of_all_ports(&world, to, old)?;
    world.serve(&service, &["remote-1"])?;
    world.settle()?;
    let stale = format!("1 to {old}, which takes no new ones");
    named(&world, &format!("explain {to}"), &[&stale, "clients must connect again"])?;
    drop(connection);
    Ok(())
}

/// Of the four paths to the Service, two ports in two families, one connection leads along one.
fn connections_of_all_ports(world: &World, to: SocketAddr, pod: SocketAddr) -> anyhow::Result<()> {
    let ask = |more: &str| -> anyhow::Result<Vec<Value>> {
        let path = format!("/debug/explain?to={NAMESPACE}/moved&onNode=none{more}");
        let response = world.probe(From::Node).http_get(METRICS, &path)?;
        let answer: Value = serde_json::from_str(&response.body)?;
        answer["paths"].as_array().cloned().with_context(|| format!("{path}: {answer}"))
    };
    let paths = ask("")?;
    ensure!(paths.len() == 4, "not four paths: {paths:?}");
    for path in paths {
        let one = json!([{ "endpoint": pod.to_string(), "count": 1, "unused": false }]);
        let expected = if path["destination"] == to.to_string() { one } else { json!([]) };
        ensure!(path["connections"] == expected, "not {expected}: {path}");
    }
    let silent = ask("&connections=none")?;
    ensure!(silent.iter().all(|path| path["connections"].is_null()), "{silent:?}");
    let wrong = world.probe(From::Node).http_get(METRICS, "/debug/explain?to=a/b&connections=x")?;
    ensure!(wrong.status == 400 && wrong.body.contains("connections must be"), "{}", wrong.body);
    Ok(())
}

fn no_proxy() -> anyhow::Result<()> {
    let world = World::without_proxy(Mode::Nftables, &[])?;
    for line in ["services", "endpoints web", "explain web"] {
        let Printed { code, out, error } = ask(&world, line)?;
        ensure!(code == Some(1) && out.is_empty(), "{line}: {code:?}: {out}");
        ensure!(error.contains("no kube-proxy answers at 127.0.0.1:10249"), "{line}: {error}");
    }
    let wrong = ask(&world, "explain")?;
    ensure!(wrong.code == Some(2), "exit code {:?}", wrong.code);
    Ok(())
}

fn pages_off() -> anyhow::Result<()> {
    let world = World::with_flags(Mode::Nftables, &["--debug-pages=false"])?;
    let Printed { code, error, .. } = ask(&world, "services")?;
    ensure!(code == Some(1) && error.contains("--debug-pages=false"), "{code:?}: {error}");
    let probe = world.cluster.node(0).probe();
    for path in ["/explain", "/explain/page.js", "/debug/changes", "/debug/findings"] {
        let answer = probe.http_get("127.0.0.1:10249".parse()?, path)?;
        ensure!(answer.status == 404, "{path}: {}", answer.status);
    }
    Ok(())
}
