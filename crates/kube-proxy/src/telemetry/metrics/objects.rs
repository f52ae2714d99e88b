//! Objects as the source finds them.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

/// How many have a problem.
#[derive(Debug, Default)]
pub struct ObjectMetrics {
    invalid: Family<KindLabel, Gauge>,
}

/// Label `kind`: the kind of object.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct KindLabel {
    kind: String,
}

impl super::Group for ObjectMetrics {
    #[rustfmt::skip]
    fn register(&self, r: &mut Registry) {
        r.register("invalid_objects", "Objects with a field that could not be used (see the log)", self.invalid.clone());
    }
}

impl ObjectMetrics {
    /// This many objects of a kind have a problem.
    pub fn invalid(&self, kind: &str, count: u64) {
        let count = i64::try_from(count).unwrap_or(i64::MAX);
        self.invalid.get_or_create(&KindLabel { kind: kind.to_owned() }).set(count);
    }
}
