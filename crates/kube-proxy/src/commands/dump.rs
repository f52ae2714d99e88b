//! `kube-proxy dump`: one archive for a bug report.

use std::fmt::Write as _;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;

use super::note;
use super::server::Server;
use crate::tasks;
use crate::telemetry::secrets::left_out;

mod archive;
mod gather;

use archive::Archive;
pub(super) use gather::rules_of_node;

/// Writes one tar archive for a bug report: configuration, Services, rules, sysctls, versions, the recent log, metrics
///
/// Secrets are left out: it reads no kubeconfig, no environment and no annotations, and takes tokens, keys and passwords out of all text.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct Arguments {
    /// Where to write it; - is standard output
    #[arg(long, value_name = "PATH", default_value = "kube-proxy-dump.tar")]
    file: PathBuf,
    #[command(flatten)]
    server: Server,
}

/// Pages of the running proxy, and the names of their files.
const PAGES: [(&str, &str); 11] = [
    ("/proxyMode", "mode.txt"),
    ("/configz", "configuration.json"),
    ("/flagz", "flags.txt"),
    ("/statusz", "status.txt"),
    ("/metrics", "metrics.txt"),
    ("/debug/services", "services.json"),
    ("/debug/changes", "changes.json"),
    ("/debug/check", "check.json"),
    ("/debug/findings", "findings.json"),
    ("/debug/log", "log.txt"),
    ("/healthz", "metrics-server-healthz.txt"),
];

pub(super) async fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let mut files = Vec::new();
    let mut missing = String::new();
    for (path, file) in PAGES {
        match arguments.server.page(path).await {
            Ok(text) => files.push((file.to_owned(), text)),
            Err(error) => {
                let _ = writeln!(missing, "{file}: {error:#}");
            }
        }
    }
    let (of_node, not_there) = tasks::blocking("dump", gather::node).await;
    files.extend(of_node);
    missing += &not_there;
    files.push(("missing.txt".to_owned(), missing));
    let mut archive = Archive::default();
    for (name, text) in &files {
        archive.add(&format!("kube-proxy-dump/{name}"), left_out(text).as_bytes());
    }
    write(arguments, &archive.finish())?;
    note(&format!(
        "wrote {} files to {}; look through them before you give them away: addresses and names of Services are in them",
        files.len(),
        arguments.file.display()
    ));
    Ok(ExitCode::SUCCESS)
}

fn write(arguments: &Arguments, bytes: &[u8]) -> anyhow::Result<()> {
    let path = &arguments.file;
    if path.as_os_str() == "-" {
        return std::io::stdout().write_all(bytes).context("cannot write to standard output");
    }
    let mut options = OpenOptions::new();
    // Others on this machine need not read it.
    let file = options.write(true).create(true).truncate(true).mode(0o600).open(path);
    file.and_then(|mut file| file.write_all(bytes))
        .with_context(|| format!("cannot write {}", path.display()))
}
