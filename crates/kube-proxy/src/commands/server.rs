//! The running proxy, as commands reach it: over HTTP at its metrics address.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail};
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Bytes;
use hyper::header::HOST;
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Longest time for a whole answer: the proxy may be in the middle of a sync.
const PATIENCE: Duration = Duration::from_mins(1);

/// Where the proxy is asked.
#[derive(Clone, Copy, Debug, clap::Args)]
pub(super) struct Server {
    /// Address of the metrics server of the running kube-proxy
    #[arg(long, value_name = "IP:PORT", default_value = "127.0.0.1:10249")]
    pub(super) server: SocketAddr,
}

impl Server {
    /// Asks for a page of JSON, such as `/debug/services`, with these parameters.
    ///
    /// # Errors
    /// What keeps the proxy from answering, in a sentence for the person who asked.
    pub(super) async fn get<T: DeserializeOwned>(
        &self,
        path: &str,
        parameters: &[(&str, &str)],
    ) -> anyhow::Result<T> {
        let body = self.body(path, parameters).await?;
        serde_json::from_slice(&body).with_context(|| {
            format!("{} answered {path}, but not as this version does", self.server)
        })
    }

    /// Asks for a page of text.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub(super) async fn page(&self, path: &str) -> anyhow::Result<String> {
        Ok(String::from_utf8_lossy(&self.body(path, &[]).await?).into_owned())
    }

    async fn body(&self, path: &str, parameters: &[(&str, &str)]) -> anyhow::Result<Bytes> {
        let address = self.server;
        let (status, body) = timeout(PATIENCE, self.request(path, parameters))
            .await
            .map_err(|_| anyhow!("{address} gave no answer within {} s", PATIENCE.as_secs()))??;
        match status {
            StatusCode::OK => Ok(body),
            StatusCode::NOT_FOUND => bail!(
                "{address} has no page {path}: the kube-proxy there is another program or an older version, \
                 or it runs with --debug-pages=false"
            ),
            status => bail!("{address}: {} ({status})", String::from_utf8_lossy(&body).trim()),
        }
    }

    async fn request(
        &self,
        path: &str,
        parameters: &[(&str, &str)],
    ) -> anyhow::Result<(StatusCode, Bytes)> {
        let address = self.server;
        let stream = TcpStream::connect(address).await.with_context(|| {
            format!(
                "no kube-proxy answers at {address}: it does not run here, or --metrics-bind-address has another \
                 address, which --server names; explain, check and plan also answer from --manifests or --kubeconfig"
            )
        })?;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        let connection = tokio::spawn(connection);
        let pairs = parameters.iter().map(|(name, value)| format!("{name}={}", escaped(value)));
        let query = pairs.collect::<Vec<_>>().join("&");
        let request = Request::get(format!("{path}?{query}"))
            .header(HOST, address.to_string())
            .body(Empty::<Bytes>::new())?;
        let answer = sender.send_request(request).await;
        let answer = answer.with_context(|| format!("{address} does not speak HTTP"))?;
        let status = answer.status();
        let body = answer.into_body().collect().await;
        let body = body.with_context(|| format!("the answer of {address} broke off"))?.to_bytes();
        connection.abort();
        Ok((status, body))
    }
}

/// A value as it may stand in a query.
fn escaped(value: &str) -> String {
    let escape = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' | b':' => {
            char::from(byte).to_string()
        }
        other => format!("%{other:02X}"),
    };
    value.bytes().map(escape).collect()
}
