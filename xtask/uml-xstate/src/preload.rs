//! The function that user-mode Linux calls instead of the C library's.
#![expect(unsafe_code, reason = "it takes the place of a function of the C library")]

use std::cell::UnsafeCell;
use std::ffi::{c_char, c_int, c_long, c_uint, c_void};
use std::mem;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, AtomicUsize, Ordering};

use crate::state;

/// `PTRACE_GETREGSET`.
const GET: c_uint = 0x4204;
/// `PTRACE_SETREGSET`.
const SET: c_uint = 0x4205;
/// `NT_X86_XSTATE`: all registers but the general ones.
const XSTATE: usize = 0x202;
/// `RTLD_NEXT`: the library after this one.
const NEXT: *mut c_void = -1_isize as *mut c_void;
/// More than any processor needs.
const LARGEST: usize = 64 * 1024;

type Ptrace = unsafe extern "C" fn(c_uint, c_int, *mut c_void, *mut c_void) -> c_long;

unsafe extern "C" {
    fn dlsym(library: *mut c_void, symbol: *const c_char) -> *mut c_void;
}

/// `struct iovec`.
#[repr(C)]
struct Buffer {
    start: *mut c_void,
    length: usize,
}

/// The whole state; not on the stack, for those of user-mode Linux are small.
struct Whole(UnsafeCell<[u8; LARGEST]>);

// SAFETY: `IN_USE` keeps a second caller out.
unsafe impl Sync for Whole {}

static WHOLE: Whole = Whole(UnsafeCell::new([0; LARGEST]));
static IN_USE: AtomicBool = AtomicBool::new(false);
/// The C library's function.
static ORIGINAL: AtomicPtr<c_void> = AtomicPtr::new(std::ptr::null_mut());
/// The size of the whole state as the host reports it, 0 before it was asked.
static SIZE: AtomicUsize = AtomicUsize::new(0);
/// The components outside the buffers of user-mode Linux.
static BEYOND: AtomicU64 = AtomicU64::new(0);

/// Completes the registers to be set, and leaves all else as it is.
///
/// # Safety
/// As for the C library's function of that name.
#[unsafe(no_mangle)]
unsafe extern "C" fn ptrace(
    request: c_uint,
    pid: c_int,
    address: *mut c_void,
    data: *mut c_void,
) -> c_long {
    let original = original();
    if request != SET || address as usize != XSTATE || data.is_null() {
        // SAFETY: the arguments are the caller's.
        return unsafe { original(request, pid, address, data) };
    }
    // SAFETY: with this request, `data` points to such a description.
    let part = unsafe { &*data.cast::<Buffer>() };
    if IN_USE.swap(true, Ordering::Acquire) {
        fail("two threads set registers at once");
    }
    // SAFETY: nothing else has it, see `IN_USE`.
    let whole = unsafe { &mut *WHOLE.0.get() };
    let size = size(original, pid, whole);
    let result = if part.length >= size {
        // SAFETY: the arguments are the caller's.
        unsafe { original(request, pid, address, data) }
    } else {
        // SAFETY: the caller describes memory of its own.
        let bytes = unsafe { std::slice::from_raw_parts(part.start.cast::<u8>(), part.length) };
        let whole = &mut whole[..size];
        if let Err(error) = state::complete(bytes, beyond(part.length), whole) {
            fail(&format!("the registers of process {pid} cannot be set: {error:?}"));
        }
        let mut buffer = Buffer { start: whole.as_mut_ptr().cast(), length: size };
        // SAFETY: the description is that of `whole`, which outlives the call.
        unsafe { original(request, pid, address, (&raw mut buffer).cast()) }
    };
    IN_USE.store(false, Ordering::Release);
    result
}

/// The C library's function, looked up once.
fn original() -> Ptrace {
    let mut found = ORIGINAL.load(Ordering::Acquire);
    if found.is_null() {
        // SAFETY: the name ends with a zero.
        found = unsafe { dlsym(NEXT, c"ptrace".as_ptr()) };
        if found.is_null() {
            fail("the C library has no ptrace");
        }
        ORIGINAL.store(found, Ordering::Release);
    }
    // SAFETY: this is the type of the function of that name.
    unsafe { mem::transmute::<*mut c_void, Ptrace>(found) }
}

/// The size of the whole state, which is the same for all processes. 0 if the host does not say.
fn size(original: Ptrace, pid: c_int, whole: &mut [u8]) -> usize {
    let known = SIZE.load(Ordering::Relaxed);
    if known != 0 {
        return known;
    }
    let mut buffer = Buffer { start: whole.as_mut_ptr().cast(), length: whole.len() };
    let address = XSTATE as *mut c_void;
    // SAFETY: the description is that of `whole`.
    if unsafe { original(GET, pid, address, (&raw mut buffer).cast()) } < 0 {
        return 0;
    }
    SIZE.store(buffer.length, Ordering::Relaxed);
    buffer.length
}

/// The components outside the first bytes, computed once: user-mode Linux has buffers of one size.
fn beyond(bytes: usize) -> u64 {
    static BYTES: AtomicUsize = AtomicUsize::new(0);
    if BYTES.swap(bytes, Ordering::Relaxed) != bytes {
        BEYOND.store(state::beyond(bytes), Ordering::Relaxed);
    }
    BEYOND.load(Ordering::Relaxed)
}

/// Ends the process: what called has no way to continue with wrong registers.
fn fail(what: &str) -> ! {
    use std::io::Write as _;
    let _ = writeln!(std::io::stderr(), "uml-xstate: {what}");
    std::process::abort();
}
