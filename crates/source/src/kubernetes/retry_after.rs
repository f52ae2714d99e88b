//! The header `Retry-After`: when the server wants to be asked again.

use http::header::{DATE, HeaderMap, HeaderName, RETRY_AFTER};
use jiff::Timestamp;
use jiff::fmt::rfc2822::DateTimeParser;

/// How many seconds to wait, rounded up; `None` if the server does not say, or nothing that can be read.
///
/// The header holds a number of seconds or a date. A date is compared with that of the answer, as the clock of the server may be another
/// than that of this node, which is `now`.
pub(super) fn seconds(headers: &HeaderMap, now: Timestamp) -> Option<u64> {
    let wanted = text(headers, RETRY_AFTER)?;
    if let Ok(seconds) = wanted.parse() {
        return Some(seconds);
    }
    let wanted = date(wanted)?;
    let now = text(headers, DATE).and_then(date).unwrap_or(now);
    let wait = wanted.as_second() - now.as_second();
    // One that is over asks for nothing.
    Some(u64::try_from(wait).unwrap_or_default())
}

fn text(headers: &HeaderMap, name: HeaderName) -> Option<&str> {
    headers.get(name)?.to_str().ok().map(str::trim)
}

/// A date as HTTP writes it, such as `Sun, 06 Nov 1994 08:49:37 GMT`.
fn date(text: &str) -> Option<Timestamp> {
    DateTimeParser::new().parse_timestamp(text).ok()
}

#[cfg(test)]
mod tests;
