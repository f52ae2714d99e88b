//! The Node object of this node, as the start-up and the health server need it.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::bail;
use ipnet::IpNet;
use kube_proxy_core::{IpFamily, Node, PerFamily};
use tokio::sync::watch;
use tokio::time::timeout;

use crate::serve::health::Health;
use kube_proxy_config::{Effective, LocalTraffic, Source};

/// Longest time to wait for the Node object and its addresses; then the proxy starts without.
const ADDRESS_WAIT: Duration = Duration::from_secs(30);
/// Longest time to wait for `spec.podCIDRs` where local traffic is recognised by them; then the proxy gives up.
const POD_CIDR_WAIT: Duration = Duration::from_mins(5);

/// What is known of the Node object.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NodeStatus {
    /// The object, if there is one.
    pub node: Option<Arc<Node>>,
    /// The source has said what it knows of it, for the first time.
    pub listed: bool,
}

impl NodeStatus {
    /// All addresses of the node.
    pub fn addresses(&self) -> Vec<IpAddr> {
        self.node.as_ref().map(|node| node.addresses.clone()).unwrap_or_default()
    }

    /// `spec.podCIDRs`.
    pub fn pod_cidrs(&self) -> Vec<IpNet> {
        self.node.as_ref().map(|node| node.pod_cidrs.clone()).unwrap_or_default()
    }

    /// The primary address of a family: given by configuration, else that of the object.
    pub fn address(&self, config: &Effective, family: IpFamily) -> Option<IpAddr> {
        let given = Some(config.bind_address);
        given
            .filter(|ip| !ip.is_unspecified() && IpFamily::of(ip) == family)
            .or_else(|| self.node.as_ref()?.address(family))
    }
}

/// Lets several parts of the program follow the Node object. Clones share the state.
#[derive(Clone, Debug)]
pub struct NodeWatch(watch::Sender<NodeStatus>);

impl Default for NodeWatch {
    fn default() -> Self {
        Self(watch::Sender::new(NodeStatus::default()))
    }
}

impl NodeWatch {
    /// The object is there, new or changed.
    pub fn applied(&self, node: &Arc<Node>) {
        self.0.send_modify(|news| news.node = Some(node.clone()));
    }

    /// The object is gone.
    pub fn gone(&self) {
        self.0.send_modify(|news| news.node = None);
    }

    /// The source has listed it, if it exists.
    pub fn listed(&self) {
        self.0.send_modify(|news| news.listed = true);
    }

    /// What is known now.
    pub fn news(&self) -> NodeStatus {
        self.0.borrow().clone()
    }

    /// Waits for what the start needs to know. Manifests are complete once they are read, so nothing more is waited for.
    pub async fn wait(&self, config: &Effective) -> anyhow::Result<NodeStatus> {
        let manifests = matches!(config.source, Source::Manifests(_));
        let mut receiver = self.0.subscribe();
        let by_address = config.node_ports.primary;
        let complete = |news: &NodeStatus| {
            news.listed && (manifests || !by_address || !news.addresses().is_empty())
        };
        let timely = timeout(ADDRESS_WAIT, receiver.wait_for(complete)).await.is_ok();
        if let Some(warning) = unknown(config, &self.news(), timely) {
            tracing::warn!("{warning}");
        }
        if config.local_traffic != LocalTraffic::NodeCidr {
            return Ok(self.news());
        }
        let wait = if manifests { Duration::ZERO } else { POD_CIDR_WAIT };
        let complete = |news: &NodeStatus| !news.pod_cidrs().is_empty();
        if timeout(wait, receiver.wait_for(complete)).await.is_err() {
            let (name, seconds) = (&config.node_name, wait.as_secs());
            let needs = "and detectLocalMode is NodeCIDR";
            if manifests {
                bail!("the manifests have no spec.podCIDRs of Node {name:?}, {needs}");
            }
            bail!("Node {name:?} had no spec.podCIDRs within {seconds} s, {needs}");
        }
        Ok(self.news())
    }

    /// Keeps the health answers informed. Never ends.
    pub async fn report(&self, health: &Health) {
        let mut receiver = self.0.subscribe();
        let mut seen = false;
        loop {
            let news = receiver.borrow_and_update().clone();
            seen |= news.node.is_some();
            // A Node that was never there is no reason against traffic: manifests need not have one.
            if seen {
                health.set_node(news.node.as_deref());
            }
            if receiver.changed().await.is_err() {
                return std::future::pending().await;
            }
        }
    }

    /// What is known, and word of what changes.
    pub fn subscribe(&self) -> watch::Receiver<NodeStatus> {
        self.0.subscribe()
    }

    /// Calls `moved` when the address of the node changed, and ends with an error when the node changed in a way that needs a new start.
    pub async fn follow(
        &self,
        config: &Effective,
        at_start: &NodeStatus,
        moved: impl Fn(IpFamily, &NodeStatus),
    ) -> anyhow::Result<()> {
        let mut receiver = self.0.subscribe();
        let mut addresses = PerFamily::from_fn(|family| at_start.address(config, family));
        loop {
            let news = receiver.borrow_and_update().clone();
            if news.node.is_some() {
                check_unchanged(config, at_start, &news)?;
                for family in IpFamily::BOTH {
                    let address = news.address(config, family);
                    // A Node object that loses its address does not move the node.
                    if address.is_some() && address != *addresses.get(family) {
                        *addresses.get_mut(family) = address;
                        moved(family, &news);
                    }
                }
            }
            if receiver.changed().await.is_err() {
                return std::future::pending().await;
            }
        }
    }
}

/// What the start does without, in one sentence. `timely` is whether the Node was there before the wait was over.
fn unknown(config: &Effective, news: &NodeStatus, timely: bool) -> Option<String> {
    let name = &config.node_name;
    let by_address = config.node_ports.primary && config.bind_address.is_unspecified();
    let address = by_address && news.addresses().is_empty();
    let effect = match (&news.node, address) {
        (Some(_), false) => return None,
        (Some(_), true) => "no node ports until it is known",
        (None, false) => "its zone is unknown",
        (None, true) => "its zone is unknown, and no node ports until its address is known",
    };
    let lacks = if news.node.is_some() { "address of Node" } else { "Node" };
    Some(match config.source {
        Source::Manifests(_) => format!("the manifests have no {lacks} {name:?}: {effect}"),
        Source::Kubernetes(_) if timely => {
            format!("the API server has no {lacks} {name:?}: {effect}")
        }
        Source::Kubernetes(_) => {
            let seconds = ADDRESS_WAIT.as_secs();
            format!("no {lacks} {name:?} within {seconds} s, starting without: {effect}")
        }
    })
}

/// The backends were built for these facts; a supervisor starts the process again.
fn check_unchanged(config: &Effective, old: &NodeStatus, new: &NodeStatus) -> anyhow::Result<()> {
    let name = &config.node_name;
    if config.local_traffic == LocalTraffic::NodeCidr && old.pod_cidrs() != new.pod_cidrs() {
        bail!("spec.podCIDRs of Node {name:?} changed and detectLocalMode is NodeCIDR: restarting");
    }
    Ok(())
}

#[cfg(test)]
mod tests;
