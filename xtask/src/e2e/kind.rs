//! A kind cluster whose kube-proxy is replaced by ours: the image and a variable for the mode, nothing else.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::io::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::process::{Command, Stdio};

use anyhow::{Context as _, bail, ensure};
use serde_json::{Value, json};

use super::Arguments;
use super::checks::{self, From, Site};
use super::objects::App;
use crate::output::say;
use crate::{image, workspace};

/// Name of the cluster.
const CLUSTER: &str = "kube-proxy-e2e";
/// The node whose kube-proxy is looked at.
const NODE: &str = "kube-proxy-e2e-worker";
/// What pods run: it answers with its name, and has `curl` and `nslookup`.
const POD_IMAGE: &str = "registry.k8s.io/e2e-test-images/agnhost:2.53";
/// One control plane, two workers.
const CONFIG: &str = "\
kind: Cluster
apiVersion: kind.x-k8s.io/v1alpha4
nodes:
- role: control-plane
- role: worker
- role: worker
";
/// What is needed, and where it comes from.
const TOOLS: [(&str, &str); 3] = [
    ("docker", "install Docker Engine"),
    ("kind", "go install sigs.k8s.io/kind@latest"),
    ("kubectl", "install kubectl of the cluster's version"),
];

/// Makes the cluster, runs the checks in each mode, collects logs and removes the cluster.
pub(super) fn run(arguments: &Arguments, modes: &[&str]) -> anyhow::Result<()> {
    let tools = Tools { path: std::env::var_os("PATH").unwrap_or_default() };
    tools.check()?;
    let image = match &arguments.image {
        Some(image) => image.clone(),
        None => image::build("kube-proxy:e2e")?,
    };
    tools.feed(
        "kind",
        &["create", "cluster", "--name", CLUSTER, "--wait", "3m", "--config", "-"],
        CONFIG,
    )?;
    let mut site = Kind { tools };
    let result = site.check_modes(&image, modes);
    let logs = arguments.logs.to_string_lossy().into_owned();
    // The checks' result counts more than what comes after them.
    let collected = site.tools.run("kind", &["export", "logs", &logs, "--name", CLUSTER]);
    let removed = if arguments.keep {
        Ok(())
    } else {
        site.tools.run("kind", &["delete", "cluster", "--name", CLUSTER])
    };
    result.and(collected).and(removed)
}

/// The programs, found on a path.
struct Tools {
    path: OsString,
}

impl Tools {
    fn has(&self, program: &str) -> bool {
        std::env::split_paths(&self.path).any(|directory| directory.join(program).is_file())
    }

    /// One line about everything that is missing.
    fn check(&self) -> anyhow::Result<()> {
        let missing: Vec<String> = TOOLS
            .iter()
            .filter(|(program, _)| !self.has(program))
            .map(|(program, how)| format!("{program} ({how})"))
            .collect();
        ensure!(
            missing.is_empty(),
            "missing {}; `cargo xtask e2e --local` runs the same checks without them",
            missing.join(", ")
        );
        self.output("docker", &["info", "--format", "{{.ServerVersion}}"])
            .map(|_| ())
            .context("the Docker engine does not run; start it, or use `cargo xtask e2e --local`")
    }

    fn command(&self, program: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(program);
        command.args(arguments).env("PATH", &self.path);
        if program == "kubectl" {
            command.arg(format!("--context=kind-{CLUSTER}"));
        }
        command
    }

    fn run(&self, program: &str, arguments: &[&str]) -> anyhow::Result<()> {
        workspace::run(&mut self.command(program, arguments))
    }

    fn output(&self, program: &str, arguments: &[&str]) -> anyhow::Result<String> {
        let mut command = self.command(program, arguments);
        let typed = workspace::as_typed(&command);
        let output = command.output().with_context(|| format!("cannot start `{typed}`"))?;
        let errors = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "`{typed}` failed: {}", errors.trim());
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }

    fn feed(&self, program: &str, arguments: &[&str], input: &str) -> anyhow::Result<()> {
        let mut command = self.command(program, arguments);
        let mut child = command.stdin(Stdio::piped()).spawn()?;
        if let Some(mut stdin) = child.stdin.take() {
            // When the program stops early, its exit status says why.
            let _ = stdin.write_all(input.as_bytes());
        }
        let status = child.wait()?;
        ensure!(status.success(), "{program} {arguments:?} failed: {status}");
        Ok(())
    }

    fn apply(&self, object: &Value) -> anyhow::Result<()> {
        self.feed("kubectl", &["apply", "-f", "-"], &object.to_string())
    }

    /// Runs a shell command in the client pod.
    fn exec(&self, shell: &str) -> anyhow::Result<String> {
        self.output("kubectl", &["exec", "client", "--", "sh", "-c", shell])
    }
}

struct Kind {
    tools: Tools,
}

impl Kind {
    fn check_modes(&mut self, image: &str, modes: &[&str]) -> anyhow::Result<()> {
        self.tools.run("kind", &["load", "docker-image", image, "--name", CLUSTER])?;
        self.tools.apply(&client())?;
        for mode in modes {
            self.use_mode(image, mode)?;
            self.tools.run(
                "kubectl",
                &["wait", "--for=condition=Ready", "pod/client", "--timeout=180s"],
            )?;
            say!("\nmode {mode}, kind");
            checks::run(self)?;
            if self.tools.has("sonobuoy") {
                let focus = r"--e2e-focus=\[sig-network\] Services";
                let context = format!("--context=kind-{CLUSTER}");
                self.tools.run("sonobuoy", &["run", "--wait", focus, &context])?;
                self.tools.run("sonobuoy", &["delete", "--wait", &context])?;
            } else {
                say!("   sonobuoy is not installed: no conformance tests");
            }
        }
        Ok(())
    }

