//! Who reaches whom, and with which source address.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use kube_proxy_core::IpFamily;
use kube_proxy_testkit::cluster::{Cluster, plan};
use kube_proxy_testkit::netns::Netns;
use kube_proxy_testkit::probe::Probe;
use libtest_mimic::Trial;

use crate::trial;

/// Long enough for an answer that comes, short for one that must not.
const SILENCE: Duration = Duration::from_millis(200);

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("topology::everyone_reaches_pods", everyone_reaches_pods),
        trial("topology::other_outcomes", other_outcomes),
        trial("topology::client_chooses_node", client_chooses_node),
        trial("topology::removed_pod_vanishes", removed_pod_vanishes),
        trial("netns::errors_and_panics", errors_and_panics),
        trial("topology::clusters_are_apart", clusters_are_apart),
    ]
}

fn everyone_reaches_pods() -> anyhow::Result<()> {
    let cluster = Cluster::builder().nodes(2).build()?;
    let pods = cluster.add_pods(&[(0, "a"), (0, "b"), (1, "c")])?;
    for pod in &pods {
        pod.serve_tcp(80)?;
        pod.serve_udp(53)?;
    }
    for family in IpFamily::BOTH {
        let mut from = vec![(cluster.client().probe(), cluster.client().ip(family))];
        from.extend(pods.iter().map(|pod| (pod.probe(), pod.ip(family))));
        for pod in &pods {
            for (probe, source) in &from {
                let tcp = probe.tcp(pod.address(family, 80)).answer()?;
                let udp = probe.udp(pod.address(family, 53)).answer()?;
                for answer in [tcp, udp] {
                    ensure!(answer.pod == pod.name(), "{answer:?} is not of {}", pod.name());
                    ensure!(answer.source_seen.ip() == *source, "{answer:?} not from {source}");
                    ensure!(!answer.is_masqueraded());
                }
            }
            for node in cluster.nodes() {
                node.probe().tcp(pod.address(family, 80)).answer()?;
            }
        }
    }
    Ok(())
}

fn other_outcomes() -> anyhow::Result<()> {
    let cluster = Cluster::builder().build()?;
    let pod = cluster.add_pod(0, "a")?;
    for family in IpFamily::BOTH {
        let closed = pod.address(family, 81);
        ensure!(pod.probe().tcp(closed).is_refused());
        ensure!(cluster.client().probe().tcp(closed).is_refused());
        ensure!(cluster.client().probe().udp(closed).is_refused());
        let unserved = (plan::service_net().get(family).network(), 80).into();
        for probe in [pod.probe(), cluster.node(0).probe(), cluster.client().probe()] {
            let probe: Probe<'_> = probe.timeout(SILENCE);
            ensure!(probe.tcp(unserved).is_timed_out(), "{}", probe.tcp(unserved));
            ensure!(probe.udp(unserved).is_timed_out(), "{}", probe.udp(unserved));
        }
    }
    Ok(())
}

fn client_chooses_node() -> anyhow::Result<()> {
    let cluster = Cluster::builder().nodes(2).build()?;
    let (pod, client) = (cluster.add_pod(1, "b")?, cluster.client());
    pod.serve_tcp(80)?;
    for family in IpFamily::BOTH {
        // The second node has the address; packets routed to the first miss it.
        let vip = plan::load_balancer_net().get(family).network();
        let length = family.bits();
        cluster.node(1).netns().ip(&format!("addr add {vip}/{length} dev lo"))?;
        let address = (vip, 80).into();
        client.route_through(cluster.node(0))?;
        ensure!(client.probe().timeout(SILENCE).tcp(address).is_timed_out());
        client.route_through(cluster.node(1))?;
        ensure!(client.probe().tcp(address).is_refused());
    }
    let second = "172.18.0.240".parse()?;
    client.add_address(second)?;
    let probe = client.probe().source(second).source_port(12345);
    let answer = probe.tcp(pod.address(IpFamily::V4, 80)).answer()?;
    ensure!(answer.source_seen == (second, 12345).into(), "{answer:?}");
    Ok(())
}

fn removed_pod_vanishes() -> anyhow::Result<()> {
    let cluster = Cluster::builder().build()?;
    let (pod, other) = (cluster.add_pod(0, "a")?, cluster.add_pod(0, "b")?);
    pod.serve_tcp(80)?;
    let (address, host) = (pod.address(IpFamily::V4, 80), pod.host_number());
    let mut connection = other.probe().connect(address)?;
    ensure!(connection.ping().is_answer());
    drop(pod);
    connection.set_timeout(SILENCE)?;
    ensure!(connection.ping().is_timed_out(), "a vanished pod says nothing");
    let heir = cluster.add_pod_at(0, "heir", host)?;
    heir.serve_tcp(80)?;
    ensure!(heir.address(IpFamily::V4, 80) == address);
    // The stale neighbour entry of the node must not last.
    let answer = other.probe().tcp(address).answer()?;
    ensure!(answer.pod == "heir");
    Ok(())
}

fn clusters_are_apart() -> anyhow::Result<()> {
    let clusters = [Cluster::builder().build()?, Cluster::builder().build()?];
    let pods = [clusters[0].add_pod(0, "first")?, clusters[1].add_pod(0, "second")?];
    for (cluster, pod) in clusters.iter().zip(&pods) {
        pod.serve_tcp(80)?;
        let answer = cluster.client().probe().tcp(pod.address(IpFamily::V6, 80)).answer()?;
        ensure!(answer.pod == pod.name());
    }
    Ok(())
}

fn errors_and_panics() -> anyhow::Result<()> {
    let netns = Netns::create("errors")?;
    ensure!(Netns::create("errors").is_err(), "the name is taken");
    let error = netns.ip("link set lo up\nlink set missing0 up").err().context("no error")?;
    ensure!(format!("{error:#}").contains("`ip link set missing0 up` failed in errors"), "{error}");
    let error = netns.sysctl(&[("ipv4/no_such_setting", "1")]).err().context("no error")?;
    ensure!(format!("{error:#}").contains("no_such_setting"), "{error}");
    let error = netns.output("ip", &["link", "show", "missing0"]).err().context("no error")?;
    ensure!(format!("{error:#}").contains("missing0"), "{error}");
    let inside = netns.run(|| std::fs::read_link("/proc/thread-self/ns/net"))?;
    ensure!(inside != std::fs::read_link("/proc/thread-self/ns/net")?);
    let by_command = netns.command("readlink").arg("/proc/self/ns/net").output()?;
    ensure!(String::from_utf8(by_command.stdout)?.trim() == inside.to_string_lossy());
    // `resume_unwind` instead of `panic!`: it prints nothing.
    let caught = std::panic::catch_unwind(|| {
        netns.run(|| std::panic::resume_unwind(Box::new("from inside")));
    });
    let panic = caught.err().context("the panic was lost")?;
    ensure!(panic.downcast_ref() == Some(&"from inside"));
    Ok(())
}
