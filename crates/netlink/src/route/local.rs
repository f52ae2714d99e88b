//! Which interface has an address of this host.

use std::net::IpAddr;

use super::{Route, kind, next_hop};
use crate::attr::Malformed;
use crate::error::Error;
use crate::message::Message;
use crate::socket::Request;
use crate::writer::Writer;
use crate::{Errno, Family};

/// `RTA_DST`.
const DESTINATION: u16 = 1;
/// `RTA_OIF`.
const INTERFACE: u16 = 4;
/// `RTN_LOCAL`.
const LOCAL: u8 = 2;
/// `RTM_F_FIB_MATCH`: the route itself, and not what becomes of a packet; kernels before 4.13 do not know it.
const FIB_MATCH: u32 = 0x2000;

/// Places in `struct rtmsg`.
const TYPE: usize = 7;
const FLAGS: usize = 8;

impl Route {
    /// The index of the interface that has an address; `None` if it is none of this host.
    ///
    /// It is the route to the address that says so, which the kernel looks up, however many addresses there are. Kernels before 4.13 name the
    /// loopback interface for any.
    pub fn interface_of(&mut self, ip: IpAddr) -> Result<Option<u32>, Error> {
        let object = format!("look up the route to {ip}");
        let request = Request { kind: kind::GET_ROUTE, flags: 0, object: &object };
        let mut found = None;
        let body = |writer: &mut Writer| {
            writer.fixed(&header(ip));
            writer.address(DESTINATION, ip);
        };
        let result = self.socket.request(request, body, |message| {
            found = read(message)?;
            Ok(())
        });
        match result {
            Ok(()) => Ok(found),
            // A route that leads nowhere.
            Err(error) if is_unreachable(error.errno()) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

fn header(ip: IpAddr) -> [u8; next_hop::HEADER_LEN] {
    let mut header = [0; next_hop::HEADER_LEN];
    header[0] = Family::of(ip).number();
    header[1] = if ip.is_ipv4() { 32 } else { 128 };
    header[FLAGS..].copy_from_slice(&FIB_MATCH.to_ne_bytes());
    header
}

fn is_unreachable(errno: Option<Errno>) -> bool {
    matches!(errno, Some(Errno::ENETUNREACH | Errno::EHOSTUNREACH | Errno::EACCES | Errno::EINVAL))
}

/// The interface that a message of type `RTM_NEWROUTE` names, if the route is a local one.
pub(super) fn read(message: &Message<'_>) -> Result<Option<u32>, Malformed> {
    let header = *message.fixed::<{ next_hop::HEADER_LEN }>()?;
    if header[TYPE] != LOCAL {
        return Ok(None);
    }
    let interface = message.attributes(next_hop::HEADER_LEN)?.find(INTERFACE)?;
    interface.map(|interface| interface.u32()).transpose()
}
