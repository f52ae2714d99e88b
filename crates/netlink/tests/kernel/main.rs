//! Against the running kernel, in a network namespace of its own: the program starts itself again under `unshare`.

mod accounting;
mod addresses;
mod conntrack;
mod flow_events;
mod ipset;
mod nf_tables;
mod sockets;
mod trace;

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode, Output};

use kube_proxy_testkit::harness;
use libtest_mimic::Arguments;

const INSIDE: &str = "KUBE_PROXY_NETLINK_TEST_NAMESPACE";

fn main() -> ExitCode {
    if std::env::var_os(INSIDE).is_none() {
        let mut unshare = Command::new("unshare");
        unshare.args(["--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]);
        if fs::metadata("/proc/self").map_or(0, |this| this.uid()) != 0 {
            unshare.args(["--user", "--map-root-user"]);
        }
        let this = std::env::current_exe().expect("a running program has a path");
        let error = unshare.arg(this).args(std::env::args_os().skip(1)).env(INSIDE, "1").exec();
        panic!("cannot start `unshare` (package util-linux): {error}");
    }
    prepare();
    let mut arguments = Arguments::from_args();
    // The tests share one table and one set of interfaces.
    arguments.test_threads = Some(1);
    let tests = [
        accounting::tests(),
        addresses::tests(),
        conntrack::tests(),
        flow_events::tests(),
        ipset::tests(),
        nf_tables::tests(),
        sockets::tests(),
        trace::tests(),
    ]
    .concat();
    let trials = tests
        .into_iter()
        .map(|(name, test)| {
            harness::trial(name, move || {
                test();
                Ok(())
            })
        })
        .collect();
    harness::run(&arguments, trials)
}

/// A test: its name, and a function that panics when it fails.
type Test = (&'static str, fn());

/// iptables wants to lock a file in /run; connection tracking is active where a rule asks for it.
fn prepare() {
    run("mount", &["-t", "tmpfs", "tmpfs", "/run"]);
    run("ip", &["link", "set", "lo", "up"]);
    for iptables in ["iptables", "ip6tables"] {
        let rule = ["-A", "OUTPUT", "-m", "conntrack", "--ctstate", "NEW", "-j", "ACCEPT"];
        run(iptables, &rule);
    }
}

/// Runs a program that must succeed; its standard output.
fn run(program: &str, arguments: &[&str]) -> String {
    let package = match program {
        "conntrack" => "conntrack",
        "ip" => "iproute2",
        "mount" => "mount",
        "nft" => "nftables",
        _ => "iptables",
    };
    let Output { status, stdout, stderr } = Command::new(program)
        .args(arguments)
        .output()
        .unwrap_or_else(|e| panic!("cannot run {program}: {e}: apt-get install {package}"));
    let stderr = String::from_utf8_lossy(&stderr);
    assert!(status.success(), "{program} {arguments:?}: {status}: {stderr}");
    String::from_utf8(stdout).expect("programs print text")
}
