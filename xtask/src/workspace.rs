//! Where this workspace is, and running cargo in it.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use serde_json::Value;

/// Directory of the workspace's `Cargo.toml`.
pub(crate) fn root() -> PathBuf {
    // `cargo run` sets the variable again, so a workspace that was moved is still found.
    let package = std::env::var_os("CARGO_MANIFEST_DIR")
        .unwrap_or_else(|| OsString::from(env!("CARGO_MANIFEST_DIR")));
    Path::new(&package).parent().map_or_else(PathBuf::new, Path::to_path_buf)
}

/// A cargo command that runs in the workspace.
pub(crate) fn cargo(arguments: &[&str]) -> Command {
    let mut command = command("cargo");
    command.args(arguments).current_dir(root());
    command
}

/// A command that is not told of this package.
pub(crate) fn command(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    // `cargo run` describes this package to this program. Passed on, build scripts that look at
    // these variables would run again each time cargo is started from here and then by hand.
    for (name, _) in std::env::vars_os() {
        if describes_package(&name.to_string_lossy()) {
            command.env_remove(name);
        }
    }
    command
}

/// Whether cargo sets this variable for the package whose program it runs.
fn describes_package(variable: &str) -> bool {
    const NAMES: [&str; 5] = [
        "CARGO_MANIFEST_DIR",
        "CARGO_MANIFEST_PATH",
        "CARGO_BIN_NAME",
        "CARGO_CRATE_NAME",
        "CARGO",
    ];
    NAMES.contains(&variable) || variable.starts_with("CARGO_PKG_")
}

/// Where cargo puts what it makes.
pub(crate) fn target_directory() -> anyhow::Result<PathBuf> {
    let metadata = metadata()?;
    let target = metadata["target_directory"].as_str();
    target.map(PathBuf::from).context("cargo names no target directory")
}

/// Where cargo puts the programs of a profile.
pub(crate) fn programs(profile: &str) -> anyhow::Result<PathBuf> {
    Ok(target_directory()?.join(directory_of(profile)))
}

/// Name of the directory of a profile; those that cargo always had share two.
pub(crate) fn directory_of(profile: &str) -> &str {
    match profile {
        "dev" | "test" => "debug",
        "bench" => "release",
        other => other,
    }
}

/// The compiler that cargo uses in the workspace.
pub(crate) fn rustc() -> Command {
    let mut command = Command::new(std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()));
    command.current_dir(root());
    command
}

/// The target that this compiler builds for by itself.
pub(crate) fn host_triple() -> anyhow::Result<String> {
    let output = rustc().arg("-vV").output();
    let text = output.context("cannot start rustc")?.stdout;
    let text = String::from_utf8_lossy(&text).into_owned();
    let host = text.lines().find_map(|line| line.strip_prefix("host: "));
    host.map(str::to_owned).context("rustc names no host")
}

/// What cargo knows of the packages of this workspace.
pub(crate) fn metadata() -> anyhow::Result<Value> {
    let output = cargo(&["metadata", "--format-version", "1", "--no-deps"])
        .stderr(Stdio::inherit())
        .output()
        .context("cannot start cargo")?;
    serde_json::from_slice(&output.stdout).context("cargo metadata")
}

/// Runs a command to its end, with its output passed on.
///
/// # Errors
/// When it cannot be started or fails; the command is named as one would type it.
pub(crate) fn run(command: &mut Command) -> anyhow::Result<()> {
    let status =
        command.status().with_context(|| format!("cannot start `{}`", as_typed(command)))?;
    succeeded(command, status)
}

/// The same, which has to end within this time.
pub(crate) fn run_within(command: &mut Command, guard: Duration) -> anyhow::Result<()> {
    let mut child =
        command.spawn().with_context(|| format!("cannot start `{}`", as_typed(command)))?;
    let status = wait_within(&mut child, guard).with_context(|| as_typed(command))?;
    succeeded(command, status)
}

/// How a program ends.
///
/// # Errors
/// When it does not within this time; it is killed then.
pub(crate) fn wait_within(child: &mut Child, guard: Duration) -> anyhow::Result<ExitStatus> {
    let start = Instant::now();
    loop {
        if let Some(status) = child.try_wait().context("cannot wait for a program")? {
            return Ok(status);
        }
        if start.elapsed() > guard {
            // It may have ended by itself.
            let _ = child.kill();
            let _ = child.wait();
            bail!("it has not ended within {guard:?}");
        }
        thread::sleep(Duration::from_millis(50));
    }
}

fn succeeded(command: &Command, status: ExitStatus) -> anyhow::Result<()> {
    ensure!(status.success(), "`{}` failed: {status}", as_typed(command));
    Ok(())
}

/// A command as one would type it in a shell, with the variables it sets.
pub(crate) fn as_typed(command: &Command) -> String {
    let variables = command.get_envs().filter_map(|(name, value)| {
        Some(format!("{}={}", name.to_string_lossy(), quoted(&value?.to_string_lossy())))
    });
    let words = [command.get_program()].into_iter().chain(command.get_args());
    let words = words.map(|word| quoted(&word.to_string_lossy()));
    variables.chain(words).collect::<Vec<_>>().join(" ")
}

/// Quotes a word where a shell would otherwise split or change it.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_=./:,@+%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

/// What a command prints; it has to succeed.
pub(crate) fn output(command: &mut Command) -> anyhow::Result<String> {
    let typed = as_typed(command);
    let output = command.output().with_context(|| format!("cannot start `{typed}`"))?;
    let errors = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    ensure!(output.status.success(), "`{typed}` failed: {errors}");
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[cfg(test)]
mod tests;
