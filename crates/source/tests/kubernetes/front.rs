//! What stands before the API server: it takes TLS, or answers in its place.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use fake_apiserver::ApiServer;
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio_rustls::TlsAcceptor;

/// A listener on a thread of its own. Dropping it closes it and its connections.
pub(crate) struct Front {
    pub(crate) address: SocketAddr,
    pub(crate) state: Arc<State>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

pub(crate) struct State {
    upstream: SocketAddr,
    tls: Mutex<Option<Arc<ServerConfig>>>,
    /// Answers that the next connections get instead of those of the API server.
    canned: Mutex<VecDeque<Vec<u8>>>,
    /// The certificates of clients, one for each connection.
    clients: Mutex<Vec<Option<Vec<u8>>>>,
    open: AtomicUsize,
}

impl Front {
    pub(crate) fn plain(server: &ApiServer) -> Self {
        Self::start(server, None)
    }

    pub(crate) fn tls(server: &ApiServer, config: Arc<ServerConfig>) -> Self {
        Self::start(server, Some(config))
    }

    fn start(server: &ApiServer, tls: Option<Arc<ServerConfig>>) -> Self {
        let state = Arc::new(State {
            upstream: server.address(),
            tls: Mutex::new(tls),
            canned: Mutex::default(),
            clients: Mutex::default(),
            open: AtomicUsize::new(0),
        });
        let shared = state.clone();
        let serve = move |stream| serve(shared.clone(), stream);
        let (address, stop, thread) = listen(serve);
        Self { address, state, stop: Some(stop), thread: Some(thread) }
    }

    /// Connections from now on get this certificate.
    pub(crate) fn replace(&self, config: Arc<ServerConfig>) {
        *self.state.tls.lock().unwrap() = Some(config);
    }

    /// The next connection gets these bytes as its answer, and is closed.
    pub(crate) fn answer(&self, bytes: &[u8]) {
        self.state.canned.lock().unwrap().push_back(bytes.to_vec());
    }

    /// How many canned answers are left.
    pub(crate) fn unanswered(&self) -> usize {
        self.state.canned.lock().unwrap().len()
    }

    /// Connections made so far.
    pub(crate) fn connections(&self) -> usize {
        self.state.clients.lock().unwrap().len()
    }

    /// The certificates of the clients that are known so far, in PEM-less bytes.
    pub(crate) fn clients(&self) -> Vec<Option<Vec<u8>>> {
        self.state.clients.lock().unwrap().clone()
    }

    pub(crate) fn open(&self) -> usize {
        self.state.open.load(Ordering::SeqCst)
    }
}

impl Drop for Front {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

/// Serves connections on a free port of the loopback interface until the sender is dropped.
pub(crate) fn listen<F: Future<Output = ()> + Send + 'static>(
    serve: impl Fn(TcpStream) -> F + Send + 'static,
) -> (SocketAddr, oneshot::Sender<()>, std::thread::JoinHandle<()>) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, mut stopped) = oneshot::channel::<()>();
    let thread = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async move {
            let listener = TcpListener::from_std(listener).unwrap();
            loop {
                tokio::select! {
                    _ = &mut stopped => return,
                    accepted = listener.accept() => drop(tokio::spawn(serve(accepted.unwrap().0))),
                }
            }
        });
    });
    (address, stop, thread)
}

async fn serve(state: Arc<State>, stream: TcpStream) {
    let tls = state.tls.lock().unwrap().clone();
    let Some(tls) = tls else {
        state.clients.lock().unwrap().push(None);
        return answer(&state, stream).await;
    };
    let Ok(stream) = TlsAcceptor::from(tls).accept(stream).await else { return };
    let client = stream.get_ref().1.peer_certificates();
    let client = client.and_then(|chain| Some(chain.first()?.to_vec()));
    state.clients.lock().unwrap().push(client);
    answer(&state, stream).await;
}

async fn answer(state: &State, mut stream: impl AsyncRead + AsyncWrite + Unpin) {
    let canned = state.canned.lock().unwrap().pop_front();
    if let Some(bytes) = canned {
        let _ = stream.read(&mut vec![0; 65536]).await;
        let _ = stream.write_all(&bytes).await;
        let _ = stream.shutdown().await;
        return;
    }
    let Ok(mut upstream) = TcpStream::connect(state.upstream).await else { return };
    state.open.fetch_add(1, Ordering::SeqCst);
    let _ = copy_bidirectional(&mut stream, &mut upstream).await;
    state.open.fetch_sub(1, Ordering::SeqCst);
}
