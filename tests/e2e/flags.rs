//! The command line, the environment and the configuration file of the real binary.

use std::fs;
use std::process::Command;

use anyhow::{Context as _, ensure};
use kube_proxy_core::IpFamily;
use kube_proxy_testkit::kube_proxy::KubeProxy;
use kube_proxy_testkit::netns::Netns;
use serde_json::json;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::Once;
use crate::objects::Svc;
use crate::traffic::becomes;
use crate::world::{From, GUARD, Mode, NODE, World, binary, cluster_address};

pub(crate) const TESTS: &[Once] = &[
    ("flags/wrong", wrong),
    ("flags/ipvs-without-the-kernel", ipvs_without_the_kernel),
    ("flags/wrong-config-file", wrong_config_file),
    ("flags/help", help),
    ("flags/version", version),
    ("flags/write-config-to", write_config_to),
    ("flags/config-file-of-a-cluster", config_file),
    ("flags/environment", environment),
    ("flags/json-log", json_log),
    ("flags/config-file-changes", config_file_changes),
];

/// A run that has ended.
pub(crate) struct Run {
    code: Option<i32>,
    lines: Vec<String>,
}

impl Run {
    /// Exit code 1, and this in one sentence, said once.
    pub(crate) fn fails_with(&self, text: &str) -> anyhow::Result<()> {
        let output = self.lines.join("\n");
        ensure!(self.code == Some(1), "exit code {:?}, not 1:\n{output}", self.code);
        let said = self.lines.iter().filter(|line| line.starts_with("kube-proxy: ")).count();
        ensure!(said == 1, "{said} error lines, not 1:\n{output}");
        ensure!(output.matches(text).count() == 1, "not once {text:?}:\n{output}");
        ensure!(!output.contains("panicked"), "{output}");
        // No cause is told twice.
        let sentence = self.lines.iter().find_map(|line| line.strip_prefix("kube-proxy: "));
        let parts: Vec<&str> = sentence.unwrap_or_default().split(": ").collect();
        let doubled = parts.windows(2).find(|pair| pair[0] == pair[1]);
        ensure!(doubled.is_none(), "{doubled:?} in:\n{output}");
        Ok(())
    }

    fn works(self) -> anyhow::Result<String> {
        let output = self.lines.join("\n");
        ensure!(self.code == Some(0), "exit code {:?}, not 0:\n{output}", self.code);
        Ok(output)
    }
}

/// Runs the binary to its end in an empty namespace.
pub(crate) fn run(arguments: &[&str], environment: &[(&str, &str)]) -> anyhow::Result<Run> {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let netns = Netns::create(&format!("flags-{number}"))?;
    let mut command = Command::new(binary()?);
    command.args(arguments).envs(environment.iter().copied());
    let mut proxy = KubeProxy::start(&netns, command)?;
    let status = proxy.wait(GUARD)?;
    Ok(Run { code: status.code(), lines: proxy.lines() })
}

fn wrong() -> anyhow::Result<()> {
    for (arguments, text) in [
        (
            vec!["--proxy-mode=ebpf"],
            "mode: Invalid value: \"ebpf\": must be one of iptables, ipvs, nftables",
        ),
        (vec!["--proxy-mod=iptables"], "a similar argument exists: '--proxy-mode'"),
        (vec!["start"], "unexpected argument \"start\": kube-proxy takes flags only"),
        (vec!["--v=x"], "invalid value 'x' for '--v <N>'"),
        (vec!["--iptables-variant=x"], "invalid value 'x' for '--iptables-variant"),
        (vec!["--kubeconfig=/nowhere"], "kubeconfig /nowhere"),
        (vec!["--master=ftp://x"], "only http and https are supported"),
        (vec!["--config=/nowhere"], "/nowhere"),
        (vec!["--config="], "--config"),
        (vec!["--master=http://127.0.0.1:1", "--hostname-override= "], "must not be blank"),
        (vec![], "does not run in a cluster"),
    ] {
        run(&arguments, &[])?.fails_with(text).with_context(|| format!("{arguments:?}"))?;
    }
    let many = ["--bind-address=x", "--cluster-cidr=y", "--oom-score-adj=2000"];
    let all = run(&many, &[])?;
    for flag in ["--bind-address", "--cluster-cidr", "--oom-score-adj"] {
        all.fails_with(&format!("set by flag {flag}"))?;
    }
    Ok(())
}

/// Modes that this build does not have, with an API server that is not there: no reason to wait for it.
/// A kernel without `ip_vs` is named in one sentence; one that has it is what the tests of that mode are for.
fn ipvs_without_the_kernel() -> anyhow::Result<()> {
    if std::path::Path::new("/proc/self/net/ip_vs").exists() {
        return Ok(());
    }
    let manifests = tempfile::tempdir()?;
    let manifests = format!("--manifests={}", manifests.path().display());
    let arguments = ["--proxy-mode=ipvs", &manifests, "--hostname-override=node"];
    run(&arguments, &[])?.fails_with("ipvs mode needs a kernel with IP virtual server")
}

