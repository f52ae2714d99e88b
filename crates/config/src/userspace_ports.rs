//! `portRange`: the ports on which the userspace mode listens.

use std::ops::RangeInclusive;

/// Parses `first-last`, `first+count` or one port; empty and `0-0` mean any port.
///
/// # Errors
/// The reason, as a phrase.
pub(crate) fn parse(text: &str) -> Result<Option<RangeInclusive<u16>>, &'static str> {
    const SHAPE: &str = "must be first-last or first+more, ports from 1 to 65535";
    let port = |text: &str| text.trim().parse::<u16>().map_err(|_| SHAPE);
    let text = text.trim();
    if text.is_empty() {
        return Ok(None);
    }
    let (first, last) = if let Some((first, last)) = text.split_once('-') {
        (port(first)?, port(last)?)
    } else if let Some((first, more)) = text.split_once('+') {
        let first = port(first)?;
        (first, first.saturating_add(port(more)?))
    } else {
        (port(text)?, port(text)?)
    };
    match (first, last) {
        (0, 0) => Ok(None),
        (0, _) => Err(SHAPE),
        _ if last < first => Err("the last port must not be below the first"),
        _ => Ok(Some(first..=last)),
    }
}
