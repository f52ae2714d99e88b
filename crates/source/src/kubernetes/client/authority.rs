//! The part of a URL between scheme and path: `user:password@host:port`.

use std::net::{IpAddr, Ipv6Addr};

/// A host and what stands around it.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Authority {
    /// A name or an address, without brackets, in lower case.
    pub(crate) host: String,
    pub(crate) port: Option<u16>,
    /// Name and password, decoded.
    pub(crate) user: Option<(String, String)>,
}

impl Authority {
    /// The error says what is wrong, without repeating a password.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let (user, rest) = match text.rsplit_once('@') {
            Some((user, rest)) => (Some(user), rest),
            None => (None, text),
        };
        let user = user.map(|user| {
            let (name, password) = user.split_once(':').unwrap_or((user, ""));
            (decode_percent(name), decode_percent(password))
        });
        let (host, port) = split_port(rest)?;
        Ok(Self { host: checked_host(host)?, port: parse_port(port)?, user })
    }
}

/// `host:port`, as a `Host` header and a `CONNECT` request have it.
pub(crate) fn host_and_port(host: &str, port: u16) -> String {
    format!("{}:{port}", in_brackets(host))
}

/// IPv6 addresses stand in brackets.
pub(crate) fn in_brackets(host: &str) -> String {
    if host.contains(':') { format!("[{host}]") } else { host.to_owned() }
}

/// Splits off the port, which may be empty or missing.
fn split_port(text: &str) -> Result<(&str, &str), String> {
    if text.starts_with('[') {
        let (host, rest) =
            text.split_once(']').ok_or("the bracket of the address is not closed")?;
        let port = match rest.strip_prefix(':') {
            Some(port) => port,
            None if rest.is_empty() => "",
            None => return Err(format!("{rest:?} follows the address")),
        };
        // The bracket stays, as the sign of an IPv6 address.
        return Ok((host, port));
    }
    match text.split_once(':') {
        None => Ok((text, "")),
        Some((_, port)) if port.contains(':') => {
            Err("an IPv6 address has to stand in brackets: [2001:db8::1]".to_owned())
        }
        Some((host, port)) => Ok((host, port)),
    }
}

fn checked_host(host: &str) -> Result<String, String> {
    if let Some(address) = host.strip_prefix('[') {
        let address = address.replace("%25", "%");
        let (bare, _) = address.split_once('%').unwrap_or((&address, ""));
        let parsed = bare.parse::<Ipv6Addr>();
        parsed.map_err(|_| format!("{bare:?} is no IPv6 address"))?;
        return Ok(address.to_ascii_lowercase());
    }
    if host.is_empty() {
        return Err("it names no host".to_owned());
    }
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
    match host.chars().find(|c| !allowed(*c)) {
        Some(c) => Err(format!("a host name cannot contain {c:?}")),
        None => Ok(host.to_ascii_lowercase()),
    }
}

fn parse_port(port: &str) -> Result<Option<u16>, String> {
    if port.is_empty() {
        return Ok(None);
    }
    let parsed = port.parse::<u16>().ok().filter(|port| *port > 0);
    parsed.map(Some).ok_or_else(|| format!("{port:?} is no port"))
}

/// Replaces `%41` by `A`; what is no such escape stays.
fn decode_percent(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let escape = bytes.get(at + 1..at + 3).filter(|_| bytes[at] == b'%');
        let digits = escape.and_then(|hex| std::str::from_utf8(hex).ok());
        let digits = digits.filter(|hex| hex.bytes().all(|digit| digit.is_ascii_hexdigit()));
        let byte = digits.and_then(|hex| u8::from_str_radix(hex, 16).ok());
        decoded.push(byte.unwrap_or(bytes[at]));
        at += if byte.is_some() { 3 } else { 1 };
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

/// The address that a host is, if it is none that has to be looked up. Zones of link-local addresses are left out.
pub(crate) fn address_of(host: &str) -> Option<IpAddr> {
    host.split('%').next()?.parse().ok()
}
