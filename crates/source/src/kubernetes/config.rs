//! How to reach the API server.

use std::path::{Path, PathBuf};
use std::time::Duration;

use http::Uri;
use http::header::{HeaderValue, USER_AGENT};
use kube::config::{InClusterError, KubeConfigOptions, Kubeconfig, KubeconfigError};
use kube::{Client, Config};

use super::observe::Observer;
use crate::context::Trust;

/// The settings of the source. `Default` is everything unset, with the default timing.
#[derive(Clone, Debug, Default)]
pub struct KubernetesOptions {
    /// Path of the kubeconfig (`clientConnection.kubeconfig`). Without it and without `master` the in-cluster configuration is used.
    pub kubeconfig: Option<PathBuf>,
    /// URL of the API server, instead of the one in the kubeconfig (`--master`).
    pub master: Option<String>,
    /// `clientConnection.contentType`. JSON is spoken whatever it says.
    pub content_type: String,
    /// `clientConnection.acceptContentTypes`. JSON is accepted whatever it says.
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
        }
    }
}

/// The API server cannot be reached with this configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The kubeconfig is missing, unreadable or makes no sense.
    #[error("kubeconfig {path}: {source}")]
    Kubeconfig {
        /// Its path.
        path: PathBuf,
        /// What is wrong with it.
        source: Box<KubeconfigError>,
    },
    /// No kubeconfig was given, and this process does not run in a pod.
    #[error(
        "neither a kubeconfig nor a master URL was given, and the process does not run in a cluster: {0}"
    )]
    InCluster(#[source] Box<InClusterError>),
    /// `--master` is no URL.
    #[error("master URL {url:?}: {reason}")]
    Master {
        /// What was given.
        url: String,
        /// Why it does not do.
        reason: String,
    },
    /// The client cannot be built from the configuration: bad certificates, keys or proxy.
    #[error("cannot set up the Kubernetes client: {0}")]
    Client(#[source] Box<kube::Error>),
}

/// Finds the configuration: the file, with the server replaced if asked; else the bare server; else the pod's service account.
pub(super) async fn load(options: &KubernetesOptions) -> Result<Config, ConfigError> {
    note_content_type(options);
    let master = options.master.as_deref().filter(|url| !url.is_empty());
    let master = master.map(master_url).transpose()?;
    let kubeconfig = options.kubeconfig.as_deref();
    let mut config = match (kubeconfig.filter(|p| !p.as_os_str().is_empty()), master) {
        (Some(path), master) => {
            let mut config = from_file(path, master.as_ref()).await?;
            config.cluster_url = master.unwrap_or(config.cluster_url);
            config
        }
        (None, Some(url)) => Config::new(url),
        (None, None) => Config::incluster().map_err(|e| ConfigError::InCluster(Box::new(e)))?,
    };
    config.connect_timeout = Some(Duration::from_secs(10));
    // Retries are decided here, with the delays and the log lines of this crate.
    config.default_retry = false;
    let agent = HeaderValue::from_static(concat!("kube-proxy/", env!("CARGO_PKG_VERSION")));
    config.headers.push((USER_AGENT, agent));
    Ok(config)
}

/// Builds the client. Encryption is done by ring, whatever else is linked in.
pub(super) fn client(mut config: Config) -> Result<Client, ConfigError> {
    // The only error is that another part of the process was first, which is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
    if !checks_by_system_certificates(&config) {
        // Without any, the client would look for those of the system, which minimal images lack, and fail.
        config.root_cert.get_or_insert_default();
    }
    Client::try_from(config).map_err(|e| ConfigError::Client(Box::new(e)))
}

/// Whether the server proves who it is by a certificate of the system's authorities, rather than by one of the configuration or not at all.
fn checks_by_system_certificates(config: &Config) -> bool {
    let encrypted = config.cluster_url.scheme_str() == Some("https");
    let own = config.root_cert.is_some() || config.root_cert_file.is_some();
    encrypted && !own && !config.accept_invalid_certs
}

async fn from_file(path: &Path, master: Option<&Uri>) -> Result<Config, ConfigError> {
    let failed =
        |source| ConfigError::Kubeconfig { path: path.to_owned(), source: Box::new(source) };
    let mut file = Kubeconfig::read_from(path).map_err(failed)?;
    if let Some(master) = master {
        // A file without a server is fine when the server is given.
        for cluster in file.clusters.iter_mut().filter_map(|c| c.cluster.as_mut()) {
            cluster.server.get_or_insert_with(|| master.to_string());
        }
    }
    let context = KubeConfigOptions::default();
    Config::from_custom_kubeconfig(file, &context).await.map_err(failed)
}

/// A bare `host:port` is taken as `http://host:port`, as the Go client does.
fn master_url(url: &str) -> Result<Uri, ConfigError> {
    let full = if url.contains("://") { url.to_owned() } else { format!("http://{url}") };
    let failed = |reason: String| ConfigError::Master { url: url.to_owned(), reason };
    let uri: Uri = full.parse().map_err(|e| failed(format!("{e}")))?;
    match (uri.scheme_str(), uri.host()) {
        (Some("http" | "https"), Some(host)) if !host.is_empty() => Ok(uri),
        (Some("http" | "https"), _) => Err(failed("it names no host".to_owned())),
        _ => Err(failed("only http and https are supported".to_owned())),
    }
}

fn note_content_type(options: &KubernetesOptions) {
    let asked = [&options.content_type, &options.accept_content_types];
    let other = asked.into_iter().find(|asked| !asked.is_empty() && !asked.contains("json"));
    if let Some(other) = other {
        // The default of the configuration is protobuf, so nearly everybody asks for it without knowing.
        tracing::debug!("content type {other} is not supported: the API server is asked for JSON");
    }
}

#[cfg(test)]
mod tests;
