//! What the node itself says: rules, sysctls, interfaces, versions.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::Command;

/// Programs, and the names of the files with what they print.
const PROGRAMS: [(&str, &[&str]); 16] = [
    ("rules/iptables-legacy.txt", &["iptables-legacy-save"]),
    ("rules/ip6tables-legacy.txt", &["ip6tables-legacy-save"]),
    ("rules/iptables-nft.txt", &["iptables-nft-save"]),
    ("rules/ip6tables-nft.txt", &["ip6tables-nft-save"]),
    ("rules/nftables.txt", &["nft", "list", "ruleset"]),
    ("rules/ipset.txt", &["ipset", "save"]),
    ("network/addresses.txt", &["ip", "-details", "address"]),
    ("network/routes.txt", &["ip", "route", "show", "table", "all"]),
    ("network/routes6.txt", &["ip", "-6", "route", "show", "table", "all"]),
    ("network/policies.txt", &["ip", "rule"]),
    ("network/neighbours.txt", &["ip", "neighbour"]),
    ("versions/iptables.txt", &["iptables", "--version"]),
    ("versions/nft.txt", &["nft", "--version"]),
    ("versions/ipset.txt", &["ipset", "--version"]),
    ("versions/ip.txt", &["ip", "-Version"]),
    ("versions/kubelet.txt", &["kubelet", "--version"]),
];

/// Files of the kernel and the system.
const FILES: [(&str, &str); 6] = [
    ("versions/kernel.txt", "/proc/version"),
    ("versions/system.txt", "/etc/os-release"),
    ("rules/ipvs.txt", "/proc/self/net/ip_vs"),
    ("network/conntrack-statistics.txt", "/proc/self/net/stat/nf_conntrack"),
    ("network/sockets.txt", "/proc/self/net/sockstat"),
    ("modules.txt", "/proc/modules"),
];

/// Directories of sysctls.
const SYSCTLS: [&str; 7] = [
    "net/netfilter",
    "net/bridge",
    "net/ipv4/vs",
    "net/ipv4/conf/all",
    "net/ipv4/conf/default",
    "net/ipv6/conf/all",
    "net/core",
];

/// The files by name, and a line for each that is missing.
pub(super) fn node() -> (Vec<(String, String)>, String) {
    let mut files = Vec::new();
    let mut missing = String::new();
    for (name, command) in PROGRAMS {
        match output(command) {
            Ok(text) => files.push((name.to_owned(), text)),
            Err(reason) => {
                let _ = writeln!(missing, "{name}: {}: {reason}", command.join(" "));
            }
        }
    }
    for (name, path) in FILES {
        match fs::read_to_string(path) {
            Ok(text) => files.push((name.to_owned(), text)),
            Err(error) => {
                let _ = writeln!(missing, "{name}: {path}: {error}");
            }
        }
    }
    files.push(("sysctls.txt".to_owned(), sysctls(Path::new("/proc/sys"))));
    let version = format!("kube-proxy {}\n", env!("CARGO_PKG_VERSION"));
    files.push(("versions/kube-proxy.txt".to_owned(), version));
    (files, missing)
}

/// What the programs list of the rules in this network namespace, without what is empty: the program, and its text without remarks.
pub(in crate::commands) fn rules_of_node() -> impl Iterator<Item = (String, String)> {
    let programs = PROGRAMS.into_iter().filter(|(file, _)| file.starts_with("rules/"));
    let listed =
        programs.filter_map(|(_, command)| Some((command.join(" "), output(command).ok()?)));
    let ipvs =
        fs::read_to_string("/proc/self/net/ip_vs").map(|text| ("/proc/net/ip_vs".to_owned(), text));
    listed.chain(ipvs).filter_map(|(program, text)| {
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        let text = lines.collect::<Vec<_>>().join("\n") + "\n";
        let is_rule = |line: &str| !line.starts_with(['*', ':']) && line != "COMMIT";
        text.lines().any(is_rule).then_some((program, text))
    })
}

fn output(command: &[&str]) -> Result<String, String> {
    let [program, arguments @ ..] = command else { return Err("no program".to_owned()) };
    let output = Command::new(program).args(arguments).output().map_err(|e| e.to_string())?;
    if !output.status.success() {
        let text = String::from_utf8_lossy(&output.stderr);
        return Err(format!("{}: {}", output.status, text.lines().next().unwrap_or_default()));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// `name = value`, a line each. Values that are keys, such as `stable_secret`, are left out.
fn sysctls(root: &Path) -> String {
    let mut names =
        vec!["net/ipv4/ip_forward".to_owned(), "net/ipv6/conf/all/forwarding".to_owned()];
    for directory in SYSCTLS {
        let entries = fs::read_dir(root.join(directory)).into_iter().flatten().flatten();
        let files = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_file()));
        let name = |entry: fs::DirEntry| entry.file_name().into_string().ok();
        names.extend(files.filter_map(name).map(|name| format!("{directory}/{name}")));
    }
    names.sort_unstable();
    names.dedup();
    names.retain(|name| !name.contains("secret") && !name.contains("key"));
    let line = |name: &String| {
        let value = fs::read_to_string(root.join(name)).ok()?;
        Some(format!("{} = {}\n", name.replace('/', "."), value.trim().replace('\n', " | ")))
    };
    names.iter().filter_map(line).collect()
}
