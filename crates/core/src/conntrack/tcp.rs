//! A tracked TCP connection, as far as it matters here.

use std::net::SocketAddr;

/// A tracked TCP connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TcpFlow {
    /// Where the client sends to.
    pub original_destination: SocketAddr,
    /// Who answers: the endpoint, if the connection was redirected to one.
    pub reply_source: SocketAddr,
    /// How far it has come.
    pub phase: TcpPhase,
}

/// How far a TCP connection has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TcpPhase {
    /// The client has sent a SYN, and there is no answer.
    Waiting,
    /// The server has answered, and one side may still send.
    Open,
    /// Both sides are done, or one has reset it.
    Ended,
}

impl TcpFlow {
    /// Whether its packets go elsewhere than the client sends them to.
    pub fn is_translated(&self) -> bool {
        self.original_destination != self.reply_source
    }

    /// Whether the client still asks for it.
    pub fn is_waiting(&self) -> bool {
        self.phase == TcpPhase::Waiting
    }
}
