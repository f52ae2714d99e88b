//! TCP: accepting clients, reaching endpoints, and passing bytes on.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use kube_proxy_core::{Protocol, TrafficPolicy};
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use crate::limits::is_exhausted;
use crate::own::{self, OwnListener};
use crate::proxy_header;
use crate::relay::relay;
use crate::service::{Counted, Service, Shared};
use crate::traffic::Target;

/// How long each attempt to reach an endpoint may take; each goes to the next endpoint in turn.
const DIAL_TIMEOUTS: [Duration; 4] = [
    Duration::from_millis(250),
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_secs(2),
];

/// The wait when a client cannot be accepted because something ran out.
const EXHAUSTED_WAIT: Duration = Duration::from_millis(100);

/// How long a listener that is no longer needed takes connections that were under way to it.
const GRACE: Duration = Duration::from_secs(1);

/// Where a listener belongs.
#[derive(Clone)]
pub(crate) struct Owner {
    pub(crate) service: Arc<Service>,
    pub(crate) policy: TrafficPolicy,
    pub(crate) shared: Arc<Shared>,
}

/// Serves clients until told to stop. Connections continue afterwards.
pub(crate) async fn listen(
    listener: TcpListener,
    _own: OwnListener,
    owner: Owner,
    mut stop: watch::Receiver<()>,
) {
    tokio::select! {
        () = accept(&listener, &owner) => {}
        // Stopped, or every handle is dropped.
        _ = stop.changed() => {}
    }
    // The rules lead here no more, but some clients may have passed them already.
    let _ = timeout(GRACE, accept(&listener, &owner)).await;
}

async fn accept(listener: &TcpListener, owner: &Owner) {
    let complaint = &owner.shared.accepting;
    loop {
        match listener.accept().await {
            Ok((client, peer)) => {
                complaint.over();
                // One for the client, one for the endpoint.
                match owner.service.reserve(2) {
                    Some(reserved) => {
                        let owner = owner.clone();
                        tokio::spawn(async move {
                            let _reserved = reserved;
                            serve(client, peer, owner).await;
                        });
                    }
                    None => reset(&client),
                }
            }
            Err(error) if is_exhausted(&error) => {
                complaint.once(|| {
                    tracing::error!(
                        service = %owner.service.name,
                        %error,
                        "cannot accept connections of this service port, and perhaps of others; they wait"
                    );
                });
                sleep(EXHAUSTED_WAIT).await;
            }
            // The client gave up already.
            Err(error) => tracing::debug!("accept for {}: {error}", owner.service.name),
        }
    }
}

async fn serve(mut client: TcpStream, peer: SocketAddr, owner: Owner) {
    let Some((mut server, counted)) = dial(peer, &owner).await else {
        // Where the client is another proxy, an orderly end would leave the way to here half open.
        reset(&client);
        return;
    };
    if let Some(version) = counted.service.proxy_protocol() {
        let header = proxy_header::header(version, peer, proxy_header::destination(&client));
        if server.write_all(&header).await.is_err() {
            return;
        }
    }
    let relayed = relay(&mut client, &mut server, &counted, owner.shared.strategy);
    let ended = match counted.service.departure(counted.target.address) {
        None => relayed.await,
        Some(departure) => tokio::select! {
            ended = relayed => ended,
            () = Box::pin(departure) => Err(io::Error::other("the endpoint has left")),
        },
    };
    if let Err(error) = ended {
        tracing::trace!("connection to {} of {peer}: {error}", counted.service.name);
        reset(&client);
        reset(&server);
    }
}

/// Lets a connection end with a reset when it is closed: it did not end in order.
fn reset(stream: &TcpStream) {
    // A socket that cannot be told so is closed in the ordinary way.
    let _ = socket2::SockRef::from(stream).set_linger(Some(Duration::ZERO));
}

/// Connects to an endpoint, or after all attempts to none.
async fn dial(peer: SocketAddr, owner: &Owner) -> Option<(TcpStream, Counted)> {
    let Owner { service, policy, shared } = owner;
    let mut failed = None;
    for limit in DIAL_TIMEOUTS {
        let target = service.pick(*policy, peer, failed)?;
        failed = Some(target.address);
        match timeout(limit, connect(&target, shared)).await {
            Ok(Ok(server)) => {
                shared.dialing.over();
                return Some((server, Counted::begin(service.clone(), target)));
            }
            Ok(Err(error)) if is_exhausted(&error) => {
                // Not the endpoint's fault, and another one would be no better.
                service.counters.failed();
                shared.dialing.once(|| {
                    tracing::error!(
                        service = %service.name,
                        endpoint = %target.address,
                        %error,
                        "no socket for connections to this endpoint, and perhaps to others"
                    );
                });
                return None;
            }
            Ok(Err(error)) => {
                tracing::debug!("endpoint {} of {}: {error}", target.address, service.name);
                service.failed(&target);
            }
            Err(_) => {
                tracing::debug!("endpoint {} of {}: no answer", target.address, service.name);
                service.failed(&target);
            }
        }
    }
    None
}

async fn connect(target: &Target, shared: &Shared) -> io::Result<TcpStream> {
    if own::leads_here(Protocol::Tcp, target.address) {
        return Err(io::Error::other("this is a listening port of this proxy"));
    }
    let socket = if target.address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    socket.set_nodelay(true)?;
    socket.set_keepalive(true)?;
    shared.mark(&socket);
    socket.connect(target.address).await
}
