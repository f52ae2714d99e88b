//! Whether a program that was made runs: on this machine, or under an emulator of another.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, ensure};

use super::platform::Platform;
use crate::workspace;

/// One Service with one endpoint.
const MANIFEST: &str = "apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec:
  clusterIP: 10.96.0.10
  clusterIPs: [10.96.0.10]
  ports: [{name: http, port: 80, protocol: TCP}]
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: web-1, namespace: shop, labels: {kubernetes.io/service-name: web}}
addressType: IPv4
ports: [{name: http, port: 8080, protocol: TCP}]
endpoints: [{addresses: [10.244.1.5]}]
";

/// Runs the program, which has to know its version, to read manifests, and to find the endpoint of a connection.
pub(super) fn program(platform: &Platform, program: &Path, version: &str) -> anyhow::Result<()> {
    let text = workspace::output(command(platform, program).arg("--version"))?;
    ensure!(text.starts_with(&format!("kube-proxy {version} ")), "the program says {text:?}");
    let manifests = tempfile::tempdir().context("a directory for manifests")?;
    fs::write(manifests.path().join("web.yaml"), MANIFEST)?;
    let directory = manifests.path().display().to_string();
    let question = ["explain", "10.96.0.10:80", "--manifests", &directory];
    let node = ["--", "--hostname-override", "node-1", "--proxy-mode", "nftables"];
    let text = workspace::output(command(platform, program).args(question).args(node))?;
    ensure!(
        text.contains("goes to endpoint 10.244.1.5:8080"),
        "the program does not find the endpoint of a Service: {text}"
    );
    Ok(())
}

/// Runs the other programs of an image for another kind of machine, which have to find their libraries inside it.
///
/// An emulator of programs has no nftables and no modules: the programs say their versions.
pub(super) fn image(platform: &Platform, root: &Path) -> anyhow::Result<()> {
    let emulator = platform.emulator().context("a machine of another kind")?;
    for (program, name) in [
        ("xtables-legacy-multi", "iptables-legacy"),
        ("xtables-nft-multi", "ip6tables-nft-restore"),
        ("kmod", "modprobe"),
    ] {
        let mut command = Command::new(emulator);
        command.arg("-L").arg(root).args(["-0", name]).arg(root.join("usr/sbin").join(program));
        workspace::output(command.arg("--version"))?;
    }
    Ok(())
}

fn command(platform: &Platform, program: &Path) -> Command {
    match platform.emulator() {
        None => Command::new(program),
        Some(emulator) => {
            let mut command = Command::new(emulator);
            command.arg(program);
            command
        }
    }
}
