//! The health and the metrics server.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::symlink;
use std::path::PathBuf;

use anyhow::{Context as _, ensure};
use kube_proxy_core::IpFamily;
use kube_proxy_testkit::eventually::eventually;
use kube_proxy_testkit::probe::HttpResponse;
use serde_json::{Value, json};

use crate::Once;
use crate::objects::{Svc, node};
use crate::traffic::becomes;
use crate::world::{From, GUARD, Mode, NODE, TARGET, World, cluster_address};

mod events;

pub(crate) use events::{event, events};
mod health_ports;
mod start;

pub(crate) const TESTS: &[Once] = &[
    ("servers/health", health),
    ("servers/unhealthy-when-syncs-fail", unhealthy),
    ("servers/node-not-eligible", node_not_eligible),
    ("servers/metrics", metrics),
    ("servers/proxy-mode-and-configz", proxy_mode_and_configz),
    ("servers/addresses", addresses),
    ("servers/wildcard-is-both-families", wildcards),
    ("servers/wildcard-without-ipv6", wildcard_without_ipv6),
    ("servers/address-in-use", address_in_use),
    ("servers/address-in-use-hard-fail", events::hard_fail),
    ("servers/open-while-the-api-server-is-away", start::api_server_away),
    ("servers/node-state-counts-from-the-start", start::tainted_node),
    ("servers/methods", methods),
    ("servers/slow-clients", slow_clients),
    ("servers/health-ports-follow-endpoints", health_ports::follow_endpoints),
    ("servers/health-port-in-use", health_ports::port_in_use),
    ("servers/events-do-not-arrive", events::do_not_arrive),
    ("servers/status-pages", status_pages),
    ("servers/silent-api-server", silent_api_server),
];

const HEALTH: u16 = 10_256;
pub(crate) const METRICS: u16 = 10_249;

fn world(flags: &[&str]) -> anyhow::Result<World> {
    World::with_flags(Mode::IptablesNft, flags)
}

