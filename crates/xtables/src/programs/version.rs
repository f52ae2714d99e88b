//! Which version and variant a program is.

use std::io;
use std::process::Command;
use std::time::Duration;

use kube_proxy_core::IpFamily;

use super::child;
use super::parse::{Version, parse_version};
use crate::variant::Variant;

/// More of an answer to `--version` is not looked at, and how long it may take: programs that hang must not keep the others waiting.
const VERSION_LENGTH: usize = 4096;
const VERSION_LIMIT: Duration = Duration::from_secs(30);

pub(super) fn plain_name(family: IpFamily) -> &'static str {
    match family {
        IpFamily::V4 => "iptables",
        IpFamily::V6 => "ip6tables",
    }
}

/// Version and variant of a program, or why they are not known.
pub(super) fn version_of(program: &str) -> Result<(Version, Variant), String> {
    version_within(program, VERSION_LIMIT)
}

pub(super) fn version_within(program: &str, limit: Duration) -> Result<(Version, Variant), String> {
    let mut text = String::new();
    let mut command = Command::new(program);
    let each = &mut |line: &str| {
        if text.len() < VERSION_LENGTH {
            text.extend([line, "\n"]);
        }
    };
    let finished = child::run(command.arg("--version"), limit, &[], each);
    let finished = finished.map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => format!("there is no program {program}"),
        _ => format!("running {program}: {error}"),
    })?;
    if let Some(version) = parse_version(&text) {
        return Ok(version);
    }
    let said = if finished.complaints.trim().is_empty() { &text } else { &finished.complaints };
    Err(format!("{program} --version: {}: {}", finished.status, said.trim()))
}
