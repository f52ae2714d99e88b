//! The iptables backend: a snapshot becomes chains, and chains that differ go through `iptables-restore`.
//!
//! ```text
//! Snapshot ─plan─▶ rules of the chains ─diff─▶ Batch ─encode─▶ restore input ─transact─▶ kernel
//!            service.rs, lists.rs,       state.rs,       restore.rs        kernel.rs
//!            fixed.rs, rules.rs          tree.rs
//! ```
//!
//! Planning, comparing and encoding happen chain by chain: the rules of a chain are written into the input and taken back
//! if their hash is that of what the kernel has. So no rule text is kept between syncs.
//!
//! * `layout.rs` is the table of hooks and chains, `names.rs` the hashes in chain names.
//! * `actual.rs` reads what is there, for full syncs and `cleanup.rs`; `canonical.rs` knows our rules in the words of `iptables-save`.
//! * `sessions.rs` reads which endpoint a client has, and `look_up.rs` what serves one frontend.
//! * `counters.rs` has packets counted where the kernel can.

use std::collections::BTreeSet;

use async_trait::async_trait;
use kube_proxy_core::{
    Difference, FrontendQuery, IpFamily, KernelObject, LocalTrafficDetector, NodePortAddresses,
    ProxyBackend, Scope, ServicePortName, Session, SessionKey, Snapshot, SyncError, SyncReport,
};
use kube_proxy_xtables::{Check, Programs, SHARED_FIREWALL, node_port_destinations};

mod actual;
mod canonical;
mod cleanup;
mod compare;
mod counters;
mod fixed;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
mod kernel;
mod keys;
mod layout;
mod lists;
mod localnet;
mod look_up;
mod names;
mod restore;
mod rewrite;
mod rules;
mod service;
mod sessions;
mod state;
mod sync;
mod tree;

pub use cleanup::{InUse, remove, udp_frontends};
pub use counters::PacketCounts;
pub use kube_proxy_xtables::Variant;
pub use names::service_chains;

use counters::Counting;
use fixed::{ANTI_MARTIAN, Fixed, Masquerade};
use kernel::Kernel;
use layout::{CANARY, HOOKS, Hook, MANGLE, Table};
use rewrite::Rewrite;
use service::Settings;
use state::{Plan, State};

/// How the rules of one family are made.
#[derive(Clone, Debug)]
pub struct Config {
    /// The family.
    pub family: IpFamily,
    /// Masquerade everything that is sent to a cluster IP.
    pub masquerade_all: bool,
    /// The packet mark that asks for masquerading: `1 << masqueradeBit`.
    pub masquerade_mark: u32,
    /// How traffic of local pods is recognised.
    pub local_traffic: LocalTrafficDetector,
    /// Which addresses of the node take NodePort traffic.
    pub node_ports: NodePortAddresses,
    /// Whether NodePorts may be used on 127.0.0.0/8, if [`node_ports`](Self::node_ports) has it; IPv6 has no such thing.
    /// It needs the sysctl `route_localnet`, which is set then, and a rule that keeps neighbours away from loopback.
    pub localhost_node_ports: bool,
    /// Drop forwarded packets that conntrack finds invalid: wanted unless conntrack is liberal about TCP windows.
    pub drop_invalid: bool,
    /// Which iptables to use.
    pub variant: Variant,
}

impl Config {
    /// Whether NodePorts work on loopback addresses.
    fn serves_localhost(&self) -> bool {
        self.family == IpFamily::V4
            && self.localhost_node_ports
            && self.node_ports.contains_loopback()
    }
}

/// Writes the rules of one IP family.
pub struct IptablesBackend {
    options: Options,
    kernel: Box<dyn Kernel>,
    /// The variant of the programs.
    variant: Option<Variant>,
    /// What the kernel accepted; `None` before the first sync and after a failure.
    applied: Option<Applied>,
    /// The table `mangle` would not take the canary the last time.
    mangle_refused: bool,
    /// Whether rules can count packets here; `None` before that was tried.
    can_count: Option<bool>,
}

/// What all rules depend on, settled once.
struct Options {
    config: Config,
    masquerade: Masquerade,
    /// Destinations that take NodePort traffic, one element for each rule.
    node_ports: Vec<String>,
}

impl Options {
    fn fixed(&self, counting: Counting) -> Fixed {
        Fixed {
            masquerade: self.masquerade,
            drop_invalid: self.config.drop_invalid,
            localhost: self.config.serves_localhost(),
            counting,
        }
    }

    fn plan<'a>(
        &'a self,
        snapshot: &'a Snapshot,
        endpoint_comments: bool,
        left_out: &'a BTreeSet<ServicePortName>,
    ) -> Plan<'a> {
        Plan {
            snapshot,
            settings: Settings {
                family: self.config.family,
                masquerade_all: self.config.masquerade_all,
                detector: &self.config.local_traffic,
                node_ip: snapshot.node_ip,
                endpoint_comments,
            },
            masquerade: self.masquerade,
            node_ports: &self.node_ports,
            left_out,
        }
    }
}

/// What is on the node.
struct Applied {
    state: State,
    /// Rules of the fixed chains.
    fixed_rules: [(Table, usize); 2],
    /// Whether rules for endpoints carry comments. Decided by a full sync and kept until the next, so that a cluster
    /// that grows large by one endpoint is not rewritten for it.
    endpoint_comments: bool,
    /// Services whose rules the kernel refused.
    left_out: BTreeSet<ServicePortName>,
}