fn wrong_config_file() -> anyhow::Result<()> {
    let file = tempfile::NamedTempFile::new()?;
    let path = file.path().display().to_string();
    let flag = format!("--config={path}");
    fs::write(
        file.path(),
        "apiVersion: kubeproxy.config.k8s.io/v1alpha1\n\
         kind: KubeProxyConfiguration\n\
         bindAddress: here\n\
         iptables:\n  masqueradeBit: 32\n  syncPeriod: -1s\n\
         conntrack: {min: -1}\n",
    )?;
    let all = run(&[&flag], &[])?;
    for (field, line) in [
        ("bindAddress: Invalid value: \"here\"", 3),
        ("iptables.masqueradeBit: Invalid value: 32", 5),
        ("iptables.syncPeriod: Invalid value: -1s", 6),
        ("conntrack.min: Invalid value: -1", 7),
    ] {
        all.fails_with(field)?;
        all.fails_with(&format!("(set by {path} line {line})"))?;
    }
    for (text, reason) in [
        ("mode: [", "line"),
        ("apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: Pod\n", "KubeProxyConfiguration"),
        ("apiVersion: kubeproxy.config.k8s.io/v1\nkind: KubeProxyConfiguration\n", "v1alpha1"),
        ("", "the document is empty"),
    ] {
        fs::write(file.path(), text)?;
        let run = run(&[&flag], &[])?;
        ensure!(run.code == Some(1), "{text:?}: exit code {:?}", run.code);
        let output = run.lines.join("\n");
        ensure!(output.contains(reason) && output.contains(&path), "{text:?}: {output}");
    }
    Ok(())
}

fn help() -> anyhow::Result<()> {
    for flag in ["--help", "-h"] {
        let text = run(&[flag], &[])?.works()?;
        for part in [
            "General:",
            "Kubernetes API:",
            "iptables:",
            "--proxy-mode <MODE>",
            "--manifests <PATH>",
        ] {
            ensure!(text.contains(part), "{flag}: no {part:?} in:\n{text}");
        }
    }
    Ok(())
}

fn version() -> anyhow::Result<()> {
    let long = run(&["--version"], &[])?.works()?;
    ensure!(long.starts_with("kube-proxy ") && long.contains("Kubernetes 1."), "{long}");
    let raw = run(&["--version=raw"], &[])?.works()?;
    ensure!(long.contains(&raw) && raw.split('.').count() == 3, "{raw}");
    Ok(())
}

/// What is written loads again, and to the same.
fn write_config_to() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let path = |name: &str| dir.path().join(name).display().to_string();
    let (first, second) = (path("first.yaml"), path("second.yaml"));
    let write = |name: &str| format!("--write-config-to={name}");
    run(&[&write(&first), "--cluster-cidr=10.1.0.0/16", "--masquerade-all", "--v=3"], &[])?
        .works()?;
    run(&[&write(&second), &format!("--config={first}")], &[])?.works()?;
    let (first, second) = (fs::read_to_string(first)?, fs::read_to_string(second)?);
    ensure!(first == second, "{first}\n\n{second}");
    for part in ["kind: KubeProxyConfiguration", "clusterCIDR: 10.1.0.0/16", "masqueradeAll: true"]
    {
        ensure!(first.contains(part), "no {part:?} in:\n{first}");
    }
    run(&[&write("/nowhere/file")], &[])?.fails_with("/nowhere/file")
}

