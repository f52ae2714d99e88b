//! What all nfnetlink protocols share: the header after the header, and message types by subsystem.
//!
//! From linux/netfilter/nfnetlink.h.

use crate::attr::Malformed;
use crate::message::Message;
use crate::writer::Writer;

/// Length of `struct nfgenmsg` in bytes.
pub const HEADER_LEN: usize = 4;

/// Subsystems, the high byte of a message type.
pub mod subsystem {
    /// Connection tracking.
    pub const CONNTRACK: u8 = 1;
    /// ipset.
    pub const IPSET: u8 = 6;
    /// Accounting objects (nfacct).
    pub const ACCOUNTING: u8 = 7;
    /// `nf_tables`.
    pub const NF_TABLES: u8 = 10;
}

/// The type of a message: subsystem and operation.
pub const fn kind(subsystem: u8, operation: u8) -> u16 {
    u16::from_be_bytes([subsystem, operation])
}

/// Writes `struct nfgenmsg`: family (0 for any), version 0, resource id.
pub fn header(writer: &mut Writer, family: u8, resource: u16) {
    let [high, low] = resource.to_be_bytes();
    writer.fixed(&[family, 0, high, low]);
}

/// The family and the resource id of a message.
pub fn read_header(message: &Message<'_>) -> Result<(u8, u16), Malformed> {
    let [family, _version, high, low] = *message.fixed::<HEADER_LEN>()?;
    Ok((family, u16::from_be_bytes([high, low])))
}
