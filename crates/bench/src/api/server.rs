//! The API server that is measured: the one for tests, or a real one with its etcd.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow, bail, ensure};
use fake_apiserver::{ApiServer, StreamingLists};
use kube_proxy_source::{KubernetesOptions, KubernetesSource, Problems};
use kube_proxy_testkit::generate::Scale;
use serde_json::{Value, json};

use super::relay::Relay;
use crate::usage::cpu;

/// The node of all clients.
pub(super) const NODE: &str = "node-0";
/// It reaches nothing; the rules of a whole kube-proxy name it.
const NODE_IP: &str = "192.0.2.1";
/// The address that the API server gives as its own; nothing connects to it.
const ADVERTISED: &str = "192.0.2.2";
const TOKEN: &str = "bench";
/// A real server that is not ready by then does not come.
const START: Duration = Duration::from_mins(2);

/// A server that is filled, with a relay before it.
pub(super) struct Server {
    kind: Kind,
    /// Its own address, for what is not to be counted.
    address: SocketAddr,
    relay: Relay,
    scheme: &'static str,
    directory: tempfile::TempDir,
}

enum Kind {
    Test(ApiServer),
    Real { etcd: Child, apiserver: Child },
}

impl Server {
    /// Starts it and creates all objects.
    pub(super) fn start(
        program: Option<&Path>,
        scale: &Scale,
        streaming: bool,
    ) -> anyhow::Result<Self> {
        let directory = tempfile::tempdir().context("cannot make a temporary directory")?;
        let (kind, address, scheme) = if let Some(program) = program {
            let (kind, address) = real(program, directory.path(), scale, streaming)?;
            (kind, address, "https")
        } else {
            let server = ApiServer::start((Ipv4Addr::LOCALHOST, 0).into())?;
            if !streaming {
                server.faults().streaming_lists(StreamingLists::Refused);
            }
            let address = server.address();
            (Kind::Test(server), address, "http")
        };
        let server = Self { kind, address, relay: Relay::start(address)?, scheme, directory };
        server.fill(scale)?;
        Ok(server)
    }

    /// Bytes sent to all clients.
    pub(super) fn bytes_sent(&self) -> u64 {
        self.relay.sent()
    }

    /// Processor time of the server so far.
    pub(super) fn processor_time(&self) -> anyhow::Result<Duration> {
        match &self.kind {
            Kind::Test(server) => server.processor_time().context("the time of the server"),
            Kind::Real { apiserver, .. } => cpu(apiserver.id()),
        }
    }

