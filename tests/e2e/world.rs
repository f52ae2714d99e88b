//! A cluster with a running proxy: what almost every test starts with.
//!
//! Node 0 is the node under test. Pods `local-1`, `local-2` and `client` are on it, `remote-1` is on node 1, and the outside client
//! reaches everything through node 0.

use std::collections::BTreeSet;
use std::fmt;
use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use fake_apiserver::ApiServer;
use kube_proxy_core::IpFamily;
use kube_proxy_testkit::cluster::{Cluster, plan};
use kube_proxy_testkit::eventually::{Patience, eventually};
use kube_proxy_testkit::kube_proxy::{KubeProxy, METRICS};
use kube_proxy_testkit::pod::Pod;
use kube_proxy_testkit::probe::Probe;
use serde_json::Value;

use crate::objects::{Ep, NAMESPACE, Svc, cluster_ip, node, node_port};

/// Keeps a test from hanging; far beyond what anything takes.
pub(crate) const GUARD: Duration = Duration::from_mins(5);
/// Name of the node under test.
pub(crate) const NODE: &str = "node-a";
/// Name of the other node.
pub(crate) const OTHER_NODE: &str = "node-b";
/// Port of the TCP and UDP servers of every pod.
pub(crate) const TARGET: u16 = 8080;
/// A second port of every pod, TCP.
pub(crate) const OTHER_TARGET: u16 = 8081;

/// Port of the API server. Below the ports that clients get, so that none of them has it while the server is stopped.
const API_PORT: u16 = 6443;

/// A mode as a user picks it: one column of the table of cases.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    IptablesLegacy,
    IptablesNft,
    Nftables,
    Ipvs,
    Userspace,
}

impl Mode {
    pub(crate) const ALL: [Self; 5] =
        [Self::IptablesLegacy, Self::IptablesNft, Self::Nftables, Self::Ipvs, Self::Userspace];

    /// Whether it is the iptables mode, with one or the other kind of programs.
    pub(crate) fn is_iptables(self) -> bool {
        matches!(self, Self::IptablesLegacy | Self::IptablesNft)
    }

    /// Whether the kernel has it. Most have, as a module that has to be loaded, what ipvs needs; development machines may not.
    pub(crate) fn is_here(self, rootless: bool) -> bool {
        self != Self::Ipvs || (!rootless && std::path::Path::new("/proc/self/net/ip_vs").exists())
    }

    /// Whether it counts the connections of services.
    pub(crate) fn counts_traffic(self) -> bool {
        matches!(self, Self::Nftables | Self::Ipvs | Self::Userspace)
    }

    /// The flags that choose it.
    pub(crate) fn flags(self) -> [&'static str; 2] {
        match self {
            Self::IptablesLegacy => ["--proxy-mode=iptables", "--iptables-variant=legacy"],
            Self::IptablesNft => ["--proxy-mode=iptables", "--iptables-variant=nft"],
            Self::Nftables => ["--proxy-mode=nftables", "--iptables-variant=nft"],
            // The kernel of user-mode Linux has no other.
            Self::Ipvs => ["--proxy-mode=ipvs", "--iptables-variant=legacy"],
            Self::Userspace => ["--proxy-mode=userspace", "--iptables-variant=nft"],
        }
    }

    /// A program of this variant, such as `iptables-nft-save`.
    pub(crate) fn program(self, family: IpFamily, suffix: &str) -> String {
        let base = if family == IpFamily::V4 { "iptables" } else { "ip6tables" };
        let variant =
            if matches!(self, Self::IptablesLegacy | Self::Ipvs) { "legacy" } else { "nft" };
        format!("{base}-{variant}{suffix}")
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::IptablesLegacy => "iptables-legacy",
            Self::IptablesNft => "iptables-nft",
            Self::Nftables => "nftables",
            Self::Ipvs => "ipvs",
            Self::Userspace => "userspace",
        })
    }
}

