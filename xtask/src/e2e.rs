//! `cargo xtask e2e`: the checks of a cluster, on kind or, with `--local`, on a cluster of namespaces. The checks are the same.

mod checks;
mod kind;
mod local;
mod objects;

use std::path::PathBuf;

use anyhow::bail;
use clap::Args;
use kube_proxy_testkit::sandbox::{self, Entry};

use crate::{binary, host};
use kube_proxy_testkit::say;

/// Where and what to check.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// On a cluster of namespaces on this machine, without kind
    #[arg(long)]
    local: bool,
    /// Only this mode; may be repeated. The default on kind: all that the kernel has; with --local: iptables and nftables
    #[arg(long, value_name = "MODE")]
    mode: Vec<String>,
    /// An image that is there already, instead of building one (kind only)
    #[arg(long, value_name = "NAME")]
    image: Option<String>,
    /// The image with Rust on Debian that the image is built in, where it cannot be pulled under its usual name (kind only)
    #[arg(long, value_name = "NAME", conflicts_with = "image")]
    base: Option<String>,
    /// The image of the nodes, instead of kind's default (kind only)
    #[arg(long, value_name = "NAME")]
    node_image: Option<String>,
    /// An image of the pods that is there already and is loaded into the nodes, instead of one that they pull (kind only)
    #[arg(long, value_name = "NAME")]
    pod_image: Option<String>,
    /// Sets a feature gate for all components of the cluster; may be repeated (kind only)
    #[arg(long = "feature-gate", value_name = "NAME=BOOL", value_parser = kind::gate)]
    feature_gates: Vec<(String, bool)>,
    /// At the end, puts the cluster's own kube-proxy back and runs the checks with it (kind only)
    #[arg(long)]
    rollback: bool,
    /// Leaves the cluster (kind only)
    #[arg(long)]
    keep: bool,
    /// Where the logs of all nodes go (kind only)
    #[arg(long, value_name = "DIRECTORY", default_value = "target/e2e-logs")]
    logs: PathBuf,
}

/// Modes that are checked on namespaces unless told otherwise.
const MODES: [&str; 2] = ["iptables", "nftables"];

/// Runs the checks in each mode.
pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let mut modes: Vec<&str> = arguments.mode.iter().map(String::as_str).collect();
    if !arguments.local {
        return kind::run(arguments, &modes);
    }
    if modes.is_empty() {
        modes = MODES.to_vec();
    }
    if !sandbox::is_inside() {
        host::install_missing()?;
        binary::build("dev")?;
    }
    match sandbox::enter()? {
        Entry::Finished(0) => Ok(()),
        Entry::Finished(_) => bail!("a check failed, see above; nothing is left behind"),
        Entry::Inside(_) => modes.into_iter().try_for_each(|mode| {
            let mut site = local::Local::set_up(mode)?;
            say!("\nmode {mode}, a cluster of namespaces");
            checks::run(&mut site).inspect_err(|_| site.show_log())
        }),
    }
}
