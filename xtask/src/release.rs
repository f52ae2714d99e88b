//! `cargo xtask release --dry-run`: everything that a release consists of, in one directory.
//!
//! ```text
//! sources ─cargo─▶ program ─objcopy─▶ program + symbols ─▶ archives
//!                                        └─ with iptables ─▶ layers ─▶ OCI image layout
//! Cargo.lock ─▶ SBOM                                  all of it ─▶ SHA256SUMS
//! ```
//!
//! The same commit gives the same bytes: times are the commit's, paths are replaced, and order is sorted.
//! Nothing is uploaded; that is for the forge, which has the rights.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, ensure};
use clap::Args;

use self::archive::{Archive, Entry};
use self::platform::Platform;
use crate::{host, image, workspace};
use kube_proxy_testkit::say;

mod archive;
mod build;
mod layout;
mod packages;
mod platform;
mod sbom;
mod sums;
mod twice;

/// What to make.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Makes all files and publishes nothing; has to be given, because nothing else is possible from here
    #[arg(long)]
    dry_run: bool,
    /// A new directory for the files, or one that an earlier run made [default: release in the target directory]
    #[arg(long, value_name = "DIRECTORY")]
    output: Option<PathBuf>,
    /// Profile of the program
    #[arg(long, value_name = "PROFILE", default_value = "release")]
    profile: String,
    /// Makes everything a second time, from a copy of the sources elsewhere, and compares byte by byte
    #[arg(long)]
    twice: bool,
}

/// Name of the list of checksums; an old directory is known by it.
const SUMS: &str = "SHA256SUMS";

/// Where the sources are, where cargo builds and where the files go.
struct Place {
    sources: PathBuf,
    target: PathBuf,
    output: PathBuf,
}

/// What is released.
struct Release {
    version: String,
    /// Seconds since 1970 of the commit: the time of everything that has one.
    time: u64,
    profile: String,
}

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    ensure!(
        arguments.dry_run,
        "nothing is published from here: `cargo xtask release --dry-run` makes the files, a forge uploads them"
    );
    host::install_missing()?;
    let target = workspace::target_directory()?;
    let output = arguments.output.clone().unwrap_or_else(|| target.join("release-files"));
    let place = Place { sources: workspace::root(), target, output };
    let release = Release {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        time: commit_time(&place.sources)?,
        profile: arguments.profile.clone(),
    };
    release.make(&place)?;
    if arguments.twice {
        twice::compare(&release, &place)?;
    }
    Ok(())
}

/// When the commit was made that is checked out.
fn commit_time(sources: &Path) -> anyhow::Result<u64> {
    let mut git = Command::new("git");
    git.args(["log", "-1", "--format=%ct"]).current_dir(sources);
    let output = git.output().context("cannot start git")?;
    let text = String::from_utf8_lossy(&output.stdout);
    text.trim().parse().context("git names no time of a commit: a release is made from a clone")
}

impl Release {
    /// Makes all files of a place.
    fn make(&self, place: &Place) -> anyhow::Result<()> {
        begin(&place.output)?;
        for platform in platform::ALL {
            if let Some(reason) = platform.missing()? {
                say!("--- {}: not made, {reason}", platform.triple);
                continue;
            }
            say!("=== {}", platform.triple);
            self.make_for(&platform, place)?;
        }
        let names = sums::write(&place.output, SUMS)?;
        say!("{} files in {}:", names.len(), place.output.display());
        for name in names {
            let size = fs::metadata(place.output.join(&name))?.len();
            say!("{:>12} {name}", size);
        }
        Ok(())
    }

    fn make_for(&self, platform: &Platform, place: &Place) -> anyhow::Result<()> {
        let built = build::build(platform, &self.profile, place, self.time)?;
        let parts = tempfile::tempdir().context("a directory for the parts")?;
        let (program, symbols) =
            (parts.path().join("kube-proxy"), parts.path().join("kube-proxy.debug"));
        image::split(platform.objcopy, &built, &program, &symbols)?;
        build::check_static(&program)?;
        let name = format!("kube-proxy-{}-{}", self.version, platform.triple);
        let licence = place.sources.join("LICENSE");
        let archives = [
            (format!("{name}.tar.gz"), vec![("kube-proxy", &program), ("LICENSE", &licence)]),
            (format!("{name}-symbols.tar.gz"), vec![("kube-proxy.debug", &symbols)]),
        ];
        for (file, content) in archives {
            let mut archive = Archive::new(self.time);
            for (inside, path) in content {
                archive.add(&format!("{name}/{inside}"), &Entry::read(path)?)?;
            }
            write(&place.output.join(file), &archive::gzip(&archive.finish())?)?;
        }
        let mut components =
            sbom::crates(&place.sources, &["--package", "kube-proxy"], platform.triple)?;
        let lacking = sbom::lacking(&components, &fs::read(&built)?);
        ensure!(lacking.is_empty(), "the list of parts lacks what is in the program: {lacking:?}");
        let bom = sbom::document(&self.version, self.time, &components)?;
        write(&place.output.join(format!("{name}.cdx.json")), bom.as_bytes())?;
        if platform.is_host()? {
            let root = parts.path().join("root");
            image::assemble_base(&root)?;
            components.extend(packages::of_files(&root)?);
            self.make_image(platform, place, &root, &program, &components)?;
        } else {
            say!("--- no image for {}: this system has no iptables for it", platform.triple);
        }
        Ok(())
    }

    fn make_image(
        &self,
        platform: &Platform,
        place: &Place,
        root: &Path,
        program: &Path,
        components: &[sbom::Component],
    ) -> anyhow::Result<()> {
        let mut base = Archive::new(self.time);
        base.add_tree(root)?;
        let mut own = Archive::new(self.time);
        own.add("usr/local/bin/kube-proxy", &Entry::read(program)?)?;
        let image = layout::Image {
            version: &self.version,
            architecture: platform.architecture,
            time: self.time,
            layers: vec![
                ("iptables of both kinds, kmod, and their libraries", base.finish()),
                ("kube-proxy", own.finish()),
            ],
        };
        let name = format!("kube-proxy-{}-linux-{}", self.version, platform.architecture);
        let archive = layout::archive(&image)?;
        layout::check(&archive)?;
        write(&place.output.join(format!("{name}.oci.tar")), &archive)?;
        let bom = sbom::document(&self.version, self.time, components)?;
        write(&place.output.join(format!("{name}.cdx.json")), bom.as_bytes())
    }
}

/// An empty directory; only one that an earlier run made is emptied.
fn begin(output: &Path) -> anyhow::Result<()> {
    if output.exists() {
        ensure!(
            output.join(SUMS).is_file(),
            "{} exists and has no {SUMS}: it is not emptied",
            output.display()
        );
        fs::remove_dir_all(output).with_context(|| output.display().to_string())?;
    }
    fs::create_dir_all(output).with_context(|| output.display().to_string())
}

fn write(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    fs::write(path, bytes).with_context(|| format!("cannot write {}", path.display()))
}

#[cfg(test)]
mod tests;
