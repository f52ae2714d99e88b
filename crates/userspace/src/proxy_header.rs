//! The PROXY protocol: what a connection begins with to tell an endpoint who the client is
//! (`doc/proxy-protocol.txt` of `HAProxy`, versions 1 and 2).

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use kube_proxy_core::ServicePort;

/// The annotation of a Service that says what connections to its endpoints begin with.
pub(crate) const ANNOTATION: &str = "kube-proxy.io/userspace-proxy-protocol";

/// How the address of a client is handed on to an endpoint that sees only the proxy (PROXY protocol,
/// `doc/proxy-protocol.txt` of its inventors).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ProxyProtocol {
    /// Version 1: a line of text.
    V1,
    /// Version 2: binary.
    V2,
}

impl ProxyProtocol {
    /// What the Service of a port asks for; a source reports values that mean nothing.
    pub(crate) fn of(port: &ServicePort) -> Option<Self> {
        match port.policy.annotation(ANNOTATION)? {
            "v1" => Some(Self::V1),
            "v2" => Some(Self::V2),
            _ => None,
        }
    }
}
use nix::sys::socket::{getsockopt, sockopt};
use tokio::net::TcpStream;

/// What version 2 starts with.
const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";
/// Version 2, command PROXY.
const PROXY: u8 = 0x21;
const TCP_OVER_IPV4: u8 = 0x11;
const TCP_OVER_IPV6: u8 = 0x21;

/// The header for a TCP connection of `client` to `service`.
pub(crate) fn header(version: ProxyProtocol, client: SocketAddr, service: SocketAddr) -> Vec<u8> {
    match version {
        ProxyProtocol::V1 => {
            let family = if client.is_ipv4() { "TCP4" } else { "TCP6" };
            let ((from, from_port), (to, to_port)) =
                ((client.ip(), client.port()), (service.ip(), service.port()));
            format!("PROXY {family} {from} {to} {from_port} {to_port}\r\n").into_bytes()
        }
        ProxyProtocol::V2 => {
            let mut header = SIGNATURE.to_vec();
            let (family, length) =
                if client.is_ipv4() { (TCP_OVER_IPV4, 12_u16) } else { (TCP_OVER_IPV6, 36) };
            header.extend([PROXY, family]);
            header.extend(length.to_be_bytes());
            for address in [client.ip(), service.ip()] {
                match address {
                    IpAddr::V4(ip) => header.extend(ip.octets()),
                    IpAddr::V6(ip) => header.extend(ip.octets()),
                }
            }
            header.extend(client.port().to_be_bytes());
            header.extend(service.port().to_be_bytes());
            header
        }
    }
}

/// Where the client connected to, before the rules sent it here.
pub(crate) fn destination(client: &TcpStream) -> SocketAddr {
    let own = client.local_addr().unwrap_or_else(|_| SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)));
    let original = match own {
        SocketAddr::V4(_) => getsockopt(client, sockopt::OriginalDst).ok().map(|address| {
            let ip = Ipv4Addr::from(u32::from_be(address.sin_addr.s_addr));
            SocketAddr::from((ip, u16::from_be(address.sin_port)))
        }),
        SocketAddr::V6(_) => getsockopt(client, sockopt::Ip6tOriginalDst).ok().map(|address| {
            SocketAddr::from((address.sin6_addr.s6_addr, u16::from_be(address.sin6_port)))
        }),
    };
    original.unwrap_or(own)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> SocketAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn version_1_is_a_line() {
        let v4 = header(ProxyProtocol::V1, address("172.18.0.250:54321"), address("10.96.0.10:80"));
        assert_eq!(v4, b"PROXY TCP4 172.18.0.250 10.96.0.10 54321 80\r\n");
        let v6 = header(ProxyProtocol::V1, address("[2001:db8::1]:5"), address("[fd00::2]:80"));
        assert_eq!(v6, b"PROXY TCP6 2001:db8::1 fd00::2 5 80\r\n");
    }

    #[test]
    fn version_2_is_binary() {
        let v4 = header(ProxyProtocol::V2, address("1.2.3.4:258"), address("5.6.7.8:80"));
        let expected =
            b"\r\n\r\n\0\r\nQUIT\n\x21\x11\x00\x0c\x01\x02\x03\x04\x05\x06\x07\x08\x01\x02\x00\x50";
        assert_eq!(v4, expected);
        let v6 = header(ProxyProtocol::V2, address("[::1]:1"), address("[::2]:2"));
        assert_eq!(v6.len(), 16 + 36);
        assert_eq!(v6[12..16], [0x21, 0x21, 0, 36]);
        assert_eq!(v6[16 + 15], 1);
        assert_eq!(v6[16 + 31], 2);
    }
}
