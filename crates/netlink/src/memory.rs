//! The memory of the process.
//!
//! It has nothing to do with netlink; it is here because it takes a call of the C library that no dependency wraps.

/// Gives the kernel the pages back that hold nothing but freed memory. glibc by itself does so only at the end of its heaps,
/// which small values that stay hold on to after something large was built.
///
/// Where the allocator is another one, nothing happens.
pub fn give_back() {
    #[cfg(target_env = "gnu")]
    {
        #[expect(unsafe_code, reason = "there is no safe name for it")]
        // SAFETY: it takes a number and touches only memory that nothing uses.
        let _ = unsafe { nix::libc::malloc_trim(0) };
    }
}

#[cfg(test)]
mod tests;
