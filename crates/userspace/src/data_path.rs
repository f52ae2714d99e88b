//! The runtime on which connections are copied: apart from the thread that syncs, which may block.

use std::io;
use std::sync::Arc;

use kube_proxy_core::Protocol;
use socket2::Socket;
use tokio::net::{TcpListener, UdpSocket};
use tokio::runtime::Runtime;
use tokio::sync::watch;

use crate::limits;
use crate::own::OwnListener;
use crate::service::Shared;
use crate::tcp::{self, Owner};
use crate::udp::UdpPort;

/// The running data path of one family.
pub(crate) struct DataPath {
    /// Only ever absent while it is dropped.
    runtime: Option<Runtime>,
    pub(crate) shared: Arc<Shared>,
}

/// A port that is served. Dropping it stops that; TCP connections live on.
pub(crate) struct Listening {
    /// The task ends when this is gone.
    _stop: watch::Sender<()>,
    udp: Option<Arc<UdpPort>>,
}

impl DataPath {
    pub(crate) fn start(shared: Shared) -> io::Result<Self> {
        limits::raise_open_files();
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .thread_name("userspace")
            .enable_all()
            .build()?;
        Ok(Self { runtime: Some(runtime), shared: Arc::new(shared) })
    }

    /// Serves a listening socket.
    pub(crate) fn serve(
        &self,
        socket: Socket,
        protocol: Protocol,
        owner: Owner,
    ) -> io::Result<Listening> {
        let Some(runtime) = &self.runtime else {
            return Err(io::Error::other("the data path has ended"));
        };
        let _entered = runtime.enter();
        let (stop, stopped) = watch::channel(());
        let at = socket.local_addr()?.as_socket();
        let at = at.ok_or_else(|| io::Error::other("a listening socket without an address"))?;
        let own = OwnListener::new(protocol, at);
        if protocol == Protocol::Tcp {
            let listener = TcpListener::from_std(socket.into())?;
            runtime.spawn(tcp::listen(listener, own, owner, stopped));
            return Ok(Listening { _stop: stop, udp: None });
        }
        let port = UdpPort::new(UdpSocket::from_std(socket.into())?, own, owner);
        runtime.spawn(port.clone().serve(stopped));
        Ok(Listening { _stop: stop, udp: Some(port) })
    }
}

impl Drop for DataPath {
    fn drop(&mut self) {
        // Waiting for connections to end is not the task of the thread that drops this.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Listening {
    /// Endpoints changed.
    pub(crate) fn endpoints_changed(&self) {
        if let Some(udp) = &self.udp {
            udp.break_stale();
        }
    }
}
