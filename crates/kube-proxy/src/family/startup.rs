//! How far the start has come, and what it waits for: in the log as long as it lasts, and in the health answers.

use std::time::{Duration, Instant};

use kube_proxy_core::Kind;
use tokio::sync::watch;
use tokio::time::timeout;

use crate::node::watch::{NodeStatus, NodeWatch};
use crate::serve::health::Health;
use kube_proxy_config::{Effective, LocalTraffic, Source};

/// A start that takes no longer than this is not worth a line.
const USUAL: Duration = Duration::from_secs(3);
/// The second line comes after this time; the pause doubles from there.
const PAUSE: Duration = Duration::from_secs(15);
/// No pause is longer.
const LONGEST_PAUSE: Duration = Duration::from_mins(5);

/// How far the start has come. Clones share the state.
#[derive(Clone, Debug)]
pub struct Startup(watch::Sender<Steps>);

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each is a step of its own, in any order")]
struct Steps {
    node_listed: bool,
    services_listed: bool,
    slices_listed: bool,
    families_started: bool,
}

impl Default for Startup {
    fn default() -> Self {
        Self(watch::Sender::new(Steps::default()))
    }
}

impl Steps {
    fn all_listed(self) -> bool {
        self.node_listed && self.services_listed && self.slices_listed
    }
}

impl Startup {
    /// The source has listed a kind.
    pub fn listed(&self, kind: Kind) {
        match kind {
            Kind::Node => self.set(|steps| steps.node_listed = true),
            Kind::Service => self.set(|steps| steps.services_listed = true),
            Kind::EndpointSlice => self.set(|steps| steps.slices_listed = true),
            // Nothing waits for them.
            Kind::ServiceCidr => {}
        }
    }

    /// The families run.
    pub fn families_started(&self) {
        self.set(|steps| steps.families_started = true);
    }

    fn set(&self, step: impl FnOnce(&mut Steps)) {
        self.0.send_if_modified(|steps| {
            let before = *steps;
            step(steps);
            *steps != before
        });
    }

    /// Reports until the start is done, then never ends.
    pub async fn follow(&self, config: &Effective, node: &NodeWatch, health: &Health) {
        let (mut lists, mut all) = (self.0.subscribe(), self.0.subscribe());
        let health = async {
            if lists.wait_for(|steps| steps.all_listed()).await.is_ok() {
                // From now on there is something to write.
                health.first_lists_complete(Instant::now());
            }
        };
        let log = async {
            let mut pause = USUAL;
            let done = |steps: &Steps| steps.all_listed() && steps.families_started;
            while timeout(pause, all.wait_for(done)).await.is_err() {
                let steps = *self.0.borrow();
                tracing::info!(
                    "{}; the rules on this node stay as they are",
                    waiting_for(config, steps, &node.news())
                );
                pause = (pause * 2).clamp(PAUSE, LONGEST_PAUSE);
            }
        };
        tokio::join!(health, log);
        std::future::pending::<()>().await;
    }
}

/// What a start that is not done waits for.
fn waiting_for(config: &Effective, steps: Steps, news: &NodeStatus) -> String {
    let kinds = [
        (steps.node_listed, "the Node"),
        (steps.services_listed, "Services"),
        (steps.slices_listed, "EndpointSlices"),
    ];
    let missing: Vec<&str> =
        kinds.into_iter().filter(|(listed, _)| !listed).map(|(_, kind)| kind).collect();
    let name = &config.node_name;
    if !missing.is_empty() {
        let source = match config.source {
            Source::Manifests(_) => "the manifests",
            Source::Kubernetes(_) => "the API server",
        };
        format!("waiting for {source} to list {}", missing.join(", "))
    } else if config.local_traffic == LocalTraffic::NodeCidr && news.pod_cidrs().is_empty() {
        format!("waiting for spec.podCIDRs of Node {name:?}, which detectLocalMode NodeCIDR needs")
    } else if config.node_ports.primary && news.addresses().is_empty() {
        format!(
            "waiting for an address of Node {name:?}, which nodePortAddresses \"primary\" needs"
        )
    } else {
        "waiting for the kernel and the programs of this node".to_owned()
    }
}

#[cfg(test)]
mod tests;
