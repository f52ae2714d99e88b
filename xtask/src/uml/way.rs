//! Where the ipvs tests run on this host, and why.

use std::fmt;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::host;

/// Bytes that user-mode Linux (Debian's is 6.1) has for the registers of a process.
const BUFFER: u32 = 2696;

/// A kernel for the ipvs tests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// The host's own.
    Native,
    /// User-mode Linux, because of this.
    Uml(Reason),
    /// The same, with the library that completes registers: this processor has this many bytes of them.
    UmlWithLibrary(Reason, u32),
}

/// Why the host's kernel is not used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reason {
    /// It has no IPVS.
    NoIpvs,
    /// It lets only root use IPVS.
    NoRoot,
}

impl Way {
    /// Decides, and loads `ip_vs` where that is possible.
    pub(crate) fn of_this_host() -> Self {
        let list = Path::new("/proc/self/net/ip_vs");
        if !list.exists() && host::is_root() {
            let mut load = Command::new("modprobe");
            // Containers and kernels without it refuse; then there is user-mode Linux.
            let _ =
                load.args(["--quiet", "ip_vs"]).stdin(Stdio::null()).stderr(Stdio::null()).status();
        }
        decide(list.exists(), host::is_root(), bytes_of_registers())
    }
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let reason = |reason: &Reason| match reason {
            Reason::NoIpvs => "this kernel has no ip_vs",
            Reason::NoRoot => "this kernel has ip_vs for root only",
        };
        match self {
            Self::Native => write!(f, "on this kernel, which has ip_vs"),
            Self::Uml(why) => write!(f, "in user-mode Linux, because {}", reason(why)),
            Self::UmlWithLibrary(why, bytes) => write!(
                f,
                "in user-mode Linux, because {}, with a library that completes registers, because this processor has {bytes} bytes of \
                 them and user-mode Linux keeps {BUFFER}",
                reason(why)
            ),
        }
    }
}

fn decide(ipvs: bool, root: bool, bytes: u32) -> Way {
    let reason = match (ipvs, root) {
        (true, true) => return Way::Native,
        (true, false) => Reason::NoRoot,
        (false, _) => Reason::NoIpvs,
    };
    if needs_library(bytes) { Way::UmlWithLibrary(reason, bytes) } else { Way::Uml(reason) }
}

/// Whether user-mode Linux cannot run on this processor by itself.
pub(super) fn is_library_needed() -> bool {
    needs_library(bytes_of_registers())
}

fn needs_library(bytes: u32) -> bool {
    bytes > BUFFER
}

/// Bytes of all registers but the general ones, with what the kernel has enabled; 0 where there is no user-mode Linux anyway.
fn bytes_of_registers() -> u32 {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{__cpuid, __cpuid_count};
        /// The leaf about extended state.
        const LEAF: u32 = 0xd;
        if __cpuid(0).eax >= LEAF { __cpuid_count(LEAF, 0).ebx } else { 0 }
    }
    #[cfg(not(target_arch = "x86_64"))]
    0
}

#[cfg(test)]
mod tests;
