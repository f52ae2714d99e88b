//! Servers in pods, the background prober, HTTP, and processes on nodes.

use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use kube_proxy_core::IpFamily;
use kube_proxy_testkit::cluster::{Cluster, plan};
use kube_proxy_testkit::eventually::eventually;
use kube_proxy_testkit::kube_proxy::KubeProxy;
use kube_proxy_testkit::pod::{Responder, Serve};
use kube_proxy_testkit::probe::Outcome;
use kube_proxy_testkit::prober::Prober;
use libtest_mimic::Trial;

use crate::rules::{forward, iptables};
use crate::trial;

/// Keeps a test from hanging; passing takes far less.
const GUARD: Duration = Duration::from_mins(5);

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("servers::connections_outlive_their_listener", connections_outlive_their_listener),
        trial("servers::ends", ends),
        trial("servers::udp_flow", udp_flow),
        trial("servers::http", http),
        trial("servers::host_network", host_network),
        trial("prober::sees_an_interruption", prober_sees_an_interruption),
        trial("process::lines_and_signals", process_lines_and_signals),
    ]
}

fn connections_outlive_their_listener() -> anyhow::Result<()> {
    let cluster = Cluster::builder().build()?;
    let pod = cluster.add_pod(0, "a")?;
    pod.serve_tcp(80)?;
    let address = pod.address(IpFamily::V6, 80);
    let mut connection = cluster.client().probe().connect(address)?;
    ensure!(connection.greeting().pod == "a");
    pod.close(Serve::Tcp, 80);
    let outcome = cluster.client().probe().tcp(address);
    ensure!(outcome.is_refused(), "of a closed port: {outcome}");
    ensure!(connection.ping().answer()?.echo.as_deref() == Some("ping-1"));
    pod.serve_tcp(80)?;
    ensure!(cluster.client().probe().tcp(address).is_answer());
    Ok(())
}

fn ends() -> anyhow::Result<()> {
    let cluster = Cluster::builder().build()?;
    for abrupt in [false, true] {
        let mut pod = cluster.add_pod(0, "a")?;
        pod.serve_tcp(80)?;
        let address = pod.address(IpFamily::V4, 80);
        let mut connection = cluster.client().probe().connect(address)?;
        if abrupt {
            pod.abort_servers();
        } else {
            pod.stop_servers();
        }
        let outcome = connection.ping();
        let Outcome::Broken(why) = &outcome else {
            anyhow::bail!("a connection to a stopped server: {outcome}");
        };
        ensure!(why.contains("closed") != abrupt, "abrupt: {abrupt}, but {why}");
        let outcome = cluster.client().probe().tcp(address);
        ensure!(outcome.is_refused(), "of a stopped server: {outcome}");
        ensure!(pod.serve_tcp(81).is_err());
    }
    Ok(())
}

fn udp_flow() -> anyhow::Result<()> {
    let cluster = Cluster::builder().build()?;
    let pod = cluster.add_pod(0, "a")?;
    pod.serve_udp(53)?;
    let client = cluster.client().probe().source_port(4000);
    let mut flow = client.udp_flow(pod.address(IpFamily::V4, 53))?;
    let first = flow.ping().answer()?;
    let second = flow.ping().answer()?;
    ensure!(first.source_seen == second.source_seen);
    ensure!(second.source_seen.port() == 4000);
    pod.close(Serve::Udp, 53);
    ensure!(flow.ping().is_refused());
    Ok(())
}

fn http() -> anyhow::Result<()> {
    let cluster = Cluster::builder().build()?;
    let pod = cluster.add_pod(0, "a")?;
    pod.serve_http(80)?;
    let address = pod.address(IpFamily::V6, 80);
    let response = cluster.client().probe().http_get(address, "/index.html")?;
    ensure!(response.status == 200);
    ensure!(response.header("X-Pod") == Some("a"), "{response:?}");
    ensure!(response.body.contains("This is pod a"), "{response:?}");
    let curl = ["-sS", "-g", "--noproxy", "*", &format!("http://{address}/")];
    match cluster.client().netns().output("curl", &curl) {
        Ok(page) => ensure!(page.contains("This is pod a"), "{page}"),
        Err(error) => ensure!(format!("{error:#}").contains("cannot start"), "{error:#}"),
    }
    pod.close(Serve::Http, 80);
    ensure!(cluster.client().probe().http_get(address, "/").is_err());
    Ok(())
}

