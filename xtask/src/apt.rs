//! Packages from Debian's archive, for any release and kind of machine, without installing them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, ensure};

use crate::workspace;

/// The keys that Debian signs its releases with.
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// apt with a state of its own, so that the host's stays as it is.
#[derive(Debug)]
pub(crate) struct Apt<'a> {
    /// Where the state is, and where downloads go.
    directory: &'a Path,
    /// The kinds of machine, in Debian's names; packages without one are for the first.
    architectures: &'a [&'a str],
}

impl<'a> Apt<'a> {
    /// Fetches the lists of a release of Debian.
    pub(crate) fn new(
        directory: &'a Path,
        architectures: &'a [&'a str],
        release: &str,
    ) -> anyhow::Result<Self> {
        for name in ["apt/state/lists/partial", "apt/cache/archives/partial"] {
            fs::create_dir_all(directory.join(name))?;
        }
        // Nothing is installed: apt then names everything that a package needs.
        fs::write(directory.join("apt/status"), "")?;
        fs::write(directory.join("apt/sources.list"), sources(release)?)?;
        let apt = Self { directory, architectures };
        apt.output("apt-get", &["--quiet", "update"])?;
        Ok(apt)
    }

    /// What a program of apt prints; it runs in the directory.
    pub(crate) fn output(&self, program: &str, arguments: &[&str]) -> anyhow::Result<String> {
        workspace::output(self.command(program).args(arguments))
    }

    /// Downloads packages with all that they need: where they are then.
    pub(crate) fn download_all(&self, packages: &[&str]) -> anyhow::Result<Vec<PathBuf>> {
        let words = ["--quiet", "--yes", "--no-install-recommends", "--download-only", "install"];
        self.output("apt-get", &[&words, packages].concat())?;
        let archives = self.directory.join("apt/cache/archives");
        packages_in(&archives)
    }

    /// Downloads a package and unpacks it into a directory, of which nothing older is left.
    pub(crate) fn unpack(&self, package: &str, to: &Path) -> anyhow::Result<()> {
        if to.exists() {
            fs::remove_dir_all(to).with_context(|| to.display().to_string())?;
        }
        let scratch = tempfile::tempdir_in(self.directory)?;
        let mut download = self.command("apt-get");
        download.args(["--quiet", "download", package]).current_dir(scratch.path());
        workspace::output(&mut download)?;
        let file = packages_in(scratch.path())?.pop();
        let file = file.with_context(|| format!("apt did not download {package}"))?;
        workspace::run(Command::new("dpkg-deb").arg("-x").arg(&file).arg(to))
    }

    fn command(&self, program: &str) -> Command {
        let path = |name: &str| self.directory.join("apt").join(name).display().to_string();
        let mut command = Command::new(program);
        let mut options = vec![
            format!("Dir::State={}", path("state")),
            format!("Dir::State::status={}", path("status")),
            format!("Dir::Cache={}", path("cache")),
            format!("Dir::Etc::sourcelist={}", path("sources.list")),
            "Dir::Etc::sourceparts=/dev/null".to_owned(),
            // The directories belong to this user.
            "APT::Sandbox::User=".to_owned(),
        ];
        options.extend(self.architectures.first().map(|name| format!("APT::Architecture={name}")));
        options
            .extend(self.architectures.iter().map(|name| format!("APT::Architectures::={name}")));
        for option in options {
            command.args(["-o", &option]);
        }
        command.current_dir(self.directory);
        command
    }
}

/// The packages in a directory, sorted.
pub(crate) fn packages_in(directory: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let entries = fs::read_dir(directory).with_context(|| directory.display().to_string())?;
    let mut all = entries.map(|entry| Ok(entry?.path())).collect::<anyhow::Result<Vec<_>>>()?;
    all.retain(|path| path.extension().is_some_and(|extension| extension == "deb"));
    all.sort();
    Ok(all)
}

/// Whether packages can be taken from Debian here.
pub(crate) fn has_debian() -> bool {
    sources("").is_ok()
}

/// The archives that this host uses, with another release.
fn sources(release: &str) -> anyhow::Result<String> {
    let format = ["indextargets", "--format", "$(ORIGIN) $(REPO_URI)", "Created-By: Packages"];
    let targets = workspace::output(Command::new("apt-get").args(format))?;
    let mut archives: Vec<&str> =
        targets.lines().filter_map(|line| line.strip_prefix("Debian ")).collect();
    archives.sort_unstable();
    archives.dedup();
    ensure!(
        !archives.is_empty(),
        "apt knows no archive of Debian: packages are taken from there, after apt-get update"
    );
    let lines = archives.iter().map(|archive| {
        let security = archive.trim_end_matches('/').ends_with("-security");
        let suite = if security { format!("{release}-security") } else { release.to_owned() };
        format!("deb [signed-by={KEYRING}] {archive} {suite} main\n")
    });
    Ok(lines.collect())
}
