//! A mode tried out: its backend writes everything into an empty network namespace, which goes with this process.

use std::time::Instant;

use kube_proxy_config::Effective;
use kube_proxy_core::{Intervals, IpFamily, Proxy, SyncReport};
use kube_proxy_userspace::Observer;
use nix::sched::{CloneFlags, unshare};
use serde::{Deserialize, Serialize};

use crate::commands::dump::rules_of_node;
use crate::debug::{Finding, Severity};
use crate::family::setup::tracker_options;
use crate::listing::Listing;
use crate::modes::{Factory, NodeFacts, host_has};

/// What came of it.
#[derive(Debug, Default)]
pub(super) struct Trial {
    pub(super) written: Vec<Written>,
    pub(super) findings: Vec<Finding>,
    pub(super) rules: Vec<Rules>,
}

/// What would be written for one family.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Written {
    pub(super) family: String,
    pub(super) objects: Vec<Objects>,
}

/// Objects of one kind.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Objects {
    pub(super) kind: String,
    pub(super) count: usize,
}

/// What a program lists.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Rules {
    pub(super) program: String,
    pub(super) text: String,
}

/// Tries the mode of this configuration. This process is in another network namespace afterwards.
pub(super) async fn run(config: &Effective, listing: &Listing, with_rules: bool) -> Trial {
    let mut trial = Trial::default();
    // Before: an empty namespace says nothing about the node.
    let here: Vec<_> = IpFamily::BOTH.into_iter().filter(|family| host_has(*family)).collect();
    if let Err(error) = unshare(CloneFlags::CLONE_NEWNET) {
        trial.findings.push(Finding::new(
            Severity::Warning,
            "not-tried",
            format!("the mode could not be tried: no new network namespace: {error}"),
            "Whether the kernel and the programs of this node have what the mode needs is not known.",
            "Run the command as root on the node, or with CAP_SYS_ADMIN.",
        ));
        return trial;
    }
    let factory = Factory::new(config.mode);
    // Some rules are there for as long as their backend.
    let mut backends = Vec::new();
    for family in here {
        let mut proxy = match backend(&factory, config, family, listing) {
            Ok(proxy) => proxy,
            Err(error) => {
                trial.findings.push(impossible(config, family, &error));
                continue;
            }
        };
        match proxy.sync(Instant::now).await.map(|outcome| outcome.result) {
            Some(Err(error)) => trial.findings.push(impossible(config, family, &error.to_string())),
            Some(Ok(report)) => {
                if report.refused > 0 {
                    trial.findings.push(refused(family, report.refused));
                }
                trial.written.push(written(family, &report));
            }
            None => trial.written.push(written(family, &SyncReport::default())),
        }
        backends.push(proxy);
    }
    if with_rules {
        trial.rules = rules_of_node().map(|(program, text)| Rules { program, text }).collect();
        if trial.rules.is_empty() {
            trial.findings.push(not_printed());
        }
    }
    trial
}

fn backend(
    factory: &Factory,
    config: &Effective,
    family: IpFamily,
    listing: &Listing,
) -> Result<Proxy, String> {
    let node =
        NodeFacts { ip: listing.node.address(config, family), pod_cidrs: listing.node.pod_cidrs() };
    let created = factory.create(config, family, &node, &Observer::default());
    let backend = created.map_err(|error| error.to_string())?.backend;
    let intervals = Intervals { min: config.min_sync_period, retry: config.sync_period, max: None };
    let mut proxy = Proxy::new(tracker_options(config, family), intervals, backend);
    for event in listing.events() {
        proxy.apply(event, Instant::now());
    }
    Ok(proxy)
}

fn written(family: IpFamily, report: &SyncReport) -> Written {
    let objects = report.counts.iter().filter(|count| count.total > 0);
    let objects =
        objects.map(|count| Objects { kind: count.kind.to_owned(), count: count.total }).collect();
    Written { family: family.to_string(), objects }
}

fn impossible(config: &Effective, family: IpFamily, error: &str) -> Finding {
    Finding::new(
        Severity::Problem,
        "mode-impossible",
        format!("{family}: {error}"),
        format!("A kube-proxy in {} mode would not serve {family} on this node.", config.mode),
        "Install the programs or load the kernel modules that the message names, or stay with the mode.",
    )
}

fn not_printed() -> Finding {
    Finding::new(
        Severity::Note,
        "not-printed",
        "there is nothing to print: no rules were written, or no program here lists them",
        "The rules of nftables mode are listed by nft, those of the other modes by iptables-save and ipset.",
        "Run the command where these programs are.",
    )
}

fn refused(family: IpFamily, count: usize) -> Finding {
    Finding::new(
        Severity::Warning,
        "refused",
        format!("{family}: the kernel refuses what {count} service ports need"),
        "They would not be reachable through this node.",
        "kube-proxy names them in its log when it runs in this mode.",
    )
}
