//! What kube-proxy has put on the node for the cluster IP.

use anyhow::{Context as _, bail};

use super::scene::Scene;
use super::uses_iptables;
use kube_proxy_testkit::iptables::Variant;
use kube_proxy_testkit::say;

/// Lines shown at most.
const LINES_SHOWN: usize = 12;

/// Shows the lines that name the cluster IP; there must be some.
pub(super) fn show(scene: &Scene, mode: &str) -> anyhow::Result<String> {
    let ip = scene.service.ip().to_string();
    let (command, listing) = listing(scene, mode)?;
    say!("   $ {command} | grep {ip}");
    let lines: Vec<_> = listing.lines().filter(|line| line.contains(&ip)).collect();
    for line in lines.iter().take(LINES_SHOWN) {
        say!("   {}", line.trim());
    }
    if lines.len() > LINES_SHOWN {
        say!("   ... {} more", lines.len() - LINES_SHOWN);
    }
    if lines.is_empty() {
        bail!("`{command}` does not name {ip}");
    }
    Ok(format!("`{command} | grep {ip}` finds the Service"))
}

/// The command that lists what this mode writes, and what it printed.
fn listing(scene: &Scene, mode: &str) -> anyhow::Result<(String, String)> {
    let netns = scene.cluster.node(0).netns();
    match mode {
        "nftables" => {
            let arguments = ["list", "table", "ip", "kube-proxy"];
            Ok((format!("nft {}", arguments.join(" ")), netns.output("nft", &arguments)?))
        }
        "ipvs" => {
            let path = "/proc/net/ip_vs";
            let text = netns.run(|| std::fs::read_to_string(path));
            Ok((format!("cat {path}"), text.with_context(|| format!("cannot read {path}"))?))
        }
        mode if uses_iptables(mode) => {
            for variant in [Variant::Nft, Variant::Legacy] {
                let program = variant.program("");
                let text = netns.output(&program, &["-t", "nat", "-S"])?;
                if text.contains("KUBE-") {
                    return Ok((format!("{program} -t nat -S"), text));
                }
            }
            bail!("neither iptables-nft nor iptables-legacy lists a rule of kube-proxy")
        }
        other => bail!("no way is known to list what the mode {other:?} writes"),
    }
}
