//! The Node object of this node, as the start-up and the health server need it.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::bail;
use ipnet::IpNet;
use kube_proxy_core::{IpFamily, Node, PerFamily};
use tokio::sync::watch;
use tokio::time::timeout;

use crate::config::{Effective, LocalTraffic, NodePorts};
use crate::health::Health;

/// Longest time to wait for the Node object and its addresses; then the proxy starts without.
const ADDRESS_WAIT: Duration = Duration::from_secs(30);
/// Longest time to wait for `spec.podCIDRs` where local traffic is recognised by them; then the proxy gives up.
const POD_CIDR_WAIT: Duration = Duration::from_mins(5);

/// What is known of the Node object.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NodeNews {
    /// The object, if there is one.
    pub node: Option<Arc<Node>>,
    /// The source has said what it knows of it, for the first time.
    pub listed: bool,
}

impl NodeNews {
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
pub struct NodeWatch(watch::Sender<NodeNews>);

impl Default for NodeWatch {
    fn default() -> Self {
        Self(watch::Sender::new(NodeNews::default()))
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

    /// Waits for what the start needs to know.
    pub async fn wait(&self, config: &Effective) -> anyhow::Result<NodeNews> {
        let mut receiver = self.0.subscribe();
        let by_address = config.node_ports == NodePorts::Primary;
        let complete =
            |news: &NodeNews| news.listed && (!by_address || !news.addresses().is_empty());
        if timeout(ADDRESS_WAIT, receiver.wait_for(complete)).await.is_err() {
            let seconds = ADDRESS_WAIT.as_secs();
            tracing::warn!(
                "nothing usable was heard of Node {:?} within {seconds} s; starting without",
                config.node_name
            );
        }
        let by_pod_cidr = config.local_traffic == LocalTraffic::NodeCidr;
        let complete = |news: &NodeNews| !by_pod_cidr || !news.pod_cidrs().is_empty();
        if timeout(POD_CIDR_WAIT, receiver.wait_for(complete)).await.is_err() {
            bail!(
                "detectLocalMode is NodeCIDR, but Node {:?} had no spec.podCIDRs within {} s",
                config.node_name,
                POD_CIDR_WAIT.as_secs()
            );
        }
        Ok(receiver.borrow().clone())
    }

    /// What is known, and word of what changes.
    pub fn subscribe(&self) -> watch::Receiver<NodeNews> {
        self.0.subscribe()
    }

    /// Keeps the health server informed, calls `moved` when the address of the node changed, and ends with an error when the node changed in
    /// a way that needs a new start.
    pub async fn follow(
        &self,
        config: &Effective,
        at_start: &NodeNews,
        health: &Health,
        moved: impl Fn(IpFamily, &NodeNews),
    ) -> anyhow::Result<()> {
        let mut receiver = self.0.subscribe();
        let mut seen = at_start.node.is_some();
        let mut addresses = PerFamily::from_fn(|family| at_start.address(config, family));
        loop {
            let news = receiver.borrow_and_update().clone();
            if news.node.is_some() {
                seen = true;
                health.set_node(news.node.as_deref());
                check_unchanged(config, at_start, &news)?;
                for family in IpFamily::BOTH {
                    let address = news.address(config, family);
                    // A Node object that loses its address does not move the node.
                    if address.is_some() && address != *addresses.get(family) {
                        *addresses.get_mut(family) = address;
                        moved(family, &news);
                    }
                }
            } else if seen {
                health.set_node(None);
            }
            if receiver.changed().await.is_err() {
                return std::future::pending().await;
            }
        }
    }
}

/// The backends were built for these facts; a supervisor starts the process again.
fn check_unchanged(config: &Effective, old: &NodeNews, new: &NodeNews) -> anyhow::Result<()> {
    let name = &config.node_name;
    if config.local_traffic == LocalTraffic::NodeCidr && old.pod_cidrs() != new.pod_cidrs() {
        bail!(
            "spec.podCIDRs of Node {name:?} changed and detectLocalMode is NodeCIDR: starting anew"
        );
    }
    Ok(())
}
