//! From the configuration to the source of events.

use std::sync::Arc;
use std::time::{Duration, Instant};

use kube_proxy_source::kubernetes::{Observer, Poster};
use kube_proxy_source::manifests::ManifestSource;
use kube_proxy_source::{KubernetesOptions, KubernetesSource, Problems, Sink};

use crate::telemetry::metrics::Metrics;
use kube_proxy_config as config;
use kube_proxy_config::Effective;

/// Events that are sent each second.
const EVENT_QPS: f32 = 5.0;
/// Events that may be sent at once.
const EVENT_BURST: u32 = 10;

/// The source in use.
pub struct Source {
    kind: Kind,
    problems: Problems,
}

enum Kind {
    Kubernetes(KubernetesSource),
    Manifests(ManifestSource),
}

impl Source {
    /// Prepares the configured source. A kubeconfig that cannot be read or a manifest path that is not there is an error;
    /// an API server that does not answer is not.
    pub fn new(config: &Effective, observer: Observer) -> anyhow::Result<Self> {
        let problems = Problems::new();
        let kind = match &config.source {
            config::Source::Manifests(path) => {
                let source = ManifestSource::new(path, &config.node_name, problems.clone())?;
                Kind::Manifests(source.with_trust(config.trust.clone()))
            }
            config::Source::Kubernetes(api) => {
                let options = KubernetesOptions {
                    kubeconfig: api.kubeconfig.clone(),
                    master: api.master.clone(),
                    content_type: api.content_type.clone(),
                    accept_content_types: api.accept_content_types.clone(),
                    qps: api.qps,
                    burst: api.burst,
                    node_name: config.node_name.clone(),
                    trust: config.trust.clone(),
                    timing: kube_proxy_source::kubernetes::Timing::default(),
                    observer,
                };
                Kind::Kubernetes(KubernetesSource::new(options, problems.clone())?)
            }
        };
        Ok(Self { kind, problems })
    }

    /// What is wrong with objects of this source.
    pub fn problems(&self) -> ProblemReport {
        ProblemReport(self.problems.clone())
    }

    /// Writes to the API server; `None` without one.
    pub fn poster(&self) -> Option<Poster> {
        match &self.kind {
            Kind::Kubernetes(source) => Some(source.poster(EVENT_QPS, EVENT_BURST)),
            Kind::Manifests(_) => None,
        }
    }

    /// Reports for how long the API server is silent, at first since now; `None` without one.
    pub fn silence(&self) -> Option<impl Fn() -> Duration + Clone + Send + Sync + use<>> {
        let Kind::Kubernetes(source) = &self.kind else { return None };
        let (status, start) = (source.status(), Instant::now());
        Some(move || status.oldest_contact().unwrap_or(start).elapsed())
    }

    /// Hands everything it finds to the sink, indefinitely.
    pub async fn run(self, sink: Sink) -> anyhow::Result<()> {
        match self.kind {
            Kind::Kubernetes(source) => source.run(sink).await,
            Kind::Manifests(source) => source.run(sink).await,
        }
        Ok(())
    }
}

/// Brings the problems of a source into the metrics.
#[derive(Clone, Debug)]
pub struct ProblemReport(Problems);

impl ProblemReport {
    /// Sets the metric to what is wrong now.
    pub fn report(&self, metrics: &Metrics) {
        for (kind, count) in self.0.counts() {
            metrics.objects.invalid(kind, count.current);
        }
    }
}

/// A sink from a closure that needs exclusive access.
pub fn sink(take: impl FnMut(kube_proxy_core::Event) + Send + 'static) -> Sink {
    let take = std::sync::Mutex::new(take);
    Arc::new(move |event| {
        let mut take = take.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        (*take)(event);
    })
}
