//! Proxies: HTTP with CONNECT and with whole URLs, and SOCKS5.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex};

use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, copy_bidirectional};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio_rustls::TlsAcceptor;

use super::front::listen;

/// What a proxy speaks.
#[derive(Clone)]
pub(crate) enum Speaks {
    Http,
    Https(Arc<ServerConfig>),
    Socks5,
}

/// A proxy that connects to one place, whatever it is asked for, and remembers what that was.
pub(crate) struct ProxyServer {
    pub(crate) address: SocketAddr,
    asked: Arc<Mutex<Vec<String>>>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

#[derive(Clone)]
struct Settings {
    upstream: SocketAddr,
    /// `name:password` that it asks for.
    user: Option<&'static str>,
    asked: Arc<Mutex<Vec<String>>>,
}

impl ProxyServer {
    pub(crate) fn start(speaks: Speaks, upstream: SocketAddr, user: Option<&'static str>) -> Self {
        let asked = Arc::new(Mutex::default());
        let settings = Settings { upstream, user, asked: Arc::clone(&asked) };
        let (address, stop, thread) = listen(move |stream| {
            let (speaks, settings) = (speaks.clone(), settings.clone());
            async move {
                // The client goes away at any time.
                let _ = match speaks {
                    Speaks::Http => http(settings, stream).await,
                    Speaks::Socks5 => socks5(settings, stream).await,
                    Speaks::Https(tls) => match TlsAcceptor::from(tls).accept(stream).await {
                        Ok(stream) => http(settings, stream).await,
                        Err(error) => Err(error),
                    },
                };
            }
        });
        Self { address, asked, stop: Some(stop), thread: Some(thread) }
    }

    /// What it was asked to connect to, or the line of a request.
    pub(crate) fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

impl Drop for ProxyServer {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

async fn http(
    settings: Settings,
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
) -> std::io::Result<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await?);
    }
    let text = String::from_utf8(head.clone()).unwrap();
    let line = text.lines().next().unwrap().to_owned();
    settings.asked.lock().unwrap().push(line.clone());
    if let Some(user) = settings.user {
        let expected = format!("Basic {}", data_encoding::BASE64.encode(user.as_bytes()));
        let sent = text.lines().find_map(|line| {
            let (name, value) = line.split_once(": ")?;
            name.eq_ignore_ascii_case("proxy-authorization").then_some(value)
        });
        if sent != Some(&expected) {
            let refusal =
                b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n";
            return stream.write_all(refusal).await;
        }
    }
    let mut upstream = TcpStream::connect(settings.upstream).await?;
    if line.starts_with("CONNECT ") {
        stream.write_all(b"HTTP/1.1 200 Connection established\r\nX-Via: test\r\n\r\n").await?;
    } else {
        // From the whole URL to the path, for this request only.
        let url = line.split(' ').nth(1).unwrap();
        let path = &url[url.find("://").unwrap() + 3..];
        let path = &path[path.find('/').unwrap()..];
        upstream.write_all(text.replacen(url, path, 1).as_bytes()).await?;
    }
    copy_bidirectional(&mut stream, &mut upstream).await.map(|_| ())
}

async fn socks5(settings: Settings, mut stream: TcpStream) -> std::io::Result<()> {
    assert_eq!(stream.read_u8().await?, 5);
    let mut methods = vec![0; usize::from(stream.read_u8().await?)];
    stream.read_exact(&mut methods).await?;
    if let Some(user) = settings.user {
        if !methods.contains(&2) {
            return stream.write_all(&[5, 0xff]).await;
        }
        stream.write_all(&[5, 2]).await?;
        assert_eq!(stream.read_u8().await?, 1);
        let sent = format!("{}:{}", text(&mut stream).await?, text(&mut stream).await?);
        if sent != user {
            return stream.write_all(&[1, 1]).await;
        }
        stream.write_all(&[1, 0]).await?;
    } else {
        stream.write_all(&[5, 0]).await?;
    }
    let mut request = [0; 4];
    stream.read_exact(&mut request).await?;
    assert_eq!(request[..3], [5, 1, 0]);
    let host = match request[3] {
        1 => Ipv4Addr::from(stream.read_u32().await?).to_string(),
        4 => Ipv6Addr::from(stream.read_u128().await?).to_string(),
        _ => text(&mut stream).await?,
    };
    let port = stream.read_u16().await?;
    settings.asked.lock().unwrap().push(format!("{host} {port}"));
    match TcpStream::connect(settings.upstream).await {
        Ok(mut upstream) => {
            // The answer names the proxy by a name, which is allowed and rare.
            stream.write_all(&[5, 0, 0, 3, 1, b'p', 0, 80]).await?;
            copy_bidirectional(&mut stream, &mut upstream).await.map(|_| ())
        }
        Err(_) => stream.write_all(&[5, 5, 0, 1, 0, 0, 0, 0, 0, 0]).await,
    }
}

async fn text(stream: &mut TcpStream) -> std::io::Result<String> {
    let mut bytes = vec![0; usize::from(stream.read_u8().await?)];
    stream.read_exact(&mut bytes).await?;
    Ok(String::from_utf8(bytes).unwrap())
}
