//! The manifests that kube-proxy reads, and the one that changes.

use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use anyhow::Context as _;

/// What `kubectl apply` would be given, and the Node and EndpointSlice a cluster would add.
#[derive(Debug)]
pub(crate) struct Manifests {
    directory: tempfile::TempDir,
}

/// A pod as the EndpointSlice shows it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PodAddress<'a> {
    pub(crate) name: &'a str,
    pub(crate) ip: IpAddr,
}

impl Manifests {
    /// Writes all of them to a new directory.
    pub(crate) fn write(
        node: &str,
        node_ip: IpAddr,
        cluster_ip: IpAddr,
        pods: &[PodAddress<'_>],
    ) -> anyhow::Result<Self> {
        let directory = tempfile::tempdir().context("cannot make a temporary directory")?;
        let manifests = Self { directory };
        manifests.put("node.yaml", &of_node(node, node_ip))?;
        manifests.put("nginx-deployment.yaml", DEPLOYMENT)?;
        manifests.put("nginx-service.yaml", &of_service(cluster_ip))?;
        manifests.set_endpoints(node, pods)?;
        Ok(manifests)
    }

    /// The directory.
    pub(crate) fn path(&self) -> &Path {
        self.directory.path()
    }

    /// Replaces the EndpointSlice, as the controller does when pods come and go.
    pub(crate) fn set_endpoints(
        &self,
        node: &str,
        pods: &[PodAddress<'_>],
    ) -> anyhow::Result<PathBuf> {
        self.put("nginx-service-endpoints.yaml", &of_slice(node, pods))
    }

    /// Writes a file in one step, so that no reader sees half of it.
    fn put(&self, name: &str, text: &str) -> anyhow::Result<PathBuf> {
        let path = self.path().join(name);
        let draft = self.path().join(format!(".{name}.new"));
        fs::write(&draft, text)
            .and_then(|()| fs::rename(&draft, &path))
            .with_context(|| format!("cannot write {}", path.display()))?;
        Ok(path)
    }
}

/// Not read by kube-proxy: the pods of a Deployment reach it as EndpointSlices.
const DEPLOYMENT: &str = "\
apiVersion: apps/v1
kind: Deployment
metadata:
  name: nginx-deployment
  labels: {app: nginx}
spec:
  replicas: 2
  selector:
    matchLabels: {app: nginx}
  template:
    metadata:
      labels: {app: nginx}
    spec:
      containers:
      - name: nginx
        image: nginx
        ports:
        - containerPort: 80
";

fn of_service(cluster_ip: IpAddr) -> String {
    format!(
        "\
apiVersion: v1
kind: Service
metadata:
  name: nginx-service
  namespace: default
spec:
  selector: {{app: nginx}}
  clusterIP: {cluster_ip}
  clusterIPs: [{cluster_ip}]
  ports:
  - name: http
    protocol: TCP
    port: 80
    targetPort: 80
"
    )
}

fn of_node(name: &str, ip: IpAddr) -> String {
    format!(
        "\
apiVersion: v1
kind: Node
metadata:
  name: {name}
status:
  addresses:
  - {{type: InternalIP, address: {ip}}}
  - {{type: Hostname, address: {name}}}
"
    )
}

fn of_slice(node: &str, pods: &[PodAddress<'_>]) -> String {
    let mut slice = SLICE_HEAD.to_owned();
    for pod in pods {
        slice.push_str(&of_endpoint(node, *pod));
    }
    slice
}

const SLICE_HEAD: &str = "\
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata:
  name: nginx-service-x8k4q
  namespace: default
  labels:
    kubernetes.io/service-name: nginx-service
addressType: IPv4
ports:
- {name: http, protocol: TCP, port: 80}
endpoints:
";

fn of_endpoint(node: &str, PodAddress { name, ip }: PodAddress<'_>) -> String {
    format!(
        "\
- addresses: [{ip}]
  conditions: {{ready: true, serving: true, terminating: false}}
  nodeName: {node}
  targetRef: {{kind: Pod, namespace: default, name: {name}}}
"
    )
}
