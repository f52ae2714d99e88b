//! NodePorts on loopback in nftables mode, by the names of the Go kube-proxy.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use kube_proxy_core::{IpFamily, PerFamily, Protocol};
use kube_proxy_nftables::RefusedOnLoopback;
use kube_proxy_userspace::Observer;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

use crate::tasks;

/// Asks who listens; what was refused is as it was last read. Families that do not run in nftables mode have no metrics.
#[derive(Clone, Debug)]
pub(super) struct LocalhostNodePorts {
    observers: PerFamily<Observer>,
    refused: Arc<Mutex<PerFamily<Option<RefusedOnLoopback>>>>,
}

impl LocalhostNodePorts {
    pub(super) fn new(observers: &PerFamily<Observer>) -> Self {
        Self { observers: observers.clone(), refused: Arc::default() }
    }

    fn refused(&self) -> MutexGuard<'_, PerFamily<Option<RefusedOnLoopback>>> {
        self.refused.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A family runs in nftables mode.
    pub(super) fn show(&self, family: IpFamily) {
        self.refused().get_mut(family).get_or_insert_default();
    }

    /// Reads what was refused, on a thread that may wait for the kernel.
    pub(super) async fn read(&self) {
        let metrics = self.clone();
        tasks::blocking("refused packets", move || {
            for family in IpFamily::BOTH {
                if let Some(refused) = metrics.refused().get_mut(family)
                    && let Err(error) = refused.read(family)
                {
                    tracing::debug!(%family, "metrics of refused packets are not new: {error}");
                }
            }
        })
        .await;
    }
}

impl Collector for LocalhostNodePorts {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let refused = self.refused().clone();
        let shown: Vec<_> = IpFamily::BOTH
            .into_iter()
            .filter_map(|family| Some((family, refused.get(family).as_ref()?)))
            .collect();
        if shown.is_empty() {
            return Ok(());
        }
        let mut listeners = encoder.encode_descriptor(
            "nftables_localhost_nodeport_listeners",
            "NodePorts that this process listens at on loopback, TCP and UDP",
            None,
            MetricType::Gauge,
        )?;
        for (family, _) in &shown {
            let count = self.observers.get(*family).local_node_ports().listeners();
            let count = i64::try_from(count).unwrap_or(i64::MAX);
            let labels = [("ip_family", family.to_string())];
            ConstGauge::new(count).encode(listeners.encode_family(&labels)?)?;
        }
        let mut failures = encoder.encode_descriptor(
            "nftables_localhost_nodeport_listener_creation_failures",
            "Attempts to listen at a NodePort on loopback that failed",
            None,
            MetricType::Counter,
        )?;
        for (family, _) in &shown {
            let count = self.observers.get(*family).local_node_ports().failures();
            let labels = [("ip_family", family.to_string())];
            ConstCounter::new(count).encode(failures.encode_family(&labels)?)?;
        }
        let mut packets = encoder.encode_descriptor(
            "nftables_localhost_nodeport_rejected_packets",
            "Packets to NodePorts on loopback that were refused, because nothing serves the protocol there",
            None,
            MetricType::Counter,
        )?;
        for (family, refused) in shown {
            for protocol in [Protocol::Tcp, Protocol::Udp, Protocol::Sctp] {
                let labels =
                    [("ip_family", family.to_string()), ("protocol", protocol.to_string())];
                let count = refused.packets(protocol);
                ConstCounter::new(count).encode(packets.encode_family(&labels)?)?;
            }
        }
        Ok(())
    }
}