    /// Replaces the image of the DaemonSet that kubeadm made, and sets the mode by a variable.
    fn use_mode(&self, image: &str, mode: &str) -> anyhow::Result<()> {
        const SET: &str = "daemonset/kube-proxy";
        let image = format!("kube-proxy={image}");
        let variable = format!("KUBE_PROXY_PROXY_MODE={mode}");
        for arguments in [
            ["set", "image", SET, &image],
            ["set", "env", SET, &variable],
            ["rollout", "status", SET, "--timeout=180s"],
        ] {
            let all = [&["--namespace=kube-system"], &arguments[..]].concat();
            self.tools.run("kubectl", &all)?;
        }
        Ok(())
    }

    fn pods(&self, app: &App, selector: &str) -> anyhow::Result<Vec<String>> {
        let label = format!("--selector=app={}", app.name);
        let names = "--output=jsonpath={.items[*].metadata.name}";
        let text = self.tools.output("kubectl", &["get", "pods", &label, selector, names])?;
        Ok(text.split_whitespace().map(str::to_owned).collect())
    }

    fn wait(&self, app: &App) -> anyhow::Result<Vec<String>> {
        let deployment = format!("deployment/{}", app.name);
        self.tools.run("kubectl", &["rollout", "status", &deployment, "--timeout=180s"])?;
        self.pods(app, "--field-selector=status.phase=Running")
    }

    fn field(&self, app: &App, path: &str) -> anyhow::Result<String> {
        let path = format!("--output=jsonpath={path}");
        self.tools.output("kubectl", &["get", "service", &app.name, &path])
    }
}

impl Site for Kind {
    fn deploy(&mut self, app: &App) -> anyhow::Result<Vec<String>> {
        self.tools.apply(&app.service())?;
        self.tools.apply(&app.deployment(POD_IMAGE))?;
        self.wait(app)
    }

    fn roll(&mut self, app: &App) -> anyhow::Result<Vec<String>> {
        let to = SocketAddr::new(self.cluster_ip(app)?, 80);
        let load = format!(
            "rm -f /tmp/stop; while [ ! -e /tmp/stop ]; do curl -s -m 10 http://{to}/hostname >/dev/null || echo failed; done"
        );
        let mut command =
            self.tools.command("kubectl", &["exec", "client", "--", "sh", "-c", &load]);
        let child = command.stdout(Stdio::piped()).spawn().context("cannot start the load")?;
        let deployment = format!("deployment/{}", app.name);
        self.tools.run("kubectl", &["rollout", "restart", &deployment])?;
        let pods = self.wait(app);
        self.tools.exec("touch /tmp/stop")?;
        let output = child.wait_with_output()?;
        let failed = String::from_utf8_lossy(&output.stdout).lines().count();
        ensure!(failed == 0, "{failed} connections failed");
        pods
    }

    fn on_first_node(&self, app: &App) -> anyhow::Result<BTreeSet<String>> {
        let pods = self.pods(app, &format!("--field-selector=spec.nodeName={NODE}"))?;
        Ok(pods.into_iter().collect())
    }

    fn cluster_ip(&self, app: &App) -> anyhow::Result<IpAddr> {
        self.field(app, "{.spec.clusterIP}")?.parse().context("a cluster IP")
    }

    fn node_port(&self, app: &App) -> anyhow::Result<SocketAddr> {
        let port = self.field(app, "{.spec.ports[0].nodePort}")?.parse().context("a node port")?;
        let path = "--output=jsonpath={.status.addresses[?(@.type==\"InternalIP\")].address}";
        let addresses = self.tools.output("kubectl", &["get", "node", NODE, path])?;
        let first = addresses.split_whitespace().next().context("an address of the node")?;
        Ok(SocketAddr::new(first.parse().context("an address of the node")?, port))
    }

    fn ask(&self, from: From, to: SocketAddr) -> anyhow::Result<Option<String>> {
        // Ends well in either case: what fails otherwise is the way there, not the answer.
        let shell = format!("curl -s -m 3 http://{to}/hostname || true");
        let answer = match from {
            From::Pod => self.tools.exec(&shell)?,
            From::Node => self.tools.output("docker", &["exec", NODE, "sh", "-c", &shell])?,
        };
        Ok((!answer.is_empty()).then_some(answer))
    }

    fn resolves(&self) -> anyhow::Result<bool> {
        let answer = self.tools.exec("nslookup kubernetes.default.svc.cluster.local || true")?;
        if answer.contains("command not found") {
            bail!("the client pod has no nslookup");
        }
        Ok(answer.contains("Address") && !answer.contains("timed out"))
    }
}

/// The pod that asks.
fn client() -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": { "name": "client", "namespace": "default" },
        "spec": {
            "nodeName": NODE,
            "containers": [{ "name": "client", "image": POD_IMAGE, "args": ["pause"] }],
        },
    })
}

#[cfg(test)]
mod tests;
