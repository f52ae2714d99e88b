//! Copying between a client and an endpoint, both ways at once.
//!
//! An idle connection holds no buffer: what is read lies in a buffer of the thread and is written at once.
//! Only what the other side does not take now is kept with the connection, and while it is, nothing more is read:
//! that is the back pressure, and the bound of the memory.
//!
//! A direction that carries much is moved by `splice(2)` through a pipe, without copying to this process and back.
//! The pipe goes back to the thread's store when the direction pauses.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, SpliceFFlags, fcntl, splice};
use nix::unistd::pipe2;
use tokio::io::{AsyncRead as _, AsyncWrite as _, Interest, ReadBuf};
use tokio::net::TcpStream;
use tokio::net::tcp::{ReadHalf, WriteHalf};

use crate::copy_strategy::CopyStrategy;
use crate::service::Counted;

/// What one read takes at most.
const BUFFER: usize = 64 * 1024;

/// What a pipe holds.
const PIPE: usize = 256 * 1024;

/// This many reads that fill the buffer in a row are worth a pipe.
const FULL_READS: u32 = 4;

/// Less than this is not worth a pipe.
const LITTLE: usize = 16 * 1024;

/// This many pipes are kept by each thread.
const STORED_PIPES: usize = 64;

thread_local! {
    static PIPES: RefCell<Vec<Pipe>> = const { RefCell::new(Vec::new()) };
    static SCRATCH: RefCell<Box<[u8]>> = RefCell::new(vec![0; BUFFER].into_boxed_slice());
}

/// Copies until both sides have said that they are done, or one of them fails.
pub(crate) async fn relay(
    client: &mut TcpStream,
    server: &mut TcpStream,
    counted: &Counted,
    strategy: CopyStrategy,
) -> io::Result<()> {
    let (client_read, client_write) = client.split();
    let (server_read, server_write) = server.split();
    let mut up = Direction::new(client_read, server_write, strategy);
    let mut down = Direction::new(server_read, client_write, strategy);
    poll_fn(|context| {
        let up = up.poll(context, &|bytes| counted.sent(bytes))?;
        let down = down.poll(context, &|bytes| counted.received(bytes))?;
        if up.is_ready() && down.is_ready() { Poll::Ready(Ok(())) } else { Poll::Pending }
    })
    .await
}

struct Direction<'a> {
    from: ReadHalf<'a>,
    to: WriteHalf<'a>,
    strategy: CopyStrategy,
    /// Read, but not yet taken by the other side.
    rest: Vec<u8>,
    /// How much of the rest was taken.
    taken: usize,
    /// Reads in a row that tell for a pipe, or, while it is spliced, against it.
    streak: u32,
    spliced: bool,
    /// Only while there is something in it.
    pipe: Option<Pipe>,
    stage: Stage,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    Open,
    /// The end was read; it is to be passed on.
    Ending,
    Done,
}

struct Pipe {
    read: OwnedFd,
    write: OwnedFd,
    /// How much is in it.
    filled: usize,
}

impl<'a> Direction<'a> {
    fn new(from: ReadHalf<'a>, to: WriteHalf<'a>, strategy: CopyStrategy) -> Self {
        Self {
            from,
            to,
            strategy,
            rest: Vec::new(),
            taken: 0,
            streak: 0,
            spliced: false,
            pipe: None,
            stage: Stage::Open,
        }
    }

    /// Moves what can be moved now. Ready once the end was passed on.
    fn poll(&mut self, context: &mut Context<'_>, count: &dyn Fn(usize)) -> Poll<io::Result<()>> {
        loop {
            ready!(self.write_rest(context))?;
            ready!(self.empty_pipe(context))?;
            match self.stage {
                Stage::Done => return Poll::Ready(Ok(())),
                Stage::Ending => {
                    // Half of the connection ends; the other direction continues.
                    match ready!(Pin::new(&mut self.to).poll_shutdown(context)) {
                        Err(error) if error.kind() != io::ErrorKind::NotConnected => {
                            return Poll::Ready(Err(error));
                        }
                        _ => self.stage = Stage::Done,
                    }
                }
                Stage::Open if self.spliced => ready!(self.fill_pipe(context, count))?,
                Stage::Open => ready!(self.copy(context, count))?,
            }
        }
    }

