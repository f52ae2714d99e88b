//! Packets that the rules of the iptables mode count, by the names of the Go kube-proxy.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use kube_proxy_iptables::PacketCounts;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;

use crate::tasks;

/// What was read last. What is not counted here has no metric.
#[derive(Clone, Debug, Default)]
pub(super) struct Packets(Arc<Mutex<State>>);

#[derive(Clone, Copy, Debug, Default)]
struct State {
    counts: PacketCounts,
    /// The kernel knows no such objects. Asking again would have it look for their module each time.
    unknown: bool,
}

impl Packets {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn set(&self, counts: PacketCounts) {
        self.state().counts = counts;
    }

    /// Reads them again, on a thread that may wait for the kernel.
    pub(super) async fn read(&self) {
        if self.state().unknown {
            return;
        }
        match tasks::blocking("counted packets", PacketCounts::read).await {
            Ok(Some(counts)) => self.set(counts),
            Ok(None) => self.state().unknown = true,
            Err(error) => tracing::debug!("metrics of counted packets are not new: {error}"),
        }
    }
}

impl Collector for Packets {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let counts = self.state().counts;
        for (name, help, count) in [
            (
                "iptables_ct_state_invalid_dropped_packets",
                "Packets dropped on this node because conntrack found them invalid, where the kernel has nfacct",
                counts.invalid_dropped,
            ),
            (
                "iptables_localhost_nodeports_accepted_packets",
                "First packets of connections to NodePorts on loopback addresses of this node, where the kernel has nfacct",
                counts.localhost_accepted,
            ),
        ] {
            if let Some(count) = count {
                let metric = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
                ConstCounter::new(count).encode(metric)?;
            }
        }
        Ok(())
    }
}
