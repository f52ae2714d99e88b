//! Programs that provide credentials: `exec` in a kubeconfig.

use std::collections::HashMap;
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::header::HeaderValue;
use jiff::Timestamp;
use kube::config::{Cluster, ExecAuthCluster, ExecConfig, ExecInteractiveMode};
use serde::Deserialize;
use serde_json::json;
use tokio::process::Command;
use tokio::sync::Mutex;
use tokio::time::timeout;

use super::presented::{Presented, bearer};
use super::tls::Identity;

/// The versions of the protocol.
const VERSIONS: [&str; 2] =
    ["client.authentication.k8s.io/v1", "client.authentication.k8s.io/v1beta1"];
/// Most characters of what a failing program wrote that are shown.
const MAX_OUTPUT: usize = 400;

/// A program and what it last provided.
pub(crate) struct Plugin {
    api_version: String,
    command: String,
    args: Vec<String>,
    env: Vec<(String, String)>,
    install_hint: String,
    /// `KUBERNETES_EXEC_INFO`.
    info: String,
    limit: Duration,
    provided: Mutex<Option<Provided>>,
}

struct Provided {
    presented: Presented,
    expires: Option<Timestamp>,
}

/// What the program writes.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Output {
    api_version: Option<String>,
    status: Option<Status>,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct Status {
    expiration_timestamp: Option<String>,
    token: Option<String>,
    client_certificate_data: Option<String>,
    client_key_data: Option<String>,
}

impl Plugin {
    /// Checks the settings. The program is not run yet.
    pub(crate) fn new(
        exec: &ExecConfig,
        cluster: &Cluster,
        limit: Duration,
    ) -> Result<Self, String> {
        let set = |value: &Option<String>| value.as_deref().unwrap_or_default().trim().to_owned();
        let (api_version, command) = (set(&exec.api_version), set(&exec.command));
        if command.is_empty() {
            return Err("command is not set".to_owned());
        }
        if !VERSIONS.contains(&api_version.as_str()) {
            let known = VERSIONS.join(" or ");
            return Err(format!("apiVersion is {api_version:?}; it has to be {known}"));
        }
        if exec.interactive_mode == Some(ExecInteractiveMode::Always) {
            return Err("interactiveMode is Always, but this process has no terminal".to_owned());
        }
        let mut spec = json!({ "interactive": false });
        if exec.provide_cluster_info {
            let cluster = ExecAuthCluster::try_from(cluster).map_err(|error| error.to_string())?;
            spec["cluster"] = serde_json::to_value(cluster).map_err(|error| error.to_string())?;
        }
        let info = json!({ "apiVersion": api_version, "kind": "ExecCredential", "spec": spec });
        let env = exec.env.iter().flatten();
        Ok(Self {
            command,
            args: exec.args.clone().unwrap_or_default(),
            env: env.filter_map(variable).collect(),
            install_hint: set(&exec.install_hint),
            info: info.to_string(),
            api_version,
            limit,
            provided: Mutex::new(None),
        })
    }

    /// What the program provided, as long as it is valid; else what it provides now.
    pub(super) async fn present(&self) -> Result<Presented, String> {
        let mut provided = self.provided.lock().await;
        if let Some(valid) = provided.as_ref().filter(|provided| provided.is_valid()) {
            return Ok(valid.presented.clone());
        }
        *provided = None;
        let fresh = self.run().await.map_err(|reason| {
            format!("the credential plugin {} provides nothing: {reason}", self.command)
        })?;
        Ok(provided.insert(fresh).presented.clone())
    }

    /// What was provided at that time is not accepted any more.
    pub(super) async fn expire(&self, since: Instant) {
        let mut provided = self.provided.lock().await;
        if provided.as_ref().is_some_and(|provided| provided.presented.since <= Some(since)) {
            *provided = None;
        }
    }

    async fn run(&self) -> Result<Provided, String> {
        let mut command = Command::new(&self.command);
        command
            .args(&self.args)
            .env("KUBERNETES_EXEC_INFO", &self.info)
            .envs(self.env.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .kill_on_drop(true);
        let begun = Instant::now();
        let output = match timeout(self.limit, command.output()).await {
            Err(_) => return Err(format!("it did not end within {:?}", self.limit)),
            Ok(Err(error)) if error.kind() == std::io::ErrorKind::NotFound => {
                let hint = &self.install_hint;
                return Err(format!("{error}. {hint}").trim_end_matches([' ', '.']).to_owned());
            }
            Ok(Err(error)) => return Err(error.to_string()),
            Ok(Ok(output)) => output,
        };
        if !output.status.success() {
            let said = excerpt(&output.stderr);
            return Err(format!("{}: {said}", output.status));
        }
        self.read(&output.stdout, begun)
    }

    fn read(&self, written: &[u8], since: Instant) -> Result<Provided, String> {
        let output: Output = serde_json::from_slice(written)
            .map_err(|error| format!("it wrote no ExecCredential in JSON: {error}"))?;
        let version = output.api_version.unwrap_or_default();
        if version != self.api_version {
            return Err(format!("it wrote apiVersion {version:?}, not {:?}", self.api_version));
        }
        let status = output.status.ok_or("it wrote no status")?;
        let set = |value: Option<String>| value.filter(|value| !value.trim().is_empty());
        let token = set(status.token).map(|token| bearer(&token)).transpose()?;
        let certificate = set(status.client_certificate_data);
        let identity = match (certificate, set(status.client_key_data)) {
            (Some(certificate), Some(key)) => Some(Arc::new(Identity {
                certificate: certificate.into_bytes(),
                key: key.into_bytes(),
                origin: format!("the certificate of the credential plugin {}", self.command),
            })),
            (None, None) => None,
            _ => return Err("it wrote a certificate without a key, or the reverse".to_owned()),
        };
        if token.is_none() && identity.is_none() {
            return Err("it wrote neither a token nor a certificate".to_owned());
        }
        let header: Option<HeaderValue> = token;
        let presented = Presented { header, identity, since: Some(since) };
        let expires =
            set(status.expiration_timestamp).map(|time| end(&time)).transpose()?.flatten();
        Ok(Provided { presented, expires })
    }
}

impl Provided {
    /// Without an end it is valid until the server says otherwise.
    fn is_valid(&self) -> bool {
        self.expires.is_none_or(|expires| Timestamp::now() < expires)
    }
}

/// When credentials end. The last day of 9999 stands for never.
fn end(time: &str) -> Result<Option<Timestamp>, String> {
    match time.trim().parse() {
        Ok(end) => Ok(Some(end)),
        Err(_) if time.trim().starts_with("9999-12-3") => Ok(None),
        Err(error) => Err(format!("it wrote the expirationTimestamp {time:?}: {error}")),
    }
}

/// Name and value of an environment variable.
fn variable(fields: &HashMap<String, String>) -> Option<(String, String)> {
    Some((fields.get("name")?.clone(), fields.get("value").cloned().unwrap_or_default()))
}

/// What a program wrote, in one line.
fn excerpt(written: &[u8]) -> String {
    let text = String::from_utf8_lossy(written);
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if line.is_empty() {
        "it wrote nothing".to_owned()
    } else {
        line.chars().take(MAX_OUTPUT).collect()
    }
}

#[cfg(test)]
mod tests;
