//! What stands under the client of `kube`: connections, credentials, and what happens when they are replaced.
//!
//! `kube` builds the URLs and queues the requests, hyper-util keeps the connections; ours are how a connection is made, how TLS is set up
//! and who we say we are. The parts of `kube` that do the same read certificates and keys only once, match `NO_PROXY` against the proxy
//! instead of the server, and refuse a server whose certificate is itself the trust anchor.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use http::header::{AUTHORIZATION, HeaderMap, HeaderValue, PROXY_AUTHORIZATION, USER_AGENT};
use http::request::Parts;
use http::{Extensions, Request, Response, StatusCode, Uri};
use hyper::body::Incoming;
use hyper_util::client::legacy;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use kube::client::Body;
use kube::client::middleware::BaseUriLayer;
use rustls::ClientConfig;
use tokio::sync::watch;
use tower::Layer;

mod authority;
mod connect;
mod connector;
mod credentials;
mod der;
pub(super) mod exec;
mod presented;
mod proxy;
mod server;
mod settings;
pub(super) mod tls;
mod tunnel;
mod verify;
pub(super) mod words;

pub(super) use authority::host_and_port;
use connect::Target;
use connector::{Connector, Made};
pub(super) use credentials::Credentials;
use presented::Presented;
pub(super) use proxy::Proxy;
use proxy::Scheme;
pub(super) use server::Server;
pub(super) use settings::Settings;
use tls::{Identity, Material, TlsSettings};
use words::Said;

/// Idle connections are closed after this time.
const MAX_IDLE: Duration = Duration::from_secs(90);
/// Most idle connections that are kept.
const MAX_CONNECTIONS: usize = 8;

/// Sends HTTP requests over connections that it keeps.
type Http = legacy::Client<Connector, Body>;

/// Sends requests to one server.
pub(super) struct Transport {
    target: Arc<Target>,
    tls: TlsSettings,
    credentials: Credentials,
    /// Headers of every request.
    headers: Vec<(http::HeaderName, HeaderValue)>,
    authority: String,
    /// What stands before the path of every request.
    base: Uri,
    compression: bool,
    state: Mutex<State>,
    /// Counts how often certificates or keys were replaced.
    generation: watch::Sender<u64>,
}

/// The certificates and keys in use.
struct State {
    material: Material,
    /// Makes connections with them, and keeps those.
    http: Http,
    /// The certificate of a credential plugin.
    provided: Option<Arc<Identity>>,
    /// The files cannot be used at present, and the log says so.
    broken: bool,
}

impl Transport {
    /// Reads certificates and keys; connects to nothing.
    pub(super) fn new(settings: Settings, limit: Duration) -> Result<Self, String> {
        let Settings { server, proxy, tls, credentials, compression, mut headers } = settings;
        let authority = server.authority();
        let url = server.to_string();
        let base = url.parse().map_err(|error| format!("the URL {url}: {error}"))?;
        let agent = HeaderValue::from_static(concat!("kube-proxy/", env!("CARGO_PKG_VERSION")));
        headers.push((USER_AGENT, agent));
        let server_name = tls.server_name.clone();
        let target = Arc::new(Target { server, proxy, server_name, limit });
        if let Some(user) = target.proxy.as_ref().and_then(|proxy| proxy.user.as_ref())
            && target.sends_whole_urls()
        {
            let value = HeaderValue::try_from(tunnel::authorization(user));
            headers.push((PROXY_AUTHORIZATION, value.map_err(|error| error.to_string())?));
        }
        let (mut material, mut config) = (Material::default(), None);
        if encrypts(&target) {
            material = tls.read(None)?;
            config = Some(tls.build(&material)?);
        }
        let http = http(&target, config);
        let state = Mutex::new(State { material, http, provided: None, broken: false });
        let generation = watch::Sender::new(0);
        Ok(Self {
            target,
            tls,
            credentials,
            headers,
            authority,
            base,
            compression,
            state,
            generation,
        })
    }

    /// The client over this transport. It spawns a task, so a runtime of tokio has to be there.
    pub(super) fn client(self: &Arc<Self>) -> kube::Client {
        let transport = self.clone();
        let service = tower::service_fn(move |request| {
            let transport = transport.clone();
            async move { transport.send(request).await }
        });
        kube::Client::new(BaseUriLayer::new(self.base.clone()).layer(service), "default")
    }

    /// `host:port` of the server.
    pub(super) fn authority(&self) -> &str {
        &self.authority
    }

    /// Whether lists may be asked for in a compressed form.
    pub(super) fn compresses(&self) -> bool {
        self.compression
    }

    /// Changes when certificates or keys are replaced.
    pub(super) fn generation(&self) -> watch::Receiver<u64> {
        self.generation.subscribe()
    }