impl IptablesBackend {
    /// Chooses the programs and tries them.
    ///
    /// # Errors
    /// When there is no usable iptables of the family on this node, or the sysctl for NodePorts on localhost cannot be set.
    pub fn new(config: Config) -> Result<Self, SyncError> {
        check_interface_names(&config.local_traffic)?;
        let programs = Programs::choose(config.family, config.variant)?;
        programs.try_out()?;
        if config.serves_localhost() {
            localnet::check()?;
        }
        let (major, minor, patch) = programs.version();
        tracing::info!("{}: using {} {major}.{minor}.{patch}", config.family, programs.name());
        let random_fully = programs.knows_random_fully();
        let variant = Some(programs.variant());
        let kernel = Box::new(programs);
        Ok(Self { variant, ..Self::with_kernel(config, kernel, random_fully) })
    }

    fn with_kernel(config: Config, kernel: Box<dyn Kernel>, random_fully: bool) -> Self {
        Self {
            options: Options {
                masquerade: Masquerade { mark: config.masquerade_mark, random_fully },
                node_ports: node_port_destinations(
                    config.family,
                    &config.node_ports,
                    config.serves_localhost(),
                ),
                config,
            },
            kernel,
            variant: None,
            applied: None,
            mangle_refused: false,
            can_count: None,
        }
    }

    /// What this backend has on the node, for [`remove`].
    pub fn in_use(&self) -> InUse {
        let localhost = self.options.config.serves_localhost();
        InUse { variant: self.variant, shared: None, localhost, counters: true }
    }

    /// What must be there: the canaries, the hooks, and one rule of each chain that always exists and holds any.
    /// Together they notice tables flushed with or without their chains deleted, and one of those chains emptied.
    fn checks(&self) -> Vec<Check> {
        let canary = |table| Check::Chain { table, chain: CANARY };
        let localhost = self.options.config.serves_localhost();
        // Rules that count are not looked for.
        let fixed = fixed::fixed_chains(self.options.fixed(Counting::default()));
        let mut checks = Vec::new();
        for table in Table::ALL {
            let name = table.name();
            checks.push(canary(name));
            let ours = |hook: &&Hook| hook.to != SHARED_FIREWALL || localhost;
            let hooks = HOOKS.iter().filter(|hook| hook.table == table).filter(ours);
            checks.extend(hooks.map(|hook| Check::Rule {
                table: name,
                chain: hook.from,
                rule: hook.rule(),
            }));
            let fixed = fixed.iter().filter(|(of, ..)| *of == table);
            checks.extend(fixed.filter_map(|(_, chain, rules)| {
                Some(Check::Rule { table: name, chain, rule: rules.last()?.clone() })
            }));
            if let Some(applied) = &self.applied {
                let roots = applied.state.first_rules(table).into_iter();
                checks.extend(roots.map(|(chain, rule)| Check::Rule { table: name, chain, rule }));
            }
            if table == Table::Filter && localhost {
                let rule = ANTI_MARTIAN.to_owned();
                checks.push(Check::Rule { table: name, chain: SHARED_FIREWALL, rule });
            }
        }
        if self.applied.is_some() && !self.mangle_refused {
            checks.push(canary(MANGLE));
        }
        checks
    }
}

/// Interface names stand in rules as they are.
fn check_interface_names(detector: &LocalTrafficDetector) -> Result<(), SyncError> {
    let (LocalTrafficDetector::Bridge(name) | LocalTrafficDetector::InterfacePrefix(name)) =
        detector
    else {
        return Ok(());
    };
    if !name.is_empty()
        && name.len() <= 15
        && name.bytes().all(|b| b.is_ascii_graphic() && b != b'"')
    {
        return Ok(());
    }
    Err(SyncError::Unsupported(format!(
        "{name:?} cannot be (the start of) an interface name: 1 to 15 printable characters are"
    )))
}

#[async_trait]
impl ProxyBackend for IptablesBackend {
    async fn sync(
        &mut self,
        snapshot: &Snapshot,
        scope: Scope<'_>,
    ) -> Result<SyncReport, SyncError> {
        // Taken away for as long as it takes: whatever fails leaves nothing behind, and the next sync is full.
        match (scope, self.applied.take()) {
            (Scope::Partial(changes), Some(applied)) => {
                self.sync_partially(snapshot, changes, applied)
            }
            _ => self.sync_fully(snapshot, &Rewrite::of(scope)),
        }
    }

    async fn compare(&mut self, snapshot: &Snapshot) -> Result<Vec<Difference>, SyncError> {
        self.differences(snapshot)
    }

    async fn session(
        &mut self,
        snapshot: &Snapshot,
        key: &SessionKey,
    ) -> Result<Option<Session>, SyncError> {
        self.session_of(snapshot, key)
    }

    /// Lists the chains that packets for the frontend pass, one by one, and asks for the rules that lead to them.
    ///
    /// How many that are depends on the service port. The programs of iptables-legacy copy their whole table for any question,
    /// so that all chains and rules of a table are asked for at once.
    async fn look_up(
        &mut self,
        snapshot: &Snapshot,
        query: &FrontendQuery,
    ) -> Result<Vec<KernelObject>, SyncError> {
        self.objects_of(snapshot, query)
    }

    async fn intact(&mut self) -> Result<bool, SyncError> {
        self.kernel.holds(&self.checks())
    }
}

#[cfg(test)]
mod tests;
