//! Which metrics only one mode has.

/// The metrics that only one mode has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ModeMetrics {
    /// What counts its failed syncs.
    pub failures: FailureMetrics,
    /// The objects in its [`SyncReport`](kube_proxy_core::SyncReport)s are rules of iptables tables, which have metrics.
    pub reports_rules: bool,
    /// What the kernel counts for it.
    pub counters: Counters,
}

/// What the kernel counts, to be read before the metrics are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counters {
    /// Nothing.
    None,
    /// Packets that rules of the iptables mode meet, where it can, see [`PacketCounts`](kube_proxy_iptables::PacketCounts).
    Rules,
    /// Packets that the nftables mode refuses at node ports on loopback.
    RefusedOnLoopback,
}

/// Which counters of the Go kube-proxy a failed sync raises.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailureMetrics {
    /// `…_iptables_restore_failures_total`, and the same for partial syncs where the mode has them.
    Restores {
        /// Whether it has.
        partial: bool,
    },
    /// `…_nftables_sync_failures_total`.
    Nftables,
    /// There is none for the mode; `kubeproxy_sync_failing` has them all.
    None,
}
