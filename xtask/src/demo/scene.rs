//! The node, the pods, the client, and kube-proxy running on the node.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use kube_proxy_core::IpFamily;
use kube_proxy_testkit::cluster::{Cluster, plan};
use kube_proxy_testkit::kube_proxy::{self, KubeProxy};
use kube_proxy_testkit::pod::Pod;

use super::Arguments;
use super::manifests::{Manifests, PodAddress};
use super::requests::{self, Asked};
use kube_proxy_testkit::say;

/// Cluster IP of `nginx-service`, out of the testkit's service network.
const CLUSTER_IP: Ipv4Addr = Ipv4Addr::new(10, 96, 14, 7);

/// How long anything may take before the demo gives up.
pub(super) const GUARD: Duration = Duration::from_mins(5);

/// Everything that is set up for the demo.
#[derive(Debug)]
pub(super) struct Scene {
    pub(super) proxy: KubeProxy,
    pub(super) manifests: Manifests,
    pub(super) client: Pod,
    pub(super) web: Vec<Pod>,
    pub(super) cluster: Cluster,
    /// Cluster IP and port of the Service.
    pub(super) service: SocketAddr,
}

impl Scene {
    /// Makes the cluster, writes the manifests and starts kube-proxy.
    pub(super) fn set_up(arguments: &Arguments) -> anyhow::Result<Self> {
        let cluster = Cluster::builder().nodes(1).build()?;
        let web = cluster.add_pods(&[
            (0, "nginx-deployment-7c5d8bf9f7-4k2wd"),
            (0, "nginx-deployment-7c5d8bf9f7-r9x6p"),
        ])?;
        for pod in &web {
            pod.serve_http(80)?;
        }
        let client = cluster.add_pod(0, "client")?;
        let node = cluster.node(0);
        say!("   node   {:<34} {}", node.name(), node.ip(IpFamily::V4));
        for pod in web.iter().chain([&client]) {
            say!("   pod    {:<34} {}", pod.name(), pod.ip(IpFamily::V4));
        }

        say!("\n2. kube-proxy starts on manifests: a Deployment (not its business), a Service");
        say!("   nginx-service with cluster IP {CLUSTER_IP}, its EndpointSlice, and the Node");
        let manifests = Manifests::write(
            node.name(),
            node.ip(IpFamily::V4),
            CLUSTER_IP.into(),
            &addresses(&web),
        )?;
        let proxy = start_proxy(arguments, &cluster, &manifests)?;
        let service = SocketAddr::new(CLUSTER_IP.into(), 80);
        Ok(Self { proxy, manifests, client, web, cluster, service })
    }

    /// Waits for the first answer through the cluster IP.
    pub(super) fn wait_until_served(&mut self) -> anyhow::Result<()> {
        let start = Instant::now();
        loop {
            if let Asked::Answered(_) = requests::ask(&self.client, self.service, QUICK) {
                say!("   the Service answers {:.0?} later", start.elapsed());
                return Ok(());
            }
            if !self.proxy.is_running() {
                let status = self.proxy.wait(GUARD)?;
                bail!("kube-proxy ended before it served the Service: {status}");
            }
            if start.elapsed() > GUARD {
                bail!("{} does not answer after {GUARD:?}", self.service);
            }
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// Leaves only these pods in the EndpointSlice.
    pub(super) fn set_endpoints(&self, pods: &[Pod]) -> anyhow::Result<()> {
        self.manifests.set_endpoints(self.cluster.node(0).name(), &addresses(pods))?;
        Ok(())
    }

    /// Stops kube-proxy in order, and checks whether the Service is still served.
    pub(super) fn stop_proxy(&mut self) -> anyhow::Result<String> {
        let start = Instant::now();
        self.proxy.terminate()?;
        let status = self.proxy.wait(GUARD)?;
        let took = start.elapsed();
        if !status.success() {
            bail!("kube-proxy did not stop in order: {status}");
        }
        let asked = requests::ask(&self.client, self.service, requests::PATIENCE);
        let Asked::Answered(pod) = asked else {
            bail!("the Service is not served any more after kube-proxy was stopped: {asked}");
        };
        say!("   stopped within {took:.0?}; {pod} still answers");
        Ok(format!("kube-proxy stopped within {took:.0?} of SIGTERM, the Service was still served"))
    }

    /// Writes kube-proxy's log to a file beside the build, and returns how to find it.
    pub(super) fn write_log(&self) -> String {
        let mut text = self.proxy.lines().join("\n");
        text.push('\n');
        let path = kube_proxy::binary().unwrap_or_default().with_file_name("demo-kube-proxy.log");
        match fs::write(&path, text) {
            Ok(()) => format!(" ({})", path.display()),
            // The log is shown anyway; a build directory of another user is no reason to fail.
            Err(_) => String::new(),
        }
    }
}

/// Limit of the tries before the Service is served, in which nothing may answer.
const QUICK: Duration = Duration::from_millis(100);

fn start_proxy(
    arguments: &Arguments,
    cluster: &Cluster,
    manifests: &Manifests,
) -> anyhow::Result<KubeProxy> {
    let node = cluster.node(0);
    let mut command = Command::new(kube_proxy::binary()?);
    command
        .args(["--proxy-mode", &arguments.mode])
        .arg("--manifests")
        .arg(manifests.path())
        .args(["--hostname-override", node.name()])
        .args(["--cluster-cidr", &plan::cluster_net().v4.to_string()]);
    if let Some(variant) = arguments.variant {
        command.args(["--iptables-variant", variant.name()]);
    }
    let words: Vec<_> = command.get_args().map(|word| word.to_string_lossy()).collect();
    say!("   kube-proxy {}", words.join(" "));
    KubeProxy::start(node.netns(), command).context("cannot start kube-proxy")
}

fn addresses(pods: &[Pod]) -> Vec<PodAddress<'_>> {
    pods.iter().map(|pod| PodAddress { name: pod.name(), ip: pod.ip(IpFamily::V4) }).collect()
}
