//! What the userspace mode does, by service port: the busiest only, so that a large cluster does not make large metrics.

use std::cmp::Reverse;
use std::fmt;

use kube_proxy_core::{IpFamily, PerFamily};
use kube_proxy_userspace::{Activity, Observer};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _, MetricEncoder};
use prometheus_client::metrics::MetricType;

/// This many service ports of each family are shown by themselves; the rest is summed up as `other`.
const SHOWN: usize = 100;

/// Asks the observers when metrics are asked for.
#[derive(Debug)]
pub(super) struct Activities(pub(super) PerFamily<Observer>);

/// A sample: labels and value.
type Sample = ([(&'static str, String); 3], u64);

impl Activities {
    fn samples(&self, value: fn(&Activity) -> u64) -> Vec<Sample> {
        let mut samples = Vec::new();
        for family in IpFamily::BOTH {
            let mut all = self.0.get(family).activity();
            all.sort_by_cached_key(|activity| (Reverse(value(activity)), activity.service.clone()));
            let labels = |service: String, protocol: String| {
                [("ip_family", family.to_string()), ("service", service), ("protocol", protocol)]
            };
            let shown = all.iter().take(SHOWN).map(|activity| {
                let protocol = activity.service.protocol.to_string();
                (labels(activity.service.to_string(), protocol), value(activity))
            });
            samples.extend(shown);
            if all.len() > SHOWN {
                let rest = all[SHOWN..].iter().map(value).sum();
                samples.push((labels("other".to_owned(), "any".to_owned()), rest));
            }
        }
        samples
    }
}

impl Collector for Activities {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let open = encoder.encode_descriptor(
            "userspace_open_connections",
            "Connections and UDP sessions that are copied now, by service port",
            None,
            MetricType::Gauge,
        )?;
        encode(open, &self.samples(|activity| activity.open), false)?;
        let failures = encoder.encode_descriptor(
            "userspace_dial_failures",
            "Attempts to reach an endpoint that failed, by service port",
            None,
            MetricType::Counter,
        )?;
        encode(failures, &self.samples(|activity| activity.failures), true)
    }
}

fn encode(mut encoder: MetricEncoder<'_>, samples: &[Sample], counter: bool) -> fmt::Result {
    for (labels, value) in samples {
        let encoder = encoder.encode_family(labels)?;
        if counter {
            prometheus_client::metrics::counter::ConstCounter::new(*value).encode(encoder)?;
        } else {
            let value = i64::try_from(*value).unwrap_or(i64::MAX);
            prometheus_client::metrics::gauge::ConstGauge::new(value).encode(encoder)?;
        }
    }
    Ok(())
}
