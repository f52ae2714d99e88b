//! A cluster of namespaces: two nodes, an API server in this process, and kube-proxy as kubeadm starts it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use fake_apiserver::ApiServer;
use kube_proxy_core::IpFamily;
use kube_proxy_testkit::cluster::{Cluster, plan};
use kube_proxy_testkit::kube_proxy::{self, KubeProxy};
use kube_proxy_testkit::pod::Pod;
use kube_proxy_testkit::prober::Prober;
use serde_json::{Value, json};

use super::checks::{From, Site};
use super::objects::{App, TARGET};
use kube_proxy_testkit::say;

/// The node under test, as the API server knows it.
const NODE: &str = "node-0";
/// Where a cluster made by kubeadm has its name service.
const NAME_SERVICE: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 10);
/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// The cluster.
pub(super) struct Local {
    proxy: KubeProxy,
    apps: BTreeMap<String, Vec<Pod>>,
    client: Pod,
    /// Holds the servers of the name service.
    _names: Pod,
    api: ApiServer,
    made: usize,
    /// Holds the configuration files.
    _files: tempfile::TempDir,
    cluster: Cluster,
}

impl Local {
    /// Makes the cluster and starts kube-proxy with the ConfigMap and the command line of kubeadm; the mode comes as a variable,
    /// as the overlays of `deploy/` give it.
    pub(super) fn set_up(mode: &str) -> anyhow::Result<Self> {
        let cluster = Cluster::builder().nodes(2).build()?;
        let client = cluster.add_pod(0, "client")?;
        let names = cluster.add_pod(1, "coredns")?;
        names.serve_udp(53)?;
        let address = SocketAddr::from(([127, 0, 0, 1], 0));
        let api = cluster.node(0).netns().run(|| ApiServer::start(address))?;
        apply(&api, [node(0), node(1)])?;
        let endpoint = endpoint(names.ip(IpFamily::V4), 1);
        apply(&api, [name_service(), slice("kube-dns", "UDP", 53, &[endpoint])])?;
        let files = tempfile::tempdir().context("cannot make a temporary directory")?;
        let kubeconfig = files.path().join("kubeconfig.conf");
        fs::write(&kubeconfig, api.kubeconfig())?;
        let config = files.path().join("config.conf");
        fs::write(&config, kubeadm_config(&kubeconfig.display().to_string()))?;
        let mut command = Command::new(kube_proxy::binary()?);
        command
            .arg(format!("--config={}", config.display()))
            .arg(format!("--hostname-override={NODE}"))
            .env("KUBE_PROXY_PROXY_MODE", mode);
        let proxy = KubeProxy::start(cluster.node(0).netns(), command)?;
        Ok(Self {
            proxy,
            apps: BTreeMap::new(),
            client,
            _names: names,
            api,
            made: 0,
            _files: files,
            cluster,
        })
    }

    /// What kube-proxy said last.
    pub(super) fn show_log(&self) {
        let lines = self.proxy.lines();
        for line in &lines[lines.len().saturating_sub(40)..] {
            say!("   | {line}");
        }
    }

    fn new_pod(&mut self, app: &App) -> anyhow::Result<Pod> {
        self.made += 1;
        // Names of interfaces come from it: short.
        let pod = self.cluster.add_pod(self.made % 2, &format!("{}-{}", app.number, self.made))?;
        pod.serve_tcp(TARGET)?;
        Ok(pod)
    }

    fn publish(&self, app: &App, pods: &[Pod]) -> anyhow::Result<()> {
        let endpoints: Vec<Value> =
            pods.iter().map(|pod| endpoint(pod.ip(IpFamily::V4), pod.node().index())).collect();
        apply(&self.api, [slice(&app.name, "TCP", TARGET, &endpoints)])
    }

    fn names_of(&self, app: &App) -> Vec<String> {
        let pods = self.apps.get(&app.name).into_iter().flatten();
        pods.map(|pod| pod.name().to_owned()).collect()
    }
}

impl Site for Local {
    fn deploy(&mut self, app: &App) -> anyhow::Result<Vec<String>> {
        let mut service = app.service();
        let ip = self.cluster_ip(app)?.to_string();
        service["spec"]["clusterIP"] = ip.clone().into();
        service["spec"]["clusterIPs"] = json!([ip]);
        apply(&self.api, [service])?;
        let pods =
            (0..app.replicas).map(|_| self.new_pod(app)).collect::<anyhow::Result<Vec<_>>>()?;
        self.publish(app, &pods)?;
        self.apps.insert(app.name.clone(), pods);
        Ok(self.names_of(app))
    }

    fn roll(&mut self, app: &App) -> anyhow::Result<Vec<String>> {
        let to = SocketAddr::new(self.cluster_ip(app)?, 80);
        let prober = Prober::start(
            &self.client.probe().timeout(Duration::from_secs(10)),
            to,
            Duration::from_millis(5),
        )?;
        let mut pods = self.apps.remove(&app.name).unwrap_or_default();
        let mut gone = Vec::new();
        for _ in 0..pods.len() {
            pods.push(self.new_pod(app)?);
            self.publish(app, &pods)?;
            gone.push(pods.remove(0));
            self.publish(app, &pods)?;
            wait_for(&prober, 100);
        }
        // As the kubelet does, old pods continue serving for a while.
        wait_for(&prober, 100);
        self.apps.insert(app.name.clone(), pods);
        prober.stop().check_no_failure()?;
        Ok(self.names_of(app))
    }

