//! Answers without a running proxy: from manifests, or from the API server that a kubeconfig names.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;

use anyhow::{Context as _, bail};
use kube_proxy_config::flags::definitions;
use kube_proxy_config::{Command, Effective, Loaded, Start, load};
use kube_proxy_core::explain::NodeFacts;
use kube_proxy_core::{IpFamily, Tracker};

use super::server::Server;
use crate::listing::Listing;
use crate::modes::{choice, host_has, packet_facts};

/// Where objects come from when no proxy is asked, and how it would be configured.
#[derive(Clone, Debug, Default, clap::Args)]
#[command(next_help_heading = "Without a running kube-proxy")]
pub(super) struct Offline {
    /// Answer from these manifests
    #[arg(long, value_name = "PATH")]
    manifests: Option<PathBuf>,
    /// Answer from the API server that this file names
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
    /// The configuration file of the kube-proxy that is meant, also one of the Go kube-proxy
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Flags of the kube-proxy that is meant, such as -- --hostname-override=node-a
    #[arg(last = true, value_name = "FLAG")]
    flags: Vec<OsString>,
}

/// How a proxy is started: flags, and variables that count more.
#[derive(Clone, Debug, Default)]
pub(super) struct Started {
    flags: Vec<OsString>,
    variables: BTreeMap<String, String>,
}

impl Offline {
    /// Whether an answer without a running proxy is wanted.
    pub(super) fn is_given(&self) -> bool {
        let Self { manifests, kubeconfig, config, flags } = self;
        manifests.is_some() || kubeconfig.is_some() || config.is_some() || !flags.is_empty()
    }

    /// How the proxy that is meant is started.
    pub(super) fn started(&self) -> Started {
        let mut started = Started { flags: self.flags.clone(), ..Started::default() };
        let files = [("manifests", &self.manifests), ("kubeconfig", &self.kubeconfig)];
        for (name, path) in files {
            if let Some(path) = path {
                // A variable counts beside a file.
                started.set(name, &path.display().to_string());
            }
        }
        if let Some(path) = &self.config {
            let mut flag = OsString::from("--config=");
            flag.push(path);
            started.flags.push(flag);
        }
        started
    }

    /// The configuration that is meant, and what its source lists.
    pub(super) async fn read(&self) -> anyhow::Result<(Loaded, Listing)> {
        let loaded = self.started().load()?;
        let listing = Listing::read(&loaded.effective).await?;
        Ok((loaded, listing))
    }
}

impl Started {
    /// How the running proxy was started, as its flags page says.
    pub(super) async fn of_running(server: &Server) -> anyhow::Result<Self> {
        let page = server.page("/flagz").await?;
        let mut started = Self::default();
        let own = ["config", "write-config-to", "proxy-mode", "cleanup", "init-only"];
        for definition in definitions() {
            let prefix = format!("{}=", definition.name);
            let value = page.lines().find_map(|line| line.strip_prefix(&prefix));
            let Some(value) = value.filter(|value| !value.is_empty()) else { continue };
            // The default in words, or the one of its mode.
            let of_mode = definition.name == "nodeport-addresses" && value == "primary";
            if value != definition.default && !of_mode && !own.contains(&&*definition.name) {
                started.flags.push(format!("{prefix}{value}").into());
            }
        }
        for flag in &mut started.flags {
            let mut dashed = OsString::from("--");
            dashed.push(&*flag);
            *flag = dashed;
        }
        let mode = server.page("/proxyMode").await?;
        started.set("proxy-mode", mode.trim());
        Ok(started)
    }

    /// Sets a flag, whatever else says about it.
    pub(super) fn set(&mut self, name: &str, value: &str) {
        let prefix = format!("--{name}=");
        self.flags.retain(|flag| !flag.to_string_lossy().starts_with(&prefix));
        let variable = format!("KUBE_PROXY_{}", name.to_uppercase().replace('-', "_"));
        self.variables.insert(variable, value.to_owned());
    }

    /// The configuration that this makes.
    pub(super) fn load(&self) -> anyhow::Result<Loaded> {
        let own = Start::of_process(&choice::of_this_node);
        let variable =
            |name: &str| self.variables.get(name).cloned().or_else(|| (own.variable)(name));
        let program = std::iter::once(OsString::from("kube-proxy"));
        let start = Start {
            args: program.chain(self.flags.iter().cloned()).collect(),
            variable: &variable,
            host_name: own.host_name,
            choose_mode: own.choose_mode,
        };
        match load(&start).context("the configuration of the proxy that is meant")? {
            Command::Configured(loaded) => Ok(*loaded),
            Command::Version(_) | Command::Print(_) => {
                bail!("the flags behind -- are those of a proxy that runs")
            }
        }
    }
}

/// The families of this host, each with what a proxy would serve and what is known of the node.
pub(super) fn families(
    config: &Effective,
    listing: &Listing,
) -> anyhow::Result<Vec<(Tracker, NodeFacts)>> {
    let here = IpFamily::BOTH.into_iter().filter(|family| host_has(*family));
    here.map(|family| {
        let facts = packet_facts::of_node(config, family, &listing.node);
        let facts = facts.context("cannot list the addresses of this node")?;
        Ok((listing.tracker(config, family), facts))
    })
    .collect()
}
