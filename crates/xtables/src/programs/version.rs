//! Which version and variant a program is.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::process::Command;
use std::sync::{LazyLock, Mutex, PoisonError};
use std::time::Duration;

use kube_proxy_core::IpFamily;

use super::child;
use super::parse::{Version, parse_version};
use crate::variant::Variant;

/// More of an answer to `--version` is not looked at, and how long it may take: programs that hang must not keep the others waiting.
const VERSION_LENGTH: usize = 4096;
const VERSION_LIMIT: Duration = Duration::from_secs(30);
/// How programs begin that are not scripts.
const ELF: &[u8; 4] = b"\x7fELF";

/// What programs answered. The modes that look for leftovers of each other all ask, and a process takes longer to start than to answer.
static KNOWN: LazyLock<Mutex<HashMap<Installed, (Version, Variant)>>> =
    LazyLock::new(Mutex::default);

/// A program as it was at one time, which answers the same each time: with its path, as programs of many names are one file.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Installed {
    path: PathBuf,
    device: u64,
    inode: u64,
    size: u64,
    /// Of the last change of anything about it: seconds and nanoseconds.
    changed: (i64, i64),
}

impl Installed {
    /// What is run for a name. `None` also for a script: it may run another program each time, as those do that choose a variant.
    pub(super) fn of(program: &str) -> Option<Self> {
        let path = std::env::var_os("PATH")?;
        let files = std::env::split_paths(&path).map(|directory| directory.join(program));
        let (path, found) = files
            .filter_map(|file| fs::metadata(&file).ok().map(|metadata| (file, metadata)))
            .find(|(_, metadata)| metadata.is_file() && metadata.mode() & 0o111 != 0)?;
        let mut start = [0; ELF.len()];
        File::open(&path).and_then(|mut file| file.read_exact(&mut start)).ok()?;
        (start == *ELF).then_some(())?;
        Some(Self {
            path,
            device: found.dev(),
            inode: found.ino(),
            size: found.size(),
            changed: (found.ctime(), found.ctime_nsec()),
        })
    }
}

pub(super) fn plain_name(family: IpFamily) -> &'static str {
    match family {
        IpFamily::V4 => "iptables",
        IpFamily::V6 => "ip6tables",
    }
}

/// Version and variant of a program, or why they are not known.
pub(super) fn version_of(program: &str) -> Result<(Version, Variant), String> {
    let installed = Installed::of(program);
    let known = || KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(answer) = installed.as_ref().and_then(|it| known().get(it).copied()) {
        return Ok(answer);
    }
    let answer = version_within(program, VERSION_LIMIT)?;
    if let Some(installed) = installed {
        known().insert(installed, answer);
    }
    Ok(answer)
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
