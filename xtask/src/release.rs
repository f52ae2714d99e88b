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
use self::compiler::Compiler;
use self::platform::Platform;
use crate::image::System;
use crate::{host, image, workspace};
use kube_proxy_testkit::say;

mod archive;
mod build;
mod compiler;
mod debian;
mod layout;
mod packages;
mod platform;
mod sbom;
mod sums;
mod trial;
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
    /// Only for this target, such as aarch64-unknown-linux-gnu, and nothing else will do; may be repeated
    #[arg(long = "target", value_name = "TARGET")]
    targets: Vec<String>,
    /// Takes what this machine lacks for another kind of machine out of Debian's packages, into the target directory: a compiler with its
    /// standard library, and iptables for the image
    #[arg(long)]
    from_debian: bool,
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
    /// What has to be made; empty for everything that can be.
    required: Vec<&'static Platform>,
    /// Where packages of Debian are unpacked, if they may be taken.
    debian: Option<PathBuf>,
}

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    ensure!(
        arguments.dry_run,
        "nothing is published from here: `cargo xtask release --dry-run` makes the files, a forge uploads them"
    );
    let required = arguments.targets.iter().map(|triple| Platform::named(triple));
    let required = required.collect::<anyhow::Result<Vec<_>>>()?;
    host::install_missing()?;
    for platform in &required {
        host::install(&platform.needed())?;
    }
    let target = workspace::target_directory()?;
    let output = arguments.output.clone().unwrap_or_else(|| target.join("release-files"));
    let debian = arguments.from_debian.then(|| target.clone());
    let place = Place { sources: workspace::root(), target, output };
    let release = Release {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        time: commit_time(&place.sources)?,
        profile: arguments.profile.clone(),
        required,
        debian,
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
        for platform in &platform::ALL {
            let is_required = self.required.contains(&platform);
            if !is_required && !self.required.is_empty() {
                continue;
            }
            let compiler = platform.compiler(self.debian.as_deref())?;
            let missing = platform.missing(compiler.is_some());
            match (compiler, missing) {
                (Some(compiler), None) => {
                    say!("=== {}", platform.triple);
                    self.make_for(platform, &compiler, place)?;
                }
                (_, missing) => {
                    let reason = missing.unwrap_or_default();
                    ensure!(!is_required, "{}: not made, {reason}", platform.triple);
                    say!("--- {}: not made, {reason}", platform.triple);
                }
            }
        }
        let names = sums::write(&place.output, SUMS)?;
        say!("{} files in {}:", names.len(), place.output.display());
        for name in names {
            let size = fs::metadata(place.output.join(&name))?.len();
            say!("{:>12} {name}", size);
        }
        Ok(())
    }

    fn make_for(
        &self,
        platform: &Platform,
        compiler: &Compiler,
        place: &Place,
    ) -> anyhow::Result<()> {
        if matches!(compiler, Compiler::Other(_)) {
            let (other, usual) = (compiler.version()?, Compiler::Usual.version()?);
            say!("--- made by {other}: {usual} has no standard library for it");
        }
        let built = build::build(platform, compiler, &self.profile, place, self.time)?;
        let parts = tempfile::tempdir().context("a directory for the parts")?;
        let (program, symbols) =
            (parts.path().join("kube-proxy"), parts.path().join("kube-proxy.debug"));
        image::split(platform.objcopy(), &built, &program, &symbols)?;
        build::check_static(&program)?;
        trial::program(platform, &program, &self.version)?;
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
        let components =
            sbom::crates(&place.sources, &["--package", "kube-proxy"], platform.triple)?;
        let lacking = sbom::lacking(&components, &fs::read(&built)?);
        ensure!(lacking.is_empty(), "the list of parts lacks what is in the program: {lacking:?}");
        let bom = sbom::document(&self.version, self.time, &components)?;
        write(&place.output.join(format!("{name}.cdx.json")), bom.as_bytes())?;
        self.make_image(platform, place, &program, components)
    }

    /// The system that an image's other programs come from, unless it is this one.
    fn unpacked(&self, platform: &Platform) -> anyhow::Result<Option<debian::Unpacked>> {
        match &self.debian {
            Some(target) if !platform.is_own_machine() => {
                debian::system(target, platform.architecture).map(Some)
            }
            _ => Ok(None),
        }
    }

    fn make_image(
        &self,
        platform: &Platform,
        place: &Place,
        program: &Path,
        mut components: Vec<sbom::Component>,
    ) -> anyhow::Result<()> {
        if !platform.has_image() {
            return Ok(());
        }
        let unpacked = self.unpacked(platform)?;
        if unpacked.is_none() && !platform.is_own_machine() {
            say!(
                "--- no image for {}: this system has no iptables for it; --from-debian takes that from Debian's packages",
                platform.triple
            );
            return Ok(());
        }
        let parts = tempfile::tempdir().context("a directory for the image")?;
        let root = parts.path().join("root");
        let system = unpacked.as_ref().map_or(System::Here, |it| System::Unpacked(&it.root));
        image::assemble_base(&root, system)?;
        if unpacked.is_some() {
            trial::image(platform, &root)?;
        }
        components.extend(packages::of_files(&root, unpacked.as_ref())?);
        let mut base = Archive::new(self.time);
        base.add_tree(&root)?;
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
        let bom = sbom::document(&self.version, self.time, &components)?;
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
    fs::create_dir_all(output).with_context(|| output.display().to_string())?;
    // A run that is cut off leaves a directory that the next one may empty.
    write(&output.join(SUMS), b"")
}

fn write(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    fs::write(path, bytes).with_context(|| format!("cannot write {}", path.display()))
}

#[cfg(test)]
mod tests;
