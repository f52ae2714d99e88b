//! UDP: a session for each client, with a socket of its own towards the endpoint.

use std::collections::hash_map::Entry;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::AsRawFd as _;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use kube_proxy_core::Protocol;
use nix::errno::Errno;
use nix::sys::socket::MsgFlags;
use rustc_hash::FxHashMap;
use tokio::io::Interest;
use tokio::net::UdpSocket;
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio::time::timeout;

use crate::limits::is_exhausted;
use crate::own::{self, OwnListener};
use crate::packet_info::{Received, receive, send};
use crate::service::{Counted, Reserved, Shared};
use crate::tcp::Owner;

/// The longest datagram.
const LONGEST: usize = 65_535;

/// The wait when datagrams cannot be received, whatever the reason.
const FAILURE_WAIT: Duration = Duration::from_millis(100);

/// This many datagrams are taken before other tasks get their turn.
const BATCH: usize = 64;

thread_local! {
    static SCRATCH: std::cell::RefCell<Box<[u8]>> =
        std::cell::RefCell::new(vec![0; LONGEST].into_boxed_slice());
}

/// A listening UDP port with its sessions.
pub(crate) struct UdpPort {
    socket: UdpSocket,
    _own: OwnListener,
    owner: Owner,
    sessions: Mutex<FxHashMap<Client, Session>>,
}

/// Who sent, and to which address of this node: the answer has to come from there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Client {
    peer: SocketAddr,
    local: IpAddr,
}

/// A client's way to its endpoint.
struct Session {
    link: Arc<Link>,
    task: AbortHandle,
}

struct Link {
    /// Connected to the endpoint.
    socket: UdpSocket,
    counted: Counted,
    _reserved: Reserved,
    /// Something was sent since the last look.
    active: AtomicBool,
}

impl UdpPort {
    pub(crate) fn new(socket: UdpSocket, own: OwnListener, owner: Owner) -> Arc<Self> {
        Arc::new(Self { socket, _own: own, owner, sessions: Mutex::default() })
    }

    fn sessions(&self) -> MutexGuard<'_, FxHashMap<Client, Session>> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends the sessions with endpoints that do not answer any more.
    pub(crate) fn break_stale(&self) {
        self.sessions().retain(|_, session| {
            let keep = self.owner.service.serves(&session.link.counted.target.address);
            if !keep {
                session.task.abort();
            }
            keep
        });
    }

    /// Serves clients until told to stop; then all sessions end.
    pub(crate) async fn serve(self: Arc<Self>, mut stop: watch::Receiver<()>) {
        tokio::select! {
            () = self.receive_all() => {}
            _ = stop.changed() => {}
        }
        for (_, session) in self.sessions().drain() {
            session.task.abort();
        }
    }

    async fn receive_all(self: &Arc<Self>) {
        loop {
            let result = match self.socket.readable().await {
                Ok(()) => self.receive_some(),
                Err(error) => Err(error),
            };
            match result {
                Ok(()) => tokio::task::yield_now().await,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => {
                    tracing::debug!("receiving for {}: {error}", self.owner.service.name);
                    tokio::time::sleep(FAILURE_WAIT).await;
                }
            }
        }
    }

    /// Takes what is there, up to a batch.
    fn receive_some(self: &Arc<Self>) -> io::Result<()> {
        SCRATCH.with_borrow_mut(|buffer| {
            for _ in 0..BATCH {
                let Received { length, peer, local, hops } =
                    self.socket.try_io(Interest::READABLE, || receive(&self.socket, buffer))?;
                let client = Client { peer, local: local.unwrap_or(unspecified(peer)) };
                self.forward(client, hops, &buffer[..length]);
            }
            Ok(())
        })
    }

    /// Sends a datagram on; what cannot be sent now is lost, as UDP has it.
    fn forward(self: &Arc<Self>, client: Client, hops: Option<u32>, datagram: &[u8]) {
        let Some(link) = self.link(client, hops) else { return };
        // Not through the runtime, which does not know yet that a new socket can be written to.
        match nix::sys::socket::send(link.socket.as_raw_fd(), datagram, MsgFlags::MSG_DONTWAIT) {
            Ok(_) => {
                link.active.store(true, Relaxed);
                link.counted.sent(datagram.len());
            }
            Err(Errno::EAGAIN) => {}
            Err(error) => self.endpoint_failed(client, &link, &error.into()),
        }
    }

