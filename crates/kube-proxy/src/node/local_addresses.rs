//! The addresses of this host, followed as they come and go.

use std::collections::BTreeSet;
use std::io;
use std::net::IpAddr;
use std::time::Duration;

use kube_proxy_netlink::Error;
use kube_proxy_netlink::route::{Address, AddressMonitor, Route, Scope};
use tokio::sync::watch;

/// Without any notice the addresses are listed this often.
const LOOK: Duration = Duration::from_mins(1);
/// The interface with the addresses of Services in ipvs mode.
const OF_SERVICES: &str = "kube-ipvs0";
/// The wait after an error.
const RETRY: Duration = Duration::from_secs(5);

/// Follows the addresses on a thread of its own, which ends some time after the last receiver has gone.
///
/// # Errors
/// The thread cannot be started.
pub fn follow() -> io::Result<watch::Receiver<Vec<IpAddr>>> {
    let (sender, receiver) = watch::channel(list().unwrap_or_default());
    crate::tasks::thread("addresses".to_owned(), move || {
        while !sender.is_closed() {
            if let Err(error) = follow_until_error(&sender) {
                tracing::warn!("cannot follow the addresses of this host, will try again: {error}");
                std::thread::sleep(RETRY);
            }
        }
    })?;
    Ok(receiver)
}

fn follow_until_error(sender: &watch::Sender<Vec<IpAddr>>) -> Result<(), Error> {
    // Open before the addresses are listed, so that no change falls between. The handle ends the wait when it is dropped.
    let (mut monitor, _handle) = AddressMonitor::open()?;
    while !sender.is_closed() {
        let addresses = list()?;
        sender.send_if_modified(|known| {
            let differs = *known != addresses;
            *known = addresses;
            differs
        });
        monitor.wait(Some(LOOK))?;
    }
    Ok(())
}

/// All addresses that can be listened on, sorted.
fn list() -> Result<Vec<IpAddr>, Error> {
    let (addresses, _) = Route::open()?.addresses()?;
    let usable = addresses.into_iter().filter(is_usable).map(|address| address.address);
    Ok(usable.collect::<BTreeSet<_>>().into_iter().collect())
}

/// All addresses of this node, without those that the ipvs mode puts there for Services.
///
/// # Errors
/// The kernel does not say.
pub fn own() -> Result<Vec<IpAddr>, Error> {
    let mut route = Route::open()?;
    let (links, _) = route.links()?;
    let (addresses, _) = route.addresses()?;
    let of_services = links.iter().find(|link| link.name == OF_SERVICES).map(|link| link.index);
    let own = addresses.into_iter().filter(|address| Some(address.interface) != of_services);
    Ok(own.map(|address| address.address).collect())
}

/// Not those whose duplicate detection has not ended well, nor IPv6 link-local ones, which say nothing without an interface.
fn is_usable(address: &Address) -> bool {
    let link_local = address.address.is_ipv6() && address.scope == Scope::Link;
    address.is_usable() && !link_local
}

#[cfg(test)]
mod tests;
