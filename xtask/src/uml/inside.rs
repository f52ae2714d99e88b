//! The first process of user-mode Linux.

use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, bail};
use serde_json::Value;

use super::{STATUS, TASK};

/// On a tmpfs, a root for `modprobe`: the host may have no /lib/modules to mount over.
const MODULE_ROOT: &str = "/run/modules";
/// How many files the command may have open.
const OPEN_FILES: &str = "--nofile=65536:65536";
/// What namespaces cannot load by themselves.
const LOADED: [&str; 36] = [
    "ip_vs",
    "dummy",
    "veth",
    "bridge",
    "ip_set",
    "ip_set_hash_ip",
    "ip_set_hash_ipport",
    "ip_set_hash_ipportip",
    "ip_set_hash_ipportnet",
    "ip_set_bitmap_port",
    "ip_tables",
    "ip6_tables",
    "iptable_nat",
    "iptable_filter",
    "iptable_mangle",
    "ip6table_nat",
    "ip6table_filter",
    "ip6table_mangle",
    "nf_conntrack_netlink",
    "xt_set",
    "xt_MASQUERADE",
    "xt_addrtype",
    "xt_comment",
    "xt_conntrack",
    "xt_mark",
    "xt_multiport",
    "xt_nat",
    "xt_recent",
    "xt_statistic",
    "xt_tcpudp",
    "ipt_REJECT",
    "ip6t_REJECT",
    "sctp",
    "tun",
    "nfnetlink",
    "nf_conntrack",
];

/// Does everything; never returns, because the first process must not end.
pub(crate) fn run(exchange: &Path) -> ! {
    let code = read(exchange).and_then(|task| execute(&task)).unwrap_or_else(|error| {
        let _ = writeln!(io::stderr(), "error: in user-mode Linux: {error:#}");
        125
    });
    // The process that waits outside finds no status, and says so.
    let _ = fs::write(exchange.join(STATUS), code.to_string());
    let _ = Command::new("sync").status();
    // Power off, as init programs do it, but without one.
    let _ = fs::write("/proc/sysrq-trigger", "o");
    loop {
        std::thread::park();
    }
}

fn read(exchange: &Path) -> anyhow::Result<Value> {
    let text = fs::read_to_string(exchange.join(TASK)).context("cannot read the task")?;
    serde_json::from_str(&text).context("cannot read the task")
}

/// Mounts and loads what the command needs. The modules of each version of the kernel are in a directory below this one.
fn prepare(modules: &str) -> anyhow::Result<()> {
    for (kind, target) in [("proc", "/proc"), ("sysfs", "/sys"), ("tmpfs", "/run")] {
        succeed("mount", &["-t", kind, kind, target])?;
    }
    for directory in ["/run/netns", "/run/lock", &format!("{MODULE_ROOT}/lib")] {
        fs::create_dir_all(directory).with_context(|| format!("cannot make {directory}"))?;
    }
    std::os::unix::fs::symlink(modules, format!("{MODULE_ROOT}/lib/modules"))?;
    let helper = format!("{MODULE_ROOT}/modprobe");
    fs::write(&helper, format!("#!/bin/sh\nexec /sbin/modprobe -d {MODULE_ROOT} \"$@\"\n"))?;
    fs::set_permissions(&helper, fs::Permissions::from_mode(0o755))?;
    fs::write("/proc/sys/kernel/modprobe", &helper)?;
    // Some are built in, or not there at all: who needs those will say so.
    let _ = Command::new(&helper).args(["-a", "-q"]).args(LOADED).status();
    succeed("ip", &["link", "set", "lo", "up"])
}

fn execute(task: &Value) -> anyhow::Result<i32> {
    prepare(task["modules"].as_str().context("the task names no modules")?)?;
    let words = |value: &Value| -> Vec<String> {
        let words = value.as_array().into_iter().flatten();
        words.filter_map(Value::as_str).map(str::to_owned).collect()
    };
    let command = words(&task["command"]);
    let Some((program, arguments)) = command.split_first() else { bail!("no command") };
    // The first process may have 1,024 files open: too few for pods, clients and probers in one process.
    let mut command = Command::new("/usr/bin/prlimit");
    command.arg(OPEN_FILES).args(["--", program]).args(arguments).env_clear();
    command.current_dir(task["directory"].as_str().unwrap_or("/"));
    for pair in task["environment"].as_array().into_iter().flatten() {
        if let [name, value] = words(pair).as_slice() {
            command.env(name, value);
        }
    }
    // For tests that turn the clock.
    command.env("TESTKIT_OWN_MACHINE", "1");
    let status = command.status().with_context(|| format!("cannot start {program}"))?;
    Ok(status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or_default()))
}

fn succeed(program: &str, arguments: &[&str]) -> anyhow::Result<()> {
    let mut command = Command::new(program);
    command.args(arguments).env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
    let status = command.status().with_context(|| format!("cannot start {program}"))?;
    if status.success() { Ok(()) } else { bail!("{program} {arguments:?}: {status}") }
}
