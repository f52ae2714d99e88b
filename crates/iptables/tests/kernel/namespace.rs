//! Namespaces to write rules in.

use std::process::{Command, ExitCode};

use nix::sched::{CloneFlags, unshare};

/// Set for the copy of this program that is inside.
const INSIDE: &str = "KUBE_PROXY_TEST_INSIDE";

/// Starts this program again inside. Returns what it ended with, or `None` in the copy.
pub(crate) fn enter() -> Option<ExitCode> {
    if std::env::var_os(INSIDE).is_some() {
        // The lock file of iptables, and none of the host's.
        run("mount", &["-t", "tmpfs", "none", "/run"]);
        return None;
    }
    let program = std::env::current_exe().unwrap();
    let mut inside = Command::new("unshare");
    if !nix::unistd::geteuid().is_root() {
        inside.args(["--user", "--map-root-user"]);
    }
    let status = inside
        .args(["--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"])
        .arg(program)
        .args(std::env::args_os().skip(1))
        .env(INSIDE, "1")
        .status()
        .expect("unshare of util-linux can be run");
    Some(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Whether this is real root, not one of a user namespace.
pub(crate) fn has_root() -> bool {
    let users = std::fs::read_to_string("/proc/self/uid_map").unwrap();
    users.split_whitespace().eq(["0", "0", "4294967295"])
}

/// Runs a test on a thread in a fresh network namespace.
pub(crate) fn in_new_network<T: Send>(test: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET).expect("network namespaces can be made in here");
            test()
        });
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// Runs a program that must succeed. Returns its output.
pub(crate) fn run(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().unwrap();
    assert!(
        output.status.success(),
        "{program} {arguments:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}
