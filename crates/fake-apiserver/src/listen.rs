//! The thread of the server: accepting connections, and stopping to.

use std::io;
use std::net::TcpListener as StdListener;
use std::sync::mpsc::Sender as Reply;
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::JoinSet;

use super::count::Counted;
use super::http::answer;
use super::shared::Shared;

/// What the handle asks of the thread.
#[derive(Debug)]
enum Command {
    /// Close the listener and all connections, then reply.
    Pause(Reply<()>),
    /// Accept on this listener, then reply.
    Listen(StdListener, Reply<io::Result<()>>),
}

/// The running thread; dropping it closes everything and ends the thread.
#[derive(Debug)]
pub(super) struct ServerThread {
    /// `None` only while it is dropped.
    commands: Option<UnboundedSender<Command>>,
    thread: Option<JoinHandle<()>>,
}

impl ServerThread {
    /// Starts the thread, accepting on the listener.
    pub(super) fn start(shared: Arc<Shared>, listener: StdListener) -> io::Result<Self> {
        let (commands, receiver) = unbounded_channel();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let thread =
            std::thread::Builder::new().name("api-server".to_owned()).spawn(move || {
                shared.costs.count_this_thread();
                runtime.block_on(serve(shared, receiver));
            })?;
        let server = Self { commands: Some(commands), thread: Some(thread) };
        server.listen(listener)?;
        Ok(server)
    }

    /// Closes the listener and every connection; returns when that is done.
    pub(super) fn pause(&self) {
        let (reply, done) = mpsc::channel();
        self.send(Command::Pause(reply));
        // An error means that the thread is gone, and the connections with it.
        let _ = done.recv();
    }

    /// Accepts on another listener.
    pub(super) fn listen(&self, listener: StdListener) -> io::Result<()> {
        let (reply, done) = mpsc::channel();
        self.send(Command::Listen(listener, reply));
        done.recv().unwrap_or_else(|_| Err(io::Error::other("the API server's thread ended")))
    }

    fn send(&self, command: Command) {
        if let Some(commands) = &self.commands {
            // Without a receiver the reply channel is closed too, which the caller notices.
            let _ = commands.send(command);
        }
    }
}

impl Drop for ServerThread {
    fn drop(&mut self) {
        self.commands = None;
        if let Some(thread) = self.thread.take() {
            // A panic of the thread was printed when it happened.
            let _ = thread.join();
        }
    }
}

/// Accepts and serves until the handle is dropped.
async fn serve(shared: Arc<Shared>, mut commands: UnboundedReceiver<Command>) {
    let mut listener: Option<TcpListener> = None;
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            command = commands.recv() => match command {
                None => return,
                Some(Command::Pause(reply)) => {
                    listener = None;
                    connections.shutdown().await;
                    // The handle may have stopped waiting.
                    let _ = reply.send(());
                }
                Some(Command::Listen(new, reply)) => {
                    let result = adopt(new);
                    let _ = reply.send(result.map(|new| listener = Some(new)));
                }
            },
            accepted = accept(listener.as_ref()) => {
                connections.spawn(serve_connection(Arc::clone(&shared), accepted));
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

fn adopt(listener: StdListener) -> io::Result<TcpListener> {
    listener.set_nonblocking(true)?;
    TcpListener::from_std(listener)
}

/// Waits for a connection; indefinitely when there is no listener.
async fn accept(listener: Option<&TcpListener>) -> TcpStream {
    let Some(listener) = listener else { return std::future::pending().await };
    loop {
        match listener.accept().await {
            Ok((stream, _)) => return stream,
            // Out of descriptors, or the peer is gone again: try later.
            Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
        }
    }
}

async fn serve_connection(shared: Arc<Shared>, stream: TcpStream) {
    // Without it each small event would wait for the acknowledgement of the last.
    let _ = stream.set_nodelay(true);
    let stream = Counted { stream, costs: Arc::clone(&shared.costs) };
    let service = service_fn(move |request| answer(Arc::clone(&shared), request));
    let mut http = http1::Builder::new();
    http.header_read_timeout(None);
    // An error is the client's: it sent no HTTP or went away.
    let _ = http.serve_connection(TokioIo::new(stream), service).await;
}