/// The binary under test.
pub(crate) fn binary() -> anyhow::Result<PathBuf> {
    let path = std::env::var_os("KUBE_PROXY_BIN")
        .context("KUBE_PROXY_BIN is not set: run `cargo xtask test`, or build the package kube-proxy and name its binary")?;
    let path = PathBuf::from(path);
    ensure!(path.is_file(), "KUBE_PROXY_BIN: there is no file {}", path.display());
    Ok(path)
}

/// A cluster, an API server in the namespace of node 0, and a proxy there that watches it.
pub(crate) struct World {
    pub(crate) cluster: Cluster,
    pub(crate) pods: Vec<Pod>,
    pub(crate) api: ApiServer,
    /// Where the proxy gets its objects from: flags, by default those that name the API server.
    pub(crate) source: Vec<String>,
    proxy: Option<KubeProxy>,
    flags: Vec<String>,
    markers: AtomicU8,
}

impl World {
    /// With the usual flags: local traffic is what comes from the cluster's pod networks.
    pub(crate) fn new(mode: Mode) -> anyhow::Result<Self> {
        let nets = plan::cluster_net();
        Self::with_flags(mode, &[&format!("--cluster-cidr={},{}", nets.v4, nets.v6)])
    }

    /// With flags of the test's choice besides those of the mode.
    pub(crate) fn with_flags(mode: Mode, flags: &[&str]) -> anyhow::Result<Self> {
        let mut world = Self::without_proxy(mode, flags)?;
        world.start()?;
        Ok(world)
    }

    /// Everything but the proxy, which [`Self::start`] starts.
    pub(crate) fn without_proxy(mode: Mode, flags: &[&str]) -> anyhow::Result<Self> {
        let (cluster, pods) = cluster()?;
        let api = api(&cluster)?;
        let mut all: Vec<String> = mode.flags().iter().map(ToString::to_string).collect();
        // Tests change things in quick succession, and look at repairs.
        all.push("--iptables-min-sync-period=0s".to_owned());
        all.push("--iptables-sync-period=1s".to_owned());
        all.push("--ipvs-min-sync-period=0s".to_owned());
        all.push("--ipvs-sync-period=4s".to_owned());
        // On a busy machine a flow that continues is silent for longer than the 250 ms of the default.
        all.push("--udp-timeout=1m".to_owned());
        all.extend(flags.iter().map(ToString::to_string));
        let source = vec![format!("--master={}", api.url())];
        Ok(Self { cluster, pods, api, source, proxy: None, flags: all, markers: AtomicU8::new(0) })
    }

    /// Starts the proxy, or a new one with the same flags, and waits for its first sync.
    pub(crate) fn start(&mut self) -> anyhow::Result<()> {
        self.start_without_waiting(self.command()?)?;
        let mut given =
            self.flags.iter().filter_map(|flag| flag.strip_prefix("--metrics-bind-address="));
        let mut metrics = match given.next_back() {
            // Without metrics, a Service that works shows it.
            Some("") => return self.settle(),
            Some(address) => address.parse().with_context(|| address.to_owned())?,
            None => METRICS,
        };
        if metrics.ip().is_unspecified() {
            metrics.set_ip(match metrics.ip() {
                IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
                IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
            });
        }
        self.synced_at(metrics)
    }

    /// Waits for the first sync of a proxy with its metrics where they are by default.
    pub(crate) fn wait_until_synced(&self) -> anyhow::Result<()> {
        self.synced_at(METRICS)
    }

    fn synced_at(&self, metrics: SocketAddr) -> anyhow::Result<()> {
        let netns = self.cluster.node(0).netns();
        self.proxy().wait_until_synced(netns, metrics, &IpFamily::BOTH, GUARD)
    }

    /// Starts a proxy, in place of the one before.
    pub(crate) fn start_without_waiting(&mut self, command: Command) -> anyhow::Result<()> {
        // First the end of the old one, which holds ports.
        self.proxy = None;
        self.proxy = Some(KubeProxy::start(self.cluster.node(0).netns(), command)?);
        Ok(())
    }

    /// Proxies started from now on are of this mode.
    pub(crate) fn use_mode(&mut self, mode: Mode) {
        for (flag, new) in self.flags.iter_mut().zip(mode.flags()) {
            new.clone_into(flag);
        }
    }

