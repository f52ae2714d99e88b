//! A Service with pods behind it, as the checks want it.

use serde_json::{Value, json};

/// Port of the pods' servers.
pub(super) const TARGET: u16 = 8080;

/// A Service and how many pods it has.
#[derive(Clone, Debug)]
pub(crate) struct App {
    pub(super) name: String,
    /// A number of its own, for clusters that have no API server to choose addresses.
    pub(super) number: u8,
    pub(super) replicas: usize,
    spec: Value,
}

impl App {
    /// A Service of type ClusterIP, port 80.
    pub(super) fn new(name: &str, number: u8, replicas: usize) -> Self {
        let spec = json!({
            "selector": { "app": name },
            "ports": [{ "name": "http", "protocol": "TCP", "port": 80, "targetPort": TARGET }],
        });
        Self { name: name.to_owned(), number, replicas, spec }
    }

    pub(super) fn node_port(mut self) -> Self {
        self.spec["type"] = "NodePort".into();
        self.spec["ports"][0]["nodePort"] = (30_000 + u16::from(self.number)).into();
        self
    }

    pub(super) fn internal_local(mut self) -> Self {
        self.spec["internalTrafficPolicy"] = "Local".into();
        self
    }

    pub(super) fn affinity(mut self) -> Self {
        self.spec["sessionAffinity"] = "ClientIP".into();
        self
    }

    /// The Service.
    pub(super) fn service(&self) -> Value {
        json!({
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": { "name": self.name, "namespace": "default" },
            "spec": self.spec,
        })
    }

    /// A Deployment whose pods tell their names over HTTP.
    pub(super) fn deployment(&self, image: &str) -> Value {
        let labels = json!({ "app": self.name });
        json!({
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": { "name": self.name, "namespace": "default", "labels": labels },
            "spec": {
                "replicas": self.replicas,
                "selector": { "matchLabels": labels },
                "strategy": { "rollingUpdate": { "maxUnavailable": 0, "maxSurge": 1 } },
                "template": {
                    "metadata": { "labels": labels },
                    "spec": { "containers": [{
                        "name": "web",
                        "image": image,
                        "imagePullPolicy": "IfNotPresent",
                        "args": ["netexec", format!("--http-port={TARGET}"), "--delay-shutdown=10"],
                        "readinessProbe": { "httpGet": { "path": "/hostname", "port": TARGET } },
                    }]},
                },
            },
        })
    }
}