    fn write_rest(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.taken < self.rest.len() {
            let rest = &self.rest[self.taken..];
            self.taken += ready!(Pin::new(&mut self.to).poll_write(context, rest))?;
        }
        if self.taken > 0 {
            self.rest = Vec::new();
            self.taken = 0;
        }
        Poll::Ready(Ok(()))
    }

    /// One read, and one attempt to write it.
    fn copy(&mut self, context: &mut Context<'_>, count: &dyn Fn(usize)) -> Poll<io::Result<()>> {
        SCRATCH.with_borrow_mut(|scratch| {
            let mut buffer = ReadBuf::new(scratch);
            ready!(Pin::new(&mut self.from).poll_read(context, &mut buffer))?;
            let read = buffer.filled();
            if read.is_empty() {
                self.stage = Stage::Ending;
                return Poll::Ready(Ok(()));
            }
            count(read.len());
            let written = match Pin::new(&mut self.to).poll_write(context, read)? {
                Poll::Ready(written) => written,
                Poll::Pending => 0,
            };
            if written < read.len() {
                self.rest = read[written..].to_vec();
            }
            self.streak = if read.len() == BUFFER { self.streak + 1 } else { 0 };
            if self.strategy == CopyStrategy::Splice && self.streak >= FULL_READS {
                self.spliced = true;
                self.streak = 0;
            }
            Poll::Ready(Ok(()))
        })
    }

    /// Fills a pipe once.
    fn fill_pipe(
        &mut self,
        context: &mut Context<'_>,
        count: &dyn Fn(usize),
    ) -> Poll<io::Result<()>> {
        let from = self.from.as_ref();
        ready!(from.poll_read_ready(context))?;
        let Ok(mut pipe) = Pipe::take() else {
            // Without a descriptor for it, bytes are copied.
            self.spliced = false;
            return Poll::Ready(Ok(()));
        };
        match from.try_io(Interest::READABLE, || move_bytes(from, &pipe.write, PIPE)) {
            Ok(0) => {
                pipe.store();
                self.stage = Stage::Ending;
            }
            Ok(filled) => {
                count(filled);
                self.streak = if filled < LITTLE { self.streak + 1 } else { 0 };
                self.spliced = self.streak < FULL_READS;
                pipe.filled = filled;
                self.pipe = Some(pipe);
            }
            // The next look at readiness waits.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => pipe.store(),
            Err(error) => return Poll::Ready(Err(error)),
        }
        Poll::Ready(Ok(()))
    }

    fn empty_pipe(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Some(pipe) = &mut self.pipe else { return Poll::Ready(Ok(())) };
        let to = self.to.as_ref();
        while pipe.filled > 0 {
            ready!(to.poll_write_ready(context))?;
            let moved = to.try_io(Interest::WRITABLE, || move_bytes(&pipe.read, to, pipe.filled));
            match moved {
                Ok(moved) => pipe.filled -= moved.min(pipe.filled),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
        if let Some(pipe) = self.pipe.take() {
            pipe.store();
        }
        Poll::Ready(Ok(()))
    }
}

impl Pipe {
    /// An empty one of this thread's store, or a new one.
    fn take() -> io::Result<Self> {
        PIPES.with_borrow_mut(Vec::pop).map_or_else(Self::new, Ok)
    }

    /// Back to the store, empty.
    fn store(self) {
        PIPES.with_borrow_mut(|pipes| {
            if self.filled == 0 && pipes.len() < STORED_PIPES {
                pipes.push(self);
            }
        });
    }

    fn new() -> io::Result<Self> {
        let (read, write) = pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK)?;
        // A smaller pipe works too: users without privileges have a limit for all their pipes together.
        let _ = fcntl(&write, FcntlArg::F_SETPIPE_SZ(i32::try_from(PIPE).unwrap_or(i32::MAX)));
        Ok(Self { read, write, filled: 0 })
    }
}

fn move_bytes(
    from: impl std::os::fd::AsFd,
    to: impl std::os::fd::AsFd,
    most: usize,
) -> io::Result<usize> {
    let flags = SpliceFFlags::SPLICE_F_MOVE | SpliceFFlags::SPLICE_F_NONBLOCK;
    loop {
        match splice(&from, None, &to, None, most, flags) {
            Err(Errno::EINTR) => {}
            result => return Ok(result?),
        }
    }
}