/// The command line and the files of a kubeadm cluster.
fn config_file() -> anyhow::Result<()> {
    let mut world = World::without_proxy(Mode::IptablesNft, &[])?;
    let dir = tempfile::tempdir()?;
    let (config, kubeconfig) = (dir.path().join("config.conf"), dir.path().join("kubeconfig.conf"));
    fs::write(&kubeconfig, world.api.kubeconfig())?;
    let text = format!(
        "apiVersion: kubeproxy.config.k8s.io/v1alpha1\n\
         bindAddress: 0.0.0.0\n\
         bindAddressHardFail: false\n\
         clientConnection:\n  acceptContentTypes: \"\"\n  burst: 0\n  contentType: \"\"\n  kubeconfig: {}\n  qps: 0\n\
         clusterCIDR: 10.244.0.0/16,fd00:10:244::/48\n\
         configSyncPeriod: 0s\n\
         conntrack:\n  maxPerCore: null\n  min: null\n\
         hostnameOverride: \"\"\n\
         iptables:\n  localhostNodePorts: null\n  masqueradeAll: false\n  masqueradeBit: 13\n  minSyncPeriod: 0s\n  syncPeriod: 0s\n\
         kind: KubeProxyConfiguration\n\
         metricsBindAddress: 127.0.0.1:20249\n\
         mode: \"\"\n\
         nodePortAddresses: null\n",
        kubeconfig.display()
    );
    fs::write(&config, text)?;
    let mut command = Command::new(binary()?);
    command
        .arg(format!("--config={}", config.display()))
        .arg(format!("--hostname-override={NODE}"));
    world.start_without_waiting(command)?;
    world.serve(&Svc::new("web", 1).node_port(), &["local-1"])?;
    for family in IpFamily::BOTH {
        becomes(world.probe(From::Pod("client")), cluster_address(1, family), "local-1");
        becomes(world.probe(From::Outside), world.node_port(1, family), "local-1");
    }
    let first = world.proxy().lines().into_iter().find(|line| line.contains(" starts in "));
    let first = first.context("no line about the start")?;
    ensure!(first.contains(&format!("node {NODE}")), "{first}");
    let node = world.cluster.node(0).probe();
    let configz = node.http_get("127.0.0.1:20249".parse()?, "/configz")?;
    ensure!(configz.body.contains("\"masqueradeBit\":13"), "{}", configz.body);
    Ok(())
}

/// Flags over variables, variables over the file.
fn environment() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let (file, out) = (dir.path().join("config.yaml"), dir.path().join("out.yaml"));
    let head = "apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\n";
    fs::write(&file, format!("{head}clusterCIDR: 10.1.0.0/16\nlogging: {{verbosity: 1}}\n"))?;
    let (config, write) =
        (format!("--config={}", file.display()), format!("--write-config-to={}", out.display()));
    let variables = [("KUBE_PROXY_V", "5"), ("KUBE_PROXY_CLUSTER_CIDR", "10.2.0.0/16")];
    run(&[&write], &variables)?.works()?;
    let text = fs::read_to_string(&out)?;
    ensure!(text.contains("clusterCIDR: 10.2.0.0/16") && text.contains("verbosity: 5"), "{text}");
    run(&[&write, "--v=7", "--cluster-cidr=10.3.0.0/16"], &variables)?.works()?;
    let text = fs::read_to_string(&out)?;
    ensure!(text.contains("clusterCIDR: 10.3.0.0/16") && text.contains("verbosity: 7"), "{text}");
    run(&[&write, &config], &variables[..1])?.works()?;
    let text = fs::read_to_string(&out)?;
    ensure!(text.contains("clusterCIDR: 10.1.0.0/16") && text.contains("verbosity: 5"), "{text}");
    run(&[&write], &[("KUBE_PROXY_V", "many")])?.fails_with("environment variable KUBE_PROXY_V")
}

/// Every line is a JSON object.
fn json_log() -> anyhow::Result<()> {
    let mut world = World::without_proxy(Mode::IptablesNft, &["--logging-format=json"])?;
    world.start()?;
    world.serve(&Svc::new("web", 1).with("/spec/externalIPs", json!(["x"])), &["local-1"])?;
    world.settle()?;
    world.stop()?;
    for line in world.proxy().lines() {
        let parsed: serde_json::Value =
            serde_json::from_str(&line).with_context(|| format!("not JSON: {line}"))?;
        ensure!(parsed["level"].is_string() && parsed["message"].is_string(), "{line}");
    }
    Ok(())
}

/// Another configuration ends the process with an error; one that cannot be used does not.
fn config_file_changes() -> anyhow::Result<()> {
    let mut world = World::without_proxy(Mode::IptablesNft, &[])?;
    let dir = tempfile::tempdir()?;
    let path = dir.path().join("config.conf");
    let head = "apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\n";
    fs::write(&path, head)?;
    let mut command = Command::new(binary()?);
    command.args(&world.source).arg(format!("--config={}", path.display()));
    command.arg(format!("--hostname-override={NODE}"));
    world.start_without_waiting(command)?;
    world.wait_until_synced()?;
    fs::write(&path, format!("{head}mode: x\n"))?;
    world.proxy().wait_for_line(GUARD, |line| line.contains("new configuration is not used"))?;
    ensure!(world.proxy_mut().is_running(), "it goes on with what it has");
    fs::write(&path, format!("{head}clusterCIDR: 10.1.0.0/16\n"))?;
    let status = world.proxy_mut().wait(GUARD)?;
    let lines = world.proxy().lines();
    ensure!(status.code() == Some(1), "{status}:\n{}", lines.join("\n"));
    let last = lines.last().context("a last line")?;
    ensure!(last.contains("config.conf has changed"), "{last}");
    Ok(())
}
