//! Connections as hyper-util takes them.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use futures::future::BoxFuture;
use http::Uri;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;

use super::connect::{BoxedStream, Target};
use super::words::Said;

/// Makes connections to the target, whatever URL is asked for: there is only one server.
#[derive(Clone)]
pub(super) struct Connector {
    target: Arc<Target>,
    /// `None` where nothing is encrypted.
    tls: Option<Arc<ClientConfig>>,
}

/// When a connection was made.
#[derive(Clone, Copy)]
pub(super) struct Made(pub(super) Instant);

/// A connection that takes HTTP.
pub(super) struct Link {
    stream: TokioIo<BoxedStream>,
    whole_urls: bool,
    made: Made,
}

impl Connector {
    pub(super) fn new(target: Arc<Target>, tls: Option<Arc<ClientConfig>>) -> Self {
        Self { target, tls }
    }
}

impl tower::Service<Uri> for Connector {
    type Response = Link;
    type Error = Said;
    type Future = BoxFuture<'static, Result<Link, Said>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Said>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let Self { target, tls } = self.clone();
        Box::pin(async move {
            let stream = TokioIo::new(target.connect(tls).await.map_err(Said)?);
            let made = Made(Instant::now());
            Ok(Link { stream, whole_urls: target.sends_whole_urls(), made })
        })
    }
}

impl Connection for Link {
    fn connected(&self) -> Connected {
        Connected::new().proxy(self.whole_urls).extra(self.made)
    }
}

impl Read for Link {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl Write for Link {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