fn loopback(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

/// Asks from the node itself.
pub(crate) fn get(world: &World, port: u16, path: &str) -> anyhow::Result<HttpResponse> {
    world.cluster.node(0).probe().http_get(loopback(port), path)
}

fn health() -> anyhow::Result<()> {
    let world = world(&[])?;
    let node = SocketAddr::new(world.cluster.node(0).ip(IpFamily::V4), HEALTH);
    for (path, eligible) in [("/healthz", Some(&Value::Bool(true))), ("/livez", None)] {
        let answer = world.cluster.client().probe().http_get(node, path)?;
        ensure!(answer.status == 200, "{path}: {answer:?}");
        ensure!(answer.header("content-type") == Some("application/json"), "{answer:?}");
        ensure!(answer.header("x-content-type-options") == Some("nosniff"), "{answer:?}");
        let body: Value = serde_json::from_str(&answer.body)?;
        ensure!(body.get("nodeEligible") == eligible, "{path}: {body}");
        ensure!(body["healthy"] == json!(true), "{path}: {body}");
        ensure!(body["lastUpdated"].is_string() && body["currentTime"].is_string(), "{body}");
        for family in IpFamily::BOTH {
            let status = &body["status"][family.to_string()];
            ensure!(status["healthy"] == json!(true), "{path}: {body}");
            ensure!(status["lastUpdated"].is_string(), "{path}: {body}");
        }
    }
    ensure!(get(&world, HEALTH, "/")?.status == 404, "an unknown path");
    Ok(())
}

/// A directory that has the iptables programs, for the search path of one proxy.
struct Programs(tempfile::TempDir);

impl Programs {
    fn new() -> anyhow::Result<Self> {
        let programs = Self(tempfile::tempdir()?);
        programs.put()?;
        Ok(programs)
    }

    fn put(&self) -> anyhow::Result<()> {
        for name in Self::names() {
            symlink(found(&name)?, self.0.path().join(&name))?;
        }
        Ok(())
    }

    fn take_away(&self) -> anyhow::Result<()> {
        Self::names().try_for_each(|name| Ok(fs::remove_file(self.0.path().join(name))?))
    }

    fn names() -> impl Iterator<Item = String> {
        ["", "-save", "-restore"].into_iter().flat_map(|suffix| {
            IpFamily::BOTH.map(|family| Mode::IptablesNft.program(family, suffix))
        })
    }
}

/// Where a program is.
pub(crate) fn found(name: &str) -> anyhow::Result<PathBuf> {
    let path = std::env::var_os("PATH").context("a search path")?;
    let places = std::env::split_paths(&path).chain(["/usr/sbin", "/sbin"].map(PathBuf::from));
    let mut found = places.map(|place| place.join(name)).filter(|program| program.exists());
    found.next().with_context(|| format!("{name} is not installed"))
}

/// Without its programs the proxy cannot sync: after twice the sync period it says so, and recovers by itself.
fn unhealthy() -> anyhow::Result<()> {
    let programs = Programs::new()?;
    let mut world = World::without_proxy(Mode::IptablesNft, &[])?;
    let mut command = world.command()?;
    command.env("PATH", programs.0.path());
    world.start_without_waiting(command)?;
    world.serve(&Svc::new("web", 1), &["local-1"])?;
    world.settle()?;
    programs.take_away()?;
    world.serve(&Svc::new("web", 1), &["local-2"])?;
    // The first family that is late makes the answer 503; the other follows.
    for path in ["/healthz", "/livez", "/readyz"] {
        eventually(GUARD, || {
            let answer = get(&world, HEALTH, path)?;
            let body: Value = serde_json::from_str(&answer.body)?;
            ensure!(answer.status == 503, "{path}: {body}");
            ensure!(body["healthy"] == json!(false), "{path}: {body}");
            for family in ["IPv4", "IPv6"] {
                ensure!(body["status"][family]["healthy"] == json!(false), "{path}: {body}");
            }
            Ok(())
        });
    }
    becomes(world.probe(From::Pod("client")), cluster_address(1, IpFamily::V4), "local-1");
    let failures = sample(
        &world,
        "kubeproxy_sync_proxy_rules_iptables_restore_failures_total{ip_family=\"IPv4\"}",
    )?;
    ensure!(failures.is_some_and(|count| count >= 1.0), "failures are counted: {failures:?}");
    let failing = "kubeproxy_sync_failing{ip_family=\"IPv4\",reason=\"";
    let reasons = |value: f64| -> anyhow::Result<usize> {
        let reasons = ["unsupported", "busy", "refused", "io"].into_iter();
        let values = reasons.map(|reason| sample(&world, &format!("{failing}{reason}\"}}")));
        let values = values.collect::<anyhow::Result<Vec<_>>>()?;
        Ok(values.into_iter().filter(|known| *known == Some(value)).count())
    };
    ensure!(reasons(1.0)? == 1, "one reason is given");
    programs.put()?;
    for family in IpFamily::BOTH {
        becomes(world.probe(From::Pod("client")), cluster_address(1, family), "local-2");
    }
    for path in ["/healthz", "/livez", "/readyz"] {
        eventually(GUARD, || {
            let status = get(&world, HEALTH, path)?.status;
            ensure!(status == 200, "{path}: {status}");
            Ok(())
        });
    }
    ensure!(reasons(0.0)? == 4, "no reason is left");
    Ok(())
}

/// A node that is about to go is not to be sent traffic, but its proxy lives.
fn node_not_eligible() -> anyhow::Result<()> {
    let world = world(&[])?;
    let deleting = |mut node: Value| {
        node["metadata"]["deletionTimestamp"] = json!("2026-01-02T03:04:05Z");
        node
    };
    let tainted = |mut node: Value| {
        node["spec"]["taints"] = json!([{ "key": "ToBeDeletedByClusterAutoscaler", "value": "1", "effect": "NoSchedule" }]);
        node
    };
    let plain = node(NODE, 0, "zone-a");
    for (state, expected) in [
        (deleting(plain.clone()), 503),
        (plain.clone(), 200),
        (tainted(plain.clone()), 503),
        (plain, 200),
    ] {
        world.apply([state.clone()])?;
        eventually(GUARD, || {
            let answer = get(&world, HEALTH, "/healthz")?;
            ensure!(answer.status == expected, "{} with {state}", answer.status);
            let body: Value = serde_json::from_str(&answer.body)?;
            ensure!(body["nodeEligible"] == json!(expected == 200), "{body}");
            Ok(())
        });
        ensure!(get(&world, HEALTH, "/livez")?.status == 200, "/livez");
    }
    world.api.delete("Node", "", NODE).map_err(|error| anyhow::anyhow!("{error:?}"))?;
    eventually(GUARD, || {
        let status = get(&world, HEALTH, "/healthz")?.status;
        ensure!(status == 503, "{status} without a Node");
        Ok(())
    });
    Ok(())
}

/// The value of a sample, by its name with labels as they are printed.
fn sample(world: &World, name: &str) -> anyhow::Result<Option<f64>> {
    let text = get(world, METRICS, "/metrics")?.body;
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.map(|value| value.parse().with_context(|| format!("{name} {value}"))).transpose()
}

fn metrics() -> anyhow::Result<()> {
    let world = world(&[])?;
    world.serve(&Svc::new("web", 1).udp(), &["local-1"])?;
    world.serve(&Svc::new("bad", 2).with("/spec/externalIPs", json!(["x"])), &["local-1"])?;
    world.serve(&Svc::new("here", 3).internal_local(), &["remote-1"])?;
    world.settle()?;
    let mut slice = Svc::new("web", 1).udp().slice(
        IpFamily::V4,
        "-new",
        TARGET,
        &world.endpoints(&["local-2"]),
    );
    let now = world.on_node("date", &["-u", "+%FT%T.%NZ"])?;
    slice["metadata"]["annotations"] =
        json!({ "endpoints.kubernetes.io/last-change-trigger-time": now.trim() });
    world.apply([slice])?;
    world.settle()?;
    get(&world, HEALTH, "/healthz")?;
    get(&world, HEALTH, "/livez")?;
    let answer = get(&world, METRICS, "/metrics")?;
    ensure!(answer.status == 200, "{}", answer.status);
    let kind = answer.header("content-type").unwrap_or_default();
    ensure!(kind.starts_with("text/plain; version=0.0.4"), "{kind}");
    check_format(&answer.body)?;
    for name in NAMES {
        let type_line = format!("# TYPE kubeproxy_{name} ");
        ensure!(answer.body.contains(&type_line), "no {type_line:?} in:\n{}", answer.body);
    }
    let family = |name: &str| format!("kubeproxy_{name}{{ip_family=\"IPv4\"}}");
    for name in [
        family("sync_proxy_rules_duration_seconds_count"),
        family("sync_full_proxy_rules_duration_seconds_count"),
        family("sync_partial_proxy_rules_duration_seconds_count"),
        family("sync_proxy_rules_last_timestamp_seconds"),
        family("sync_proxy_rules_last_queued_timestamp_seconds"),
        family("conntrack_reconciler_sync_duration_seconds_count"),
        family("network_programming_duration_seconds_count"),
        "kubeproxy_sync_proxy_rules_iptables_total{table=\"nat\",ip_family=\"IPv4\"}".to_owned(),
        "kubeproxy_sync_proxy_rules_no_local_endpoints_total{traffic_policy=\"internal\",ip_family=\"IPv6\"}".to_owned(),
        "kubeproxy_proxy_healthz_total{code=\"200\"}".to_owned(),
        "kubeproxy_invalid_objects{kind=\"Service\"}".to_owned(),
        "kubeproxy_conntrack_entries_limit".to_owned(),
    ] {
        let value = sample(&world, &name)?;
        ensure!(value.is_some_and(|value| value > 0.0), "{name}: {value:?} in:\n{}", answer.body);
    }
    let changes = "kubeproxy_sync_proxy_rules_service_changes_total";
    let before = sample(&world, changes)?.context("service changes")?;
    world.serve(&Svc::new("more", 4), &["local-1"])?;
    world.settle()?;
    let after = sample(&world, changes)?.context("service changes")?;
    ensure!(after > before, "{before} service changes, then {after}");
    let pending = "kubeproxy_sync_proxy_rules_endpoint_changes_pending";
    eventually(GUARD, || {
        let value = sample(&world, pending)?;
        ensure!(value == Some(0.0), "{pending}: {value:?}");
        Ok(())
    });
    Ok(())
}

/// Names without their prefix, as the Go kube-proxy has them. Those of failures appear with the first failure.
const NAMES: &[&str] = &[
    "sync_proxy_rules_duration_seconds",
    "sync_full_proxy_rules_duration_seconds",
    "sync_partial_proxy_rules_duration_seconds",
    "sync_proxy_rules_last_timestamp_seconds",
    "sync_proxy_rules_last_queued_timestamp_seconds",
    "network_programming_duration_seconds",
    "sync_proxy_rules_endpoint_changes_pending",
    "sync_proxy_rules_endpoint_changes_total",
    "sync_proxy_rules_service_changes_pending",
    "sync_proxy_rules_service_changes_total",
    "sync_proxy_rules_no_local_endpoints_total",
    "sync_proxy_rules_iptables_total",
    "sync_proxy_rules_iptables_last",
    "conntrack_reconciler_sync_duration_seconds",
    "conntrack_reconciler_deleted_entries_total",
    "proxy_healthz_total",
    "proxy_livez_total",
];

/// The text format 0.0.4, as far as every line has its form and every sample a type.
fn check_format(text: &str) -> anyhow::Result<()> {
    let mut types = Vec::new();
    for line in text.lines() {
        if let Some(comment) = line.strip_prefix("# ") {
            let mut words = comment.split(' ');
            let (keyword, name) = (words.next(), words.next().context("a name")?);
            ensure!(matches!(keyword, Some("HELP" | "TYPE")), "{line}");
            if keyword == Some("TYPE") {
                types.push(name);
            }
            continue;
        }
        let (name, value) = line.rsplit_once(' ').with_context(|| format!("no sample: {line}"))?;
        let name = name.split('{').next().unwrap_or(name);
        value.parse::<f64>().with_context(|| line.to_owned())?;
        let of_type = |stem: &str| types.contains(&stem);
        let histogram =
            ["_bucket", "_sum", "_count"].iter().filter_map(|end| name.strip_suffix(end));
        ensure!(of_type(name) || histogram.into_iter().any(of_type), "no type: {line}");
    }
    ensure!(text.ends_with('\n'), "the last line has no end");
    Ok(())
}

fn proxy_mode_and_configz() -> anyhow::Result<()> {
    let world = world(&["--cluster-cidr=10.244.0.0/16"])?;
    ensure!(get(&world, METRICS, "/proxyMode")?.body == "iptables", "/proxyMode");
    ensure!(get(&world, METRICS, "/healthz")?.body == "ok", "/healthz of the metrics server");
    let answer = get(&world, METRICS, "/configz")?;
    ensure!(answer.header("content-type") == Some("application/json"), "{answer:?}");
    let body: Value = serde_json::from_str(&answer.body)?;
    let config = &body["kubeproxy.config.k8s.io"];
    ensure!(config["kind"] == json!("KubeProxyConfiguration"), "{body}");
    ensure!(config["clusterCIDR"] == json!("10.244.0.0/16"), "{body}");
    ensure!(config["iptables"]["syncPeriod"] == json!("1s"), "{body}");
    Ok(())
}

/// Where flags say, and by default the metrics on loopback only.
fn addresses() -> anyhow::Result<()> {
    let usual = world(&[])?;
    let outside = usual.cluster.client().probe();
    for (port, open) in [(HEALTH, true), (METRICS, false)] {
        let to = SocketAddr::new(usual.cluster.node(0).ip(IpFamily::V4), port);
        let answer = outside.http_get(to, "/healthz");
        ensure!(answer.is_ok() == open, "{to}: {answer:?}");
    }
    drop(usual);
    let flags = ["--healthz-bind-address=127.0.0.1:1256", "--metrics-bind-address=[::]:1249"];
    let moved = world(&flags)?;
    ensure!(get(&moved, 1_256, "/livez")?.status == 200, "/livez at another address");
    let to = SocketAddr::new(moved.cluster.node(0).ip(IpFamily::V6), 1_249);
    let answer = moved.cluster.client().probe().http_get(to, "/proxyMode")?;
    ensure!(answer.body == "iptables", "{answer:?}");
    for port in [HEALTH, METRICS] {
        ensure!(get(&moved, port, "/healthz").is_err(), "nothing at the usual port {port}");
    }
    drop(moved);
    let off = world(&["--healthz-bind-address=", "--metrics-bind-address="])?;
    for port in [HEALTH, METRICS] {
        ensure!(get(&off, port, "/healthz").is_err(), "nothing at port {port}");
    }
    off.settle()
}

/// A wildcard of either family stands for both, in both servers.
fn wildcards() -> anyhow::Result<()> {
    for wildcard in ["0.0.0.0", "[::]"] {
        let flags = [
            format!("--healthz-bind-address={wildcard}:{HEALTH}"),
            format!("--metrics-bind-address={wildcard}:{METRICS}"),
        ];
        let world = world(&flags.each_ref().map(String::as_str))?;
        let outside = world.cluster.client().probe();
        for (port, family) in
            [HEALTH, METRICS].into_iter().flat_map(|port| IpFamily::BOTH.map(|f| (port, f)))
        {
            let to = SocketAddr::new(world.cluster.node(0).ip(family), port);
            let answer = outside.http_get(to, "/healthz")?;
            ensure!(answer.status == 200, "{wildcard}, {to}: {answer:?}");
        }
    }
    Ok(())
}

/// The usual address works on a node whose IPv6 is turned off.
fn wildcard_without_ipv6() -> anyhow::Result<()> {
    let mut world = World::without_proxy(Mode::IptablesNft, &[])?;
    let off = ["ipv6/conf/all/disable_ipv6", "ipv6/conf/default/disable_ipv6"];
    world.cluster.node(0).netns().sysctl(&off.map(|name| (name, "1")))?;
    world.start_without_waiting(world.command()?)?;
    let node = SocketAddr::new(world.cluster.node(0).ip(IpFamily::V4), HEALTH);
    eventually(GUARD, || {
        let answer = world.cluster.client().probe().http_get(node, "/healthz")?;
        ensure!(answer.status == 200, "{answer:?}");
        Ok(())
    });
    Ok(())
}

/// Another program has the port: services work, and the server comes once the port is free.
fn address_in_use() -> anyhow::Result<()> {
    let mut world = World::without_proxy(Mode::IptablesNft, &[])?;
    let holder = world.cluster.node(0).netns().run(|| TcpListener::bind(loopback(METRICS)))?;
    world.start_without_waiting(world.command()?)?;
    world.proxy().wait_for_line(GUARD, |line| {
        line.contains("ERROR") && line.contains("127.0.0.1:10249") && line.contains("in use")
    })?;
    world.settle()?;
    ensure!(get(&world, HEALTH, "/healthz")?.status == 200, "/healthz");
    drop(holder);
    eventually(GUARD, || {
        let answer = get(&world, METRICS, "/proxyMode")?;
        ensure!(answer.body == "iptables", "{answer:?}");
        Ok(())
    });
    Ok(())
}

/// Sends a request as it is, and returns everything that comes back.
fn raw(world: &World, port: u16, request: &str) -> anyhow::Result<String> {
    let mut stream = world.cluster.node(0).netns().run(|| TcpStream::connect(loopback(port)))?;
    stream.set_read_timeout(Some(GUARD))?;
    stream.write_all(request.as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

fn methods() -> anyhow::Result<()> {
    let world = world(&[])?;
    let request = |method: &str, path: &str, more: &str| {
        format!("{method} {path} HTTP/1.1\r\nHost: node\r\nConnection: close\r\n{more}\r\n")
    };
    for (port, path) in [(HEALTH, "/healthz"), (METRICS, "/metrics")] {
        let head = raw(&world, port, &request("HEAD", path, ""))?;
        ensure!(head.starts_with("HTTP/1.1 200 ") && head.ends_with("\r\n\r\n"), "{head}");
        for method in ["OPTIONS", "POST", "PUT", "DELETE", "BREW"] {
            let answer = raw(&world, port, &request(method, path, "Content-Length: 0\r\n"))?;
            ensure!(answer.starts_with("HTTP/1.1 200 "), "{method}: {answer}");
            let answer = raw(&world, port, &request(method, "/", "Content-Length: 0\r\n"))?;
            ensure!(answer.starts_with("HTTP/1.1 404 "), "{method}: {answer}");
        }
        let old = raw(&world, port, &format!("OPTIONS {path} HTTP/1.0\r\n\r\n"))?;
        ensure!(old.starts_with("HTTP/1.0 200 "), "{old}");
        let long = format!("X-Long: {}\r\n", "x".repeat(100_000));
        // The server may close before it has read all of that.
        if let Ok(answer) = raw(&world, port, &request("GET", path, &long)) {
            ensure!(answer.is_empty() || answer.starts_with("HTTP/1.1 4"), "{answer}");
        }
        let garbage = raw(&world, port, "\u{1}\u{2}\r\n\r\n")?;
        ensure!(garbage.is_empty() || garbage.starts_with("HTTP/1.1 400 "), "{garbage}");
        ensure!(get(&world, port, path)?.status == 200, "{path} after all that");
    }
    Ok(())
}

/// Clients that never finish their request hold up neither others nor the syncs.
fn slow_clients() -> anyhow::Result<()> {
    let world = world(&[])?;
    let mut slow = Vec::new();
    for port in [HEALTH, METRICS] {
        for _ in 0..100 {
            let mut stream =
                world.cluster.node(0).netns().run(|| TcpStream::connect(loopback(port)))?;
            stream.write_all(b"GET /healthz HTTP/1.1\r\nHost:")?;
            slow.push(stream);
        }
    }
    for port in [HEALTH, METRICS] {
        for _ in 0..20 {
            ensure!(get(&world, port, "/healthz")?.status == 200, "port {port}");
        }
    }
    world.settle()?;
    // Even more of them make room one after the other.
    for _ in 0..300 {
        let stream = world.cluster.node(0).netns().run(|| TcpStream::connect(loopback(HEALTH)))?;
        slow.push(stream);
    }
    eventually(GUARD, || {
        let answer = get(&world, HEALTH, "/livez")?;
        ensure!(answer.status == 200, "{answer:?}");
        Ok(())
    });
    drop(slow);
    Ok(())
}

/// Flags, status, indicators; profiles only if they are asked for.
fn status_pages() -> anyhow::Result<()> {
    let world = world(&["--cluster-cidr=10.244.0.0/16", "--profiling"])?;
    let flagz = get(&world, METRICS, "/flagz")?.body;
    ensure!(
        flagz.contains("kube-proxy flagz") && flagz.contains("cluster-cidr=10.244.0.0/16"),
        "{flagz}"
    );
    let statusz = get(&world, METRICS, "/statusz")?.body;
    ensure!(
        statusz.contains("kube-proxy statusz") && statusz.contains("Paths: /configz"),
        "{statusz}"
    );
    get(&world, METRICS, "/healthz")?;
    let slis = get(&world, METRICS, "/metrics/slis")?.body;
    ensure!(slis.contains("kubernetes_healthcheck{name=\"ping\",type=\"healthz\"} 1"), "{slis}");
    let heap = get(&world, METRICS, "/debug/pprof/heap?debug=1")?.body;
    ensure!(heap.contains("[heap]"), "{heap}");
    let put = "PUT /debug/flags/v HTTP/1.1\r\nHost: node\r\nConnection: close\r\nContent-Length: 1\r\n\r\n4";
    let answer = raw(&world, METRICS, put)?;
    ensure!(answer.contains("successfully set klog.logging.verbosity to 4"), "{answer}");
    for name in [
        "kubernetes_build_info",
        "process_resident_memory_bytes",
        "rest_client_requests_total",
        "kubernetes_feature_enabled",
        "kubeproxy_api_server_silence_seconds",
    ] {
        let metrics = get(&world, METRICS, "/metrics")?.body;
        ensure!(metrics.contains(&format!("# TYPE {name} ")), "no {name} in:\n{metrics}");
    }
    Ok(())
}

/// Only where it is asked for, and only `/healthz`.
fn silent_api_server() -> anyhow::Result<()> {
    let world = world(&["--healthz-stale-after=1s"])?;
    world.api.stop();
    eventually(GUARD, || {
        let status = get(&world, HEALTH, "/healthz")?.status;
        ensure!(status == 503, "/healthz: {status}");
        Ok(())
    });
    ensure!(get(&world, HEALTH, "/livez")?.status == 200, "/livez");
    Ok(())
}
