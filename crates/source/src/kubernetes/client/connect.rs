//! Connections: TCP, through a proxy if there is one, with TLS if the server wants it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, lookup_host};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::authority::host_and_port;
use super::proxy::{Proxy, Scheme};
use super::server::Server;
use super::{tunnel, words};

/// A connection of whatever layers.
pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}
pub(super) type BoxedStream = Box<dyn Stream>;

/// The settings of TLS; `None` where nothing is encrypted.
type Tls = Option<Arc<ClientConfig>>;

/// Where connections go, and how.
pub(super) struct Target {
    pub(super) server: Server,
    pub(super) proxy: Option<Proxy>,
    pub(super) server_name: Option<String>,
    /// Longest wait for one connection, TLS included.
    pub(super) limit: Duration,
}

impl Target {
    /// Whether requests name the whole URL, for a proxy that passes on requests rather than bytes.
    pub(super) fn sends_whole_urls(&self) -> bool {
        let scheme = self.proxy.as_ref().map(|proxy| proxy.scheme);
        !self.server.https && matches!(scheme, Some(Scheme::Http | Scheme::Https))
    }

    /// Makes a connection to the server that takes HTTP.
    pub(super) async fn connect(&self, tls: Tls) -> Result<BoxedStream, String> {
        match timeout(self.limit, self.open(tls)).await {
            Ok(opened) => opened.map_err(|reason| self.blame(&reason)),
            Err(_) => Err(self.blame(&format!("no connection within {:?}", self.limit))),
        }
    }

    async fn open(&self, tls: Tls) -> Result<BoxedStream, String> {
        let server = &self.server;
        let stream = match &self.proxy {
            None => tcp(&server.host, server.port, self.limit).await?,
            Some(proxy) => self.through(proxy, tls.clone()).await?,
        };
        if !server.https {
            return Ok(stream);
        }
        handshake(tls, self.server_name.as_deref().unwrap_or(&server.host), stream).await
    }

    /// A connection to the server, made by the proxy.
    async fn through(&self, proxy: &Proxy, tls: Tls) -> Result<BoxedStream, String> {
        let mut stream = tcp(&proxy.host, proxy.port, self.limit).await?;
        if proxy.scheme == Scheme::Https {
            stream = handshake(tls, &proxy.host, stream).await?;
        }
        let (host, port) = (&self.server.host, self.server.port);
        match proxy.scheme {
            Scheme::Socks5 => {
                tunnel::socks5(&mut stream, host, port, proxy.user.as_ref()).await?;
            }
            // The proxy gets the requests themselves.
            Scheme::Http | Scheme::Https if !self.server.https => {}
            Scheme::Http | Scheme::Https => {
                tunnel::connect(&mut stream, host, port, proxy.user.as_ref()).await?;
            }
        }
        Ok(stream)
    }

    fn blame(&self, reason: &str) -> String {
        match &self.proxy {
            Some(proxy) => format!("through the proxy {proxy}: {reason}"),
            None => reason.to_owned(),
        }
    }
}

/// Connects to the first address that answers.
async fn tcp(host: &str, port: u16, limit: Duration) -> Result<BoxedStream, String> {
    let wanted = host_and_port(host, port);
    let found = lookup_host(wanted.as_str()).await;
    let found = found.map_err(|error| format!("cannot look up {host}: {error}"))?;
    let addresses: Vec<SocketAddr> = found.collect();
    // One that does not answer leaves time for the others.
    let share = limit / u32::try_from(addresses.len().max(1)).unwrap_or(1);
    let mut failure = format!("{host} has no address");
    for address in addresses {
        match timeout(share, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => {
                // Without it a small request may wait for the acknowledgement of the last.
                let _ = stream.set_nodelay(true);
                return Ok(Box::new(stream));
            }
            Ok(Err(error)) => failure = format!("{address}: {error}"),
            Err(_) => failure = format!("{address}: no connection within {share:?}"),
        }
    }
    Err(failure)
}

async fn handshake(tls: Tls, name: &str, stream: BoxedStream) -> Result<BoxedStream, String> {
    let tls = tls.ok_or("TLS is not set up")?;
    // The zone of a link-local address is no part of its name.
    let bare = name.split('%').next().unwrap_or_default().trim_end_matches('.').to_owned();
    let parsed = ServerName::try_from(bare);
    let parsed = parsed.map_err(|_| format!("{name:?} cannot be the name of a TLS server"))?;
    let connected = TlsConnector::from(tls).connect(parsed, stream).await;
    Ok(Box::new(connected.map_err(|error| words::describe(&error))?))
}
