//! The same again, from another place, to the same bytes.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, ensure};

use super::{Place, Release};
use kube_proxy_testkit::say;

/// Makes everything again from a copy of the sources, in other directories, and compares.
///
/// # Errors
/// The files that differ.
pub(super) fn compare(release: &Release, first: &Place) -> anyhow::Result<()> {
    // Not below the target directory: a path inside another one that is replaced would show less.
    let elsewhere = tempfile::Builder::new().prefix("kube-proxy-again-").tempdir()?;
    let sources = elsewhere.path().join("other-sources");
    copy_sources(&first.sources, &sources)?;
    let second = Place {
        sources,
        target: elsewhere.path().join("other-target"),
        output: elsewhere.path().join("other-output"),
    };
    say!("=== again, in {}", elsewhere.path().display());
    release.make(&second)?;
    let differing = differences(&first.output, &second.output)?;
    ensure!(differing.is_empty(), "a second build differs in {}", differing.join(", "));
    say!("both builds are equal, byte by byte");
    Ok(())
}

/// Copies what git knows of, as it is in the work tree.
fn copy_sources(from: &Path, to: &Path) -> anyhow::Result<()> {
    let mut git = Command::new("git");
    git.args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"]).current_dir(from);
    let output = git.output().context("cannot start git")?;
    let text = String::from_utf8(output.stdout).context("names of files")?;
    for name in text.split_terminator('\0').filter(|name| from.join(name).is_file()) {
        let target = to.join(name);
        fs::create_dir_all(target.parent().context("a directory")?)?;
        fs::copy(from.join(name), target).with_context(|| name.to_owned())?;
    }
    Ok(())
}

/// Names of files that are in one of two directories only, or have other contents.
pub(super) fn differences(one: &Path, other: &Path) -> anyhow::Result<Vec<String>> {
    let names = |directory: &Path| -> anyhow::Result<BTreeSet<String>> {
        let entries = fs::read_dir(directory).with_context(|| directory.display().to_string())?;
        entries.map(|e| Ok(e?.file_name().to_string_lossy().into_owned())).collect()
    };
    let (first, second) = (names(one)?, names(other)?);
    let mut found: Vec<String> = first.symmetric_difference(&second).cloned().collect();
    for name in first.intersection(&second) {
        if fs::read(one.join(name))? != fs::read(other.join(name))? {
            found.push(name.clone());
        }
    }
    Ok(found)
}
