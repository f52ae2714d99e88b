//! Building a program whose bytes depend on the sources alone.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, ensure};

use super::Place;
use super::compiler::Compiler;
use super::platform::Platform;
use crate::workspace;

/// Builds the program for a platform; its path.
pub(super) fn build(
    platform: &Platform,
    compiler: &Compiler,
    profile: &str,
    place: &Place,
    time: u64,
) -> anyhow::Result<PathBuf> {
    let triple = platform.triple;
    let replaced = replaced_paths(place)?;
    let mut command =
        workspace::cargo(&["build", "--locked", "--package", "kube-proxy", "--bin", "kube-proxy"]);
    command.args(["--profile", profile, "--target", triple]).arg("--target-dir").arg(&place.target);
    command.current_dir(&place.sources);
    let mut flags = vec!["-Ctarget-feature=+crt-static".to_owned()];
    flags.extend(replaced.iter().map(|pair| format!("--remap-path-prefix={pair}")));
    command.env("CARGO_ENCODED_RUSTFLAGS", flags.join("\u{1f}"));
    let of_target = |name: &str| format!("{name}_{}", triple.replace('-', "_"));
    let c_flags: Vec<_> = replaced.iter().map(|pair| format!("-ffile-prefix-map={pair}")).collect();
    command.env(of_target("CFLAGS"), c_flags.join(" ")).env(of_target("CC"), platform.linker());
    let linker = of_target("CARGO_TARGET").to_uppercase() + "_LINKER";
    command.env(linker, platform.linker());
    if let Compiler::Other(path) = compiler {
        command.env("RUSTC", path);
    }
    command.env("SOURCE_DATE_EPOCH", time.to_string()).env("CARGO_INCREMENTAL", "0");
    workspace::run(&mut command)?;
    let directory = workspace::directory_of(profile);
    Ok(place.target.join(triple).join(directory).join("kube-proxy"))
}

/// Paths of this machine, and what stands in their place.
fn replaced_paths(place: &Place) -> anyhow::Result<Vec<String>> {
    let home = std::env::var_os("CARGO_HOME").map(PathBuf::from);
    let home = home.or_else(|| Some(Path::new(&std::env::var_os("HOME")?).join(".cargo")));
    let pairs = [
        // The last that fits counts, and one may be inside another.
        (place.sources.clone(), "/kube-proxy"),
        (place.target.clone(), "/target"),
        (home.context("neither CARGO_HOME nor HOME is set")?, "/cargo"),
    ];
    pairs
        .iter()
        .map(|(path, name)| {
            let path = path.to_str().with_context(|| path.display().to_string())?;
            ensure!(!path.contains(' '), "C compilers get flags split at blanks: {path:?}");
            Ok(format!("{path}={name}"))
        })
        .collect()
}

/// Whether a program needs nothing from the system that it runs on.
pub(super) fn check_static(program: &Path) -> anyhow::Result<()> {
    let mut readelf = Command::new("readelf");
    readelf.args(["--wide", "--dynamic", "--program-headers"]).arg(program);
    let output =
        readelf.output().context("readelf comes with gcc, in Debian's package binutils")?;
    let text = String::from_utf8_lossy(&output.stdout);
    ensure!(output.status.success(), "readelf cannot read {}", program.display());
    let dynamic = ["(NEEDED)", "INTERP"].iter().find(|word| text.contains(*word));
    ensure!(dynamic.is_none(), "{} is not static: {}", program.display(), dynamic.unwrap_or(&""));
    Ok(())
}
