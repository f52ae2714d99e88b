//! A dummy interface that holds addresses, and its addresses.

use std::net::IpAddr;

use super::{Route, address, kind};
use crate::Family;
use crate::error::{Error, Refusal};
use crate::message::{Message, flags};
use crate::socket::Request;
use crate::writer::Writer;

/// Length of `struct ifinfomsg` in bytes.
const HEADER_LEN: usize = 16;
/// `IFLA_IFNAME`.
const NAME: u16 = 3;
/// `IFLA_LINKINFO`.
const INFO: u16 = 18;
/// `IFLA_INFO_KIND`.
const INFO_KIND: u16 = 1;
/// `IFA_F_NODAD`: no duplicate address detection.
const NO_DAD: u8 = 0x02;

/// An interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// Its index, which addresses refer to.
    pub index: u32,
    /// What made it, such as `dummy` or `veth`; `None` for hardware and loopback.
    pub kind: Option<String>,
}

impl Route {
    /// The interface with this name, if there is one.
    pub fn link(&mut self, name: &str) -> Result<Option<Interface>, Error> {
        let object = format!("look up interface {name}");
        let request = Request { kind: kind::GET_LINK, flags: 0, object: &object };
        let mut found = None;
        let body = |writer: &mut Writer| {
            writer.fixed(&[0; HEADER_LEN]);
            writer.text(NAME, name);
        };
        let result = self.socket.request(request, body, |message: &Message<'_>| {
            let [_, _, _, _, i0, i1, i2, i3, ..] = *message.fixed::<HEADER_LEN>()?;
            let mut link = Interface { index: u32::from_ne_bytes([i0, i1, i2, i3]), kind: None };
            if let Some(info) = message.attributes(HEADER_LEN)?.find(INFO)?
                && let Some(kind) = info.nested().find(INFO_KIND)?
            {
                link.kind = Some(kind.text().into_owned());
            }
            found = Some(link);
            Ok(())
        });
        match result {
            Ok(()) => Ok(found),
            Err(error) if error.errno() == Some(crate::Errno::ENODEV) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Makes a dummy interface, which stays down: its IPv4 and IPv6 addresses are local to the host all the same.
    pub fn add_dummy(&mut self, name: &str) -> Result<(), Error> {
        let object = format!("add dummy interface {name}");
        let flags = flags::CREATE | flags::EXCLUSIVE;
        let request = Request { kind: kind::NEW_LINK, flags, object: &object };
        self.socket.acknowledged(request, |writer| {
            writer.fixed(&[0; HEADER_LEN]);
            writer.text(NAME, name);
            writer.nest(INFO, |writer| writer.text(INFO_KIND, "dummy"));
        })
    }

    /// Deletes an interface with all its addresses.
    pub fn delete_link(&mut self, name: &str) -> Result<(), Error> {
        let object = format!("delete interface {name}");
        let request = Request { kind: kind::DELETE_LINK, flags: 0, object: &object };
        self.socket.acknowledged(request, |writer| {
            writer.fixed(&[0; HEADER_LEN]);
            writer.text(NAME, name);
        })
    }

    /// Gives an interface addresses without a network around them, many with one datagram; those it has do no harm.
    pub fn add_addresses(
        &mut self,
        index: u32,
        addresses: &[IpAddr],
    ) -> Result<Vec<Refusal>, Error> {
        let flags = flags::CREATE | flags::REPLACE;
        let request = Request { kind: kind::NEW_ADDRESS, flags, object: &"add address" };
        let mut refused = Vec::new();
        self.socket.pipeline(
            request,
            addresses,
            |ip, writer| write(writer, index, *ip),
            |_, r| {
                refused.extend(r);
            },
        )?;
        Ok(refused)
    }

    /// Takes such addresses away; those it does not have do no harm.
    pub fn delete_addresses(
        &mut self,
        index: u32,
        addresses: &[IpAddr],
    ) -> Result<Vec<Refusal>, Error> {
        let request = Request { kind: kind::DELETE_ADDRESS, flags: 0, object: &"delete address" };
        let mut refused = Vec::new();
        self.socket.pipeline(
            request,
            addresses,
            |ip, writer| write(writer, index, *ip),
            |_, r| {
                refused.extend(r.filter(|r| r.errno != crate::Errno::EADDRNOTAVAIL));
            },
        )?;
        Ok(refused)
    }
}

fn write(writer: &mut Writer, index: u32, ip: IpAddr) {
    let (length, flags) = if ip.is_ipv4() { (32, 0) } else { (128, NO_DAD) };
    let [i0, i1, i2, i3] = index.to_ne_bytes();
    let header: [u8; address::HEADER_LEN] =
        [Family::of(ip).number(), length, flags, 0, i0, i1, i2, i3];
    writer.fixed(&header);
    writer.address(address::LOCAL, ip);
    writer.address(address::ADDRESS, ip);
}
