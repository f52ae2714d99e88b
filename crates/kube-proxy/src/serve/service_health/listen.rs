//! The listening sockets of the health-check node ports, kept in step with the Services and the addresses of the node.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use kube_proxy_core::{IpFamily, NodePortAddresses, ObjectName};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::HealthPorts;
use super::answer::ServiceAnswer;
use crate::serve::health::Health;
use crate::serve::http::{self, Limits};
use crate::tasks;
use crate::telemetry::events::{Event, Events};

/// What one port grants its clients: there may be hundreds of ports.
const LIMITS: Limits =
    Limits { connections: 16, header: Duration::from_secs(5), connection: Duration::from_secs(30) };

/// Where a family listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Where {
    /// Which addresses take node ports.
    pub scope: NodePortAddresses,
    /// The addresses of this host; they need not be known when the scope is everything.
    pub local: Vec<IpAddr>,
}

impl Where {
    /// The addresses to bind.
    fn addresses(&self, family: IpFamily) -> Vec<IpAddr> {
        if self.scope == NodePortAddresses::All {
            return vec![match family {
                IpFamily::V4 => Ipv4Addr::UNSPECIFIED.into(),
                IpFamily::V6 => Ipv6Addr::UNSPECIFIED.into(),
            }];
        }
        let own = self.local.iter().filter(|ip| IpFamily::of(ip) == family);
        own.filter(|ip| self.scope.contains(ip)).copied().collect()
    }
}

/// A socket that should be listened on: for whom, and where.
type Place = (ObjectName, SocketAddr);

/// All listeners of one family.
pub struct Listeners {
    /// The family.
    pub family: IpFamily,
    /// The Services and their endpoints.
    pub ports: Arc<HealthPorts>,
    /// Whether the proxy keeps up.
    pub health: Arc<Health>,
    /// Where a port that cannot be opened is reported.
    pub events: Events,
    /// Where to listen.
    pub place: watch::Receiver<Where>,
}

impl Listeners {
    /// Opens and closes sockets until dropped.
    pub async fn run(mut self) {
        let mut open: BTreeMap<Place, Served> = BTreeMap::new();
        let mut failing: BTreeMap<Place, String> = BTreeMap::new();
        loop {
            let wanted = self.wanted();
            let gone: Vec<Place> =
                open.keys().filter(|place| !wanted.contains(place)).cloned().collect();
            for place in gone {
                if let Some(served) = open.remove(&place) {
                    served.stop().await;
                }
            }
            failing.retain(|place, _| wanted.contains(place));
            for place in wanted {
                if open.contains_key(&place) {
                    continue;
                }
                match self.open(&place) {
                    Ok(served) => {
                        tracing::debug!(
                            "answering health checks of Service {} on {}",
                            place.0,
                            place.1
                        );
                        failing.remove(&place);
                        open.insert(place, served);
                    }
                    Err(error) => self.failed(&mut failing, place, &error),
                }
            }
            self.wait(!failing.is_empty()).await;
        }
    }

    fn wanted(&mut self) -> BTreeSet<Place> {
        let addresses = self.place.borrow_and_update().addresses(self.family);
        let ports = self.ports.ports();
        let places = ports.into_iter().flat_map(|(service, port)| {
            let at = move |ip: &IpAddr| (service.clone(), SocketAddr::new(*ip, port.get()));
            addresses.iter().map(at).collect::<Vec<_>>()
        });
        places.collect()
    }

    fn open(&self, place: &Place) -> std::io::Result<Served> {
        let listener = http::listen_in_one_family(place.1)?;
        let answer = ServiceAnswer {
            service: place.0.clone(),
            ports: self.ports.clone(),
            health: self.health.clone(),
        };
        let serving = http::serve(listener, LIMITS, Arc::new(answer));
        Ok(Served(tasks::spawn("health-check node port", serving)))
    }

    /// Says once what is wrong; the port is tried again.
    fn failed(&self, failing: &mut BTreeMap<Place, String>, place: Place, error: &std::io::Error) {
        let (service, address) = &place;
        let text =
            format!("node {address}, needed for health checks of Service {service}: {error}");
        if failing.get(&place) == Some(&text) {
            return;
        }
        let seconds = http::BIND_RETRY.as_secs();
        tracing::error!("cannot listen on {text}; trying again every {seconds} s");
        self.events.send(Event::service_health_failed(service, format!("cannot listen on {text}")));
        failing.insert(place, text);
    }

    /// Waits until there may be something to do.
    async fn wait(&mut self, retry: bool) {
        let later = async {
            if retry {
                tokio::time::sleep(http::BIND_RETRY).await;
            } else {
                std::future::pending::<()>().await;
            }
        };
        let moved = async {
            if self.place.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        };
        tokio::select! {
            () = self.ports.changed.notified() => {}
            () = moved => {}
            () = later => {}
        }
    }
}

/// One socket that is served. Dropping it closes the socket soon.
struct Served(JoinHandle<()>);

impl Served {
    /// Closes the socket, so that its port can be bound again.
    async fn stop(mut self) {
        self.0.abort();
        // It ends by being aborted.
        let _ = (&mut self.0).await;
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.0.abort();
    }
}

#[cfg(test)]
mod tests;
