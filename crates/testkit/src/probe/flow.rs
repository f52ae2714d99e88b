//! Connections and UDP flows that last.

use std::io::{BufRead as _, BufReader, ErrorKind, Write as _};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use super::{Answer, Options, Outcome, socket};

/// An open TCP connection to a pod, usable from any thread.
#[derive(Debug)]
pub struct Connection {
    stream: BufReader<TcpStream>,
    local: SocketAddr,
    greeting: Answer,
    sent: u64,
}

impl Connection {
    pub(super) fn open(options: Options, address: SocketAddr) -> Result<Self, Box<Outcome>> {
        let stream =
            socket::tcp(options, address).map_err(|error| Outcome::from_connect_error(&error))?;
        let local = stream.local_addr().map_err(|error| Outcome::from_connect_error(&error))?;
        let mut stream = BufReader::new(stream);
        let greeting = read_answer(&mut stream, local)?;
        Ok(Self { stream, local, greeting, sent: 0 })
    }

    /// What the pod said when it accepted.
    pub fn greeting(&self) -> &Answer {
        &self.greeting
    }

    /// This end's address.
    pub fn local_address(&self) -> SocketAddr {
        self.local
    }

    /// Waits this long for answers from now on.
    ///
    /// # Errors
    /// When the time is zero.
    pub fn set_timeout(&self, timeout: Duration) -> std::io::Result<()> {
        self.stream.get_ref().set_read_timeout(Some(timeout))
    }

    /// Sends a line and waits for its echo.
    pub fn ping(&mut self) -> Outcome {
        self.sent += 1;
        let text = format!("ping-{}", self.sent);
        if let Err(error) = self.stream.get_mut().write_all(format!("{text}\n").as_bytes()) {
            return Outcome::from_read_error(&error);
        }
        loop {
            match read_answer(&mut self.stream, self.local) {
                // A late answer to an earlier ping that was given up.
                Ok(answer) if answer.echo.as_ref() != Some(&text) => {}
                Ok(answer) => return Outcome::Answer(answer),
                Err(outcome) => return *outcome,
            }
        }
    }

    /// Waits until the other side ends the connection, or sends something by itself.
    pub fn wait(&mut self) -> Outcome {
        match read_answer(&mut self.stream, self.local) {
            Ok(answer) => Outcome::Answer(answer),
            Err(outcome) => *outcome,
        }
    }

    pub(super) fn into_answer(self) -> Answer {
        self.greeting
    }
}

fn read_answer(
    stream: &mut BufReader<TcpStream>,
    local: SocketAddr,
) -> Result<Answer, Box<Outcome>> {
    let mut line = String::new();
    match stream.read_line(&mut line) {
        Ok(0) => Err(Outcome::Broken("closed by the other side".to_owned()))?,
        Ok(_) => {}
        Err(error) => Err(Outcome::from_read_error(&error))?,
    }
    Ok(Answer::parse(&line, local).map_err(|error| Outcome::Broken(format!("{error:#}")))?)
}

/// A UDP socket with a fixed port and one destination.
#[derive(Debug)]
pub struct UdpFlow {
    socket: UdpSocket,
    local: SocketAddr,
    options: Options,
    sent: u64,
}

impl UdpFlow {
    pub(super) fn open(options: Options, address: SocketAddr) -> Result<Self, Box<Outcome>> {
        let socket =
            socket::udp(options, address).map_err(|error| Outcome::from_connect_error(&error))?;
        let local = socket.local_addr().map_err(|error| Outcome::from_connect_error(&error))?;
        Ok(Self { socket, local, options, sent: 0 })
    }

    /// This end's address.
    pub fn local_address(&self) -> SocketAddr {
        self.local
    }

    /// Waits this long for answers from now on.
    ///
    /// # Errors
    /// When the socket does not take it.
    pub fn set_timeout(&mut self, timeout: Duration) -> std::io::Result<()> {
        self.options.timeout = timeout;
        self.socket.set_read_timeout(Some(timeout))
    }

    /// Sends a datagram and waits for the answer to it.
    pub fn ping(&mut self) -> Outcome {
        self.sent += 1;
        let text = format!("ping-{}", self.sent);
        // An ICMP error about an earlier datagram is reported here; it says the same.
        if let Err(error) = self.socket.send(text.as_bytes()) {
            // A `REJECT` on the way out of this host does two things: `send` says EPERM, as for
            // any drop, and the ICMP error waits in the socket.
            let waiting = self.socket.take_error().ok().flatten();
            return Outcome::from_connect_error(&waiting.unwrap_or(error));
        }
        let deadline = Instant::now() + self.options.timeout;
        let mut buffer = [0; 2048];
        while Instant::now() < deadline {
            let length = match self.socket.recv(&mut buffer) {
                Ok(length) => length,
                // A signal for the test program, such as the end of a child process.
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Outcome::from_connect_error(&error),
            };
            let line = String::from_utf8_lossy(&buffer[..length]);
            match Answer::parse(&line, self.local) {
                // A late answer to an earlier ping that was given up.
                Ok(answer) if answer.echo.as_ref() != Some(&text) => {}
                Ok(answer) => return Outcome::Answer(answer),
                Err(error) => return Outcome::Broken(format!("{error:#}")),
            }
        }
        Outcome::TimedOut
    }
}
