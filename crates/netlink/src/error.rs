//! What can go wrong between us and the kernel.

use std::fmt;
use std::time::Duration;

use nix::errno::Errno;

use crate::attr::Malformed;
use crate::writer::TooLong;

/// What a refused request was about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// `table`, `chain`, `set` or `flowtable`; elements are of their set, rules of their chain. For IPVS, `virtual server`.
    pub kind: &'static str,
    /// Its name.
    pub name: String,
}

/// A message of a batch, for an error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Described {
    /// [`Refusal::object`].
    pub object: String,
    /// [`Refusal::target`].
    pub target: Option<Target>,
}

/// The kernel said no.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// What was to be done to what, in words: `delete conntrack flow udp 10.0.0.1:53 …`.
    pub object: String,
    /// The object itself, where the protocol reports it.
    pub target: Option<Box<Target>>,
    /// The error number.
    pub errno: Errno,
    /// The same as a number: some protocols have errors that [`Errno`] has no name for.
    pub code: i32,
    /// What the kernel says about it (extended acknowledgement), if anything.
    pub message: Option<String>,
    /// Where in the request the attribute is that the kernel did not like, in bytes from its header.
    pub offset: Option<usize>,
    /// The type of an attribute that the kernel missed.
    pub missing: Option<u16>,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: the kernel refused: {}", self.object, self.errno)?;
        if let Some(message) = &self.message {
            write!(f, ": {message}")?;
        }
        if let Some(missing) = self.missing {
            write!(f, " (attribute {missing} is missing)")?;
        }
        if let Some(offset) = self.offset {
            write!(f, " (at byte {offset} of the request)")?;
        }
        Ok(())
    }
}

/// An operation that failed; `object` says on what.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// There is no socket: not allowed, or a kernel without this protocol.
    #[error("cannot open a netlink {protocol} socket: {call}: {errno}")]
    Open {
        /// The netlink protocol.
        protocol: &'static str,
        /// The system call that failed.
        call: &'static str,
        /// Why.
        errno: Errno,
    },
    /// The request did not reach the kernel.
    #[error("{object}: cannot send to the kernel: {errno}")]
    Send {
        /// What the request was about.
        object: String,
        /// Why.
        errno: Errno,
    },
    /// The answer could not be read.
    #[error("{object}: cannot receive from the kernel: {errno}")]
    Receive {
        /// What the request was about.
        object: String,
        /// Why.
        errno: Errno,
    },
    /// The kernel did not answer in time. The request may have been carried out.
    #[error("{object}: no answer from the kernel within {} s", limit.as_secs())]
    Timeout {
        /// What the request was about.
        object: String,
        /// How long was waited.
        limit: Duration,
    },
    /// Answers were lost because the receive buffer was full. The request may have been carried out.
    #[error("{object}: the kernel's answer was lost: receive buffer full")]
    Lost {
        /// What the request was about.
        object: String,
    },
    /// The kernel refused a request.
    #[error("{0}")]
    Refused(Refusal),
    /// The kernel refused a batch, of which nothing was done.
    #[error("{first}{}", and_more(others.len()))]
    Batch {
        /// The first message it refused.
        first: Refusal,
        /// Others that it refused too.
        others: Vec<Refusal>,
    },
    /// The kernel's answer could not be read.
    #[error("{object}: {malformed}")]
    Malformed {
        /// What the request was about.
        object: String,
        /// What is wrong with the answer.
        malformed: Malformed,
    },
    /// The request cannot be written as a message.
    #[error("{object}: {too_long}")]
    TooLong {
        /// What the request was about.
        object: String,
        /// What is too long.
        too_long: TooLong,
    },
}

fn and_more(count: usize) -> String {
    if count == 0 { String::new() } else { format!(" (and {count} more errors in this batch)") }
}

impl Error {
    /// The error number, where there is one; of a batch the first.
    pub fn errno(&self) -> Option<Errno> {
        match self {
            Self::Open { errno, .. } | Self::Send { errno, .. } | Self::Receive { errno, .. } => {
                Some(*errno)
            }
            Self::Refused(refusal) | Self::Batch { first: refusal, .. } => Some(refusal.errno),
            Self::Timeout { .. }
            | Self::Lost { .. }
            | Self::Malformed { .. }
            | Self::TooLong { .. } => None,
        }
    }

    /// What the kernel refused: none, one, or several of a batch.
    pub fn refusals(&self) -> impl Iterator<Item = &Refusal> {
        let (first, others) = match self {
            Self::Refused(refusal) => (Some(refusal), [].as_slice()),
            Self::Batch { first, others } => (Some(first), others.as_slice()),
            _ => (None, [].as_slice()),
        };
        first.into_iter().chain(others)
    }

    /// The same, with the object that was refused.
    pub(crate) fn about(mut self, kind: &'static str, name: &str) -> Self {
        if let Self::Refused(refusal) = &mut self {
            refusal.target = Some(Box::new(Target { kind, name: name.to_owned() }));
        }
        self
    }

    /// The object is not there.
    pub fn is_not_found(&self) -> bool {
        self.errno() == Some(Errno::ENOENT)
    }

    /// The object is there already.
    pub fn is_exists(&self) -> bool {
        self.errno() == Some(Errno::EEXIST)
    }

    /// The object is in use, or the kernel is at it just now.
    pub fn is_busy(&self) -> bool {
        self.errno() == Some(Errno::EBUSY)
    }

    /// We may not: `CAP_NET_ADMIN` is missing.
    pub fn is_permission(&self) -> bool {
        matches!(self.errno(), Some(Errno::EPERM | Errno::EACCES))
    }

    /// The kernel does not have it: module or feature missing.
    pub fn is_unsupported(&self) -> bool {
        matches!(
            self.errno(),
            Some(Errno::EOPNOTSUPP | Errno::EPROTONOSUPPORT | Errno::EAFNOSUPPORT)
        )
    }

    /// Another transaction came in between (`ERESTART`: the generation id has moved on); read again and retry.
    pub fn is_stale(&self) -> bool {
        self.errno() == Some(Errno::ERESTART)
    }
}

#[cfg(test)]
mod tests;
