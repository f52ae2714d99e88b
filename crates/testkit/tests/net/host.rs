//! What is outside a sandbox stays as it was, however the sandbox ends.
//!
//! The sandbox of these tests plays the host: in a namespace of it this program is started again,
//! which then makes a sandbox of its own.

use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::process::{Command, ExitCode};
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use kube_proxy_core::IpFamily;
use kube_proxy_testkit::cluster::{Cluster, plan};
use kube_proxy_testkit::eventually::eventually;
use kube_proxy_testkit::kube_proxy::KubeProxy;
use kube_proxy_testkit::netns::Netns;
use kube_proxy_testkit::sandbox::ROOTLESS_VARIABLE;
use libtest_mimic::Trial;
use nix::sys::signal::Signal;

use crate::trial;

/// First argument of this program when it is to be a child of one of these tests.
pub(crate) const CHILD: &str = "sandbox-child";

/// Keeps a test from hanging; passing takes far less.
const GUARD: Duration = Duration::from_mins(5);

/// An argument of `sleep` by which the process is found.
const LONG: &str = "98765";

pub(crate) fn trials() -> Vec<Trial> {
    let mut trials = vec![
        trial("host::exit_code_is_passed_on", exit_code_is_passed_on),
        trial("host::missing_programs_are_named", missing_programs_are_named),
        trial("host::ends_with_the_program", ends_with_the_program),
    ];
    for rootless in [false, true] {
        let form = if rootless { "rootless" } else { "as_root" };
        trials.push(trial(format!("host::is_left_untouched::{form}"), move || untouched(rootless)));
    }
    trials
}

