//! The families: their backends are made once the node is known, then each runs on a thread of its own.

use std::future::poll_fn;
use std::sync::{Arc, PoisonError};
use std::task::Poll;
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail};
use kube_proxy_core::{Intervals, IpFamily, PerFamily, Proxy};

use super::context::Context;
use crate::family::setup::tracker_options;
use crate::family::thread::{FamilyThread, Inbox, Replacement, Setup};
use crate::modes::stale_modes::StaleModeCleanup;
use crate::modes::{self, Created, Factory, NodeFacts};
use crate::node::node_ports::NodePortScope;
use crate::node::watch::NodeStatus;
use crate::tasks;
use crate::telemetry::advice::Advice;
use crate::telemetry::events::Event;
use crate::telemetry::metrics::Metrics;
use kube_proxy_config::{self as config, Effective, ModeOrigin};

/// Without any reason to, the rules of a small cluster are written again after this time.
const MAX_SYNC_INTERVAL: Duration = Duration::from_hours(1);

impl Context<'_> {
    /// Waits for the node, starts the families and keeps them going; ends only with an error.
    pub(super) async fn families(
        &self,
        inboxes: PerFamily<Option<Inbox>>,
        threads: &mut Vec<FamilyThread>,
    ) -> anyhow::Result<()> {
        let news = self.node.wait(self.config).await?;
        let factory = Factory::new(self.config.mode);
        let backends = {
            let (config, news, metrics) = (self.config.clone(), news.clone(), self.metrics.clone());
            let factory = factory.clone();
            // Programs are run and the kernel is asked, which may take long: the servers answer meanwhile.
            let create = move || create_backends(&factory, &config, &news, &metrics);
            tasks::blocking("backends", create).await?
        };
        let families: Vec<IpFamily> = backends.iter().map(|(family, _)| *family).collect();
        self.metrics.start(modes::entry(self.config.mode).metrics, &families);
        self.health.keep_families(&families);
        self.start_families(backends, &news, inboxes, threads)?;
        *self.families.lock().unwrap_or_else(PoisonError::into_inner) =
            threads.iter().map(FamilyThread::client).collect();
        self.startup.families_started();
        self.events.send(Event::starting());
        if self.loaded.mode_origin == ModeOrigin::Default {
            self.events.send(Event::mode_unset(super::MODE_UNSET));
        }
        if let Some(deprecation) = modes::entry(self.config.mode).deprecation {
            self.events.send(Event::deprecation(deprecation));
        }
        tokio::try_join!(
            tasks::named("health-check node ports", self.service_health_servers(&families)),
            tasks::named(
                "node changes",
                self.node.follow(self.config, &news, |family, news| {
                    self.node_moved(&factory, threads, family, news);
                })
            ),
            tasks::named("supervisor", supervise(threads)),
        )
        .map(|_| ())
    }

    fn start_families(
        &self,
        backends: Vec<(IpFamily, Created)>,
        news: &NodeStatus,
        mut inboxes: PerFamily<Option<Inbox>>,
        threads: &mut Vec<FamilyThread>,
    ) -> anyhow::Result<()> {
        let advice = Arc::new(Advice::new(self.events.clone(), self.config.mode.name()));
        for (family, Created { backend, running }) in backends {
            let inbox = inboxes.get_mut(family).take().unwrap_or_default();
            let mut proxy =
                Proxy::new(tracker_options(self.config, family), self.intervals(), backend);
            if !proxy.prefer_algorithm(self.config.lb_algorithm) {
                tracing::warn!(
                    %family,
                    algorithm = %self.config.lb_algorithm,
                    "this mode, or this kernel, does not have the algorithm of --lb-algorithm; endpoints are chosen at random"
                );
            }
            let setup = Setup {
                family,
                proxy,
                mode: modes::entry(self.config.mode),
                node_ports: NodePortScope::of(self.config, family, news),
                check_period: self.config.sync_period,
                leftovers: Some(StaleModeCleanup {
                    family,
                    running,
                    retry: self.config.sync_period,
                }),
                health: self.health.clone(),
                metrics: self.metrics.clone(),
                advice: advice.clone(),
                health_ports: self.health_ports.get(family).clone(),
            };
            threads.push(FamilyThread::start(setup, inbox).context("cannot start a thread")?);
        }
        Ok(())
    }

    fn intervals(&self) -> Intervals {
        Intervals {
            min: self.config.min_sync_period,
            retry: self.config.sync_period,
            max: Some(MAX_SYNC_INTERVAL),
        }
    }

    /// The node has another address of a family now: where rules depend on it, the family continues with a backend for that one.
    fn node_moved(
        &self,
        factory: &Factory,
        threads: &[FamilyThread],
        family: IpFamily,
        news: &NodeStatus,
    ) {
        let thread = threads.iter().find(|thread| thread.family() == family);
        let Some(thread) = thread.filter(|_| self.config.node_ports.primary) else { return };
        let facts =
            NodeFacts { ip: news.address(self.config, family), pod_cidrs: news.pod_cidrs() };
        let (factory, config) = (factory.clone(), self.config.clone());
        let observer = self.metrics.observer(family).clone();
        thread.replace_backend(Replacement {
            create: Box::new(move || {
                factory.create(&config, family, &facts, &observer).map(|created| created.backend)
            }),
            node_ports: NodePortScope::of(self.config, family, news),
        });
    }
}

/// One backend for each family that this node can use. The primary family must be among them.
fn create_backends(
    factory: &Factory,
    config: &Effective,
    news: &NodeStatus,
    metrics: &Metrics,
) -> anyhow::Result<Vec<(IpFamily, Created)>> {
    let primary = config.primary_family(&news.addresses());
    let mut backends = Vec::new();
    for family in IpFamily::BOTH {
        let facts = NodeFacts { ip: news.address(config, family), pod_cidrs: news.pod_cidrs() };
        let created = if modes::host_has(family) {
            factory
                .create(config, family, &facts, metrics.observer(family))
                .map_err(|error| anyhow!(error))
        } else {
            Err(anyhow!("this host has no {family}"))
        };
        match created {
            Ok(backend) => backends.push((family, backend)),
            Err(error) if family == primary => return Err(error),
            Err(error) => tracing::warn!("{family} is not served: {error:#}"),
        }
    }
    let facts = config::NodeFacts {
        primary,
        dual_stack: backends.len() == 2,
        addresses: news.addresses(),
        pod_cidrs: news.pod_cidrs(),
    };
    config.check_start_up(&facts)?;
    for warning in config.start_up_warnings(&facts) {
        tracing::warn!("{warning}");
    }
    Ok(backends)
}

/// Notices a family that ended although it was not asked to.
async fn supervise(threads: &[FamilyThread]) -> anyhow::Result<()> {
    let mut ends: Vec<_> = threads.iter().map(|thread| Box::pin(thread.ended())).collect();
    poll_fn(|context| {
        let mut polled = ends.iter_mut().map(|end| end.as_mut().poll(context));
        if polled.any(|end| end.is_ready()) { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
    bail!("a sync thread ended unexpectedly; see the log above")
}