    /// A file that goes with the server.
    pub(super) fn file(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Writes a kubeconfig; its path.
    pub(super) fn kubeconfig(&self, compression: bool) -> anyhow::Result<PathBuf> {
        let path = self.file(&format!("kubeconfig-{compression}"));
        let config = json!({
            "current-context": "c",
            "contexts": [{"name": "c", "context": {"cluster": "k", "user": "u"}}],
            "clusters": [{"name": "k", "cluster": {
                "server": format!("{}://{}", self.scheme, self.relay.address),
                "insecure-skip-tls-verify": self.scheme == "https",
                "disable-compression": !compression,
            }}],
            "users": [{"name": "u", "user": {"token": TOKEN}}],
        });
        std::fs::write(&path, config.to_string()).context("cannot write the kubeconfig")?;
        Ok(path)
    }

    /// Merges a change into an EndpointSlice.
    pub(super) fn patch_slice(&self, slice: &Value, change: &Value) -> anyhow::Result<()> {
        let text = |field: &str| slice["metadata"][field].as_str().unwrap_or_default().to_owned();
        let path = format!(
            "apis/discovery.k8s.io/v1/namespaces/{}/endpointslices/{}",
            text("namespace"),
            text("name")
        );
        let status = self
            .curl(&path)
            .args(["--show-error", "--request", "PATCH", "--data", &change.to_string()])
            .args(["--header", "Content-Type: application/merge-patch+json"])
            .status()
            .context("cannot run curl")?;
        ensure!(status.success(), "cannot change {path}");
        Ok(())
    }

    fn fill(&self, scale: &Scale) -> anyhow::Result<()> {
        let node = json!({
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {"name": NODE},
            "status": {"addresses": [{"type": "InternalIP", "address": NODE_IP}]},
        });
        if let Kind::Test(server) = &self.kind {
            let objects = std::iter::once(node).chain(scale.objects());
            return server.apply_many(objects).map(|_| ()).map_err(|e| anyhow!("{e}"));
        }
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(self.create(node, scale))
    }

    /// A real server refuses Services until it knows which addresses are given out.
    fn wait_until_ready(&self) -> anyhow::Result<()> {
        let begun = Instant::now();
        while !self.curl("readyz").status().context("cannot run curl")?.success() {
            let log = || std::fs::read_to_string(self.file("apiserver.log")).unwrap_or_default();
            ensure!(
                begun.elapsed() < START,
                "the server is not ready after {START:?}; it says: {}",
                log().lines().next_back().unwrap_or("nothing")
            );
            std::thread::sleep(Duration::from_millis(200));
        }
        Ok(())
    }

    /// A request to the server itself.
    fn curl(&self, path: &str) -> Command {
        let mut command = Command::new("curl");
        command.args(["--silent", "--fail", "--insecure", "--output", "/dev/null"]);
        command.args(["--header", &format!("Authorization: Bearer {TOKEN}")]);
        command.arg(format!("{}://{}/{path}", self.scheme, self.address));
        command
    }

    /// Creates all objects over HTTP, without what the server itself writes into them.
    async fn create(&self, node: Value, scale: &Scale) -> anyhow::Result<()> {
        let kubeconfig = Some(self.kubeconfig(false)?);
        let options = KubernetesOptions { kubeconfig, ..KubernetesOptions::default() };
        let poster = KubernetesSource::new(options, Problems::new())?.poster(-1.0, 0);
        self.wait_until_ready()?;
        poster.create("/api/v1/nodes", node.to_string().into_bytes()).await.context("the node")?;
        for index in 0..scale.namespaces {
            let name = scale.namespace(index);
            let namespace =
                json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
            // It may be `default`, which is there.
            let _ = poster.create("/api/v1/namespaces", namespace.to_string().into_bytes()).await;
        }
        for mut object in scale.objects() {
            let (namespace, group, plural) = match object["kind"].as_str() {
                Some("Service") => (&object["metadata"]["namespace"], "/api/v1", "services"),
                Some("EndpointSlice") => (
                    &object["metadata"]["namespace"],
                    "/apis/discovery.k8s.io/v1",
                    "endpointslices",
                ),
                _ => continue,
            };
            let namespace = namespace.as_str().unwrap_or("default");
            let collection = format!("{group}/namespaces/{namespace}/{plural}");
            for field in
                ["uid", "resourceVersion", "creationTimestamp", "generation", "managedFields"]
            {
                object["metadata"].as_object_mut().and_then(|metadata| metadata.remove(field));
            }
            let body = object.to_string().into_bytes();
            poster
                .create(&collection, body)
                .await
                .with_context(|| format!("{collection}: {object}"))?;
        }
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Kind::Real { etcd, apiserver } = &mut self.kind {
            for child in [apiserver, etcd] {
                // It may have ended by itself.
                let _ = child.kill();
                let _ = child.wait();
            }
        }
    }
}

/// Starts etcd and a kube-apiserver that lets everybody do everything.
fn real(
    program: &Path,
    directory: &Path,
    scale: &Scale,
    streaming: bool,
) -> anyhow::Result<(Kind, SocketAddr)> {
    ensure!(program.is_file(), "--apiserver: there is no file {}", program.display());
    let (client, peer, secure) = (free_port()?, free_port()?, free_port()?);
    let path = |name: &str| directory.join(name).display().to_string();
    let key = path("service-account.key");
    let made = Command::new("openssl")
        .args(["genrsa", "-out", &key, "2048"])
        .stderr(Stdio::null())
        .status()
        .context("cannot run openssl")?;
    ensure!(made.success(), "openssl makes no key");
    std::fs::write(path("tokens"), format!("{TOKEN},admin,admin,system:masters\n"))?;
    let (client, peer) = (format!("http://{client}"), format!("http://{peer}"));
    let mut etcd = Command::new("etcd")
        .args(["--data-dir", &path("etcd"), "--unsafe-no-fsync"])
        .args(["--listen-client-urls", &client, "--advertise-client-urls", &client])
        .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
        .args(["--initial-cluster", &format!("default={peer}")])
        .stderr(std::fs::File::create(path("etcd.log"))?)
        .spawn()
        .context("cannot run etcd")?;
    let apiserver = Command::new(program)
        .arg(format!("--etcd-servers={client}"))
        .arg(format!("--bind-address={}", secure.ip()))
        .arg(format!("--secure-port={}", secure.port()))
        // Of itself it looks for a default route, and there is none.
        .arg(format!("--advertise-address={ADVERTISED}"))
        .arg(format!("--cert-dir={}", path("certificates")))
        .arg(format!("--token-auth-file={}", path("tokens")))
        .arg(format!("--service-account-key-file={key}"))
        .arg(format!("--service-account-signing-key-file={key}"))
        .arg("--service-account-issuer=https://bench.invalid")
        .arg("--authorization-mode=AlwaysAllow")
        .arg("--disable-admission-plugins=ServiceAccount")
        .arg(format!("--service-cluster-ip-range={}", scale.service_v4))
        .arg(format!("--feature-gates=WatchList={streaming}"))
        .stderr(std::fs::File::create(path("apiserver.log"))?)
        .spawn();
    match apiserver {
        Ok(apiserver) => Ok((Kind::Real { etcd, apiserver }, secure)),
        Err(error) => {
            // Nothing else would end it.
            let _ = etcd.kill();
            bail!("cannot run {}: {error}", program.display())
        }
    }
}

/// A port that nothing has at present.
fn free_port() -> anyhow::Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("no free port")?;
    Ok(listener.local_addr()?)
}
