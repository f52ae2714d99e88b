//! A kind cluster whose kube-proxy is replaced by ours: the image and a variable for the mode, nothing else.

mod site;
mod tools;

use std::fmt::Write as _;

use anyhow::{Context as _, ensure};

use self::site::Kind;
use self::tools::Tools;
use super::{Arguments, checks};
use crate::image;
use kube_proxy_testkit::output::complain;
use kube_proxy_testkit::say;

/// Name of the cluster.
const CLUSTER: &str = "kube-proxy-e2e";
/// The node whose kube-proxy is looked at.
const NODE: &str = "kube-proxy-e2e-worker";
/// What pods run: it answers with its name, and has `curl` and `nslookup`.
const POD_IMAGE: &str = "registry.k8s.io/e2e-test-images/agnhost:2.53";
/// One control plane, two workers, both IP families.
const CONFIG: &str = "\
kind: Cluster
apiVersion: kind.x-k8s.io/v1alpha4
networking:
  ipFamily: dual
nodes:
- role: control-plane
- role: worker
- role: worker
";
/// All modes, and a shell command that succeeds on a node whose kernel has what the mode needs.
/// The last one is what the Go kube-proxy starts from when it is put back.
const MODES: [(&str, &str); 4] = [
    ("ipvs", "modprobe --quiet ip_vs; test -e /proc/net/ip_vs"),
    ("userspace", "true"),
    ("nftables", "modprobe --quiet nf_tables; nft list tables || iptables-nft --list-rules"),
    (LAST, "true"),
];
const LAST: &str = "iptables";

/// Makes the cluster, runs the checks in each mode, collects logs and removes the cluster.
pub(super) fn run(arguments: &Arguments, modes: &[&str]) -> anyhow::Result<()> {
    let tools = Tools { path: std::env::var_os("PATH").unwrap_or_default() };
    run_with(tools, arguments, modes)
}

fn run_with(tools: Tools, arguments: &Arguments, modes: &[&str]) -> anyhow::Result<()> {
    tools.check()?;
    let image = match &arguments.image {
        Some(image) => image.clone(),
        None => image::build("kube-proxy:e2e", arguments.base.as_deref())?,
    };
    let mut create = vec!["create", "cluster", "--name", CLUSTER, "--wait", "3m", "--config", "-"];
    create.extend(arguments.node_image.iter().flat_map(|image| ["--image", image]));
    tools.feed("kind", &create, &config(&arguments.feature_gates))?;
    let mut site = Kind::new(tools, arguments.pod_image.as_deref().unwrap_or(POD_IMAGE));
    let result = check_all(&mut site, arguments, &image, modes);
    let logs = arguments.logs.to_string_lossy();
    let after = [
        (true, &["export", "logs", &logs, "--name", CLUSTER][..]),
        (!arguments.keep, &["delete", "cluster", "--name", CLUSTER]),
    ];
    for (_, words) in after.into_iter().filter(|(wanted, _)| *wanted) {
        // Whether kube-proxy works does not depend on it.
        if let Err(error) = site.tools.run("kind", words) {
            complain(&error.context("after the checks, without effect on their result"));
        }
    }
    result
}

/// The cluster's configuration, with these feature gates for all its components.
fn config(gates: &[(String, bool)]) -> String {
    let mut config = CONFIG.to_owned();
    if !gates.is_empty() {
        config.push_str("featureGates:\n");
    }
    for (name, state) in gates {
        let _ = writeln!(config, "  {name}: {state}");
    }
    config
}

/// Reads `NAME=BOOL`.
pub(super) fn gate(text: &str) -> Result<(String, bool), String> {
    let (name, state) = text.split_once('=').ok_or("not of the form NAME=BOOL")?;
    let plain = !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric());
    if !plain {
        return Err(format!("{name:?} is no name of a feature gate"));
    }
    let state = state.parse().map_err(|_| format!("{state:?} is neither true nor false"))?;
    Ok((name.to_owned(), state))
}

/// Runs the checks in each mode, the rest even when one fails, and then with the cluster's own kube-proxy if that is asked for.
fn check_all(
    site: &mut Kind,
    arguments: &Arguments,
    image: &str,
    modes: &[&str],
) -> anyhow::Result<()> {
    let images = [Some(image), arguments.pod_image.as_deref()];
    for image in images.into_iter().flatten() {
        site.tools.run("kind", &["load", "docker-image", image, "--name", CLUSTER])?;
    }
    let original = site.image()?;
    let modes = if modes.is_empty() { site.modes() } else { modes.to_vec() };
    let mut results = Vec::new();
    for mode in &modes {
        let result = site.use_mode(image, mode).and_then(|()| check(site, mode));
        results.push(((*mode).to_owned(), result));
    }
    if arguments.rollback {
        let result = roll_back(site, image, &original, modes.last() == Some(&LAST));
        results.push((format!("back to {original}"), result));
    }
    say!("\n=== kind");
    let failed = results.iter().filter(|(_, result)| result.is_err()).count();
    for (what, result) in &results {
        match result {
            Ok(()) => say!("passed  {what}"),
            Err(error) => say!("FAILED  {what}: {error:#}"),
        }
    }
    ensure!(failed == 0, "{failed} of {} failed", results.len());
    Ok(())
}

/// Puts the cluster's own kube-proxy back. It removes nothing of the ipvs and userspace modes, so the last one has to be another.
fn roll_back(site: &mut Kind, image: &str, original: &str, is_last: bool) -> anyhow::Result<()> {
    if !is_last {
        site.use_mode(image, LAST).context("the mode before the way back")?;
    }
    site.use_original(original)?;
    check(site, original)
}

fn check(site: &mut Kind, what: &str) -> anyhow::Result<()> {
    site.start_client()?;
    say!("\n{what}, kind");
    checks::run(site)?;
    site.conformance()
}

#[cfg(test)]
mod tests;