    /// The client's session, begun if there is none by a datagram that may pass `hops` more nodes, this one included.
    fn link(self: &Arc<Self>, client: Client, hops: Option<u32>) -> Option<Arc<Link>> {
        let mut sessions = self.sessions();
        match sessions.entry(client) {
            Entry::Occupied(session) => Some(session.get().link.clone()),
            Entry::Vacant(place) => {
                let Owner { service, policy, shared } = &self.owner;
                let reserved = service.reserve(1)?;
                let target = service.pick(*policy, client.peer, None)?;
                let socket = match connected(target.address, hops, shared) {
                    Ok(socket) => socket,
                    Err(error) if is_exhausted(&error) => {
                        service.counters.failed();
                        shared.dialing.once(|| {
                            tracing::error!(
                                service = %service.name,
                                %error,
                                "no socket for UDP clients of this service port, and perhaps of others"
                            );
                        });
                        return None;
                    }
                    Err(error) => {
                        tracing::debug!("endpoint {}: {error}", target.address);
                        service.failed(&target);
                        return None;
                    }
                };
                shared.dialing.over();
                let counted = Counted::begin(service.clone(), target);
                let link = Arc::new(Link {
                    socket,
                    counted,
                    _reserved: reserved,
                    active: AtomicBool::new(true),
                });
                let task = tokio::spawn(answers(self.clone(), client, link.clone()));
                place.insert(Session { link: link.clone(), task: task.abort_handle() });
                Some(link)
            }
        }
    }

    /// The endpoint has no such port, or cannot be reached: the next datagram goes to another one.
    fn endpoint_failed(&self, client: Client, link: &Arc<Link>, error: &io::Error) {
        tracing::debug!("endpoint {}: {error}", link.counted.target.address);
        self.owner.service.failed(&link.counted.target);
        self.end(client, link);
    }

    /// Ends this session, if it is still the client's.
    fn end(&self, client: Client, link: &Arc<Link>) {
        if let Entry::Occupied(session) = self.sessions().entry(client)
            && Arc::ptr_eq(&session.get().link, link)
        {
            session.remove().task.abort();
        }
    }
}

/// Brings the endpoint's answers to the client until the session was silent for too long.
async fn answers(port: Arc<UdpPort>, client: Client, link: Arc<Link>) {
    let idle = port.owner.shared.udp_idle;
    loop {
        match timeout(idle, link.socket.readable()).await {
            Ok(Ok(())) => {
                if let Err(error) = answer_some(&port, client, &link) {
                    port.endpoint_failed(client, &link, &error);
                    return;
                }
            }
            Ok(Err(error)) => {
                port.endpoint_failed(client, &link, &error);
                return;
            }
            Err(_) => {
                if !link.active.swap(false, Relaxed) {
                    port.end(client, &link);
                    return;
                }
            }
        }
    }
}

fn answer_some(port: &UdpPort, client: Client, link: &Link) -> io::Result<()> {
    SCRATCH.with_borrow_mut(|buffer| {
        for _ in 0..BATCH {
            let length = match link.socket.try_recv(buffer) {
                Ok(length) => length,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            };
            link.active.store(true, Relaxed);
            link.counted.received(length);
            let sent = send(&port.socket, &buffer[..length], client.peer, client.local);
            if let Err(error) = sent {
                tracing::trace!("answer to {}: {error}", client.peer);
            }
        }
        Ok(())
    })
}

fn unspecified(like: SocketAddr) -> IpAddr {
    match like {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    }
}

/// A socket towards an endpoint. As behind a router, each datagram may pass one node less than the one that began the session:
/// what is sent around between nodes ends.
fn connected(to: SocketAddr, hops: Option<u32>, shared: &Shared) -> io::Result<UdpSocket> {
    if own::leads_here(Protocol::Udp, to) {
        return Err(io::Error::other("this is a listening port of this proxy"));
    }
    let socket = std::net::UdpSocket::bind(SocketAddr::new(unspecified(to), 0))?;
    shared.mark(&socket);
    if let Some(hops) = hops {
        let left = hops.saturating_sub(1);
        if left == 0 {
            return Err(io::Error::other("the datagram passed too many nodes"));
        }
        let socket = socket2::SockRef::from(&socket);
        if to.is_ipv4() { socket.set_ttl_v4(left) } else { socket.set_unicast_hops_v6(left) }?;
    }
    socket.connect(to)?;
    socket.set_nonblocking(true)?;
    UdpSocket::from_std(socket)
}
