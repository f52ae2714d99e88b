//! The two iptables, and what the kernel must be able to do for them, found out by doing it in the sandbox.

use std::fmt;
use std::io::Write as _;
use std::process::{Command, Stdio};
use std::str::FromStr;

use anyhow::{Context as _, bail};

/// Which iptables: one writes to the kernel's old tables, one to `nf_tables`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Variant {
    /// iptables-legacy
    Legacy,
    /// iptables-nft
    Nft,
}

impl Variant {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Legacy, Self::Nft];

    /// Its name in flags.
    pub fn name(self) -> &'static str {
        match self {
            Self::Legacy => "legacy",
            Self::Nft => "nft",
        }
    }

    /// A program of this variant for IPv4: `iptables`, or with a suffix such as `-save`.
    pub fn program(self, suffix: &str) -> String {
        format!("iptables-{self}{suffix}")
    }
}

impl FromStr for Variant {
    type Err = anyhow::Error;

    fn from_str(name: &str) -> anyhow::Result<Self> {
        let found = Self::ALL.into_iter().find(|variant| variant.name() == name);
        found.with_context(|| format!("there is no iptables-{name}"))
    }
}

impl fmt::Display for Variant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Chain the rules are tried in.
const CHAIN: &str = "TESTKIT-TRY";

/// Rules as kube-proxy writes them: table, rule, and the kernel modules they need.
const RULES: [(&str, &str, &str); 9] = [
    ("nat", "-m comment --comment try -j RETURN", "xt_comment"),
    ("nat", "-m statistic --mode random --probability 0.5 -j RETURN", "xt_statistic"),
    ("nat", "-m addrtype --dst-type LOCAL -j RETURN", "xt_addrtype"),
    ("nat", "-m mark --mark 0x4000/0x4000 -j RETURN", "xt_mark"),
    ("nat", "-j MARK --or-mark 0x4000", "xt_mark"),
    ("nat", "-p tcp -j DNAT --to-destination 192.0.2.1:80", "xt_nat"),
    ("nat", "-j MASQUERADE --random-fully", "xt_MASQUERADE"),
    ("filter", "-m conntrack --ctstate NEW -j RETURN", "xt_conntrack"),
    ("filter", "-p tcp -j REJECT", "ipt_REJECT"),
];

/// Tries the rules kube-proxy needs, in this sandbox's own network namespace.
///
/// # Errors
/// One sentence about what the kernel lacks.
pub fn check(variant: Variant) -> anyhow::Result<()> {
    let mut lacking: Vec<&str> = Vec::new();
    for (table, rule, module) in RULES {
        let works = restore(variant, table, rule)?;
        if !works && !lacking.contains(&module) {
            lacking.push(module);
        }
    }
    if lacking.is_empty() {
        return Ok(());
    }
    let base = match variant {
        Variant::Legacy => "ip_tables, iptable_nat",
        Variant::Nft => "nf_tables, nft_compat",
    };
    bail!(
        "iptables-{variant} cannot write all rules needed on this kernel; as root on the host: \
         modprobe -a {} ({base} too if they are missing), or take a kernel built with them",
        lacking.join(" ")
    )
}

fn restore(variant: Variant, table: &str, rule: &str) -> anyhow::Result<bool> {
    let program = variant.program("-restore");
    let mut child = Command::new(&program)
        .arg("--noflush")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .with_context(|| format!("cannot start {program}"))?;
    if let Some(mut stdin) = child.stdin.take() {
        let input = format!("*{table}\n:{CHAIN} - [0:0]\n-A {CHAIN} {rule}\nCOMMIT\n");
        // A program that gives up early says so by its exit status.
        let _ = stdin.write_all(input.as_bytes());
    }
    Ok(child.wait().with_context(|| format!("cannot wait for {program}"))?.success())
}
