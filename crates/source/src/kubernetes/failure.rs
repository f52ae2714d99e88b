//! Why a request came to nothing.

use std::fmt;
use std::time::Duration;

use crate::decode::Status;

/// Why a list or a watch came to nothing.
#[derive(Debug)]
pub(super) enum Failure {
    /// The server answered with an error.
    Status(Status),
    /// No connection, or it broke.
    Transport(String),
    /// The server did not answer in time.
    Timeout(Duration),
    /// The server sent what is no list or watch.
    Malformed(String),
    /// A watch was closed before it said anything.
    Closed,
}

impl Failure {
    /// The HTTP status code, if the server gave one.
    pub(super) fn code(&self) -> Option<u16> {
        match self {
            Self::Status(status) => Some(status.code),
            _ => None,
        }
    }

    /// How long the server asks to wait.
    pub(super) fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Status(status) => status.retry_after.map(Duration::from_secs),
            _ => None,
        }
    }

    /// The version or the page asked for is too old.
    pub(super) fn is_gone(&self) -> bool {
        match self {
            Self::Status(status) => {
                status.code == 410 || matches!(&*status.reason, "Expired" | "Gone")
            }
            _ => false,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Status(status) if status.message.is_empty() => {
                write!(f, "the server answered {}", status.code)
            }
            Self::Status(status) => {
                write!(f, "the server answered {}: {}", status.code, status.message)
            }
            Self::Transport(cause) => f.write_str(cause),
            Self::Timeout(limit) => write!(f, "no answer within {limit:?}"),
            Self::Malformed(what) => write!(f, "cannot understand the server: {what}"),
            Self::Closed => f.write_str("the server closes watches at once"),
        }
    }
}
