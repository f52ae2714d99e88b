//! The proxy that stands between this node and the API server.

use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;

use super::authority::{Authority, address_of, host_and_port};
use super::server::Server;

/// A proxy.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Proxy {
    pub(crate) scheme: Scheme,
    /// A name or an address, without brackets.
    pub(crate) host: String,
    pub(crate) port: u16,
    /// Name and password.
    pub(crate) user: Option<(String, String)>,
}

/// How a proxy is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scheme {
    Http,
    Https,
    Socks5,
}

impl Proxy {
    /// Reads the URL of a proxy.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let text = text.trim();
        let (scheme, rest) = text.split_once("://").ok_or("it does not begin with a scheme")?;
        let (scheme, usual) = match scheme.to_ascii_lowercase().as_str() {
            "http" => (Scheme::Http, 80),
            "https" => (Scheme::Https, 443),
            "socks5" | "socks5h" => (Scheme::Socks5, 1080),
            other => {
                return Err(format!(
                    "the scheme is {other:?}; only http, https and socks5 are supported"
                ));
            }
        };
        let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
        let Authority { host, port, user } = Authority::parse(authority)?;
        Ok(Self { scheme, host, port: port.unwrap_or(usual), user })
    }

    /// The proxy that the environment names for a server, by the rules of Go: which variable counts is decided by the scheme of the server,
    /// and a server on this machine or in `NO_PROXY` is reached directly.
    pub(crate) fn from_environment(
        server: &Server,
        variable: impl Fn(&str) -> Option<String>,
    ) -> Option<Self> {
        let first = |names: [&str; 2]| {
            let mut values = names.into_iter().filter_map(&variable);
            values.find(|value| !value.is_empty())
        };
        let names = if server.https {
            ["HTTPS_PROXY", "https_proxy"]
        } else {
            ["HTTP_PROXY", "http_proxy"]
        };
        let text = first(names)?;
        let exceptions = first(["NO_PROXY", "no_proxy"]).unwrap_or_default();
        if server.is_loopback() || is_excepted(&exceptions, server) {
            return None;
        }
        let parsed = Self::parse(&text).or_else(|error| {
            if text.contains("://") { Err(error) } else { Self::parse(&format!("http://{text}")) }
        });
        match parsed {
            Ok(proxy) => Some(proxy),
            Err(error) => {
                tracing::warn!(
                    variable = names[0],
                    "proxy ignored: its URL is not usable: {error}"
                );
                None
            }
        }
    }

    /// `host:port`.
    pub(crate) fn authority(&self) -> String {
        host_and_port(&self.host, self.port)
    }
}

/// The URL, without name and password.
impl fmt::Display for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = match self.scheme {
            Scheme::Http => "http",
            Scheme::Https => "https",
            Scheme::Socks5 => "socks5",
        };
        write!(f, "{scheme}://{}", self.authority())
    }
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Whether `NO_PROXY` names a server: by name, suffix, address or network, each with or without a port.
fn is_excepted(exceptions: &str, server: &Server) -> bool {
    let address = address_of(&server.host).map(|ip| ip.to_canonical());
    let mut entries = exceptions.split(',').map(|entry| entry.trim().to_ascii_lowercase());
    entries.any(|entry| entry == "*" || names(&entry, server, address))
}

/// Whether one entry of `NO_PROXY` names a server.
fn names(entry: &str, server: &Server, address: Option<IpAddr>) -> bool {
    if let Ok(network) = entry.parse::<IpNet>() {
        return address.is_some_and(|address| network.contains(&address));
    }
    let Some((host, port)) = split_entry(entry) else { return false };
    if port.is_some_and(|port| port != server.port.to_string()) {
        return false;
    }
    if let Ok(named) = host.parse::<IpAddr>() {
        return address == Some(named.to_canonical());
    }
    // `*.example.com` is `.example.com`: what lies below, not the name itself.
    let host = host.strip_prefix('*').filter(|rest| rest.starts_with('.')).unwrap_or(host);
    match host.strip_prefix('.') {
        Some(suffix) => is_below(&server.host, suffix),
        None => server.host == host || is_below(&server.host, host),
    }
}

/// `host` and `host:port`, with brackets around IPv6 addresses or without; `None` without a host.
fn split_entry(entry: &str) -> Option<(&str, Option<&str>)> {
    let (host, port) = match entry.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((host, rest)) => (host, rest.strip_prefix(':')),
        None if entry.matches(':').count() == 1 => {
            let (host, port) = entry.split_once(':')?;
            (host, Some(port))
        }
        None => (entry, None),
    };
    (!host.is_empty()).then_some((host, port.filter(|port| !port.is_empty())))
}

/// Whether a name ends in `.suffix`.
fn is_below(name: &str, suffix: &str) -> bool {
    name.strip_suffix(suffix).is_some_and(|rest| rest.ends_with('.'))
}

#[cfg(test)]
mod tests;
