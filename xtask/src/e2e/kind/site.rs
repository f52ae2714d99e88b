//! The cluster as the checks see it, through `kubectl` and `docker`.

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader, Read as _};
use std::net::{IpAddr, SocketAddr};
use std::process::Stdio;

use anyhow::{Context as _, bail, ensure};
use serde_json::{Value, json};

use super::tools::Tools;
use super::{CLUSTER, MODES, NODE};
use crate::e2e::checks::{From, Site, eventually};
use crate::e2e::objects::App;
use kube_proxy_testkit::say;

/// What kubeadm made.
const SET: &str = "daemonset/kube-proxy";
/// The variable that chooses the mode.
const VARIABLE: &str = "KUBE_PROXY_PROXY_MODE";

pub(super) struct Kind {
    pub(super) tools: Tools,
    pod_image: String,
    /// Rolling updates so far.
    rolls: u32,
}

impl Kind {
    pub(super) fn new(tools: Tools, pod_image: &str) -> Self {
        Self { tools, pod_image: pod_image.to_owned(), rolls: 0 }
    }

    /// The modes that the kernel of the nodes has.
    pub(super) fn modes(&self) -> Vec<&'static str> {
        let has = |test: &str| {
            let quiet = format!("{{ {test}; }} >/dev/null 2>&1");
            self.tools.output("docker", &["exec", NODE, "sh", "-c", &quiet]).is_ok()
        };
        let (there, missing): (Vec<_>, Vec<_>) = MODES.into_iter().partition(|(_, test)| has(test));
        for (mode, test) in missing {
            say!("mode {mode} is not checked: on {NODE}, `{test}` fails");
        }
        there.into_iter().map(|(mode, _)| mode).collect()
    }

    /// The image of kube-proxy that the DaemonSet has.
    pub(super) fn image(&self) -> anyhow::Result<String> {
        let path = "--output=jsonpath={.spec.template.spec.containers[0].image}";
        self.tools.output("kubectl", &["--namespace=kube-system", "get", SET, path])
    }

    /// Replaces the image of the DaemonSet that kubeadm made, and sets the mode by a variable.
    pub(super) fn use_mode(&self, image: &str, mode: &str) -> anyhow::Result<()> {
        self.set(image, &format!("{VARIABLE}={mode}"))
    }

    /// The image that the cluster began with, without the variable.
    pub(super) fn use_original(&self, image: &str) -> anyhow::Result<()> {
        self.set(image, &format!("{VARIABLE}-"))
    }

    fn set(&self, image: &str, variable: &str) -> anyhow::Result<()> {
        let image = format!("kube-proxy={image}");
        for arguments in [
            ["set", "image", SET, &image],
            ["set", "env", SET, variable],
            ["rollout", "status", SET, "--timeout=180s"],
        ] {
            let all = [&["--namespace=kube-system"], &arguments[..]].concat();
            self.tools.run("kubectl", &all)?;
        }
        Ok(())
    }

    /// Starts the pod that asks, unless it is there.
    pub(super) fn start_client(&self) -> anyhow::Result<()> {
        self.tools.apply(&json!({
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": { "name": "client", "namespace": "default" },
            "spec": {
                "nodeName": NODE,
                "containers": [{
                    "name": "client",
                    "image": self.pod_image,
                    "imagePullPolicy": "IfNotPresent",
                    "args": ["pause"],
                }],
            },
        }))?;
        let ready = ["wait", "--for=condition=Ready", "pod/client", "--timeout=180s"];
        self.tools.run("kubectl", &ready)
    }

    /// Runs the conformance tests of Services where there is a program for it.
    pub(super) fn conformance(&self) -> anyhow::Result<()> {
        if !self.tools.has("sonobuoy") {
            say!("   sonobuoy is not installed: no conformance tests");
            return Ok(());
        }
        let focus = r"--e2e-focus=\[sig-network\] Services";
        let context = format!("--context=kind-{CLUSTER}");
        self.tools.run("sonobuoy", &["run", "--wait", focus, &context])?;
        self.tools.run("sonobuoy", &["delete", "--wait", &context])
    }

    /// The pods of a Service that are ready and not about to end: an old one runs on while its shutdown is delayed.
    fn pods(&self, app: &App) -> anyhow::Result<Vec<Value>> {
        let label = format!("--selector=app={}", app.name);
        let text = self.tools.output("kubectl", &["get", "pods", &label, "--output=json"])?;
        let list: Value = serde_json::from_str(&text).context("kubectl's list of pods")?;
        let pods = list["items"].as_array().cloned().unwrap_or_default();
        Ok(pods.into_iter().filter(is_ready).collect())
    }

    fn wait(&self, app: &App) -> anyhow::Result<Vec<String>> {
        let deployment = format!("deployment/{}", app.name);
        self.tools.run("kubectl", &["rollout", "status", &deployment, "--timeout=180s"])?;
        eventually(|| {
            let pods: Vec<String> = self.pods(app)?.iter().filter_map(name).collect();
            ensure!(pods.len() == app.replicas, "{}: {pods:?} are ready", app.name);
            Ok(pods)
        })
    }

    fn field(&self, app: &App, path: &str) -> anyhow::Result<String> {
        let path = format!("--output=jsonpath={path}");
        self.tools.output("kubectl", &["get", "service", &app.name, &path])
    }
}