    /// Reads the files of certificates and keys again, every so often. Never ends.
    pub(super) async fn follow_files(&self, period: Duration) {
        loop {
            tokio::time::sleep(period).await;
            self.reload();
        }
    }

    /// Sends a request with credentials; the head of the answer.
    async fn send(&self, request: Request<Body>) -> Result<Response<Incoming>, Said> {
        let presented = self.credentials.present().await.map_err(Said)?;
        if let Some(identity) = &presented.identity {
            self.use_identity(identity).map_err(Said)?;
        }
        let (mut head, body) = request.into_parts();
        self.add_headers(&mut head.headers, &presented);
        let response = self.exchange(&head, body).await?;
        if response.status() == StatusCode::UNAUTHORIZED {
            self.credentials.rejected(&presented).await;
        }
        Ok(response)
    }

    /// Sends over a connection that is open, or over a new one. What only reads is sent again if the server has closed the open one.
    async fn exchange(&self, head: &Parts, body: Body) -> Result<Response<Incoming>, Said> {
        let http = self.state().http.clone();
        let begun = Instant::now();
        loop {
            let body = body.try_clone();
            let body = body.ok_or_else(|| Said("the request can be sent only once".to_owned()))?;
            match http.request(Request::from_parts(head.clone(), body)).await {
                Ok(response) => return Ok(response),
                Err(error) if head.method.is_safe() && was_open(&error, begun) => {}
                Err(error) => return Err(Said::of(&error)),
            }
        }
    }

    /// Adds to a request what all have.
    fn add_headers(&self, headers: &mut HeaderMap, presented: &Presented) {
        for (name, value) in &self.headers {
            headers.append(name, value.clone());
        }
        if let Some(header) = &presented.header {
            headers.insert(AUTHORIZATION, header.clone());
        }
    }

    /// From now on the certificate of a plugin is the one we present.
    fn use_identity(&self, identity: &Arc<Identity>) -> Result<(), String> {
        let mut state = self.state();
        if state.provided.as_ref() == Some(identity) || !encrypts(&self.target) {
            return Ok(());
        }
        let material = self.tls.read(Some(identity))?;
        let config = self.tls.build(&material)?;
        state.provided = Some(identity.clone());
        self.replace(&mut state, material, config);
        Ok(())
    }

    /// Reads the files again, and uses what they contain if it differs. Files that cannot be used are left for the next time: the program that
    /// replaces them may not be done.
    fn reload(&self) {
        if !encrypts(&self.target) {
            return;
        }
        let mut state = self.state();
        let read = self.tls.read(state.provided.as_deref()).and_then(|material| {
            if material == state.material {
                return Ok(None);
            }
            let config = self.tls.build(&material)?;
            Ok(Some((material, config)))
        });
        match read {
            Ok(None) => state.broken = false,
            Ok(Some((material, config))) => {
                state.broken = false;
                tracing::info!("certificate files were replaced; connecting again with them");
                self.replace(&mut state, material, config);
            }
            Err(reason) if !state.broken => {
                state.broken = true;
                tracing::warn!(
                    "certificate files cannot be used, the last ones are kept: {reason}"
                );
            }
            Err(_) => {}
        }
    }

    /// New connections use these. Idle ones are closed, and those in use report that they are outdated.
    fn replace(&self, state: &mut State, material: Material, config: ClientConfig) {
        state.material = material;
        state.http = http(&self.target, Some(config));
        self.generation.send_modify(|generation| *generation += 1);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether anything is encrypted: what the server gets, or what a proxy gets.
fn encrypts(target: &Target) -> bool {
    let by_proxy = target.proxy.as_ref().is_some_and(|proxy| proxy.scheme == Scheme::Https);
    target.server.https || by_proxy
}

/// Connections with these settings of TLS, none of them made yet.
fn http(target: &Arc<Target>, config: Option<ClientConfig>) -> Http {
    legacy::Client::builder(TokioExecutor::new())
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(MAX_IDLE)
        .pool_max_idle_per_host(MAX_CONNECTIONS)
        .build(Connector::new(target.clone(), config.map(Arc::new)))
}

/// Whether the connection was there before the request: the server may close such a one at any time.
fn was_open(error: &legacy::Error, begun: Instant) -> bool {
    let mut extras = Extensions::new();
    if let Some(connection) = error.connect_info() {
        connection.get_extras(&mut extras);
    }
    extras.get::<Made>().is_some_and(|made| made.0 < begun)
}

/// Whether a certificate can be read as far as it is.
#[cfg(feature = "fuzzing")]
pub(super) fn has_facts(certificate: &[u8]) -> bool {
    der::facts(certificate).is_some()
}
