//! The configuration of a pod: its service account.

use std::path::Path;

use super::{Server, Settings, Timing};
use crate::kubernetes::client::Credentials;
use crate::kubernetes::client::host_and_port;
use crate::kubernetes::client::tls::{Pem, Roots};

/// Where the files of the service account are.
pub(super) const ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

/// Reads the environment variables and the files of the service account.
pub(super) fn load(
    variable: impl Fn(&str) -> Option<String>,
    account: &Path,
    timing: &Timing,
) -> Result<Settings, String> {
    let read = |name: &str| {
        let value = variable(name).map(|value| value.trim().to_owned());
        value.filter(|value| !value.is_empty()).ok_or_else(|| format!("{name} is not set"))
    };
    let host = read("KUBERNETES_SERVICE_HOST")?;
    let port = read("KUBERNETES_SERVICE_PORT")?;
    let number =
        port.parse().map_err(|_| format!("KUBERNETES_SERVICE_PORT {port:?} is no port"))?;
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let server = Server::parse(&format!("https://{}", host_and_port(host, number)), true)
        .map_err(|reason| format!("KUBERNETES_SERVICE_HOST {host:?}: {reason}"))?;
    let mut settings = Settings::of(server);
    settings.credentials =
        Credentials::token_file(account.join("token"), None, timing.credentials)?;
    let ca = account.join("ca.crt");
    match std::fs::metadata(&ca) {
        Ok(_) => settings.tls.roots = Roots::Pem(Pem::File(ca)),
        Err(error) => tracing::warn!(
            path = %ca.display(),
            "certificate authority of the cluster is missing, those of the system are used: {error}"
        ),
    }
    Ok(settings)
}

#[cfg(test)]
mod tests;
