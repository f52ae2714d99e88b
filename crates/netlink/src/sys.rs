//! Socket options that nix does not name. Its macros hold the system calls; there is no unsafe code of our own.

use nix::libc;
use nix::setsockopt_impl;
use nix::sys::socket::sockopt::SetBool;

/// `NETLINK_EXT_ACK`: errors come with text and the place in the request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ExtendedAck;

setsockopt_impl!(ExtendedAck, libc::SOL_NETLINK, libc::NETLINK_EXT_ACK, bool, SetBool);

/// `NETLINK_CAP_ACK`: errors quote only the header of the request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CappedAck;

setsockopt_impl!(CappedAck, libc::SOL_NETLINK, libc::NETLINK_CAP_ACK, bool, SetBool);