    fn on_first_node(&self, app: &App) -> anyhow::Result<BTreeSet<String>> {
        let pods = self.apps.get(&app.name).into_iter().flatten();
        Ok(pods.filter(|pod| pod.node().index() == 0).map(|pod| pod.name().to_owned()).collect())
    }

    fn cluster_ip(&self, app: &App) -> anyhow::Result<IpAddr> {
        Ok(Ipv4Addr::new(10, 96, 1, app.number).into())
    }

    fn node_port(&self, app: &App) -> anyhow::Result<SocketAddr> {
        let port = &app.service()["spec"]["ports"][0]["nodePort"];
        let port =
            port.as_u64().and_then(|port| u16::try_from(port).ok()).context("a node port")?;
        Ok(SocketAddr::new(self.cluster.node(0).ip(IpFamily::V4), port))
    }

    fn ask(&self, from: From, to: SocketAddr) -> anyhow::Result<Option<String>> {
        let probe = match from {
            From::Pod => self.client.probe(),
            From::Node => self.cluster.node(0).probe(),
        };
        Ok(probe.timeout(PATIENCE).tcp(to).pod().map(str::to_owned))
    }

    fn resolves(&self) -> anyhow::Result<bool> {
        let to = SocketAddr::new(NAME_SERVICE.into(), 53);
        Ok(self.client.probe().timeout(PATIENCE).udp(to).is_answer())
    }
}

/// Waits until this many more connections have ended; the prober makes one each few milliseconds.
fn wait_for(prober: &Prober, more: usize) {
    let mark = prober.ended() + more;
    while prober.ended() < mark {
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn apply(api: &ApiServer, objects: impl IntoIterator<Item = Value>) -> anyhow::Result<()> {
    api.apply_many(objects).map(|_| ()).map_err(|error| anyhow!("{error:?}"))
}

/// What kubeadm 1.36 writes into the ConfigMap, field by field, with the pod networks of the testkit.
fn kubeadm_config(kubeconfig: &str) -> String {
    let pods = plan::cluster_net().v4;
    format!(
        "apiVersion: kubeproxy.config.k8s.io/v1alpha1\nbindAddress: 0.0.0.0\nbindAddressHardFail: false\n\
         clientConnection:\n  acceptContentTypes: \"\"\n  burst: 0\n  contentType: \"\"\n  kubeconfig: {kubeconfig}\n  qps: 0\n\
         clusterCIDR: {pods}\nconfigSyncPeriod: 0s\n\
         conntrack:\n  maxPerCore: null\n  min: null\n  tcpBeLiberal: false\n  tcpCloseWaitTimeout: null\n  tcpEstablishedTimeout: null\n  udpStreamTimeout: 0s\n  udpTimeout: 0s\n\
         detectLocal:\n  bridgeInterface: \"\"\n  interfaceNamePrefix: \"\"\ndetectLocalMode: \"\"\nenableProfiling: false\n\
         healthzBindAddress: \"\"\nhostnameOverride: \"\"\n\
         iptables:\n  localhostNodePorts: null\n  masqueradeAll: false\n  masqueradeBit: null\n  minSyncPeriod: 0s\n  syncPeriod: 0s\n\
         ipvs:\n  excludeCIDRs: null\n  minSyncPeriod: 0s\n  scheduler: \"\"\n  strictARP: false\n  syncPeriod: 0s\n  tcpFinTimeout: 0s\n  tcpTimeout: 0s\n  udpTimeout: 0s\n\
         kind: KubeProxyConfiguration\n\
         logging:\n  flushFrequency: 0\n  options:\n    json:\n      infoBufferSize: \"0\"\n    text:\n      infoBufferSize: \"0\"\n  verbosity: 0\n\
         metricsBindAddress: \"\"\nmode: \"\"\n\
         nftables:\n  masqueradeAll: false\n  masqueradeBit: null\n  minSyncPeriod: 0s\n  syncPeriod: 0s\n\
         nodePortAddresses: null\noomScoreAdj: null\nportRange: \"\"\nshowHiddenMetricsForVersion: \"\"\n\
         winkernel:\n  enableDSR: false\n  forwardHealthCheckVip: false\n  networkName: \"\"\n  rootHnsEndpointName: \"\"\n  sourceVip: \"\"\n"
    )
}

fn node(index: u8) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": { "name": format!("node-{index}") },
        "status": { "addresses": [{ "type": "InternalIP", "address": plan::node(index).v4.to_string() }] },
    })
}

fn name_service() -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": { "name": "kube-dns", "namespace": "default" },
        "spec": {
            "clusterIP": NAME_SERVICE.to_string(),
            "clusterIPs": [NAME_SERVICE.to_string()],
            "ports": [{ "name": "http", "protocol": "UDP", "port": 53 }],
        },
    })
}

fn endpoint(ip: IpAddr, node: usize) -> Value {
    json!({
        "addresses": [ip.to_string()],
        "conditions": { "ready": true, "serving": true, "terminating": false },
        "nodeName": format!("node-{node}"),
    })
}

fn slice(service: &str, protocol: &str, port: u16, endpoints: &[Value]) -> Value {
    json!({
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": format!("{service}-x"),
            "namespace": "default",
            "labels": { "kubernetes.io/service-name": service },
        },
        "addressType": "IPv4",
        "ports": [{ "name": "http", "protocol": protocol, "port": port }],
        "endpoints": endpoints,
    })
}
