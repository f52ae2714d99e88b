//! Tasks and threads with names, and the end of the process when one of them panics.
//!
//! A process that has lost a part serves something wrong sooner or later, and no client notices. So nothing runs on half dead:
//! a panic anywhere, in a library too, is reported and ends the process. Its supervisor starts it again; the rules stay in place.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::cell::Cell;
use std::future::poll_fn;
use std::io::Write as _;
use std::panic::PanicHookInfo;
use std::pin::pin;
use std::thread::JoinHandle;

thread_local! {
    /// The task that this thread is in; empty between tasks.
    static CURRENT: Cell<&'static str> = const { Cell::new("") };
}

/// From now on a panic of any thread is one sentence on standard error and exit code 1.
pub fn end_process_on_panic() {
    std::panic::set_hook(Box::new(|panic| {
        // Not through the log, which may be what panicked.
        let _ = writeln!(std::io::stderr(), "kube-proxy: {}", report(panic));
        let stack = Backtrace::capture();
        if stack.status() == BacktraceStatus::Captured {
            let _ = writeln!(std::io::stderr(), "{stack}");
        }
        std::process::exit(1);
    }));
}

fn report(panic: &PanicHookInfo<'_>) -> String {
    let thread = std::thread::current();
    let thread = thread.name().unwrap_or("without a name");
    let place = panic.location().map(|place| format!(" at {place}")).unwrap_or_default();
    let message = panic.payload_as_str().unwrap_or("no message");
    let task = match CURRENT.get() {
        "" => String::new(),
        task => format!("task {task:?} of "),
    };
    format!(
        "{task}thread {thread:?} panicked{place}: {message}; the process ends, the rules stay in place"
    )
}

/// Names a task or a part of one, for the report of a panic.
pub async fn named<T>(name: &'static str, future: impl Future<Output = T>) -> T {
    let mut future = pin!(future);
    poll_fn(|context| {
        let before = CURRENT.replace(name);
        test_point(name);
        let polled = future.as_mut().poll(context);
        CURRENT.set(before);
        polled
    })
    .await
}

/// Spawns a task that has a name.
pub fn spawn<T: Send + 'static>(
    name: &'static str,
    future: impl Future<Output = T> + Send + 'static,
) -> tokio::task::JoinHandle<T> {
    tokio::spawn(named(name, future))
}

/// Runs something where it may block.
pub async fn blocking<T: Send + 'static>(
    name: &'static str,
    work: impl FnOnce() -> T + Send + 'static,
) -> T {
    let work = move || {
        CURRENT.set(name);
        test_point(name);
        let result = work();
        CURRENT.set("");
        result
    };
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        // The runtime ends.
        Err(_) => std::future::pending().await,
    }
}

/// Starts a thread that has a name.
///
/// # Errors
/// The system has no thread to give.
pub fn thread(
    name: String,
    work: impl FnOnce() + Send + 'static,
) -> std::io::Result<JoinHandle<()>> {
    let point = name.clone();
    std::thread::Builder::new().name(name).spawn(move || {
        test_point(&point);
        work();
    })
}

/// A debug build panics at the point that `KUBE_PROXY_TEST_PANIC` names, so that tests can see the end.
///
/// # Panics
/// Where it is asked to.
#[cfg(debug_assertions)]
pub fn test_point(name: &str) {
    static WANTED: std::sync::OnceLock<Option<String>> = std::sync::OnceLock::new();
    let wanted = WANTED.get_or_init(|| std::env::var("KUBE_PROXY_TEST_PANIC").ok());
    assert!(wanted.as_deref() != Some(name), "a test asked for it");
}

/// Does nothing.
#[cfg(not(debug_assertions))]
pub fn test_point(_: &str) {}

#[cfg(test)]
mod tests;
