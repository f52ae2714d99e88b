//! What the memory of this process is: the kernel's account of its mappings.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::{Duration, SystemTime};

use super::proto::{Call, Profile};

pub(super) const PATH: &str = "/proc/self/smaps";

/// Bytes of all mappings of one name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Bytes {
    mapped: u64,
    resident: u64,
    /// Written to, so that it exists for this process alone.
    private_dirty: u64,
}

/// The profile of what `smaps` holds.
pub(super) fn profile(smaps: &str) -> Vec<u8> {
    let types = [("mapped", "bytes"), ("private_dirty", "bytes"), ("resident", "bytes")];
    let mut profile = Profile::new(&types);
    for (name, bytes) in by_name(smaps) {
        let call = Call { function: name, ..Call::default() };
        profile.sample(&[call], &[bytes.mapped, bytes.private_dirty, bytes.resident], &[]);
    }
    profile.finish(None, SystemTime::now(), Duration::ZERO)
}

/// The same as a table, the largest first.
pub(super) fn text(smaps: &str) -> String {
    let mut rows: Vec<_> = by_name(smaps).into_iter().collect();
    rows.sort_by_key(|(_, bytes)| std::cmp::Reverse(bytes.resident));
    let mut text = format!("{:<12} {:>14} {:>12} mapping\n", "resident", "private_dirty", "mapped");
    for (name, bytes) in rows {
        let Bytes { mapped, resident, private_dirty } = bytes;
        // Writing into a string does not fail.
        let _ = writeln!(text, "{resident:<12} {private_dirty:>14} {mapped:>12} {name}");
    }
    text
}

fn by_name(smaps: &str) -> BTreeMap<String, Bytes> {
    let mut all = BTreeMap::new();
    let mut current: &mut Bytes = all.entry(String::new()).or_default();
    for line in smaps.lines() {
        let mut words = line.split_ascii_whitespace();
        let first = words.next().unwrap_or_default();
        if !first.ends_with(':') {
            // Addresses, permissions, offset, device, inode, name.
            let name: Vec<&str> = words.skip(4).collect();
            let name = if name.is_empty() { "[anonymous]".to_owned() } else { name.join(" ") };
            current = all.entry(name).or_default();
            continue;
        }
        let bytes = words.next().and_then(|number| number.parse::<u64>().ok()).unwrap_or(0) * 1024;
        match first {
            "Size:" => current.mapped += bytes,
            "Rss:" => current.resident += bytes,
            "Private_Dirty:" => current.private_dirty += bytes,
            _ => {}
        }
    }
    all.retain(|_, bytes| *bytes != Bytes::default());
    all
}
