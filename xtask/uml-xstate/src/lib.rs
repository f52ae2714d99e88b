//! Test-only: a `ptrace` for user-mode Linux, loaded before the C library's (`LD_PRELOAD`).
//!
//! User-mode Linux holds the registers of its programs in a buffer as large as AVX-512 needs.
//! The host writes the registers of a process only from a buffer of the size that all registers of this processor take.
//! With AMX that is more, the call is refused, and user-mode Linux stops.
//! This `ptrace` completes the buffer: components behind its end are initialised, as they are in a program that never used them.
//! Nothing inside can use them: such components need a permission (`arch_prctl`), which user-mode Linux does not know.
//! Should one be in use nevertheless, the process ends and says so: wrong registers would be worse.
#![cfg(target_arch = "x86_64")]

mod preload;
mod state;
