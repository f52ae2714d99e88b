//! The commands of `docs/troubleshooting.md` work on a node.

use std::fs;

use anyhow::{Context as _, ensure};
use kube_proxy_core::IpFamily;

use crate::Once;
use crate::objects::Svc;
use crate::traffic::works;
use crate::world::{From, Mode, World, cluster_address};

pub(crate) const TESTS: &[Once] = &[("docs/troubleshooting", troubleshooting)];

/// A command, and the mode it is about; `None` for any.
struct Shown {
    mode: Option<String>,
    line: String,
}

fn shown() -> anyhow::Result<Vec<Shown>> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/troubleshooting.md");
    let text = fs::read_to_string(path)?;
    let mut mode: Option<Option<String>> = None;
    let mut all = Vec::new();
    for line in text.lines() {
        if let Some(kind) = line.strip_prefix("```") {
            let kind = kind.strip_prefix("console");
            mode = match mode {
                Some(_) => None,
                None => {
                    kind.map(|kind| Some(kind.trim().to_owned()).filter(|kind| !kind.is_empty()))
                }
            };
        } else if let (Some(mode), Some(line)) = (&mode, line.strip_prefix("$ ")) {
            all.push(Shown { mode: mode.clone(), line: line.to_owned() });
        }
    }
    Ok(all)
}

fn troubleshooting() -> anyhow::Result<()> {
    let shown = shown()?;
    let known = |name: &String| Mode::ALL.iter().any(|mode| mode.to_string() == *name);
    ensure!(shown.iter().filter_map(|s| s.mode.as_ref()).all(known), "fences name modes");
    let mut ran = 0;
    for mode in [Mode::Nftables, Mode::IptablesNft] {
        let world = World::new(mode)?;
        let service = Svc::new("web", 1)
            .load_balancer()
            .with("/spec/loadBalancerSourceRanges", vec!["172.18.0.0/24", "fd00:18::/64"]);
        world.serve(&service, &["local-1", "remote-1"])?;
        // An endpoint that is not used, so that there is something to count.
        let invalid = Svc::new("invalid", 2).with("/spec/externalIPs", vec!["x"]);
        world.serve(&invalid, &["local-1"])?;
        world.settle()?;
        works(world.probe(From::Pod("client")), cluster_address(1, IpFamily::V4));
        for Shown { mode: of, line } in &shown {
            let here = of.as_ref().is_none_or(|of| *of == mode.to_string());
            if !here || line.starts_with("kubectl ") {
                continue;
            }
            let output = world.on_node("sh", &["-c", line]).with_context(|| line.clone())?;
            ensure!(!output.trim().is_empty(), "{line} prints nothing in {mode}");
            ran += 1;
        }
    }
    ensure!(ran > 20, "only {ran} commands were found");
    Ok(())
}
