//! NodePorts on the loopback address in nftables mode: its rules leave them alone, so sockets get that traffic.

use async_trait::async_trait;
use kube_proxy_core::{
    IpFamily, ProxyBackend, Scope, Snapshot, SyncError, SyncReport, Traffic, Waker,
};
use kube_proxy_userspace::LocalNodePorts;

use crate::config::Effective;

/// Adds listeners on loopback to a backend, if the configuration asks for them.
///
/// # Errors
/// When the threads that copy connections cannot be started.
pub fn with_node_ports(
    config: &Effective,
    family: IpFamily,
    backend: Box<dyn ProxyBackend>,
) -> Result<Box<dyn ProxyBackend>, SyncError> {
    if !config.nftables_localhost_node_ports {
        return Ok(backend);
    }
    let node_ports = LocalNodePorts::new(family, config.userspace.udp_timeout)?;
    Ok(Box::new(WithLocalNodePorts { backend, node_ports }))
}

struct WithLocalNodePorts {
    backend: Box<dyn ProxyBackend>,
    node_ports: LocalNodePorts,
}

#[async_trait]
impl ProxyBackend for WithLocalNodePorts {
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

    fn set_waker(&mut self, waker: Waker) {
        self.backend.set_waker(waker);
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

    async fn cleanup(&mut self) -> Result<(), SyncError> {
        self.backend.cleanup().await
    }
}