    /// The command line of the proxy.
    pub(crate) fn command(&self) -> anyhow::Result<Command> {
        let mut command = Command::new(binary()?);
        command.args(&self.source).arg(format!("--hostname-override={NODE}")).args(&self.flags);
        Ok(command)
    }

    /// The proxy that was started last.
    pub(crate) fn proxy(&self) -> &KubeProxy {
        self.proxy.as_ref().expect("a proxy was started")
    }

    /// The proxy that was started last.
    pub(crate) fn proxy_mut(&mut self) -> &mut KubeProxy {
        self.proxy.as_mut().expect("a proxy was started")
    }

    /// Sends SIGTERM and waits for a good end.
    pub(crate) fn stop(&mut self) -> anyhow::Result<()> {
        let proxy = self.proxy_mut();
        proxy.terminate()?;
        let status = proxy.wait(GUARD)?;
        ensure!(status.success(), "ended with {status}:\n{}", proxy.lines().join("\n"));
        Ok(())
    }

    pub(crate) fn pod(&self, name: &str) -> &Pod {
        let found = self.pods.iter().find(|pod| pod.name() == name);
        found.unwrap_or_else(|| panic!("there is no pod {name}"))
    }

    /// An endpoint that stands for a pod.
    pub(crate) fn endpoint(&self, pod: &str) -> Ep {
        let pod = self.pod(pod);
        let node = if pod.node().index() == 0 { NODE } else { OTHER_NODE };
        Ep::new(IpFamily::BOTH.map(|family| pod.ip(family)), node)
    }

    pub(crate) fn endpoints(&self, pods: &[&str]) -> Vec<Ep> {
        pods.iter().map(|pod| self.endpoint(pod)).collect()
    }

    /// Creates or changes a Service with these pods behind it.
    pub(crate) fn serve(&self, service: &Svc, pods: &[&str]) -> anyhow::Result<()> {
        self.apply([service.object()])?;
        self.apply(service.slices(TARGET, &self.endpoints(pods)))
    }

    pub(crate) fn apply(&self, objects: impl IntoIterator<Item = Value>) -> anyhow::Result<()> {
        self.api.apply_many(objects).map_err(|error| anyhow::anyhow!("{error:?}"))?;
        Ok(())
    }

    /// Waits until everything applied so far is on the node, by a Service that is applied last and only then works.
    ///
    /// Services and slices come in order, each over a watch of its own; so a Service that works proves both streams up to it.
    pub(crate) fn settle(&self) -> anyhow::Result<()> {
        self.settle_with_marker().map(drop)
    }

    /// The same; the name of that Service, which stays.
    pub(crate) fn settle_with_marker(&self) -> anyhow::Result<String> {
        let number = self.markers.fetch_add(1, Ordering::Relaxed);
        ensure!(number < 50, "more markers than addresses for them");
        let name = format!("marker-{number}");
        let marker = Svc::new(&name, 200 + number);
        self.serve(&marker, &["local-1"])?;
        for family in IpFamily::BOTH {
            let to = SocketAddr::new(cluster_ip(200 + number, family), 80);
            let (probe, mut patience) = (self.pod("client").probe(), Patience::default());
            eventually(GUARD, || probe.timeout(patience.grow()).tcp(to).answer());
        }
        Ok(name)
    }

