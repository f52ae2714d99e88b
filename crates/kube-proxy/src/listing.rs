//! What a source lists, read once: for commands that answer without a running proxy.

use std::time::Duration;

use anyhow::bail;
use kube_proxy_config::{Effective, Source as Place};
use kube_proxy_core::{Event, IpFamily, Kind, Tracker};
use kube_proxy_source::kubernetes::Observer;
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::family::setup::tracker_options;
use crate::node::watch::NodeStatus;
use crate::sources::{self, Source};

/// Longest time for the first lists.
const PATIENCE: Duration = Duration::from_secs(30);
/// What has to be listed.
const NEEDED: [Kind; 3] = [Kind::Service, Kind::EndpointSlice, Kind::Node];

/// Everything that a source lists at the start.
#[derive(Debug, Default)]
pub(crate) struct Listing {
    events: Vec<Event>,
    listed: Vec<Kind>,
    /// The Node object of this node.
    pub(crate) node: NodeStatus,
}

impl Listing {
    /// Reads what the source of this configuration lists.
    ///
    /// # Errors
    /// The source cannot be opened, or lists nothing for a while.
    pub(crate) async fn read(config: &Effective) -> anyhow::Result<Self> {
        let source = Source::new(config, Observer::default())?;
        let (sender, mut receiver) = mpsc::unbounded_channel();
        let sink = sources::sink(move |event| {
            // After the end of the wait the rest is not needed.
            let _ = sender.send(event);
        });
        let mut listing = Self::default();
        let all = async {
            while let Some(event) = receiver.recv().await {
                listing.take(event);
                if NEEDED.iter().all(|kind| listing.listed.contains(kind)) {
                    return;
                }
            }
        };
        let read = async {
            tokio::select! {
                () = all => Ok(()),
                ended = source.run(sink) => ended,
            }
        };
        match timeout(PATIENCE, read).await {
            Ok(result) => result?,
            Err(_) => bail!("{}", listing.missing(config)),
        }
        Ok(listing)
    }

    fn take(&mut self, event: Event) {
        match &event {
            Event::NodeApplied(node) => self.node.node = Some(node.clone()),
            Event::ListDone(kind) => self.listed.push(*kind),
            _ => {}
        }
        self.events.push(event);
    }

    fn missing(&self, config: &Effective) -> String {
        let missing = NEEDED.iter().filter(|kind| !self.listed.contains(kind));
        let missing: Vec<_> = missing.map(ToString::to_string).collect();
        let source = match config.source {
            Place::Manifests(_) => "the manifests",
            Place::Kubernetes(_) => "the API server",
        };
        let seconds = PATIENCE.as_secs();
        format!(
            "{source} did not list objects of these kinds within {seconds} s: {}",
            missing.join(", ")
        )
    }

    /// The events, in their order.
    pub(crate) fn events(&self) -> impl Iterator<Item = Event> + '_ {
        self.events.iter().cloned()
    }

    /// What a proxy with this configuration would make of it in one family.
    pub(crate) fn tracker(&self, config: &Effective, family: IpFamily) -> Tracker {
        let mut tracker = Tracker::new(tracker_options(config, family));
        for event in self.events() {
            tracker.apply(event);
        }
        tracker.fold();
        tracker
    }
}
