//! Which packages of the distribution the other programs of an image come from.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, ensure};

use super::debian::Unpacked;
use super::sbom::Component;
use crate::host;
use kube_proxy_testkit::say;

/// The packages of all files below a directory that stand at the same place on this system, or in one that was unpacked.
///
/// Of this system only Debian is asked; elsewhere the list is empty, and that is said.
pub(super) fn of_files(root: &Path, unpacked: Option<&Unpacked>) -> anyhow::Result<Vec<Component>> {
    if unpacked.is_none() && !host::is_on_path("dpkg-query") {
        say!(
            "--- the list of parts of the image lacks iptables and its libraries: there is no dpkg-query"
        );
        return Ok(Vec::new());
    }
    let mut places = BTreeMap::new();
    for file in files(root)? {
        let path = Path::new("/").join(file.strip_prefix(root)?);
        if !path.starts_with("/etc") {
            places.insert(path.clone(), candidates(&path));
        }
    }
    let owners = match unpacked {
        Some(unpacked) => owners_among(&unpacked.packages)?,
        None => owners(places.values().flatten())?,
    };
    let mut packages = BTreeSet::new();
    for (path, places) in places {
        let owner = places.iter().find_map(|place| owners.get(place));
        packages.insert(owner.with_context(|| format!("no package has {}", path.display()))?);
    }
    packages
        .into_iter()
        .map(|package| match unpacked {
            Some(_) => component(package),
            None => component(&query(package)?),
        })
        .collect()
}

/// Where packages may have a file of the image: `/lib` and `/sbin` are links to places below `/usr`, and packages name either; and all
/// programs of the image are in one directory.
fn candidates(path: &Path) -> Vec<PathBuf> {
    let relative = path.strip_prefix("/").unwrap_or(path);
    let inside = relative.strip_prefix("usr").unwrap_or(relative);
    let mut places = vec![Path::new("/").join(inside), Path::new("/usr").join(inside)];
    if let Some(name) = path.file_name().filter(|_| inside.starts_with("sbin")) {
        places.extend(["/bin", "/usr/bin"].map(|directory| Path::new(directory).join(name)));
    }
    places
}

/// The package of each file that has one.
fn owners<'a>(
    files: impl Iterator<Item = &'a PathBuf>,
) -> anyhow::Result<BTreeMap<PathBuf, String>> {
    let output = Command::new("dpkg-query").arg("--search").args(files).output();
    let output = output.context("cannot start dpkg-query")?;
    // It fails because of those that no package has, and prints the others.
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let lines = text.lines().filter_map(|line| line.split_once(": "));
    Ok(lines.map(|(package, path)| (PathBuf::from(path), package.to_owned())).collect())
}

/// All plain files below a directory.
fn files(directory: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory)? {
        let path = entry?.path();
        if path.is_symlink() {
            continue;
        }
        if path.is_dir() {
            found.extend(files(&path)?);
        } else {
            found.push(path);
        }
    }
    Ok(found)
}

/// What describes a package: its name, version and architecture.
const DESCRIPTION: &str = "--showformat=${Package} ${Version} ${Architecture}";

/// The description of the package of each file in these.
fn owners_among(packages: &[PathBuf]) -> anyhow::Result<BTreeMap<PathBuf, String>> {
    let mut owners = BTreeMap::new();
    for package in packages {
        let ask = |arguments: &[&str]| -> anyhow::Result<String> {
            let output = Command::new("dpkg-deb").args(arguments).arg(package).output();
            let output = output.context("cannot start dpkg-deb")?;
            ensure!(output.status.success(), "dpkg-deb cannot read {}", package.display());
            Ok(String::from_utf8_lossy(&output.stdout).into_owned())
        };
        let description = ask(&["--show", DESCRIPTION])?;
        for line in ask(&["--contents"])?.lines() {
            // `-rw-r--r-- root/root 8 2023-01-16 10:00 ./usr/lib/a -> b`
            let path = line.split_whitespace().nth(5).and_then(|path| path.strip_prefix('.'));
            owners.extend(path.map(|path| (PathBuf::from(path), description.clone())));
        }
    }
    Ok(owners)
}

/// The description of an installed package.
fn query(package: &str) -> anyhow::Result<String> {
    let output = Command::new("dpkg-query").args(["--show", DESCRIPTION, package]).output()?;
    ensure!(output.status.success(), "dpkg-query knows no package {package}");
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn component(description: &str) -> anyhow::Result<Component> {
    let mut words = description.split_whitespace().map(str::to_owned);
    let mut word = || words.next().with_context(|| format!("no package: {description:?}"));
    let (name, version, architecture) = (word()?, word()?, word()?);
    let purl = format!("pkg:deb/debian/{name}@{}?arch={architecture}", version.replace('+', "%2B"));
    Ok(Component { name, version, purl, licence: None, sum: None })
}
