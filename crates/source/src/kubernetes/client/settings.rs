//! Everything that the client has to know.

use http::header::{HeaderName, HeaderValue};

use super::credentials::Credentials;
use super::proxy::Proxy;
use super::server::Server;
use super::tls::TlsSettings;

/// How to reach the API server, and as whom.
#[derive(Debug)]
pub(crate) struct Settings {
    pub(crate) server: Server,
    pub(crate) proxy: Option<Proxy>,
    pub(crate) tls: TlsSettings,
    pub(crate) credentials: Credentials,
    /// Lists may be compressed; `disable-compression` of the cluster in a kubeconfig says no.
    pub(crate) compression: bool,
    /// Further headers of each request.
    pub(crate) headers: Vec<(HeaderName, HeaderValue)>,
}

impl Settings {
    /// A server that is told nothing about us.
    pub(crate) fn of(server: Server) -> Self {
        let credentials = match &server.user {
            Some((name, password)) => Credentials::basic(name, password),
            None => Credentials::None,
        };
        Self {
            server,
            proxy: None,
            tls: TlsSettings::default(),
            credentials,
            compression: true,
            headers: Vec::new(),
        }
    }
}
