//! Traffic of this process itself, which must not come back to it: each hop of such a circle would take more sockets.
//!
//! Sockets towards endpoints carry a mark, and the rules leave packets with that mark alone.
//! An endpoint that is a listening port of this process needs no rule to come back; it is recognised before it is dialled.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::AsFd;
use std::sync::{Mutex, MutexGuard, PoisonError};

use kube_proxy_core::Protocol;
use rustc_hash::FxHashMap;
use socket2::SockRef;

use crate::limits;

/// The mark of sockets towards endpoints. Rules compare this bit only, so that others may add theirs.
///
/// Neither the masquerade bit of kube-proxy (14) nor the drop bit of the kubelet (15).
pub(crate) const MARK: u32 = 1 << 12;

/// Marks a socket towards an endpoint.
pub(crate) fn mark(socket: &impl AsFd) -> io::Result<()> {
    SockRef::from(socket).set_mark(MARK)
}

/// Addresses that this process listens at, by port. Both families may have the same port.
type Listeners = Option<FxHashMap<(Protocol, u16), Vec<IpAddr>>>;

/// Those of the whole process: one family's endpoint may be the other's listening port. `None` before the first.
static LISTENERS: Mutex<Listeners> = Mutex::new(None);

fn listeners() -> MutexGuard<'static, Listeners> {
    LISTENERS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A listening port of this process, known as such until dropped.
#[derive(Debug)]
pub(crate) struct OwnListener {
    protocol: Protocol,
    at: SocketAddr,
    _descriptor: limits::Descriptors,
}

impl OwnListener {
    pub(crate) fn new(protocol: Protocol, at: SocketAddr) -> Self {
        let mut all = listeners();
        let of_port = all.get_or_insert_default().entry((protocol, at.port())).or_default();
        of_port.push(at.ip());
        Self { protocol, at, _descriptor: limits::Descriptors::take(1) }
    }
}

impl Drop for OwnListener {
    fn drop(&mut self) {
        let mut all = listeners();
        let Some(all) = all.as_mut() else { return };
        let key = (self.protocol, self.at.port());
        if let Some(addresses) = all.get_mut(&key) {
            if let Some(at) = addresses.iter().position(|ip| *ip == self.at.ip()) {
                addresses.swap_remove(at);
            }
            if addresses.is_empty() {
                all.remove(&key);
            }
        }
    }
}

/// Whether a connection from here to `target` reaches a listening port of this process.
pub(crate) fn leads_here(protocol: Protocol, target: SocketAddr) -> bool {
    let ip = target.ip().to_canonical();
    let wildcard = {
        let all = listeners();
        let of_port = all.as_ref().and_then(|all| all.get(&(protocol, target.port())));
        let mut of_family = of_port
            .into_iter()
            .flatten()
            .filter(|listener| listener.is_ipv4() == ip.is_ipv4())
            .peekable();
        if of_family.peek().is_none() {
            return false;
        }
        let (wildcard, exact): (Vec<_>, Vec<_>) =
            of_family.partition(|listener| listener.is_unspecified());
        if exact.contains(&&ip) || ip.is_unspecified() {
            return true;
        }
        !wildcard.is_empty()
    };
    wildcard && is_local(ip)
}

/// Whether an address is this node's: the kernel reaches such an address from itself.
fn is_local(ip: IpAddr) -> bool {
    let any: IpAddr = match ip {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    // Connecting a UDP socket sends nothing. Port 9 is as good as any.
    let source = UdpSocket::bind((any, 0)).and_then(|socket| {
        socket.connect((ip, 9))?;
        socket.local_addr()
    });
    ip.is_loopback() || source.is_ok_and(|source| source.ip() == ip)
}

#[cfg(test)]
mod tests;
