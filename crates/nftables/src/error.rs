//! The kernel's refusals, as errors of a sync.

use kube_proxy_core::{Refusal, SyncError};
use kube_proxy_netlink::writer::TooLong;
use kube_proxy_netlink::{Errno, Error};

use crate::layout::TABLE;

pub(crate) fn too_long(too_long: TooLong) -> Error {
    Error::TooLong { object: format!("transaction for table {TABLE}"), too_long }
}

fn refused(error: &Error) -> SyncError {
    let message = error.to_string();
    let target =
        error.refusals().next().and_then(|first| Some((first.target.as_ref()?, first.errno)));
    let Some((target, errno)) = target else { return SyncError::Refused(message) };
    let refusal = Refusal { kind: target.kind, name: target.name.clone(), errno: errno as i32 };
    SyncError::RefusedObject { message, refusal }
}

pub(crate) fn sync_error(error: &Error) -> SyncError {
    if error.is_unsupported() {
        SyncError::Unsupported(error.to_string())
    } else if error.is_stale() || error.is_busy() || error.errno() == Some(Errno::EINTR) {
        SyncError::Busy(format!("another program is changing the nftables ruleset: {error}"))
    } else if let (None, Some(errno)) = (error.refusals().next(), error.errno()) {
        SyncError::Io { what: error.to_string(), source: errno.into() }
    } else {
        refused(error)
    }
}
