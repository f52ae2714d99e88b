//! NodePorts on the loopback address in nftables mode: its rules refuse the protocols that nothing serves there, and sockets get the rest.

use std::collections::BTreeSet;

use async_trait::async_trait;
use kube_proxy_core::{
    Algorithm, CheckWaker, Difference, FrontendQuery, IpFamily, KernelObject, NodePortAddresses,
    ProxyBackend, Refused, Scope, ServicePortName, Session, SessionKey, Snapshot, SyncError,
    SyncReport, Traffic,
};
use kube_proxy_userspace::{LocalNodePorts, Observer};

use kube_proxy_config::Effective;

/// Adds listeners on loopback to a backend, if the configuration asks for them.
///
/// # Errors
/// When the threads that copy connections cannot be started.
pub(super) fn with_node_ports(
    config: &Effective,
    family: IpFamily,
    observer: &Observer,
    backend: Box<dyn ProxyBackend>,
) -> Result<Box<dyn ProxyBackend>, SyncError> {
    if !config.listens_on_localhost(family) {
        return Ok(backend);
    }
    let node_ports = LocalNodePorts::new(family, config.userspace.udp_timeout, observer.clone())?;
    Ok(Box::new(WithLocalNodePorts { backend, node_ports }))
}

struct WithLocalNodePorts {
    backend: Box<dyn ProxyBackend>,
    node_ports: LocalNodePorts,
}

#[async_trait]
impl ProxyBackend for WithLocalNodePorts {
    fn annotations(&self) -> Vec<&'static str> {
        let mut names = self.backend.annotations();
        names.extend(LocalNodePorts::annotations());
        names
    }

    fn algorithms(&self) -> Vec<Algorithm> {
        self.backend.algorithms()
    }

    async fn read_ahead(&mut self) {
        self.backend.read_ahead().await;
    }

    fn without_short_circuit(&self) -> Option<&BTreeSet<ServicePortName>> {
        self.backend.without_short_circuit()
    }

    async fn sync(
        &mut self,
        snapshot: &Snapshot,
        scope: Scope<'_>,
    ) -> Result<SyncReport, SyncError> {
        // Whether or not the rules can be written, connections to loopback go to the right endpoints.
        self.node_ports.sync(snapshot, scope);
        self.backend.sync(snapshot, scope).await
    }

    async fn intact(&mut self) -> Result<bool, SyncError> {
        self.backend.intact().await
    }

    async fn compare(&mut self, snapshot: &Snapshot) -> Result<Vec<Difference>, SyncError> {
        self.backend.compare(snapshot).await
    }

    async fn session(
        &mut self,
        snapshot: &Snapshot,
        key: &SessionKey,
    ) -> Result<Option<Session>, SyncError> {
        self.backend.session(snapshot, key).await
    }

    async fn look_up(
        &mut self,
        snapshot: &Snapshot,
        query: &FrontendQuery,
    ) -> Result<Vec<KernelObject>, SyncError> {
        match self.node_ports.look_up(snapshot, query) {
            Some(objects) => Ok(objects),
            None => self.backend.look_up(snapshot, query).await,
        }
    }

    fn set_waker(&mut self, waker: CheckWaker) {
        self.backend.set_waker(waker);
    }

    fn set_node_ports(&mut self, addresses: &NodePortAddresses) -> bool {
        self.backend.set_node_ports(addresses)
    }

    async fn traffic(&mut self) -> Result<Vec<Traffic>, SyncError> {
        let mut traffic = self.backend.traffic().await?;
        for own in self.node_ports.traffic() {
            let same =
                |other: &&mut Traffic| other.service == own.service && other.endpoint.is_none();
            match traffic.iter_mut().find(same) {
                Some(known) => known.connections += own.connections,
                None => traffic.push(own),
            }
        }
        Ok(traffic)
    }

    async fn refused(&mut self) -> Result<Vec<Refused>, SyncError> {
        self.backend.refused().await
    }
}