    pub(crate) fn probe(&self, from: From) -> Probe<'_> {
        match from {
            From::Pod(name) => self.pod(name).probe(),
            From::Node => self.cluster.node(0).probe(),
            From::Outside => self.cluster.client().probe(),
        }
    }

    /// Which pods answer from there; asks until each of `wanted` has, and fails when another one does.
    pub(crate) fn check_pods(
        &self,
        from: From,
        to: SocketAddr,
        wanted: &[&str],
    ) -> anyhow::Result<()> {
        let mut missing: BTreeSet<&str> = wanted.iter().copied().collect();
        // A fair choice among 2 misses one of them in 60 tries once in 10^18.
        for _ in 0..60 {
            let answer = self.probe(from).tcp(to).answer()?;
            ensure!(
                wanted.contains(&answer.pod.as_str()),
                "{} answered, not {wanted:?}",
                answer.pod
            );
            missing.remove(answer.pod.as_str());
            if missing.is_empty() {
                return Ok(());
            }
        }
        anyhow::bail!("{missing:?} never answered")
    }

    /// Deletes an object of the tests' namespace.
    pub(crate) fn delete(&self, kind: &str, name: &str) -> anyhow::Result<()> {
        self.api.delete(kind, NAMESPACE, name).map_err(|error| anyhow::anyhow!("{error:?}"))?;
        Ok(())
    }

    /// The node port of a Service on the node under test.
    pub(crate) fn node_port(&self, number: u8, family: IpFamily) -> SocketAddr {
        SocketAddr::new(self.cluster.node(0).ip(family), node_port(number))
    }

    /// The rules and chains that a program such as `iptables-nft-save` prints, sorted, without what differs each time.
    pub(crate) fn rules(&self, mode: Mode, family: IpFamily) -> anyhow::Result<Vec<String>> {
        let text = self.on_node(&mode.program(family, "-save"), &[])?;
        let mut table = "";
        let mut rules = Vec::new();
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            if let Some(name) = line.strip_prefix('*') {
                table = name;
            }
            // Counters.
            let line = line.split(" [").next().unwrap_or(line);
            rules.push(format!("{table} {line}"));
        }
        rules.sort_unstable();
        Ok(rules)
    }

    /// Output of a program in the namespace of node 0.
    pub(crate) fn on_node(&self, program: &str, arguments: &[&str]) -> anyhow::Result<String> {
        self.cluster.node(0).netns().output(program, arguments)
    }
}

/// What the proxy said is what one wants to know when a guard has passed.
impl Drop for World {
    fn drop(&mut self) {
        if let Some(proxy) = self.proxy.as_ref().filter(|_| std::thread::panicking()) {
            let lines = proxy.lines();
            let complaints = lines.iter().filter(|l| l.contains(" WARN ") || l.contains(" ERROR "));
            let first: Vec<&str> = complaints.take(5).map(String::as_str).collect();
            let last = lines[lines.len().saturating_sub(15)..].join("\n");
            let text = format!(
                "the proxy's first complaints:\n{}\nits last lines:\n{last}",
                first.join("\n")
            );
            // Nothing is left to do when standard error is closed.
            let _ = writeln!(std::io::stderr(), "{text}");
        }
    }
}

/// Where a packet starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum From {
    Pod(&'static str),
    Node,
    Outside,
}

/// The namespaces, with servers in the pods.
pub(crate) fn cluster() -> anyhow::Result<(Cluster, Vec<Pod>)> {
    let cluster = Cluster::builder().nodes(2).build()?;
    let pods =
        cluster.add_pods(&[(0, "local-1"), (0, "local-2"), (0, "client"), (1, "remote-1")])?;
    for pod in &pods {
        pod.serve_tcp(TARGET)?;
        pod.serve_tcp(OTHER_TARGET)?;
        pod.serve_udp(TARGET)?;
    }
    Ok((cluster, pods))
}

/// An API server that knows the two nodes, in the namespace of node 0.
pub(crate) fn api(cluster: &Cluster) -> anyhow::Result<ApiServer> {
    api_at(cluster, IpAddr::from([127, 0, 0, 1]))
}

/// One that listens on this address of node 0.
pub(crate) fn api_at(cluster: &Cluster, ip: IpAddr) -> anyhow::Result<ApiServer> {
    let address = SocketAddr::new(ip, API_PORT);
    let api = cluster.node(0).netns().run(|| ApiServer::start(address))?;
    api.apply_many([node(NODE, 0, "zone-a"), node(OTHER_NODE, 1, "zone-b")])
        .map_err(|error| anyhow::anyhow!("{error:?}"))?;
    Ok(api)
}

/// The cluster IP of a Service with its port.
pub(crate) fn cluster_address(number: u8, family: IpFamily) -> SocketAddr {
    SocketAddr::new(cluster_ip(number, family), 80)
}
