//! Servers that say who they are and whom they see.
//!
//! Every answer is one line, `pod=NAME local=ADDRESS:PORT peer=ADDRESS:PORT`. TCP sends it at once
//! on accept, and again, with ` echo=TEXT` added, for each line received. UDP sends it with
//! ` echo=TEXT` for each datagram.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::os::fd::AsRawFd as _;
use std::sync::Arc;
use std::sync::mpsc;
use std::thread::JoinHandle;

use anyhow::{Context as _, anyhow};
use nix::sys::socket::{Shutdown, SockaddrStorage, connect, shutdown};
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::{mpsc as async_mpsc, watch};
use tokio::task::AbortHandle;

use super::talk;
use crate::netns::Netns;

/// What is served on an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Serve {
    /// A greeting on accept, then an answer for each line.
    Tcp,
    /// An answer for each datagram.
    Udp,
    /// One HTML page for every request, over HTTP.
    Http,
}

/// A thread in a namespace that serves any number of addresses.
///
/// Pods have one; on a node it plays a pod with host networking.
#[derive(Debug)]
pub struct Responder {
    commands: async_mpsc::UnboundedSender<Command>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
enum Command {
    Serve(Serve, SocketAddr, mpsc::Sender<io::Result<()>>),
    Close(Serve, SocketAddr, mpsc::Sender<io::Result<()>>),
    End(End),
}

/// How connections end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    NotYet,
    Fin,
    Reset,
}

impl Responder {
    /// Starts the thread; it serves nothing yet.
    ///
    /// # Errors
    /// When the process has no file descriptor left.
    pub fn start(netns: &Netns, name: &str) -> anyhow::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .build()
            .with_context(|| format!("cannot start the servers of {name}"))?;
        let (commands, receiver) = async_mpsc::unbounded_channel();
        let name: Arc<str> = name.into();
        let thread = netns.spawn(move || runtime.block_on(run(&name, receiver)));
        Ok(Self { commands, thread: Some(thread) })
    }

    /// Serves one more address; when this returns, it is bound.
    ///
    /// # Errors
    /// When it cannot be bound, or after [`Self::stop`] or [`Self::abort`].
    pub fn serve(&self, serve: Serve, address: SocketAddr) -> anyhow::Result<()> {
        self.request(|reply| Command::Serve(serve, address, reply))
            .with_context(|| format!("cannot serve {serve:?} on {address}"))
    }

    /// Stops accepting on an address, if it is served; accepted connections continue.
    pub fn close(&self, serve: Serve, address: SocketAddr) {
        // After the end nothing is accepted anyway.
        let _ = self.request(|reply| Command::Close(serve, address, reply));
    }

    /// Ends everything, with a FIN on each connection, and waits for it.
    pub fn stop(&mut self) {
        self.end(End::Fin);
    }

    /// Ends everything, with a RST on each connection, and waits for it.
    pub fn abort(&mut self) {
        self.end(End::Reset);
    }

    fn request(
        &self,
        command: impl FnOnce(mpsc::Sender<io::Result<()>>) -> Command,
    ) -> anyhow::Result<()> {
        let (reply, answer) = mpsc::channel();
        let ended = || anyhow!("the servers have been stopped");
        self.commands.send(command(reply)).map_err(|_| ended())?;
        Ok(answer.recv().map_err(|_| ended())??)
    }

    fn end(&mut self, end: End) {
        // An error means that the thread has ended already.
        let _ = self.commands.send(Command::End(end));
        if let Some(thread) = self.thread.take() {
            // Its panic has been printed, and this also runs in drop.
            let _ = thread.join();
        }
    }
}

impl Drop for Responder {
    fn drop(&mut self) {
        self.end(End::Fin);
    }
}

async fn run(name: &Arc<str>, mut commands: async_mpsc::UnboundedReceiver<Command>) {
    let (end, ending) = watch::channel(End::NotYet);
    let mut listeners: HashMap<(Serve, SocketAddr), AbortHandle> = HashMap::new();
    while let Some(command) = commands.recv().await {
        // The one who asked may be gone; nothing is owed to it then.
        match command {
            Command::Serve(serve, address, reply) => {
                let bound = bind(serve, address).await.map(|socket| {
                    let task = attend(socket, serve, Arc::clone(name), ending.clone());
                    listeners.insert((serve, address), tokio::spawn(task).abort_handle());
                });
                let _ = reply.send(bound);
            }
            Command::Close(serve, address, reply) => {
                if let Some(listener) = listeners.remove(&(serve, address)) {
                    listener.abort();
                    // The socket is closed once the task has been dropped.
                    while !listener.is_finished() {
                        tokio::task::yield_now().await;
                    }
                }
                let _ = reply.send(Ok(()));
            }
            Command::End(how) => {
                let _ = end.send(how);
                break;
            }
        }
    }
    // Every task holds a receiver until its sockets are closed.
    drop(ending);
    end.closed().await;
}

enum Socket {
    Stream(TcpListener),
    Datagram(UdpSocket),
}

/// Makes the socket deaf at once.
///
/// Closing alone does not: while another thread starts a program, the new process holds a copy of
/// every descriptor until it runs that program.
impl Drop for Socket {
    fn drop(&mut self) {
        // Neither fails on an open socket, and a failure would be noticed by the test at hand.
        match self {
            // Linux stops listening when the receiving side is shut down.
            Self::Stream(listener) => {
                let _ = shutdown(listener.as_raw_fd(), Shutdown::Read);
            }
            // Connected to itself, it takes nothing from anyone else.
            Self::Datagram(socket) => {
                if let Ok(own) = socket.local_addr() {
                    let _ = connect(socket.as_raw_fd(), &SockaddrStorage::from(own));
                }
            }
        }
    }
}

async fn bind(serve: Serve, address: SocketAddr) -> io::Result<Socket> {
    match serve {
        Serve::Tcp | Serve::Http => TcpListener::bind(address).await.map(Socket::Stream),
        Serve::Udp => UdpSocket::bind(address).await.map(Socket::Datagram),
    }
}

/// Serves one socket until it is told to end.
async fn attend(socket: Socket, serve: Serve, name: Arc<str>, mut ending: watch::Receiver<End>) {
    match &socket {
        Socket::Datagram(socket) => {
            tokio::select! {
                _ = ending.changed() => {}
                () = talk::answer_datagrams(socket, &name) => {}
            }
        }
        Socket::Stream(listener) => loop {
            let stream = tokio::select! {
                _ = ending.changed() => return,
                accepted = listener.accept() => match accepted {
                    Ok((stream, _)) => stream,
                    Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => continue,
                    // Nothing can be accepted any more; clients see that.
                    Err(_) => return,
                },
            };
            tokio::spawn(converse(stream, serve, Arc::clone(&name), ending.clone()));
        },
    }
}

/// Serves one connection until the client has enough or the server is told to end.
async fn converse(
    mut stream: TcpStream,
    serve: Serve,
    name: Arc<str>,
    mut ending: watch::Receiver<End>,
) {
    // A connection that breaks concerns its client, which sees it as well.
    let _ = tokio::select! {
        _ = ending.changed() => Ok(()),
        result = async {
            match serve {
                Serve::Http => talk::answer_request(&mut stream, &name).await,
                Serve::Tcp | Serve::Udp => talk::answer_lines(&mut stream, &name).await,
            }
        } => result,
    };
    let how = *ending.borrow();
    // Both fail only on a connection that is gone.
    if how == End::Reset {
        let _ = stream.set_zero_linger();
    } else {
        let _ = stream.shutdown().await;
    }
}
