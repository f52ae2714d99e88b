//! The initramfs: all files that the emulated machine has.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail};

use super::fetch::Files;
use crate::workspace;

/// Programs of the host that go along, with their libraries. The rest is busybox.
const PROGRAMS: [(&str, &str); 11] = [
    ("ip", "usr/sbin/ip"),
    ("nft", "usr/sbin/nft"),
    ("conntrack", "usr/sbin/conntrack"),
    ("kmod", "sbin/modprobe"),
    ("unshare", "usr/bin/unshare"),
    ("setpriv", "usr/bin/setpriv"),
    ("nsenter", "usr/bin/nsenter"),
    ("ipvsadm", "usr/sbin/ipvsadm"),
    ("ipset", "usr/sbin/ipset"),
    ("xtables-legacy-multi", "usr/sbin/xtables-legacy-multi"),
    ("xtables-nft-multi", "usr/sbin/xtables-nft-multi"),
];

/// Parts of the kernel whose modules go along.
const MODULES: [&str; 5] = ["net", "drivers/net", "lib", "crypto", "arch"];

/// The names of protocols that `nft` prints, as `/etc/protocols`.
const PROTOCOLS: &str = "tcp 6\nudp 17\nicmp 1\nicmpv6 58\nsctp 132\n";

/// Without any authority to trust, the client of the Kubernetes API does not start, not even for plain HTTP.
const CERTIFICATES: &str = "/etc/ssl/certs/ca-certificates.crt";

/// Files of the workspace that tests compare with.
const EXPECTED: [&str; 1] = ["crates/nftables/tests/kernel/skeleton.txt"];

/// Directories that are there and empty.
const DIRECTORIES: [&str; 7] = ["proc", "sys", "dev", "tmp", "run", "var", "etc"];

/// Puts everything into one file beside the kernel.
pub(super) fn build(
    kernel: &Files,
    programs: &[(PathBuf, String)],
    suites: &[String],
) -> anyhow::Result<PathBuf> {
    let beside = kernel.root.parent().context("a kernel is in a directory")?;
    let image = Image(beside.join("initramfs"));
    let _ = fs::remove_dir_all(&image.0);
    for name in DIRECTORIES {
        fs::create_dir_all(image.0.join(name))?;
    }
    std::os::unix::fs::symlink("/run", image.0.join("var/run"))?;
    image.copy(&found("busybox")?, "bin/busybox")?;
    for (program, target) in PROGRAMS {
        image.program(&found(program)?, target)?;
    }
    for (program, name) in programs {
        image.program(program, &format!("tests/{name}"))?;
        let copy = image.0.join("tests").join(name);
        workspace::run(Command::new("strip").arg("--strip-debug").arg(copy))?;
    }
    for file in EXPECTED {
        image.copy(&workspace::root().join(file), &format!("workspace/{file}"))?;
    }
    fs::write(image.0.join("etc/protocols"), PROTOCOLS)?;
    if Path::new(CERTIFICATES).exists() {
        image.copy(Path::new(CERTIFICATES), CERTIFICATES.trim_start_matches('/'))?;
    }
    image.iptables()?;
    image.modules(kernel)?;
    let init = image.0.join("init");
    fs::write(&init, include_str!("init.sh"))?;
    fs::set_permissions(&init, fs::Permissions::from_mode(0o755))?;
    fs::write(image.0.join("suites"), suites.join("\n") + "\n")?;
    image.pack(&beside.join("initramfs.cpio"))
}

struct Image(PathBuf);

impl Image {
    fn copy(&self, from: &Path, target: &str) -> anyhow::Result<()> {
        let target = self.0.join(target);
        let directory = target.parent().context("a target is in a directory")?;
        fs::create_dir_all(directory)?;
        fs::copy(from, &target).with_context(|| format!("cannot copy {}", from.display()))?;
        Ok(())
    }

    /// A program and the libraries that the linker says it needs.
    fn program(&self, from: &Path, target: &str) -> anyhow::Result<()> {
        self.copy(from, target)?;
        let output = Command::new("ldd").arg(from).output().context("cannot start `ldd`")?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let libraries: BTreeSet<&str> =
            text.split_whitespace().filter(|word| word.starts_with('/')).collect();
        for library in libraries {
            self.copy(Path::new(library), library.trim_start_matches('/'))?;
        }
        Ok(())
    }

    /// The names that iptables is called by, and its extensions.
    fn iptables(&self) -> anyhow::Result<()> {
        for (program, names) in crate::image::LINKS {
            for name in names.iter().filter(|name| **name != "modprobe") {
                std::os::unix::fs::symlink(program, self.0.join("usr/sbin").join(name))?;
            }
        }
        for extension in crate::image::extensions()? {
            self.copy(&extension, &extension.to_string_lossy()[1..])?;
        }
        Ok(())
    }

    fn modules(&self, kernel: &Files) -> anyhow::Result<()> {
        let path = format!("lib/modules/{}", kernel.release);
        let (from, to) = (kernel.root.join(&path), self.0.join(&path));
        fs::create_dir_all(to.join("kernel/drivers"))?;
        for name in fs::read_dir(&from)?.filter_map(Result::ok).map(|entry| entry.file_name()) {
            if name.to_string_lossy().starts_with("modules.") {
                fs::copy(from.join(&name), to.join(&name))?;
            }
        }
        for part in MODULES.map(|part| format!("kernel/{part}")) {
            if from.join(&part).exists() {
                let copy = ["-r", "--"];
                let target = to.join(&part);
                workspace::run(Command::new("cp").args(copy).arg(from.join(&part)).arg(target))?;
            }
        }
        Ok(())
    }

    fn pack(&self, file: &Path) -> anyhow::Result<PathBuf> {
        let archive = fs::File::create(file).with_context(|| file.display().to_string())?;
        let pack = "find . -print0 | cpio --null --create --format=newc --quiet";
        let status = Command::new("sh")
            .args(["-c", pack])
            .current_dir(&self.0)
            .stdout(archive)
            .status()
            .context("cannot start `sh`")?;
        if !status.success() {
            bail!("`{pack}` failed: {status}");
        }
        Ok(file.to_path_buf())
    }
}

fn found(program: &str) -> anyhow::Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .map(|directory| directory.join(program))
        .find(|path| path.is_file())
        .with_context(|| format!("{program} is not on the path"))
}
