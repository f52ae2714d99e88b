//! The node, the client, the endpoints and the API server of one run.

use std::fmt::Write as _;
use std::fs;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;

use anyhow::{Context as _, anyhow};
use fake_apiserver::ApiServer;
use ipnet::Ipv4Net;
use kube_proxy_core::IpFamily;
use kube_proxy_testkit::cluster::{Cluster, Node, plan};
use kube_proxy_testkit::generate::{Families, Scale};
use kube_proxy_testkit::pod::{Pod, Responder, Serve};
use serde_json::{Value, json};

use super::Arguments;

/// Endpoint addresses, apart from those of the testkit's own pods.
const ENDPOINT_NET: Ipv4Net = Ipv4Net::new_assert(Ipv4Addr::new(10, 128, 0, 0), 10);

/// Port on which all endpoints answer, the target port of the generated Services.
const ENDPOINT_PORT: u16 = 8080;

/// Port of the API server on the fabric.
const API_PORT: u16 = 6443;

/// The Service whose endpoint is changed to measure latency; it comes after all others.
const PROBED: &str = "zz-probed";

/// Everything one run needs. Dropping it removes all of it.
pub(super) struct Site {
    pub(super) api: ApiServer,
    pub(super) scale: Scale,
    pub(super) client: Pod,
    pub(super) cluster: Cluster,
    kubeconfig: PathBuf,
    // Kept for the addresses they own and serve.
    _responder: Responder,
    _endpoints: Pod,
    _directory: tempfile::TempDir,
}

impl Site {
    /// Makes the namespaces and fills the API server.
    pub(super) fn set_up(arguments: &Arguments, services: u32) -> anyhow::Result<Self> {
        let scale = Scale {
            pod_v4: ENDPOINT_NET,
            families: if arguments.dual_stack { Families::Dual } else { Families::V4 },
            node_ports: arguments.local,
            local: arguments.local,
            annotations: arguments.annotations.clone(),
            ..Scale::new(services as usize, arguments.endpoints as usize)
        };
        let cluster = Cluster::builder().nodes(1).build()?;
        let client = cluster.add_pod(0, "client")?;
        let endpoints = cluster.add_pod(0, "endpoints")?;
        route(&cluster, &client, &endpoints, &scale)?;
        let responder = Responder::start(endpoints.netns(), "endpoints")?;
        // It takes connections of both families.
        let any = SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), ENDPOINT_PORT);
        responder.serve(Serve::Tcp, any)?;

        let address = SocketAddr::new(plan::fabric_gateway().v4, API_PORT);
        let api = cluster
            .fabric()
            .run(|| ApiServer::start(address))
            .with_context(|| format!("cannot serve the Kubernetes API on {address}"))?;
        let directory = tempfile::tempdir().context("cannot make a temporary directory")?;
        let kubeconfig = directory.path().join("kubeconfig");
        fs::write(&kubeconfig, api.kubeconfig())
            .with_context(|| format!("cannot write {}", kubeconfig.display()))?;
        let site = Self {
            api,
            scale,
            client,
            cluster,
            kubeconfig,
            _responder: responder,
            _endpoints: endpoints,
            _directory: directory,
        };
        site.fill()?;
        Ok(site)
    }

    fn fill(&self) -> anyhow::Result<()> {
        self.apply(node_object(self.node()))?;
        let objects = self.scale.objects();
        self.api.apply_many(objects).map_err(|error| anyhow!("API server: {error:?}"))?;
        self.apply(probed_service(self.probed_address()))?;
        self.apply(probed_slice(self.probed_endpoint(0)))?;
        // It stores JSON; only the first client would wait for the protobuf of everything.
        self.api.encode_all("Service");
        self.api.encode_all("EndpointSlice");
        Ok(())
    }

    fn apply(&self, object: Value) -> anyhow::Result<()> {
        self.api.apply(object).map(|_| ()).map_err(|error| anyhow!("API server: {error:?}"))
    }

    /// The node that is measured.
    pub(super) fn node(&self) -> &Node {
        self.cluster.node(0)
    }

    /// Path of the kubeconfig.
    pub(super) fn kubeconfig(&self) -> &PathBuf {
        &self.kubeconfig
    }

    /// Cluster IP and port of a generated Service.
    pub(super) fn service_address(&self, service: usize) -> SocketAddr {
        SocketAddr::new(self.scale.cluster_ips(service)[0], 80)
    }

    /// The same in every family it has.
    pub(super) fn service_addresses(&self, service: usize) -> Vec<SocketAddr> {
        self.scale.cluster_ips(service).into_iter().map(|ip| SocketAddr::new(ip, 80)).collect()
    }

    /// An endpoint of a generated Service, reached directly.
    pub(super) fn endpoint_address(&self, service: usize) -> SocketAddr {
        SocketAddr::new(self.scale.endpoint_ips(service, 0)[0], ENDPOINT_PORT)
    }

    /// Cluster IP and port of the Service whose endpoint changes.
    pub(super) fn probed_address(&self) -> SocketAddr {
        let last = u32::from(self.scale.service_v4.broadcast());
        SocketAddr::new(Ipv4Addr::from(last - 2).into(), 80)
    }

    /// The endpoint it has after this many changes; no other Service has it.
    pub(super) fn probed_endpoint(&self, change: u32) -> Ipv4Addr {
        let last = u32::from(self.scale.pod_v4.broadcast());
        Ipv4Addr::from(last - 2 - change)
    }

    /// Gives it that endpoint.
    pub(super) fn change(&self, change: u32) -> anyhow::Result<()> {
        self.apply(probed_slice(self.probed_endpoint(change)))
    }
}

