//! What has to hold in a cluster, whatever it is made of.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};

use super::objects::App;
use kube_proxy_testkit::say;

/// How long anything may take to come about.
const GUARD: Duration = Duration::from_mins(2);
/// Connections for an even choice among few pods to meet each of them.
const TRIES: usize = 60;

/// Who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum From {
    /// A pod on the first node.
    Pod,
    /// The first node itself.
    Node,
}

/// A cluster with this proxy on its nodes.
pub(crate) trait Site {
    /// Makes a Service and pods of the same name behind it, and waits until they are ready. The pods' names.
    fn deploy(&mut self, app: &App) -> anyhow::Result<Vec<String>>;

    /// Replaces the pods of a Service one by one, each by a new one that is ready before the old one goes. The new names.
    fn roll(&mut self, app: &App) -> anyhow::Result<Vec<String>>;

    /// The names of those pods that are on the first node.
    fn on_first_node(&self, app: &App) -> anyhow::Result<BTreeSet<String>>;

    /// The cluster IP of a Service.
    fn cluster_ip(&self, app: &App) -> anyhow::Result<IpAddr>;

    /// The address of the first node, and the node port of a Service.
    fn node_port(&self, app: &App) -> anyhow::Result<SocketAddr>;

    /// Connects and asks who is there: a pod's name, or `None` if nothing answers.
    fn ask(&self, from: From, to: SocketAddr) -> anyhow::Result<Option<String>>;

    /// Whether the cluster's name service answers a pod, over UDP.
    fn resolves(&self) -> anyhow::Result<bool>;
}

type Check = fn(&mut dyn Site) -> anyhow::Result<String>;

const CHECKS: &[(&str, Check)] = &[
    ("name service", name_service),
    ("cluster IP", cluster_ip),
    ("node port", node_port),
    ("internal policy Local", internal_local),
    ("no endpoints", no_endpoints),
    ("session affinity", affinity),
    ("rolling update under load", rolling_update),
];

/// Runs all checks, the rest even when one fails.
pub(crate) fn run(site: &mut dyn Site) -> anyhow::Result<()> {
    let mut failed = Vec::new();
    for (name, check) in CHECKS {
        match check(site) {
            Ok(seen) => say!("   ok      {name}: {seen}"),
            Err(error) => {
                say!("   FAILED  {name}: {error:#}");
                failed.push(*name);
            }
        }
    }
    ensure!(
        failed.is_empty(),
        "{} of {} checks failed: {}",
        failed.len(),
        CHECKS.len(),
        failed.join(", ")
    );
    Ok(())
}

/// Tries until it works.
pub(super) fn eventually<T>(mut attempt: impl FnMut() -> anyhow::Result<T>) -> anyhow::Result<T> {
    let start = Instant::now();
    loop {
        match attempt() {
            Ok(done) => return Ok(done),
            Err(error) if start.elapsed() > GUARD => {
                return Err(error.context(format!("not within {GUARD:?}")));
            }
            Err(_) => thread::sleep(Duration::from_millis(100)),
        }
    }
}

/// Exactly these pods answer, each of them.
fn all_answer(
    site: &dyn Site,
    from: From,
    to: SocketAddr,
    pods: &BTreeSet<String>,
) -> anyhow::Result<()> {
    let mut missing = pods.clone();
    for _ in 0..TRIES {
        let pod = site.ask(from, to)?.with_context(|| format!("{to} does not answer"))?;
        ensure!(pods.contains(&pod), "{to}: {pod} answers, which is none of {pods:?}");
        missing.remove(&pod);
        if missing.is_empty() {
            return Ok(());
        }
    }
    bail!("{to}: {missing:?} never answered")
}

fn names(pods: Vec<String>) -> BTreeSet<String> {
    pods.into_iter().collect()
}

fn name_service(site: &mut dyn Site) -> anyhow::Result<String> {
    eventually(|| {
        ensure!(site.resolves()?, "no answer");
        Ok("a pod gets an answer over UDP".to_owned())
    })
}

fn cluster_ip(site: &mut dyn Site) -> anyhow::Result<String> {
    let app = App::new("web", 1, 3);
    let pods = names(site.deploy(&app)?);
    let to = SocketAddr::new(site.cluster_ip(&app)?, 80);
    for from in [From::Pod, From::Node] {
        eventually(|| all_answer(site, from, to, &pods))?;
    }
    Ok(format!("{to} leads to all of {} pods, from a pod and from the node", pods.len()))
}

fn node_port(site: &mut dyn Site) -> anyhow::Result<String> {
    let app = App::new("web-node-port", 2, 2).node_port();
    let pods = names(site.deploy(&app)?);
    let to = site.node_port(&app)?;
    eventually(|| all_answer(site, From::Pod, to, &pods))?;
    Ok(format!("{to} leads to all of {} pods", pods.len()))
}

/// Only pods of the node answer. (An external policy is not strict for pods of the node, by design.)
fn internal_local(site: &mut dyn Site) -> anyhow::Result<String> {
    let app = App::new("web-local", 3, 4).internal_local();
    site.deploy(&app)?;
    let local = site.on_first_node(&app)?;
    let to = SocketAddr::new(site.cluster_ip(&app)?, 80);
    if local.is_empty() {
        eventually(|| {
            ensure!(site.ask(From::Pod, to)?.is_none(), "{to} answers without a local pod");
            Ok(())
        })?;
        return Ok("no pod on the node, and no answer".to_owned());
    }
    eventually(|| all_answer(site, From::Pod, to, &local))?;
    Ok(format!("{to} leads to the {} pods of the node only", local.len()))
}

fn no_endpoints(site: &mut dyn Site) -> anyhow::Result<String> {
    let app = App::new("web-empty", 4, 0);
    site.deploy(&app)?;
    let to = SocketAddr::new(site.cluster_ip(&app)?, 80);
    eventually(|| {
        ensure!(site.ask(From::Pod, to)?.is_none(), "{to} answers");
        Ok(format!("{to} does not answer"))
    })
}

fn affinity(site: &mut dyn Site) -> anyhow::Result<String> {
    let app = App::new("web-affinity", 5, 3).affinity();
    site.deploy(&app)?;
    let to = SocketAddr::new(site.cluster_ip(&app)?, 80);
    let first = eventually(|| site.ask(From::Pod, to)?.context("no answer"))?;
    for _ in 0..20 {
        let pod = site.ask(From::Pod, to)?.context("no answer")?;
        ensure!(pod == first, "{pod} answers, and {first} did before");
    }
    Ok(format!("{first} answered 21 times"))
}

/// While every pod is replaced, one connection after the other.
fn rolling_update(site: &mut dyn Site) -> anyhow::Result<String> {
    let app = App::new("web-rolling", 6, 3);
    let before = names(site.deploy(&app)?);
    let to = SocketAddr::new(site.cluster_ip(&app)?, 80);
    eventually(|| all_answer(site, From::Pod, to, &before))?;
    let after = names(site.roll(&app)?);
    eventually(|| all_answer(site, From::Pod, to, &after))?;
    Ok(format!("{} pods replaced, no connection failed", after.len()))
}
