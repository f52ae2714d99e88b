//! What became of a probe.

use std::fmt;
use std::io;
use std::net::SocketAddr;

use anyhow::{Context as _, bail};
use nix::errno::Errno;

/// What a server said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Name of the pod that answered.
    pub pod: String,
    /// Address at which the pod received.
    pub local: SocketAddr,
    /// Source address that the pod saw.
    pub source_seen: SocketAddr,
    /// Address the probe was sent from, as its own socket has it.
    pub source_sent: SocketAddr,
    /// What the pod echoed, if it was sent something.
    pub echo: Option<String>,
}

impl Answer {
    /// Whether the source address was changed on the way. Ports do not count.
    pub fn is_masqueraded(&self) -> bool {
        self.source_seen.ip() != self.source_sent.ip()
    }

    /// Reads `pod=NAME local=ADDRESS peer=ADDRESS [echo=TEXT]`.
    pub(crate) fn parse(line: &str, source_sent: SocketAddr) -> anyhow::Result<Self> {
        let (head, echo) = match line.trim_end().split_once(" echo=") {
            Some((head, echo)) => (head, Some(echo.to_owned())),
            None => (line.trim_end(), None),
        };
        let field = |name: &str| {
            head.split(' ')
                .filter_map(|field| field.split_once('='))
                .find_map(|(key, value)| (key == name).then_some(value))
                .with_context(|| format!("no {name} in answer {line:?}"))
        };
        Ok(Self {
            pod: field("pod")?.to_owned(),
            local: field("local")?.parse().context("local address of answer")?,
            source_seen: field("peer")?.parse().context("peer address of answer")?,
            source_sent,
            echo,
        })
    }
}

/// What became of a probe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// A pod answered.
    Answer(Answer),
    /// Refused: RST, or ICMP port unreachable as a `REJECT` rule sends it.
    Refused,
    /// Nothing came back: dropped, or lost.
    TimedOut,
    /// Another ICMP error, no route from here, or (`EPERM`) dropped on the way out of this host.
    Unreachable(Errno),
    /// A connection that was made and then closed, reset or answered with something else.
    Broken(String),
}

impl Outcome {
    /// The answer.
    ///
    /// # Errors
    /// When there was none; the text says what happened instead.
    pub fn answer(self) -> anyhow::Result<Answer> {
        match self {
            Self::Answer(answer) => Ok(answer),
            other => bail!("no answer: {other}"),
        }
    }

    /// Name of the pod that answered.
    pub fn pod(&self) -> Option<&str> {
        match self {
            Self::Answer(answer) => Some(&answer.pod),
            _ => None,
        }
    }

    /// Whether a pod answered.
    pub fn is_answer(&self) -> bool {
        matches!(self, Self::Answer(_))
    }

    /// Whether it was refused.
    pub fn is_refused(&self) -> bool {
        *self == Self::Refused
    }

    /// Whether nothing came back.
    pub fn is_timed_out(&self) -> bool {
        *self == Self::TimedOut
    }

    /// Whether a connection was made, and ended without an answer.
    pub fn is_closed(&self) -> bool {
        matches!(self, Self::Broken(_))
    }

    /// Whether a connection was made and reset.
    pub fn is_reset(&self) -> bool {
        let reset = io::Error::from_raw_os_error(Errno::ECONNRESET as i32);
        matches!(self, Self::Broken(why) if *why == reset.to_string())
    }

    /// Distinguishes why no connection came about, or no datagram back.
    pub(crate) fn from_connect_error(error: &io::Error) -> Self {
        match (error.kind(), error.raw_os_error().map(Errno::from_raw)) {
            (io::ErrorKind::ConnectionRefused, _) => Self::Refused,
            (io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut, _) => Self::TimedOut,
            (_, Some(errno)) => Self::Unreachable(errno),
            (_, None) => Self::Broken(error.to_string()),
        }
    }

    /// Distinguishes why an established connection brought no answer.
    pub(crate) fn from_read_error(error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => Self::TimedOut,
            _ => Self::Broken(error.to_string()),
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Answer(answer) => {
                write!(f, "answer of {} to {}", answer.pod, answer.source_seen)
            }
            Self::Refused => f.write_str("refused"),
            Self::TimedOut => f.write_str("timed out"),
            Self::Unreachable(errno) => write!(f, "unreachable ({})", errno.desc()),
            Self::Broken(why) => write!(f, "broken ({why})"),
        }
    }
}

/// So that `?` works where an answer was expected.
impl std::error::Error for Outcome {}

#[cfg(test)]
mod tests;
