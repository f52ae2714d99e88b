//! The metrics that every Kubernetes component has, under the names they have there: the build, feature gates, the process, requests to
//! the API server; and how long that server is silent.

use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use kube_proxy_source::kubernetes::Answered;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric};
use prometheus_client::metrics::counter::{ConstCounter, Counter};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use super::process::Process;
use kube_proxy_config::{FeatureGates, KUBERNETES_MINOR};

/// Labels of `rest_client_requests_total`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    code: String,
    host: String,
    method: String,
}

/// Labels of `rest_client_request_duration_seconds`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct DurationLabels {
    host: String,
    verb: String,
}

/// Labels of `kubernetes_feature_enabled`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct GateLabels {
    name: String,
    stage: String,
}

/// Labels of `kubernetes_build_info`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct BuildLabels {
    build_date: String,
    compiler: String,
    git_commit: String,
    git_tree_state: String,
    git_version: String,
    go_version: String,
    major: String,
    minor: String,
    platform: String,
}

/// Reports for how long the API server is silent, once that is known.
#[derive(Clone, Default)]
struct Silence(Arc<OnceLock<Box<dyn Fn() -> Duration + Send + Sync>>>);

impl fmt::Debug for Silence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Silence")
    }
}

/// These metrics.
#[derive(Clone, Debug)]
pub struct Component {
    build: Family<BuildLabels, Gauge>,
    gates: Family<GateLabels, Gauge>,
    requests: Family<RequestLabels, Counter>,
    durations: Family<DurationLabels, Histogram, fn() -> Histogram>,
    silence: Silence,
}

/// 5 ms to 60 s.
fn request_buckets() -> Histogram {
    Histogram::new([0.005, 0.025, 0.1, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 30.0, 60.0])
}

impl Component {
    /// Counts begin at zero.
    pub(super) fn new() -> Self {
        let durations =
            Family::<DurationLabels, Histogram, fn() -> Histogram>::new_with_constructor(
                request_buckets,
            );
        let component = Self {
            build: Family::default(),
            gates: Family::default(),
            requests: Family::default(),
            durations,
            silence: Silence::default(),
        };
        component.build.get_or_create(&build()).set(1);
        component
    }

    /// Names and help.
    #[rustfmt::skip]
    pub(super) fn register(&self, r: &mut Registry) {
        r.register("kubernetes_build_info", "Which build this is, and the Kubernetes version it stands in for", self.build.clone());
        r.register("kubernetes_feature_enabled", "Which feature gates are on", self.gates.clone());
        r.register("rest_client_requests", "Requests to the API server by status code, <error> for none", self.requests.clone());
        r.register("rest_client_request_duration_seconds", "Time until the head of the API server's answer was there", self.durations.clone());
        r.register_collector(Box::new(Now(self.silence.clone())));
    }

    /// The feature gates in use.
    pub fn set_gates(&self, gates: &FeatureGates) {
        for (name, stage, enabled) in gates.with_stages() {
            let labels = GateLabels { name: name.to_owned(), stage: stage.to_owned() };
            self.gates.get_or_create(&labels).set(i64::from(enabled));
        }
    }

    /// A request to the API server was answered, or not.
    pub fn requested(&self, answered: &Answered<'_>) {
        let host = answered.host.to_owned();
        let method = answered.method.to_owned();
        let code = answered.code.map_or("<error>".to_owned(), |code| code.to_string());
        let labels = DurationLabels { host: host.clone(), verb: method.clone() };
        self.durations.get_or_create(&labels).observe(answered.took.as_secs_f64());
        self.requests.get_or_create(&RequestLabels { code, host, method }).inc();
    }

    /// Where to ask how long the API server is silent; only the first counts. Without it there is no such metric.
    pub fn set_silence(&self, silence: impl Fn() -> Duration + Send + Sync + 'static) {
        // It is set once, at the start.
        let _ = self.silence.0.set(Box::new(silence));
    }
}

fn build() -> BuildLabels {
    let known = |value: Option<&str>| value.unwrap_or("unknown").to_owned();
    BuildLabels {
        build_date: known(option_env!("KUBE_PROXY_BUILD_DATE")),
        compiler: "rustc".to_owned(),
        git_commit: known(option_env!("KUBE_PROXY_GIT_COMMIT")),
        git_tree_state: known(option_env!("KUBE_PROXY_GIT_TREE_STATE")),
        git_version: format!("v1.{KUBERNETES_MINOR}.0+rust-{}", env!("CARGO_PKG_VERSION")),
        go_version: String::new(),
        major: "1".to_owned(),
        minor: KUBERNETES_MINOR.to_string(),
        platform: format!("linux/{}", architecture()),
    }
}

/// By the names that Kubernetes uses.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// What is looked up when metrics are read.
#[derive(Debug)]
struct Now(Silence);

impl Collector for Now {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        if let Some(silence) = self.0.0.get() {
            let name = "kubeproxy_api_server_silence_seconds";
            let help = "Time since the API server last said anything about Services or EndpointSlices, whichever is longer";
            let gauge = ConstGauge::new(silence().as_secs_f64());
            let metric = encoder.encode_descriptor(name, help, None, gauge.metric_type())?;
            gauge.encode(metric)?;
        }
        let process = Process::now();
        let cpu = ConstCounter::new(process.cpu_seconds);
        let help = "CPU time of this process, user and system";
        let metric =
            encoder.encode_descriptor("process_cpu_seconds", help, None, cpu.metric_type())?;
        cpu.encode(metric)?;
        for (name, help, value) in process.gauges() {
            let gauge = ConstGauge::new(value);
            let metric = encoder.encode_descriptor(name, help, None, gauge.metric_type())?;
            gauge.encode(metric)?;
        }
        Ok(())
    }
}
