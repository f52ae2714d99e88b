//! Measures what the flowtable gains, from a client outside through a node to a pod, all in network namespaces of its own:
//!
//! ```text
//! cargo run --profile quick-release -p kube-proxy-nftables --example fast_path
//! ```
//!
//! Needs `iperf3`, and a kernel with `nf_flow_table` and `nft_flow_offload`. Each round measures without it, with it for the node, and with it for the Service by
//! annotation, in turn.

use std::net::SocketAddr;
use std::num::{NonZeroU16, NonZeroU32};
use std::process::Stdio;
use std::sync::Arc;

use anyhow::Context as _;
use futures::executor::block_on;
use kube_proxy_core::{
    EndpointSlice, Event, IpFamily, LocalTrafficDetector, NodePortAddresses, ObjectName, Port,
    Protocol, ProxyBackend as _, Scope, Service, SliceEndpoint, SlicePort, Tracker, TrackerOptions,
};
use kube_proxy_nftables::{Config, NftablesBackend};
use kube_proxy_testkit::cluster::{Cluster, plan};
use kube_proxy_testkit::pod::Pod;
use kube_proxy_testkit::sandbox;

const FAMILY: IpFamily = IpFamily::V4;
const PROTOCOLS: [(&str, Protocol); 2] = [("tcp", Protocol::Tcp), ("udp", Protocol::Udp)];
const ROUNDS: usize = 3;

#[expect(clippy::print_stdout, reason = "the measurements are the output")]
fn main() -> anyhow::Result<()> {
    sandbox::enter_or_reexec();
    let cluster = Cluster::builder().nodes(1).build()?;
    let pod = cluster.add_pod(0, "server")?;
    let mut server = pod.netns().command("iperf3");
    let mut server = server
        .args(["-s"])
        .stdout(Stdio::null())
        .spawn()
        .context("start iperf3 (package iperf3)")?;
    let to = SocketAddr::new(cluster_ip(), 5201);
    let (plain, wishing) = (tracker(&pod, to, false), tracker(&pod, to, true));
    let variants = [
        ("without flowtable", None, &plain),
        ("with flowtable for the node", NonZeroU32::new(20), &plain),
        ("with flowtable for the Service", None, &wishing),
    ];
    for round in 1..=ROUNDS {
        for (which, offload_after, tracker) in variants {
            let config = Config { offload_after, ..config() };
            let node = cluster.node(0).netns();
            let mut backend = node.run(|| NftablesBackend::new(config))?;
            node.run(|| block_on(backend.sync(tracker.snapshot(), Scope::Full)))?;
            let tcp = iperf(&cluster, to, &["-t", "4"])?;
            let small = iperf(&cluster, to, &["-t", "4", "-M", "200", "-N", "-l", "160"])?;
            let udp = iperf(&cluster, to, &["-t", "4", "-u", "-b", "0", "-l", "64"])?;
            let bits = |json: &serde_json::Value| {
                json["end"]["sum_received"]["bits_per_second"].as_f64().unwrap_or_default() / 1e6
            };
            let udp = &udp["end"]["sum"];
            let number = |name: &str| udp[name].as_f64().unwrap_or_default();
            let arrived = (number("packets") - number("lost_packets")) / number("seconds");
            println!(
                "round {round}, {which}: TCP {:.0} Mbit/s, TCP in segments of 200 bytes {:.0} Mbit/s, \
                 UDP {arrived:.0} packets of 64 bytes a second",
                bits(&tcp),
                bits(&small)
            );
        }
    }
    server.kill()?;
    server.wait()?;
    Ok(())
}

fn iperf(cluster: &Cluster, to: SocketAddr, more: &[&str]) -> anyhow::Result<serde_json::Value> {
    let ip = to.ip().to_string();
    let arguments = [&["-J", "-c", &ip][..], more].concat();
    let text = cluster.client().netns().output("iperf3", &arguments)?;
    serde_json::from_str(&text).context("iperf3 prints JSON")
}

fn cluster_ip() -> std::net::IpAddr {
    let mut hosts = plan::service_net().get(FAMILY).hosts();
    hosts.nth(9).expect("the network has more addresses")
}

fn config() -> Config {
    Config {
        family: FAMILY,
        masquerade_all: false,
        masquerade_mark: 0x4000,
        local_traffic: LocalTrafficDetector::Cidr(*plan::cluster_net().get(FAMILY)),
        node_ports: NodePortAddresses::All,
        refused_on_loopback: Vec::new(),
        offload_after: None,
        count_refused: true,
        fast_path_choice: true,
    }
}

/// What the node serves; the Service asks for the fast path if it is `wishing`.
fn tracker(pod: &Pod, to: SocketAddr, wishing: bool) -> Tracker {
    let mut tracker = Tracker::new(TrackerOptions {
        family: FAMILY,
        node_name: "node-0".into(),
        node_ip: None,
        allow_external_ips: true,
        no_local_endpoints: kube_proxy_core::NoLocalEndpoints::Drop,
        zone_spill: kube_proxy_core::ZoneSpill::default(),
    });
    let port = NonZeroU16::new(to.port()).expect("not zero");
    let name = ObjectName::new("bench", "iperf");
    let mut service = Service::new(name.clone());
    service.cluster_ips.v4 = Some(to.ip());
    service.ports = PROTOCOLS
        .map(|(name, protocol)| Port { name: name.into(), protocol, port, node_port: None })
        .into();
    if wishing {
        let annotation = kube_proxy_nftables::FAST_PATH_ANNOTATION;
        service.policy.annotations.insert(annotation.into(), "true".into());
    }
    tracker.carry_annotations(vec![kube_proxy_nftables::FAST_PATH_ANNOTATION]);
    tracker.apply(Event::ServiceApplied(Arc::new(service)));
    tracker.apply(Event::EndpointSliceApplied(EndpointSlice {
        name: name.clone(),
        service: name.name,
        family: FAMILY,
        ports: PROTOCOLS
            .map(|(name, protocol)| SlicePort { name: name.into(), protocol, port })
            .into(),
        endpoints: vec![SliceEndpoint::ready(pod.ip(FAMILY))],
        trigger_time: None,
    }));
    tracker.fold();
    tracker
}
