//! The modes: all of a mode in one file each, and what is common.

use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use ipnet::IpNet;
use kube_proxy_core::explain::{LoopbackNodePorts, ModeBehavior};
use kube_proxy_core::{Frontend, IpFamily, ProxyBackend, Removed, SyncError};
use kube_proxy_iptables::InUse;
use kube_proxy_userspace::Observer;
use kube_proxy_xtables::Variant;

use crate::telemetry::metrics::ModeMetrics;
use kube_proxy_config::{Effective, IptablesVariant, Mode};

pub mod choice;
mod iptables;
mod ipvs;
mod localhost;
mod nftables;
pub mod packet_facts;
pub mod stale_modes;
mod userspace;

/// What a backend needs to know of this node.
#[derive(Clone, Debug, Default)]
pub struct NodeFacts {
    /// The primary address of the family.
    pub ip: Option<IpAddr>,
    /// `spec.podCIDRs` of the Node object.
    pub pod_cidrs: Vec<IpNet>,
}

/// A mode: everything that the rest of the program needs of it.
pub struct ModeEntry {
    /// The mode.
    pub mode: Mode,
    /// The metrics that only this mode has.
    pub metrics: ModeMetrics,
    /// UDP flows lead to this process, which knows best where they belong.
    pub owns_udp_flows: bool,
    /// Its rules translate connections, so that conntrack alone knows their endpoints.
    pub connections_in_conntrack: bool,
    /// What an Event says at the start, if people should move to another mode.
    pub deprecation: Option<&'static str>,
    /// What it does in its own way with packets of one family.
    behavior: fn(&Effective, IpFamily) -> ModeBehavior,
    /// Its rules can be in places that its running backend does not use, so that they are removed there while it runs.
    has_variants: bool,
    /// Makes the function that creates its backends; called once, so that this holds what the families share.
    factory: fn() -> Box<Create>,
    /// Removes from one family the state of any kube-proxy of this mode, ours or the Go one.
    ///
    /// `Unsupported`: this node cannot have any, or it cannot be read.
    remove: fn(IpFamily, &Running) -> Result<Removed, SyncError>,
    /// The UDP frontends that this mode has on the node.
    udp_frontends: fn(IpFamily) -> Result<Vec<Frontend>, SyncError>,
}

/// Creates the backend of one family.
type Create =
    dyn Fn(&Effective, IpFamily, &NodeFacts, &Observer) -> Result<Made, SyncError> + Send + Sync;

/// A backend, and what it uses of iptables.
struct Made {
    backend: Box<dyn ProxyBackend>,
    iptables: InUse,
}

impl Made {
    /// A backend without rules of its own in iptables' tables.
    fn without_iptables(backend: Box<dyn ProxyBackend>) -> Self {
        Self { backend, iptables: InUse::default() }
    }
}

/// The entry of a mode.
pub fn entry(mode: Mode) -> &'static ModeEntry {
    match mode {
        Mode::Iptables => &iptables::ENTRY,
        Mode::Ipvs => &ipvs::ENTRY,
        Mode::Nftables => &nftables::ENTRY,
        Mode::Userspace => &userspace::ENTRY,
    }
}

/// All modes.
pub fn all() -> impl Iterator<Item = &'static ModeEntry> {
    Mode::ALL.into_iter().map(entry)
}

impl ModeEntry {
    /// Removes the state of this mode in one family, except what is in use and, while a mode runs, what connections need.
    ///
    /// # Errors
    /// What could not be removed, and why.
    pub fn remove(&self, family: IpFamily, running: &Running) -> Result<Removed, SyncError> {
        if running.mode == Some(self.mode) && !self.has_variants {
            return Ok(Removed::Nothing);
        }
        (self.remove)(family, running)
    }

    /// The UDP frontends that this mode left in one family; none if it is the one that runs, or if they cannot be read.
    pub fn udp_frontends(&self, family: IpFamily, running: &Running) -> Vec<Frontend> {
        if running.mode == Some(self.mode) {
            return Vec::new();
        }
        (self.udp_frontends)(family).unwrap_or_default()
    }
}

/// A backend, and what must not be removed while it runs.
pub struct Created {
    /// The backend.
    pub backend: Box<dyn ProxyBackend>,
    /// What is in use.
    pub running: Running,
}

/// What is in use on the node while leftovers are removed; by default nothing is.
#[derive(Clone, Debug, Default)]
pub struct Running {
    /// The mode of the running proxy.
    pub mode: Option<Mode>,
    /// What it uses of iptables.
    pub iptables: InUse,
    /// `ipvs.excludeCIDRs`: what is in them stays.
    pub exclude_cidrs: Arc<[IpNet]>,
    /// When connections that another mode left are cut; `None` is never.
    pub cut_at: Option<Instant>,
}

impl Running {
    /// Nothing runs; what the configuration says about removing.
    pub fn of(config: &Effective) -> Self {
        let ipvs = &config.ipvs;
        let patience = Some(ipvs.drain_timeout).filter(|timeout| !timeout.is_zero());
        Self {
            exclude_cidrs: ipvs.exclude_cidrs.clone().into(),
            cut_at: patience.and_then(|patience| Instant::now().checked_add(patience)),
            ..Self::default()
        }
    }
}

/// Creates the backends of one mode, for both families. Clones share what the families share.
#[derive(Clone)]
pub struct Factory {
    mode: Mode,
    create: Arc<Create>,
}

impl Factory {
    /// The factory of a mode.
    pub fn new(mode: Mode) -> Self {
        Self::of(entry(mode))
    }

    fn of(entry: &ModeEntry) -> Self {
        Self { mode: entry.mode, create: (entry.factory)().into() }
    }

    /// Creates the backend of one family. `observer` counts the connections that this process copies.
    ///
    /// # Errors
    /// The node lacks something that the mode needs.
    pub fn create(
        &self,
        config: &Effective,
        family: IpFamily,
        node: &NodeFacts,
        observer: &Observer,
    ) -> Result<Created, SyncError> {
        let Made { backend, iptables } = (self.create)(config, family, node, observer)?;
        let running = Running { mode: Some(self.mode), iptables, ..Running::of(config) };
        Ok(Created { backend, running })
    }
}

/// What the configured mode does in its own way with packets of one family.
pub fn behavior(config: &Effective, family: IpFamily) -> ModeBehavior {
    (entry(config.mode).behavior)(config, family)
}

/// Node ports on loopback addresses in modes whose rules or ports take them there.
fn loopback(config: &Effective, family: IpFamily) -> LoopbackNodePorts {
    let everywhere = config.node_port_addresses(family, None).contains_loopback();
    if config.localhost_node_ports && everywhere {
        LoopbackNodePorts::Served
    } else {
        LoopbackNodePorts::NotServed
    }
}

/// Whether this host has the family at all.
pub fn host_has(family: IpFamily) -> bool {
    match family {
        IpFamily::V4 => true,
        IpFamily::V6 => Path::new("/proc/self/net/if_inet6").exists(),
    }
}

fn variant(config: &Effective) -> Variant {
    match config.iptables_variant {
        IptablesVariant::Auto => Variant::Auto,
        IptablesVariant::Legacy => Variant::Legacy,
        IptablesVariant::Nft => Variant::Nft,
    }
}

#[cfg(test)]
mod tests;
