//! Generic netlink: families that are found by name.
//!
//! From linux/genetlink.h.

use crate::error::Error;
use crate::socket::{Request, Socket};
use crate::writer::Writer;

/// Length of `struct genlmsghdr` in bytes.
pub const HEADER_LEN: usize = 4;

/// `GENL_ID_CTRL`, the family that knows all others.
const CONTROL: u16 = 0x10;
/// `CTRL_CMD_GETFAMILY`.
const GET_FAMILY: u8 = 3;
/// `CTRL_ATTR_FAMILY_ID`.
const ATTR_FAMILY_ID: u16 = 1;
/// `CTRL_ATTR_FAMILY_NAME`.
const ATTR_FAMILY_NAME: u16 = 2;

/// Writes `struct genlmsghdr`: the command and the version of the family's protocol.
pub fn header(writer: &mut Writer, command: u8, version: u8) {
    writer.fixed(&[command, version, 0, 0]);
}

/// The message type of a family. Asking for it loads the family's module, where the kernel may do that.
///
/// # Errors
/// [`Error::is_not_found`] when the kernel does not have the family.
pub fn family(socket: &mut Socket, name: &str) -> Result<u16, Error> {
    let object = format!("find generic netlink family {name}");
    let request = Request { kind: CONTROL, flags: 0, object: &object };
    let mut found = None;
    let body = |writer: &mut Writer| {
        header(writer, GET_FAMILY, 1);
        writer.text(ATTR_FAMILY_NAME, name);
    };
    socket.request(request, body, |message| {
        let attribute = message.attributes(HEADER_LEN)?.find(ATTR_FAMILY_ID)?;
        if let Some(attribute) = attribute {
            found = Some(u16::from_ne_bytes(attribute.u16_be()?.to_be_bytes()));
        }
        Ok(())
    })?;
    found.ok_or(Error::Malformed {
        object,
        malformed: crate::attr::Malformed::Missing { what: "a family number" },
    })
}
