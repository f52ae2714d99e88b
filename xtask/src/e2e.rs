//! `cargo xtask e2e`: the checks of a cluster, on kind or, with `--local`, on a cluster of namespaces. The checks are the same.

mod checks;
mod kind;
mod local;
mod objects;

use std::path::PathBuf;

use anyhow::bail;
use clap::Args;
use kube_proxy_testkit::sandbox::{self, Entry};

use crate::output::say;
use crate::{binary, host};

/// Where and what to check.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// On a cluster of namespaces on this machine, without kind
    #[arg(long)]
    local: bool,
    /// Only this mode; may be repeated
    #[arg(long, value_name = "MODE")]
    mode: Vec<String>,
    /// An image that is there already, instead of building one (kind only)
    #[arg(long, value_name = "NAME")]
    image: Option<String>,
    /// Leaves the cluster (kind only)
    #[arg(long)]
    keep: bool,
    /// Where the logs of all nodes go (kind only)
    #[arg(long, value_name = "DIRECTORY", default_value = "target/e2e-logs")]
    logs: PathBuf,
}

/// Modes that are checked unless told otherwise.
const MODES: [&str; 2] = ["iptables", "nftables"];

/// Runs the checks in each mode.
pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let modes: Vec<&str> = if arguments.mode.is_empty() {
        MODES.to_vec()
    } else {
        arguments.mode.iter().map(String::as_str).collect()
    };
    if !arguments.local {
        return kind::run(arguments, &modes);
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
