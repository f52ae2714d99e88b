//! How to reach the API server.

use std::path::{Path, PathBuf};
use std::time::Duration;

use kube::config::{AuthInfo, Cluster};
use kube_proxy_core::Trust;

use super::client::{Proxy, Server, Settings};
use super::observe::Observer;

mod file;
mod in_cluster;
mod user;

/// The settings of the source. `Default` is everything unset, with the default timing.
#[derive(Clone, Debug, Default)]
pub struct KubernetesOptions {
    /// Path of the kubeconfig (`clientConnection.kubeconfig`). Without it and without `master` the in-cluster configuration is used.
    pub kubeconfig: Option<PathBuf>,
    /// URL of the API server, instead of the one in the kubeconfig (`--master`).
    pub master: Option<String>,
    /// `clientConnection.contentType`: with `application/vnd.kubernetes.protobuf` the server is asked for that, with JSON behind it;
    /// with anything else for JSON.
    pub content_type: String,
    /// `clientConnection.acceptContentTypes`: what the server is asked for instead, as in the header `Accept`.
    pub accept_content_types: String,
    /// Requests per second; 0 is the default of 5, less than 0 is no limit. Pages of one list count once.
    pub qps: f32,
    /// Requests that may be sent at once; 0 is the default of 10.
    pub burst: u32,
    /// The name of the own Node object.
    pub node_name: String,
    /// Which addresses objects may name.
    pub trust: Trust,
    /// Time limits.
    pub timing: Timing,
    /// Who is told of each request.
    pub observer: Observer,
}

/// The time limits of the source.
#[derive(Clone, Debug)]
pub struct Timing {
    /// Longest wait for the head of a response and for each further piece of a page.
    pub response: Duration,
    /// A watch that is silent for so long, bookmarks included, is given up and resumed. Servers send a bookmark about every minute.
    pub stall: Duration,
    /// A streaming list that is silent for so long before its end comes from a server that does not know streaming lists.
    pub initial_events: Duration,
    /// The first delay after an error, before jitter.
    pub backoff_start: Duration,
    /// The longest delay after errors, before jitter.
    pub backoff_max: Duration,
    /// The shortest duration that is asked of a watch; the actual one is random up to twice that.
    pub watch: Duration,
    /// When to ask again for a kind that is forbidden or unknown but not needed.
    pub forbidden: Duration,
    /// How often the files of certificates, keys and tokens are read again.
    pub credentials: Duration,
    /// Longest wait for a connection, and for a program that provides credentials.
    pub connect: Duration,
    /// The longest delay of the first request, which is random, so that the nodes of a cluster do not all ask at once.
    pub start: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            response: Duration::from_secs(30),
            stall: Duration::from_mins(3),
            initial_events: Duration::from_secs(10),
            backoff_start: Duration::from_millis(400),
            backoff_max: Duration::from_secs(30),
            watch: Duration::from_mins(5),
            forbidden: Duration::from_mins(5),
            credentials: Duration::from_secs(30),
            connect: Duration::from_secs(10),
            start: Duration::from_millis(100),
        }
    }
}

/// The API server cannot be reached with this configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The kubeconfig is missing, unreadable or makes no sense.
    #[error("kubeconfig {path}: {reason}")]
    Kubeconfig {
        /// The path that was given.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// No kubeconfig was given, and this process does not run in a pod.
    #[error(
        "neither a kubeconfig nor a master URL was given, and the process does not run in a cluster: {0}"
    )]
    InCluster(String),
    /// `--master` is no URL.
    #[error("master URL {url:?}: {reason}")]
    Master {
        /// What was given.
        url: String,
        /// Why it does not do.
        reason: String,
    },
    /// Certificates, keys or credentials cannot be used.
    #[error("cannot set up the Kubernetes client: {0}")]
    Client(String),
}

/// Finds the configuration: the file, with the server replaced if asked; else the bare server; else the pod's service account.
pub(super) fn load(options: &KubernetesOptions) -> Result<Settings, ConfigError> {
    load_in(options, |name| std::env::var(name).ok(), Path::new(in_cluster::ACCOUNT))
}

/// The same with an environment and the folder of a service account.
fn load_in(
    options: &KubernetesOptions,
    variable: impl Fn(&str) -> Option<String>,
    account: &Path,
) -> Result<Settings, ConfigError> {
    let master = options.master.as_deref().map(str::trim).filter(|url| !url.is_empty());
    let path = options.kubeconfig.as_deref().filter(|path| !path.as_os_str().is_empty());
    let mut settings = match (path, master) {
        (Some(path), master) => from_file(path, master, &options.timing)?,
        (None, Some(url)) => {
            let server = Server::parse(url, false).map_err(|reason| wrong_master(url, reason))?;
            Settings::of(server)
        }
        (None, None) => {
            in_cluster::load(&variable, account, &options.timing).map_err(ConfigError::InCluster)?
        }
    };
    // A proxy in the kubeconfig counts before those of the environment.
    if settings.proxy.is_none() {
        settings.proxy = Proxy::from_environment(&settings.server, variable);
    }
    Ok(settings)
}

fn from_file(path: &Path, master: Option<&str>, timing: &Timing) -> Result<Settings, ConfigError> {
    let failed = |reason| ConfigError::Kubeconfig { path: path.to_owned(), reason };
    let file = file::read(path).map_err(failed)?;
    let (cluster, user) = file::select(&file, master.is_some()).map_err(failed)?;
    settings_of(&cluster, &user, master, timing, failed)
}

/// What a cluster and a user of a kubeconfig say; `failed` adds which file that is.
fn settings_of(
    cluster: &Cluster,
    user: &AuthInfo,
    master: Option<&str>,
    timing: &Timing,
    failed: impl Fn(String) -> ConfigError,
) -> Result<Settings, ConfigError> {
    let failed = &failed;
    let tls = user::tls(cluster, user).map_err(failed)?;
    let server = match (master, file::text(cluster.server.as_ref())) {
        (Some(url), _) => {
            Server::parse(url, tls.is_set()).map_err(|reason| wrong_master(url, reason))?
        }
        (None, Some(url)) => Server::parse(url, tls.is_set())
            .map_err(|reason| failed(format!("server {url:?}: {reason}")))?,
        (None, None) => return Err(failed("the cluster of the context has no server".to_owned())),
    };
    let proxy = file::text(cluster.proxy_url.as_ref())
        .map(|url| Proxy::parse(url).map_err(|reason| failed(format!("proxy-url: {reason}"))));
    let mut settings = Settings::of(server);
    settings.tls = tls;
    settings.compression = cluster.disable_compression != Some(true);
    settings.proxy = proxy.transpose()?;
    if let Some(credentials) = user::credentials(cluster, user, timing).map_err(failed)? {
        settings.credentials = credentials;
    }
    settings.headers = user::impersonation(user).map_err(failed)?;
    Ok(settings)
}

fn wrong_master(url: &str, reason: String) -> ConfigError {
    ConfigError::Master { url: url.to_owned(), reason }
}

/// Whether a kubeconfig can be used, without the files that it names.
#[cfg(feature = "fuzzing")]
pub(super) fn is_usable(bytes: Vec<u8>) -> bool {
    let Ok(file) = file::from_bytes(bytes) else { return false };
    let Ok((mut cluster, mut user)) = file::select(&file, false) else { return false };
    cluster.certificate_authority = None;
    (user.client_certificate, user.client_key, user.token_file) = (None, None, None);
    let failed = |reason| ConfigError::Client(reason);
    settings_of(&cluster, &user, None, &Timing::default(), failed).is_ok()
}

#[cfg(test)]
mod tests;