fn host_network() -> anyhow::Result<()> {
    let cluster = Cluster::builder().nodes(2).build()?;
    let node = cluster.node(1);
    let server = Responder::start(node.netns(), "on-node")?;
    let address = (node.ip(IpFamily::V4), 6443).into();
    server.serve(Serve::Tcp, address)?;
    let pod = cluster.add_pod(0, "a")?;
    let answer = pod.probe().tcp(address).answer()?;
    ensure!(answer.pod == "on-node" && answer.source_seen.ip() == pod.ip(IpFamily::V4));
    ensure!(server.serve(Serve::Tcp, address).is_err(), "the address is taken");
    Ok(())
}

fn prober_sees_an_interruption() -> anyhow::Result<()> {
    let cluster = Cluster::builder().build()?;
    let (node, pod) = (cluster.node(0), cluster.add_pod(0, "a")?);
    pod.serve_tcp(80)?;
    let vip = plan::service_net().v4.network();
    forward(node, "legacy", vip, pod.ip(IpFamily::V4))?;
    let start = || {
        let probe = cluster.client().probe();
        Prober::start(&probe, (vip, 80).into(), Duration::from_millis(2))
    };
    let at_least = |prober: &Prober, count| {
        eventually(GUARD, || match prober.ended() {
            ended if ended >= count => Ok(()),
            ended => Err(format!("{ended} attempts")),
        });
    };
    let prober = start()?;
    at_least(&prober, 50);
    let report = prober.stop();
    report.check_no_failure()?;
    ensure!(report.pods()["a"] == report.attempts.len());

    let prober = start()?;
    at_least(&prober, 20);
    let rule = "FORWARD -p tcp --dport 80 -j REJECT --reject-with tcp-reset";
    iptables(node, "legacy", IpFamily::V4, &format!("-I {rule}"))?;
    at_least(&prober, prober.ended() + 20);
    iptables(node, "legacy", IpFamily::V4, &format!("-D {rule}"))?;
    at_least(&prober, prober.ended() + 20);
    let report = prober.stop();
    ensure!(report.failures().count() >= 10);
    let error = report.check_no_failure().err().context("failures unnoticed")?;
    ensure!(error.to_string().contains("refused"), "{error}");
    ensure!(report.attempts.last().is_some_and(|last| last.outcome.is_answer()));
    Ok(())
}

fn process_lines_and_signals() -> anyhow::Result<()> {
    let cluster = Cluster::builder().build()?;
    let mut command = Command::new("sh");
    command.env("WORD", "hello").args([
        "-c",
        "echo $WORD; ip -o addr show cni0 >&2; trap 'echo bye; exit 3' TERM; echo ready; \
         while :; do sleep 0.01; done",
    ]);
    let mut process = KubeProxy::start(cluster.node(0).netns(), command)?;
    let gateway = cluster.node(0).pod_gateway(IpFamily::V4).to_string();
    process.wait_for_line(GUARD, |line| line == "hello")?;
    process.wait_for_line(GUARD, |line| line.contains(&gateway))?;
    process.wait_for_line(GUARD, |line| line == "ready")?;
    ensure!(process.is_running());
    process.terminate()?;
    ensure!(process.wait(GUARD)?.code() == Some(3));
    ensure!(process.lines().last().is_some_and(|line| line == "bye"), "{:?}", process.lines());
    let missing = process.wait_for_line(GUARD, |line| line == "never");
    ensure!(missing.is_err_and(|error| error.to_string().contains("bye")));
    let missing = KubeProxy::start(cluster.node(0).netns(), Command::new("/does/not/exist"));
    ensure!(missing.is_err());
    Ok(())
}