fn is_ready(pod: &Value) -> bool {
    let conditions = pod["status"]["conditions"].as_array();
    let ready = |one: &Value| one["type"] == "Ready" && one["status"] == "True";
    pod["metadata"]["deletionTimestamp"].is_null() && conditions.into_iter().flatten().any(ready)
}

fn name(pod: &Value) -> Option<String> {
    pod["metadata"]["name"].as_str().map(str::to_owned)
}

impl Site for Kind {
    fn deploy(&mut self, app: &App) -> anyhow::Result<Vec<String>> {
        self.tools.apply(&app.service())?;
        self.tools.apply(&app.deployment(&self.pod_image))?;
        self.wait(app)
    }

    fn roll(&mut self, app: &App) -> anyhow::Result<Vec<String>> {
        let to = SocketAddr::new(self.cluster_ip(app)?, 80);
        self.rolls += 1;
        let stop = format!("${{TMPDIR:-/tmp}}/stop-{}", self.rolls);
        let once = format!("curl -s -m 10 http://{to}/hostname >/dev/null || echo failed");
        let load = format!("{once}; echo begun; while [ ! -e \"{stop}\" ]; do {once}; done");
        let mut command =
            self.tools.command("kubectl", &["exec", "client", "--", "sh", "-c", &load]);
        let mut child = command.stdout(Stdio::piped()).spawn().context("cannot start the load")?;
        let mut said = BufReader::new(child.stdout.take().context("the load has an output")?);
        let mut text = String::new();
        while !text.contains("begun") && said.read_line(&mut text)? > 0 {}
        let deployment = format!("deployment/{}", app.name);
        let restarted = self.tools.run("kubectl", &["rollout", "restart", &deployment]);
        let pods = restarted.and_then(|()| self.wait(app));
        // Whatever became of it, the load must not stay.
        let stopped = self.tools.exec(&format!("touch \"{stop}\""));
        if stopped.is_err() {
            let _ = child.kill();
        }
        said.read_to_string(&mut text)?;
        let status = child.wait()?;
        let (pods, _) = (pods?, stopped?);
        let failed = text.lines().filter(|line| *line == "failed").count();
        ensure!(failed == 0, "{failed} connections failed");
        ensure!(text.contains("begun") && status.success(), "the load ended with {status}");
        Ok(pods)
    }

    fn on_first_node(&self, app: &App) -> anyhow::Result<BTreeSet<String>> {
        let pods = self.pods(app)?;
        Ok(pods.iter().filter(|pod| pod["spec"]["nodeName"] == NODE).filter_map(name).collect())
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
