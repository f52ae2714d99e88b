//! The URL of the API server.

use std::fmt;

use http::uri::PathAndQuery;

use super::authority::{Authority, address_of, host_and_port, in_brackets};

/// Where the API server is.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Server {
    pub(crate) https: bool,
    /// A name or an address, without brackets.
    pub(crate) host: String,
    pub(crate) port: u16,
    /// What stands before the path of each request: empty, or `/path` without a slash at the end.
    pub(crate) path: String,
    /// Name and password in the URL.
    pub(crate) user: Option<(String, String)>,
}

impl Server {
    /// Reads a URL, or `host` or `host:port`. Those get the scheme https if there are settings for TLS and http otherwise, whatever the
    /// port is: the rule of client-go.
    pub(crate) fn parse(text: &str, has_tls_settings: bool) -> Result<Self, String> {
        let text = text.trim();
        let (scheme, rest) = match text.split_once("://") {
            Some((scheme, rest)) => (scheme.to_ascii_lowercase(), rest),
            None => (if has_tls_settings { "https" } else { "http" }.to_owned(), text),
        };
        let https = match scheme.as_str() {
            "https" => true,
            "http" => false,
            _ => {
                return Err(format!("the scheme is {scheme:?}; only http and https are supported"));
            }
        };
        // Query and fragment have no meaning here.
        let rest = rest.split(['?', '#']).next().unwrap_or_default();
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let path = path.trim_end_matches('/');
        if !text.contains("://") && !path.is_empty() {
            return Err("with a path it has to begin with https:// or http://".to_owned());
        }
        if !path.is_empty() {
            PathAndQuery::try_from(path).map_err(|error| format!("the path {path:?}: {error}"))?;
        }
        let Authority { host, port, user } = Authority::parse(authority)?;
        let port = port.unwrap_or(if https { 443 } else { 80 });
        Ok(Self { https, host, port, path: path.to_owned(), user })
    }

    /// `host:port`, without the port if it is that of the scheme.
    pub(crate) fn authority(&self) -> String {
        let usual = if self.https { 443 } else { 80 };
        if self.port == usual {
            in_brackets(self.host.split('%').next().unwrap_or_default())
        } else {
            host_and_port(self.host.split('%').next().unwrap_or_default(), self.port)
        }
    }

    /// Whether it is this machine, which no proxy stands before.
    pub(crate) fn is_loopback(&self) -> bool {
        self.host == "localhost" || address_of(&self.host).is_some_and(|ip| ip.is_loopback())
    }
}

/// The URL, without name and password.
impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.https { "https" } else { "http" };
        write!(f, "{scheme}://{}{}", self.authority(), self.path)
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests;
