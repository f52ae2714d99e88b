//! Acknowledgements and errors: `NLMSG_ERROR` and the code in `NLMSG_DONE`, with the text that comes along.

use std::fmt::Display;

use nix::errno::Errno;

use crate::attr::{Attributes, Malformed};
use crate::error::Refusal;
use crate::message::{HEADER_LEN, Message, flags};

/// `NLMSGERR_ATTR_MSG`: text.
const ATTR_MESSAGE: u16 = 1;
/// `NLMSGERR_ATTR_OFFS`: where in the request.
const ATTR_OFFSET: u16 = 2;
/// `NLMSGERR_ATTR_MISS_TYPE`: the attribute that is missing.
const ATTR_MISSING: u16 = 5;

/// Why the kernel refused; [`Refusal`] without the object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Reason {
    pub(crate) errno: Errno,
    code: i32,
    message: Option<String>,
    offset: Option<usize>,
    missing: Option<u16>,
}

impl Reason {
    pub(crate) fn about(self, object: &dyn Display) -> Refusal {
        let Self { errno, code, message, offset, missing } = self;
        Refusal { object: object.to_string(), target: None, errno, code, message, offset, missing }
    }

    /// Where in the request the offending attribute is.
    pub(crate) fn offset(&self) -> Option<usize> {
        self.offset
    }
}

/// Reads an `NLMSG_ERROR`: `None` is an acknowledgement.
pub(crate) fn read_error(message: &Message<'_>) -> Result<Option<Reason>, Malformed> {
    let quoted = message.fixed::<{ 4 + HEADER_LEN }>()?;
    let [e0, e1, e2, e3, l0, l1, l2, l3, ..] = *quoted;
    let code = i32::from_ne_bytes([e0, e1, e2, e3]);
    if code == 0 {
        return Ok(None);
    }
    let capped = message.flags & flags::CAPPED != 0;
    let request_len = if capped {
        HEADER_LEN
    } else {
        usize::try_from(u32::from_ne_bytes([l0, l1, l2, l3])).unwrap_or(usize::MAX)
    };
    Ok(Some(reason(code, message, request_len.saturating_add(4))))
}

/// Reads an `NLMSG_DONE`: `None` is a dump that ended well.
pub(crate) fn read_done(message: &Message<'_>) -> Option<Reason> {
    // Some protocols end a dump without a code.
    let code = i32::from_ne_bytes(*message.payload.first_chunk()?);
    (code < 0).then(|| reason(code, message, 4))
}

fn reason(code: i32, message: &Message<'_>, attributes_at: usize) -> Reason {
    let code = code.saturating_neg();
    let mut reason =
        Reason { errno: Errno::from_raw(code), code, message: None, offset: None, missing: None };
    if reason.errno == Errno::UnknownErrno {
        reason.message = Some(format!("error number {code}"));
    }
    if message.flags & flags::ACK_ATTRIBUTES == 0 {
        return reason;
    }
    let attributes = message.attributes(attributes_at).unwrap_or_else(|_| Attributes::new(&[]));
    // The error counts, with or without its explanation: what cannot be read of that is left out.
    for attribute in attributes.map_while(Result::ok) {
        match attribute.kind {
            ATTR_MESSAGE => reason.message = attribute.text().into_owned().into(),
            ATTR_OFFSET => {
                reason.offset = attribute.u32().ok().and_then(|at| usize::try_from(at).ok());
            }
            ATTR_MISSING => {
                reason.missing = attribute.u32().ok().and_then(|kind| u16::try_from(kind).ok());
            }
            _ => {}
        }
    }
    reason
}

#[cfg(test)]
mod tests;
