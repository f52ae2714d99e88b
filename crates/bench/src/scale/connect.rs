//! Connections as fast as one thread makes them, timed.
//!
//! All functions must run in the namespace to connect from.

use std::io::{self, BufRead as _, BufReader};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::bail;

/// How long one attempt may take: longer than any answer, shorter than a second SYN.
///
/// A connection that began without rules in place stays without them; only a new one meets them.
const PATIENCE: Duration = Duration::from_millis(100);

/// Pause after an attempt that was not what was waited for.
const PAUSE: Duration = Duration::from_micros(500);

/// A connection that was made.
#[derive(Clone, Copy, Debug)]
pub(super) struct Connected {
    /// When its first packet was sent.
    pub(super) begun: Instant,
    /// How long the handshake took.
    pub(super) handshake: Duration,
    /// Which endpoint answered.
    pub(super) endpoint: IpAddr,
}

/// Makes one connection, and asks who answers.
pub(super) fn once(address: SocketAddr) -> io::Result<Connected> {
    let begun = Instant::now();
    let stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    let handshake = begun.elapsed();
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut greeting = String::new();
    BufReader::new(stream).read_line(&mut greeting)?;
    let endpoint = endpoint_in(&greeting)
        .ok_or_else(|| io::Error::other(format!("no greeting of an endpoint: {greeting:?}")))?;
    Ok(Connected { begun, handshake, endpoint })
}

/// Connects again and again until the right endpoint answers, and returns that connection.
///
/// # Errors
/// When the guard has passed.
pub(super) fn until(
    address: SocketAddr,
    guard: Duration,
    is_right: impl Fn(IpAddr) -> bool,
) -> anyhow::Result<Connected> {
    let start = Instant::now();
    loop {
        let outcome = once(address);
        if let Ok(connected) = outcome
            && is_right(connected.endpoint)
        {
            return Ok(connected);
        }
        if start.elapsed() > guard {
            match outcome {
                Ok(connected) => bail!("{address} still leads to {}", connected.endpoint),
                Err(error) => bail!("{address} does not answer after {guard:?}: {error}"),
            }
        }
        thread::sleep(PAUSE);
    }
}

/// The address in the `local=` of a greeting.
fn endpoint_in(greeting: &str) -> Option<IpAddr> {
    let local = greeting.split_whitespace().find_map(|field| field.strip_prefix("local="))?;
    local.parse::<SocketAddr>().ok().map(|address| address.ip().to_canonical())
}

#[cfg(test)]
mod tests;
