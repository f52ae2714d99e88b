//! `kube-proxy dump`: what is in the archive, and above all what is not.

use std::process::Command;

use anyhow::{Context as _, ensure};

use crate::PerMode;
use crate::check::ask;
use crate::objects::Svc;
use crate::world::{Mode, World};

pub(crate) const TESTS: &[PerMode] = &[("dump/has-everything-but-secrets", without_secrets)];

/// Nowhere in the archive.
const SECRET: &str = "aVerySecretValue";

/// A kubeconfig with a token, and a key and certificate that are not used.
fn kubeconfig(url: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Config\ncurrent-context: c\n\
         clusters:\n- name: c\n  cluster: {{server: \"{url}\"}}\n\
         contexts:\n- name: c\n  context: {{cluster: c, user: u}}\n\
         users:\n- name: u\n  user: {{token: {SECRET}-token}}\n\
         - name: unused\n  user: {{client-key-data: {SECRET}, username: me, password: {SECRET}}}\n"
    )
}

fn without_secrets(mode: Mode) -> anyhow::Result<()> {
    let mut world = World::without_proxy(mode, &["--v=4"])?;
    let directory = tempfile::tempdir()?;
    let config = directory.path().join("kubeconfig");
    std::fs::write(&config, kubeconfig(&world.api.url()))?;
    world.source = vec![format!("--kubeconfig={}", config.display())];
    let mut command = world.command()?;
    command.env("DB_PASSWORD", SECRET).env("API_TOKEN", format!("{SECRET}-in-environment"));
    world.start_without_waiting(command)?;
    world.wait_until_synced()?;
    let mut service = Svc::new("web", 1).object();
    service["metadata"]["annotations"] =
        serde_json::json!({ "example.com/token": SECRET, "example.com/notes": SECRET });
    world.apply([service])?;
    world.apply(Svc::new("web", 1).slices(crate::world::TARGET, &world.endpoints(&["local-1"])))?;
    world.settle()?;
    let file = directory.path().join("dump.tar");
    let path = file.display().to_string();
    let answer = ask(&world, &["dump", "--file", &path])?;
    ensure!(answer.code == Some(0), "{}", answer.stderr);
    let bytes = std::fs::read(&file)?;
    let text = String::from_utf8_lossy(&bytes);
    let at = text.find(SECRET).map(|at| text[at.saturating_sub(200)..].chars().take(300));
    ensure!(at.is_none(), "a secret is in it: {:?}", at.map(Iterator::collect::<String>));
    let status = Command::new("tar").args(["-xf", &path, "-C"]).arg(directory.path()).status()?;
    ensure!(status.success());
    let read = |name: &str| {
        let path = directory.path().join("kube-proxy-dump").join(name);
        std::fs::read_to_string(&path).with_context(|| path.display().to_string())
    };
    ensure!(read("configuration.json")?.contains("kubeproxy.config.k8s.io"));
    ensure!(read("services.json")?.contains("\"web\""));
    ensure!(read("check.json")?.contains("\"families\""));
    ensure!(read("changes.json")?.contains("\"changes\""));
    ensure!(read("findings.json")?.contains("\"findings\""));
    ensure!(read("metrics.txt")?.contains("kubeproxy_sync_proxy_rules_duration_seconds"));
    ensure!(read("log.txt")?.contains("full sync took"));
    ensure!(read("sysctls.txt")?.contains("net.ipv4.ip_forward = 1"));
    ensure!(read("versions/kernel.txt")?.contains("Linux"));
    let rules = match mode {
        Mode::IptablesLegacy => read("rules/iptables-legacy.txt")?.contains("KUBE-SERVICES"),
        Mode::Ipvs => read("rules/ipvs.txt")?.contains("TCP"),
        Mode::IptablesNft => read("rules/iptables-nft.txt")?.contains("KUBE-SERVICES"),
        Mode::Userspace => read("rules/iptables-nft.txt")?.contains("KUBE-PORTALS-HOST"),
        Mode::Nftables => read("rules/nftables.txt")?.contains("frontend-ips"),
    };
    ensure!(rules, "no rules of {mode}");
    // To standard output, as through `kubectl exec`.
    let piped = world.cluster.node(0).netns().command(crate::world::binary()?);
    let output = { piped }.args(["dump", "--file", "-"]).output()?;
    ensure!(output.status.success() && output.stdout.len() % 512 == 0);
    ensure!(output.stdout.starts_with(b"kube-proxy-dump/"));
    Ok(())
}