/// Leads all endpoint addresses to one pod, and cluster IPs without rules back to the client.
fn route(cluster: &Cluster, client: &Pod, endpoints: &Pod, scale: &Scale) -> anyhow::Result<()> {
    let node = cluster.node(0).netns();
    let mut commands = String::new();
    // Writing to a string cannot fail.
    let _ = writeln!(commands, "route add {} via {}", scale.pod_v4, endpoints.ip(IpFamily::V4));
    let _ = writeln!(commands, "route add {} via {}", scale.pod_v6, endpoints.ip(IpFamily::V6));
    let _ = writeln!(commands, "route add unreachable {}", scale.service_v4);
    let _ = writeln!(commands, "route add unreachable {}", scale.service_v6);
    node.ip(&commands)?;
    // Refusals must come at once, however many there are.
    node.sysctl(&[("ipv4/icmp_ratelimit", "0")])?;
    // Newer kernels limit them for each namespace; older ones have no such file here.
    let _ = node.sysctl(&[("ipv4/icmp_msgs_per_sec", "1000000")]);
    endpoints.netns().ip(&format!(
        "route add local {} dev lo\nroute add local {} dev lo",
        scale.pod_v4, scale.pod_v6
    ))?;
    // Thousands of connections to one address and port.
    client.netns().sysctl(&[("ipv4/tcp_tw_reuse", "1"), ("ipv4/ip_local_port_range", "1024 65000")])
}

fn node_object(node: &Node) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": node.name(), "labels": {"kubernetes.io/hostname": node.name()}},
        "spec": {
            "podCIDR": node.pod_cidr(IpFamily::V4).to_string(),
            "podCIDRs": [node.pod_cidr(IpFamily::V4).to_string()],
        },
        "status": {"addresses": [
            {"type": "InternalIP", "address": node.ip(IpFamily::V4).to_string()},
            {"type": "Hostname", "address": node.name()},
        ]},
    })
}

fn probed_service(address: SocketAddr) -> Value {
    let ip = address.ip().to_string();
    json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": PROBED, "namespace": "default"},
        "spec": {
            "type": "ClusterIP",
            "clusterIP": ip,
            "clusterIPs": [ip],
            "ipFamilies": ["IPv4"],
            "ipFamilyPolicy": "SingleStack",
            "internalTrafficPolicy": "Cluster",
            "sessionAffinity": "None",
            "ports": [{
                "name": "http",
                "protocol": "TCP",
                "port": address.port(),
                "targetPort": ENDPOINT_PORT,
            }],
        },
        "status": {"loadBalancer": {}},
    })
}

fn probed_slice(endpoint: Ipv4Addr) -> Value {
    json!({
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": format!("{PROBED}-x7k2m"),
            "namespace": "default",
            "labels": {"kubernetes.io/service-name": PROBED},
        },
        "addressType": "IPv4",
        "ports": [{"name": "http", "protocol": "TCP", "port": ENDPOINT_PORT}],
        "endpoints": [{
            "addresses": [endpoint.to_string()],
            "conditions": {"ready": true, "serving": true, "terminating": false},
        }],
    })
}
