//! How full the table of connection tracking is, read when metrics are.

use std::fmt;
use std::fs;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _};
use prometheus_client::metrics::gauge::ConstGauge;

/// Name and help of each metric, and the file that has its value.
const METRICS: [(&str, &str, &str); 2] = [
    (
        "conntrack_entries",
        "Entries of connection tracking in the network namespace of this process",
        "nf_conntrack_count",
    ),
    (
        "conntrack_entries_limit",
        "Most entries of connection tracking; beyond it the kernel drops packets of new connections",
        "nf_conntrack_max",
    ),
];

/// The directory of its files. Without one, and where the kernel has no connection tracking yet, there is no metric.
#[derive(Clone, Debug, Default)]
pub(super) struct ConntrackTable(Arc<OnceLock<PathBuf>>);

impl ConntrackTable {
    /// Only the first directory counts.
    pub(super) fn set(&self, directory: PathBuf) {
        let _ = self.0.set(directory);
    }
}

impl Collector for ConntrackTable {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let Some(directory) = self.0.get() else { return Ok(()) };
        for (name, help, file) in METRICS {
            let text = fs::read_to_string(directory.join(file)).unwrap_or_default();
            if let Ok(value) = text.trim().parse::<i64>() {
                let gauge = ConstGauge::new(value);
                let metric = encoder.encode_descriptor(name, help, None, gauge.metric_type())?;
                gauge.encode(metric)?;
            }
        }
        Ok(())
    }
}
