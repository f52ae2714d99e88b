//! Ranges of addresses, from lists of networks that may overlap.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

/// The addresses from one to another, both included, of one family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Range {
    /// The first address.
    pub(crate) first: IpAddr,
    /// The last address.
    pub(crate) last: IpAddr,
}

impl Range {
    /// The address after the last one; `None` if there is none.
    pub(crate) fn end(&self) -> Option<IpAddr> {
        next(self.last)
    }
}

impl From<IpNet> for Range {
    fn from(net: IpNet) -> Self {
        Self { first: net.network(), last: net.broadcast() }
    }
}

/// Sorts ranges and joins those that overlap or touch: interval sets hold no two of these.
pub(crate) fn merge(ranges: impl IntoIterator<Item = Range>) -> Vec<Range> {
    let mut ranges: Vec<_> = ranges.into_iter().collect();
    ranges.sort_unstable();
    let mut merged: Vec<Range> = Vec::with_capacity(ranges.len());
    for range in ranges {
        match merged.last_mut() {
            Some(before) if before.end().is_none_or(|end| range.first <= end) => {
                before.last = before.last.max(range.last);
            }
            _ => merged.push(range),
        }
    }
    merged
}

/// The ranges of networks, as [`merge`] leaves them.
pub(crate) fn from_nets(nets: &[IpNet]) -> Vec<Range> {
    merge(nets.iter().copied().map(Range::from))
}

fn next(ip: IpAddr) -> Option<IpAddr> {
    Some(match ip {
        IpAddr::V4(ip) => Ipv4Addr::from(u32::from(ip).checked_add(1)?).into(),
        IpAddr::V6(ip) => Ipv6Addr::from(u128::from(ip).checked_add(1)?).into(),
    })
}

#[cfg(test)]
mod tests;
