//! `cargo xtask demo`: the real binary on a node made of namespaces, and what a client sees of it.

mod manifests;
mod removal;
mod requests;
mod rules;
mod scene;

use std::str::FromStr as _;

use anyhow::bail;
use clap::Args;
use clap::builder::{PossibleValuesParser, TypedValueParser as _};
use kube_proxy_testkit::sandbox::{self, Entry, Sandbox};

use self::scene::Scene;
use crate::{binary, host};
use kube_proxy_testkit::iptables;
use kube_proxy_testkit::iptables::Variant;
use kube_proxy_testkit::say;

/// Requests made to show how they spread.
const REQUESTS: usize = 100;

/// Lines of kube-proxy's log shown when something did not hold.
const LOG_LINES_SHOWN: usize = 60;

/// What to show.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Proxy mode
    #[arg(long, value_name = "MODE", default_value = "iptables")]
    mode: String,
    /// Which iptables kube-proxy uses [default: what it chooses itself]
    #[arg(long, value_name = "VARIANT", value_parser = PossibleValuesParser::new(Variant::ALL.map(Variant::name)).try_map(|name| Variant::from_str(&name)))]
    variant: Option<Variant>,
}

/// Builds outside, then shows inside the sandbox.
pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    if !sandbox::is_inside() {
        host::install_missing()?;
        binary::build("dev")?;
    }
    match sandbox::enter()? {
        Entry::Finished(0) => Ok(()),
        Entry::Finished(code) if code > 128 => bail!("stopped by a signal; nothing is left behind"),
        Entry::Finished(_) => bail!("the demo failed, see above; nothing is left behind"),
        Entry::Inside(sandbox) => show(arguments, sandbox),
    }
}

/// The demo itself.
fn show(arguments: &Arguments, sandbox: Sandbox) -> anyhow::Result<()> {
    if uses_iptables(&arguments.mode) {
        // On a node without rules kube-proxy chooses nft itself.
        iptables::check(arguments.variant.unwrap_or(Variant::Nft))?;
    }
    let form = if sandbox.rootless { "rootless" } else { "as root" };
    say!("\n1. A node, two nginx-like pods and a client, each in a network namespace ({form})");
    let mut scene = Scene::set_up(arguments)?;
    let result = acts(arguments, &mut scene);
    let log = scene.write_log();
    if result.is_err() {
        let lines = scene.proxy.lines();
        let first_shown = lines.len().saturating_sub(LOG_LINES_SHOWN);
        say!("\nkube-proxy's log{log}, last lines:");
        for line in &lines[first_shown..] {
            say!("   | {line}");
        }
    }
    result
}

fn acts(arguments: &Arguments, scene: &mut Scene) -> anyhow::Result<()> {
    scene.wait_until_served()?;

    say!("\n3. The client asks for http://{}/ {REQUESTS} times", scene.service);
    let spread = requests::show(&scene.client, scene.service, &scene.web, REQUESTS)?;

    say!("\n4. What the node now has for the cluster IP");
    let seen = rules::show(scene, &arguments.mode)?;

    say!("\n5. A pod is removed while two clients ask steadily");
    let removal = removal::show(scene)?;

    say!("\n6. kube-proxy is stopped; its rules stay");
    let stopped = scene.stop_proxy()?;

    say!("\nAll of it held:");
    for line in [spread, seen, removal, stopped] {
        say!("   ok  {line}");
    }
    Ok(())
}

/// Whether a mode writes iptables rules.
fn uses_iptables(mode: &str) -> bool {
    matches!(mode, "iptables" | "ipvs" | "userspace")
}
