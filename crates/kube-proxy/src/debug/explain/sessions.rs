//! The session of the source, where the endpoint depends on it.

use kube_proxy_core as core;

use super::text;
use crate::debug::explanation::{Path, Session};
use crate::family::state::FoundSession;

/// Adds to paths, given by their indices, what was found of the source's session with each.
pub(in crate::debug) fn add_sessions(
    paths: &mut [Path],
    found: impl IntoIterator<Item = (usize, FoundSession)>,
) {
    for (index, found) in found {
        let Some(path) = paths.get_mut(index) else { continue };
        path.session = Some(match found {
            Ok(Some(session)) => of(path, session),
            Ok(None) => Session::None,
            Err(why) => Session::Unknown { why },
        });
        path.summary = text::summary(path);
    }
}

fn of(path: &Path, session: core::Session) -> Session {
    let core::Session { endpoint, remaining } = session;
    let is_used = |use_of: &crate::debug::explanation::EndpointUse| {
        use_of.address == endpoint && use_of.unused.is_none()
    };
    Session::Found {
        endpoint,
        // Of a second that has begun, all.
        seconds_left: remaining.as_secs() + u64::from(remaining.subsec_nanos() > 0),
        followed: path.endpoints.iter().any(is_used),
    }
}
