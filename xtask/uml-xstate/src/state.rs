//! The layout of extended state, as `XSAVE` defines it for the uncompacted form.

use std::arch::x86_64::__cpuid_count;

/// Where the header is: it begins with a bit for each component that is in use.
const HEADER: usize = 512;
/// The leaf of `CPUID` that describes the components; one subleaf each, from the third.
const LEAF: u32 = 0xd;

/// Why a part cannot be completed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Incomplete {
    /// It does not reach to the end of the header.
    NoHeader,
    /// It is longer than the whole.
    Longer,
    /// These components are in use, and are not in the part.
    InUse(u64),
}

/// Puts the part at the start of the whole and initialises what it does not hold.
///
/// `beyond` has the bits of all components that are not wholly in the part.
pub(crate) fn complete(part: &[u8], beyond: u64, whole: &mut [u8]) -> Result<(), Incomplete> {
    let header = part.get(HEADER..HEADER + 8).and_then(|bytes| bytes.try_into().ok());
    let in_use = u64::from_le_bytes(header.ok_or(Incomplete::NoHeader)?);
    if in_use & beyond != 0 {
        return Err(Incomplete::InUse(in_use & beyond));
    }
    let (first, rest) = whole.split_at_mut_checked(part.len()).ok_or(Incomplete::Longer)?;
    first.copy_from_slice(part);
    rest.fill(0);
    Ok(())
}

/// The components of this processor that are not wholly in the first bytes.
pub(crate) fn beyond(bytes: usize) -> u64 {
    (2..63)
        .filter(|component| {
            let leaf = __cpuid_count(LEAF, *component);
            let end = u64::from(leaf.ebx) + u64::from(leaf.eax);
            leaf.eax != 0 && end > bytes as u64
        })
        .fold(0, |all, component| all | 1 << component)
}

#[cfg(test)]
mod tests;
