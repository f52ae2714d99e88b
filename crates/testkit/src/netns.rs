//! Named network namespaces that live as long as their guard.

mod ip;

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, setns, unshare};

use self::ip::{Links, Script};
use crate::sandbox;

/// A network namespace under `/run/netns`, where the `ip` program finds it by name.
///
/// Dropping it removes the name; the kernel keeps the namespace until the last process and socket
/// in it are gone.
#[derive(Debug)]
pub struct Netns {
    name: String,
    file: File,
}

impl Netns {
    /// Makes a namespace whose loopback interface is up.
    ///
    /// # Errors
    /// Outside a sandbox, when the name is taken, or when `ip` is missing.
    pub fn create(name: &str) -> anyhow::Result<Self> {
        let netns = Self::create_bare(name)?;
        netns.ip("link set lo up")?;
        Ok(netns)
    }

    /// Makes a namespace in which nothing is set up yet.
    pub(crate) fn create_bare(name: &str) -> anyhow::Result<Self> {
        if !sandbox::is_inside() {
            bail!(
                "network namespace {name}: not in a sandbox, call sandbox::enter_or_reexec first"
            );
        }
        let path = path_of(name);
        File::create_new(&path).with_context(|| format!("cannot create {}", path.display()))?;
        let made = {
            let _back = Back::here();
            pin_new_namespace(&path)
        };
        match made.and_then(|()| File::open(&path).map_err(Into::into)) {
            Ok(file) => Ok(Self { name: name.to_owned(), file }),
            Err(error) => {
                // The first error is the one to report.
                let _ = fs::remove_file(&path);
                Err(error.context(format!("cannot make network namespace {name}")))
            }
        }
    }

    /// Name under which `ip netns` lists it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// File that stands for the namespace, for programs that enter it by themselves.
    pub fn path(&self) -> PathBuf {
        path_of(&self.name)
    }

    /// Runs a closure with this thread inside the namespace, which it leaves afterwards.
    ///
    /// Sockets it makes stay in the namespace wherever they are used later. Child processes and
    /// threads it starts run inside.
    ///
    /// # Panics
    /// When the closure does, or when the process has no file descriptor left.
    pub fn run<T>(&self, body: impl FnOnce() -> T) -> T {
        let _back = Back::here();
        enter(&self.file);
        body()
    }

