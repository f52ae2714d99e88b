//! Times as answers write them.

use std::time::SystemTime;

/// The time as RFC 3339, to the millisecond.
pub(super) fn time(time: SystemTime) -> String {
    let timestamp = jiff::Timestamp::try_from(time).unwrap_or_default();
    format!("{timestamp:.3}")
}