/// What the program does as a child, inside its own sandbox.
pub(crate) fn child(role: &str) -> ExitCode {
    let result = match role {
        "exit-7" => return ExitCode::from(7),
        "change" => change(),
        "hang" => hang(),
        other => Err(anyhow::anyhow!("no role {other}")),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Nothing is left to do when standard error is closed.
            let _ = writeln!(std::io::stderr(), "{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn start(netns: &Netns, role: &str, rootless: bool) -> anyhow::Result<KubeProxy> {
    // The kernel mounts a new /proc for a user namespace only where nothing covers the old one,
    // which the sandbox of these tests does; so look as a host does, and become the program.
    let script = "umount -R /proc/sys 2>/dev/null; exec \"$0\" \"$@\"";
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", script]).arg(std::env::current_exe()?);
    command.args([CHILD, role]).env_remove(ROOTLESS_VARIABLE);
    if rootless {
        command.env(ROOTLESS_VARIABLE, "1");
    }
    KubeProxy::start(netns, command)
}

fn exit_code_is_passed_on() -> anyhow::Result<()> {
    let netns = Netns::create("host-exit")?;
    let status = start(&netns, "exit-7", false)?.wait(GUARD)?;
    ensure!(status.code() == Some(7), "{status}");
    Ok(())
}

fn missing_programs_are_named() -> anyhow::Result<()> {
    let netns = Netns::create("host-missing")?;
    let mut command = Command::new(std::env::current_exe()?);
    command.args([CHILD, "exit-7"]).env("PATH", "/does/not/exist");
    let mut process = KubeProxy::start(&netns, command)?;
    ensure!(process.wait(GUARD)?.code() == Some(1));
    let lines = process.lines();
    ensure!(lines.len() == 1 && lines[0].contains("install the package util-linux"), "{lines:?}");
    Ok(())
}

/// Changes everything a test could change, and tries what it must not.
fn change() -> anyhow::Result<()> {
    let leak = Netns::create("leak")?;
    let cluster = Cluster::builder().build()?;
    let pod = cluster.add_pod(0, "a")?;
    pod.serve_tcp(80)?;
    let vip = plan::service_net().v4.network();
    for variant in ["legacy", "nft"] {
        crate::rules::forward(cluster.node(0), variant, vip, pod.ip(IpFamily::V4))?;
        pod.probe().tcp((vip, 80).into()).answer().context(variant)?;
        let rule = "-t nat -A POSTROUTING -s 192.0.2.1 -j MASQUERADE";
        let done = Command::new(format!("iptables-{variant}")).args(rule.split(' ')).status()?;
        ensure!(done.success());
    }
    let added = Command::new("ip").args(["link", "add", "leak0", "type", "veth"]).status()?;
    ensure!(added.success());
    fs::write(std::env::temp_dir().join("leak"), "x")?;
    for setting in ["/proc/sys/vm/swappiness", "/proc/sys/kernel/hostname"] {
        let value = fs::read_to_string(setting)?;
        ensure!(fs::write(setting, value).is_err(), "{setting} can be written");
    }
    ensure!(fs::create_dir("/sys/fs/cgroup/leak").is_err(), "/sys can be written");
    Command::new("sleep").arg(LONG).spawn()?;
    drop(leak);
    Ok(())
}

fn untouched(rootless: bool) -> anyhow::Result<()> {
    let netns = Netns::create(if rootless { "host-rootless" } else { "host-root" })?;
    let before = host_state(&netns)?;
    let mut process = start(&netns, "change", rootless)?;
    let status = process.wait(GUARD)?;
    ensure!(status.success(), "{status}: {}", process.lines().join("\n"));
    let after = host_state(&netns)?;
    ensure!(before == after, "before:\n{before}\nafter:\n{after}");
    eventually(GUARD, || no_process(LONG, netns.name()));
    Ok(())
}

/// Links, addresses, rules and mounts, and files where tests leave some.
fn host_state(netns: &Netns) -> anyhow::Result<String> {
    let mut state = netns.output("ip", &["-o", "addr"])?;
    for program in ["iptables-legacy-save", "iptables-nft-save"] {
        let rules = netns.output(program, &[])?;
        // Comments hold the time, and tables appear when they are first listed.
        state.extend(rules.lines().filter(|line| line.starts_with("-A")));
    }
    let mounts = fs::read_to_string("/proc/self/mounts")?;
    // Other tests make and remove namespaces at the same time.
    state.extend(mounts.lines().filter(|line| !line.contains("/run/netns/")));
    for path in ["/run/netns/leak", "/run/tmp/leak", "/tmp/leak"] {
        write!(state, "\n{path}: {}", fs::exists(path)?)?;
    }
    Ok(state)
}

/// Prints a line when ready, and waits to be ended.
fn hang() -> anyhow::Result<()> {
    let mut sleep = Command::new("sleep").arg(format!("{LONG}1")).spawn()?;
    writeln!(std::io::stdout(), "ready")?;
    sleep.wait()?;
    Ok(())
}

fn ends_with_the_program() -> anyhow::Result<()> {
    let netns = Netns::create("host-signal")?;
    for (signal, code) in
        [(Signal::SIGINT, Some(130)), (Signal::SIGTERM, Some(143)), (Signal::SIGKILL, None)]
    {
        for rootless in [false, true] {
            let mut process = start(&netns, "hang", rootless)?;
            process.wait_for_line(GUARD, |line| line == "ready")?;
            // The new process shows its arguments a moment after it was started.
            eventually(GUARD, || match no_process(&format!("{LONG}1"), netns.name()) {
                Ok(()) => Err("no process sleeps"),
                Err(_) => Ok(()),
            });
            process.signal(signal)?;
            let status = process.wait(GUARD)?;
            ensure!(status.code() == code, "after {signal}: {status}");
            eventually(GUARD, || no_process(&format!("{LONG}1"), netns.name()));
        }
    }
    Ok(())
}

/// Fails while a `sleep` with this argument runs that was started from this namespace.
fn no_process(argument: &str, origin: &str) -> anyhow::Result<()> {
    for entry in fs::read_dir("/proc")? {
        let directory = entry?.path();
        // A process may end while it is looked at.
        let command = fs::read(directory.join("cmdline")).unwrap_or_default();
        if command == format!("sleep\0{argument}\0").as_bytes() {
            bail!("{} from {origin} still sleeps", directory.display());
        }
    }
    Ok(())
}
