//! `cargo xtask uml -- COMMAND`: runs a command on a kernel that has what ipvs mode needs, whatever the host's has.
//!
//! User-mode Linux is an ordinary program. Its root file system is the host's own, so that everything is where it is here; this program is
//! its first process, which mounts what has to be fresh, loads modules, runs the command and says how it ended.

mod inside;

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use std::{env, fs, thread};

use anyhow::{Context as _, bail, ensure};
use clap::Args;
use serde_json::json;

pub(crate) use self::inside::run as run_inside;

/// The program, of the Debian package `user-mode-linux`.
pub(crate) const PROGRAM: &str = "linux.uml";
/// Keeps a kernel that hangs from hanging us; far beyond what anything takes.
const GUARD: Duration = Duration::from_mins(20);
/// Memory of the kernel; it is only taken as it is used.
const MEMORY: &str = "3G";
/// What is to be run, as JSON.
const TASK: &str = "task.json";
/// The exit code.
const STATUS: &str = "status";

/// What to run.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// The command and its arguments; directory and environment are those of the caller
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    command: Vec<String>,
}

/// Runs the command and ends with its exit code.
pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let code = execute(&arguments.command, &env::current_dir()?)?;
    if code == 0 { Ok(()) } else { std::process::exit(code) }
}

/// Runs a command; its exit code.
///
/// # Errors
/// When there is no user-mode Linux, or when it ends without telling how the command ended.
fn execute(command: &[String], directory: &Path) -> anyhow::Result<i32> {
    let exchange = tempfile::tempdir().context("cannot make a directory")?;
    let environment: Vec<(String, String)> = env::vars().collect();
    let task = json!({ "command": command, "directory": directory, "environment": environment });
    fs::write(exchange.path().join(TASK), task.to_string()).context("cannot write the task")?;
    let own = env::current_exe().context("cannot find the path of this program")?;
    let mut kernel = Command::new(PROGRAM);
    kernel
        .args(["rootfstype=hostfs", "rw", "quiet", "loglevel=1", "selinux=0"])
        .args(["con0=null,fd:1", "con=null"])
        .arg(format!("mem={MEMORY}"))
        .arg(format!("uml_dir={}/", exchange.path().display()))
        .arg("umid=xtask")
        .arg(format!("init={}", own.display()))
        .args(["--", "uml-inside"])
        .arg(exchange.path())
        .stdin(Stdio::null())
        // The kernel's own words at its start and end.
        .stderr(Stdio::null());
    let mut child = kernel
        .spawn()
        .with_context(|| format!("cannot start `{PROGRAM}` (Debian package user-mode-linux)"))?;
    let start = Instant::now();
    while child.try_wait().context("cannot wait for user-mode Linux")?.is_none() {
        if start.elapsed() > GUARD {
            let _ = child.kill();
            let _ = child.wait();
            bail!("user-mode Linux has not ended within {GUARD:?}");
        }
        thread::sleep(Duration::from_millis(50));
    }
    let status = fs::read_to_string(exchange.path().join(STATUS)).unwrap_or_default();
    ensure!(!status.is_empty(), "user-mode Linux ended before the command did");
    status.trim().parse().context("the exit code is no number")
}
