//! Socket options that nix does not name. Its macros hold the system calls; there is no unsafe code of our own.

use nix::libc;
use nix::setsockopt_impl;
use nix::sys::socket::sockopt::{SetBool, SetStruct};

/// `NETLINK_EXT_ACK`: errors come with text and the place in the request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ExtendedAck;

setsockopt_impl!(ExtendedAck, libc::SOL_NETLINK, libc::NETLINK_EXT_ACK, bool, SetBool);

/// `NETLINK_CAP_ACK`: errors quote only the header of the request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CappedAck;

setsockopt_impl!(CappedAck, libc::SOL_NETLINK, libc::NETLINK_CAP_ACK, bool, SetBool);

/// `NETLINK_ADD_MEMBERSHIP`: notifications of a group come in from now on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct JoinGroup;

setsockopt_impl!(JoinGroup, libc::SOL_NETLINK, libc::NETLINK_ADD_MEMBERSHIP, u32, SetStruct<u32>);

/// `NETLINK_DROP_MEMBERSHIP`: notifications of a group no longer come in.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LeaveGroup;

setsockopt_impl!(LeaveGroup, libc::SOL_NETLINK, libc::NETLINK_DROP_MEMBERSHIP, u32, SetStruct<u32>);
