//! `cargo xtask uml -- COMMAND`: runs a command on a kernel that has what ipvs mode needs, whatever the host's has.
//!
//! User-mode Linux is an ordinary program. Its root file system is the host's own, so that everything is where it is here; this program is
//! its first process, which mounts what has to be fresh, loads modules, runs the command and says how it ended.

mod inside;
mod package;
mod way;

use std::ffi::OsString;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;
use std::{env, fs};

use anyhow::{Context as _, ensure};
use clap::Args;
use nix::sched::{CpuSet, sched_getaffinity, sched_getcpu, sched_setaffinity};
use nix::unistd::Pid;
use serde_json::json;
use tempfile::TempDir;

pub(crate) use self::inside::run as run_inside;
pub(crate) use self::package::Package;
pub(crate) use self::way::Way;
use crate::workspace;

/// Keeps a kernel that hangs from hanging us; far beyond what any test takes.
const GUARD_MINUTES: u64 = 40;
/// Memory of the kernel; it is only taken as it is used.
const MEMORY: &str = "3G";
/// A link to this program.
const INIT: &str = "init";
/// What is to be run, as JSON.
const TASK: &str = "task.json";
/// The exit code.
const STATUS: &str = "status";
/// The kernel's own words at its start and end.
const WORDS: &str = "kernel.log";
/// The package of the library that completes registers.
const LIBRARY: &str = "uml-xstate";

/// What to run.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// A kernel that has not ended after so long is taken to hang, in minutes
    #[arg(long, value_name = "N", default_value_t = GUARD_MINUTES)]
    guard: u64,
    /// The processor of the host that it stays on: the Nth, counted from 0 and from the start again, of those that this program may use;
    /// by default the one on which this program is
    #[arg(long, value_name = "N")]
    processor: Option<usize>,
    /// The kernel of another release of Debian than the installed one, such as bullseye (5.10) or bookworm (6.1)
    #[arg(long, value_name = "RELEASE")]
    release: Option<String>,
    /// The command and its arguments; directory and environment are those of the caller
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    command: Vec<String>,
}

/// Runs the command and ends with its exit code.
pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let code = execute(arguments, &env::current_dir()?)?;
    if code == 0 { Ok(()) } else { std::process::exit(code) }
}

/// Runs a command; its exit code.
///
/// # Errors
/// When there is no user-mode Linux, or when it ends without telling how the command ended.
fn execute(arguments: &Arguments, directory: &Path) -> anyhow::Result<i32> {
    let guard = Duration::from_mins(arguments.guard);
    let package = arguments.release.as_deref().map(Package::of_release).transpose()?;
    let package = package.unwrap_or_else(Package::installed);
    let exchange = exchange(&env::temp_dir())?;
    // A variable that is no text has no place in JSON, and no use in tests.
    let environment: Vec<(String, String)> = env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect();
    let task = json!({
        "command": arguments.command,
        "directory": directory,
        "environment": environment,
        "modules": package.modules,
    });
    fs::write(exchange.path().join(TASK), task.to_string()).context("cannot write the task")?;
    let own = env::current_exe().context("cannot find the path of this program")?;
    let init = exchange.path().join(INIT);
    std::os::unix::fs::symlink(own, &init).context("cannot make a link to this program")?;
    let mut kernel = Command::new(&package.kernel);
    kernel
        .args(["rootfstype=hostfs", "rw", "quiet", "loglevel=1", "selinux=0"])
        .args(["con0=null,fd:1", "con=null"])
        .arg(format!("mem={MEMORY}"))
        .arg(format!("uml_dir={}/", exchange.path().display()))
        .arg("umid=xtask")
        .arg(format!("init={}", init.display()))
        .args(["--", "uml-inside"])
        .arg(exchange.path())
        .stdin(Stdio::null())
        .stderr(File::create(exchange.path().join(WORDS)).context("cannot make a file")?);
    if way::is_library_needed() {
        kernel.env("LD_LIBRARY_PATH", library_path(&library()?)?);
        kernel.env("LD_PRELOAD", library_file());
    }
    // If that fails it is slower.
    let _ = stay_on_one_processor(arguments.processor);
    let mut child = kernel.spawn().with_context(|| {
        format!("cannot start `{}` (Debian package user-mode-linux)", package.kernel.display())
    })?;
    workspace::wait_within(&mut child, guard).context("user-mode Linux")?;
    let status = fs::read_to_string(exchange.path().join(STATUS)).unwrap_or_default();
    let words = fs::read_to_string(exchange.path().join(WORDS)).unwrap_or_default();
    ensure!(!status.is_empty(), "user-mode Linux ended before the command did\n{}", words.trim());
    status.trim().parse().context("the exit code is no number")
}

/// Keeps this thread, and so the kernel that it starts, on one processor.
///
/// The kernel and each of its processes are processes of the host that wait for each other in turns, at each system call and page
/// fault. On two processors every turn would wake the other one up, which costs more than all that the tests do.
fn stay_on_one_processor(wanted: Option<usize>) -> nix::Result<()> {
    let this_thread = Pid::from_raw(0);
    let usable = sched_getaffinity(this_thread)?;
    let usable: Vec<usize> =
        (0..CpuSet::count()).filter(|number| usable.is_set(*number) == Ok(true)).collect();
    let chosen = match wanted {
        Some(wanted) if !usable.is_empty() => usable[wanted % usable.len()],
        _ => sched_getcpu()?,
    };
    let mut only = CpuSet::new();
    only.set(chosen)?;
    sched_setaffinity(this_thread, &only)
}

/// A directory for what goes in and out.
///
/// Its path is on the command line of the kernel, which splits it at blanks, and inside there is another /run.
/// This program is started by a link from there, for its own path may be of any kind.
fn exchange(preferred: &Path) -> anyhow::Result<TempDir> {
    let places = [preferred, Path::new("/tmp"), Path::new("/var/tmp"), Path::new("/dev/shm")];
    let made = places
        .into_iter()
        .filter(|place| is_plain(place))
        .find_map(|place| tempfile::tempdir_in(place).ok());
    made.with_context(|| {
        format!("no directory for temporary files is fit for a kernel's command line: {places:?}")
    })
}

/// Whether a kernel's command line and user-mode Linux take this path.
fn is_plain(path: &Path) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-".contains(c);
    path.is_absolute()
        && !path.starts_with("/run")
        && path.to_str().is_some_and(|path| path.chars().all(plain))
}

/// Builds the library; the directory with it.
fn library() -> anyhow::Result<PathBuf> {
    workspace::run(&mut workspace::cargo(&["build", "--quiet", "--package", LIBRARY]))?;
    workspace::programs("dev")
}

/// Name of the library's file.
fn library_file() -> String {
    format!("lib{}.so", LIBRARY.replace('-', "_"))
}

/// The path of libraries with this directory first. The linker splits the names of libraries to load first at blanks, this path not.
fn library_path(directory: &Path) -> anyhow::Result<OsString> {
    let known = env::var_os("LD_LIBRARY_PATH").unwrap_or_default();
    let known = env::split_paths(&known).filter(|path| !path.as_os_str().is_empty());
    env::join_paths([directory.to_path_buf()].into_iter().chain(known)).context("LD_LIBRARY_PATH")
}

#[cfg(test)]
mod tests;
