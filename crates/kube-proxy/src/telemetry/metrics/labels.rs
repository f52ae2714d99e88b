//! Labels and kinds of metrics that several groups have.

use std::sync::atomic::AtomicU64;

use kube_proxy_core::IpFamily;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};

/// Seconds, fractions included.
pub(super) type Seconds = Gauge<f64, AtomicU64>;
pub(super) type PerFamilyHistogram = Family<FamilyLabel, Histogram, fn() -> Histogram>;

/// Label `ip_family`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct FamilyLabel {
    pub(super) ip_family: String,
}

impl From<IpFamily> for FamilyLabel {
    fn from(family: IpFamily) -> Self {
        Self { ip_family: family.to_string() }
    }
}

/// Durations of what a sync does: 1 ms, 2 ms, 4 ms … 16 s.
pub(super) fn durations() -> PerFamilyHistogram {
    PerFamilyHistogram::new_with_constructor(|| Histogram::new(exponential_buckets(0.001, 2.0, 15)))
}

/// A count as a gauge has it.
pub(super) fn gauge(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