    /// Starts a thread inside the namespace.
    ///
    /// # Panics
    /// When the process has no file descriptor left.
    pub fn spawn<T: Send + 'static>(
        &self,
        body: impl FnOnce() -> T + Send + 'static,
    ) -> JoinHandle<T> {
        let file = self.file.try_clone().expect("a descriptor is left to copy a namespace handle");
        thread::spawn(move || {
            enter(&file);
            body()
        })
    }

    /// A command that runs inside the namespace, for any thread to start.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut net = std::ffi::OsString::from("--net=");
        net.push(self.path());
        let mut command = Command::new("nsenter");
        command.arg(net).arg("--").arg(program);
        command
    }

    /// Runs a program to its end inside the namespace and returns its standard output.
    ///
    /// # Errors
    /// When it cannot be started, fails, or prints something that is not UTF-8.
    pub fn output(&self, program: &str, arguments: &[&str]) -> anyhow::Result<String> {
        let what = || format!("`{program} {}` in {}", arguments.join(" "), self.name);
        let output = self
            .run(|| Command::new(program).args(arguments).stdin(Stdio::null()).output())
            .with_context(|| format!("cannot start {}", what()))?;
        if !output.status.success() {
            let stderr = String::from_utf8_lossy(&output.stderr);
            bail!("{} failed ({}): {}", what(), output.status, stderr.trim());
        }
        String::from_utf8(output.stdout).with_context(|| format!("{} printed no UTF-8", what()))
    }

    /// Runs `ip` commands, one a line and without the word `ip`: without that program where they are simple, or else in one process.
    ///
    /// # Errors
    /// When one of them fails; the ones before it have taken effect.
    pub fn ip(&self, commands: &str) -> anyhow::Result<()> {
        if let Some(script) = Script::parse(commands) {
            return self.run(|| script.run(&self.name));
        }
        let output = self
            .run(|| ip_batch(commands))
            .with_context(|| format!("cannot run `ip -batch` in {}", self.name))?;
        if !output.status.success() {
            let stderr = String::from_utf8_lossy(&output.stderr);
            let line = failed_line(&stderr, commands);
            bail!("`ip {line}` failed in {}: {}", self.name, stderr.trim());
        }
        Ok(())
    }

    /// Waits until these interfaces carry packets.
    ///
    /// The kernel brings up an interface that was opened before its other end, and the bridge port
    /// on top of it, in the background; until then it drops what it is to send.
    pub(crate) fn wait_up(&self, names: &[&str]) -> anyhow::Result<()> {
        const GUARD: Duration = Duration::from_mins(5);
        const PAUSE: Duration = Duration::from_millis(1);
        let start = Instant::now();
        let mut links = self.run(Links::open)?;
        for name in names {
            while !links.is_up(name).with_context(|| format!("in {}", self.name))? {
                if start.elapsed() > GUARD {
                    bail!("{name} in {} not up after {GUARD:?}", self.name);
                }
                thread::sleep(PAUSE);
            }
        }
        Ok(())
    }

    /// Writes network sysctls, given as pairs of path below `/proc/sys/net` and value.
    ///
    /// # Errors
    /// When the kernel has no such setting or refuses the value.
    pub fn sysctl(&self, settings: &[(&str, &str)]) -> anyhow::Result<()> {
        self.run(|| {
            for (key, value) in settings {
                fs::write(format!("/proc/sys/net/{key}"), value)
                    .with_context(|| format!("cannot set net/{key} to {value} in {}", self.name))?;
            }
            Ok(())
        })
    }
}

/// Takes the thread back, when it is dropped, to the namespace in which it was made.
struct Back(File);

impl Back {
    fn here() -> Self {
        let own = File::open("/proc/thread-self/ns/net");
        Self(own.expect("a descriptor is left for the handle of a namespace"))
    }
}

impl Drop for Back {
    fn drop(&mut self) {
        enter(&self.0);
    }
}

impl Drop for Netns {
    fn drop(&mut self) {
        let path = self.path();
        // A name that cannot be removed goes with the sandbox; dropping must not panic.
        let _ = umount2(&path, MntFlags::MNT_DETACH);
        let _ = fs::remove_file(&path);
    }
}

fn path_of(name: &str) -> PathBuf {
    PathBuf::from("/run/netns").join(name)
}

/// Gives the calling thread a new namespace and keeps that alive by a mount.
fn pin_new_namespace(path: &std::path::Path) -> anyhow::Result<()> {
    unshare(CloneFlags::CLONE_NEWNET).context("unshare")?;
    mount(Some("/proc/thread-self/ns/net"), path, None::<&str>, MsFlags::MS_BIND, None::<&str>)
        .with_context(|| format!("mount on {}", path.display()))
}

fn enter(file: &File) {
    setns(file, CloneFlags::CLONE_NEWNET)
        .expect("the handle is of a network namespace made by this process");
}

fn ip_batch(commands: &str) -> std::io::Result<std::process::Output> {
    let mut child = Command::new("ip")
        .args(["-batch", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()?;
    if let Some(mut stdin) = child.stdin.take() {
        // When `ip` stops early its exit status and error text say why.
        let _ = stdin.write_all(commands.as_bytes()).and_then(|()| stdin.write_all(b"\n"));
    }
    child.wait_with_output()
}

/// The command that `ip -batch` stopped at, from its message `Command failed -:LINE`.
fn failed_line<'a>(stderr: &str, commands: &'a str) -> &'a str {
    stderr
        .rsplit_once("Command failed -:")
        .and_then(|(_, number)| number.trim().parse::<usize>().ok())
        .and_then(|number| commands.lines().nth(number.checked_sub(1)?))
        .unwrap_or("-batch")
}
