//! The one trait that a mode implements.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use async_trait::async_trait;

use crate::{Changes, ServicePortName, Snapshot};

/// Makes one node match snapshots of one IP family.
///
/// There is one value per family and mode. The contract:
///
/// * `sync` is idempotent: called twice with the same snapshot, the second call changes nothing on the node.
/// * What a backend believes to be on the node is updated only after the kernel accepted it. After an error the caller's next `sync` is full,
///   and a full sync repairs whatever it finds.
/// * A partial sync costs the change, not the cluster.
/// * Dropping a backend leaves the node as it is. Only [`cleanup`](Self::cleanup) removes anything.
///
/// Methods may block the thread (the kernel interfaces do); call them on a thread where that is fine.
#[async_trait]
pub trait ProxyBackend: Send {
    /// Makes the node match `snapshot`.
    async fn sync(
        &mut self,
        snapshot: &Snapshot,
        scope: Scope<'_>,
    ) -> Result<SyncReport, SyncError>;

    /// Looks whether what the last sync wrote is still on the node, at small cost. `false` asks for a full sync.
    async fn intact(&mut self) -> Result<bool, SyncError>;

    /// Hands over what a backend calls when it wants [`intact`](Self::intact) to be called before its turn: when it learned that somebody
    /// else touched its rules, or when something it waits for is due. A backend that never wants that ignores it.
    fn set_waker(&mut self, _waker: Waker) {}

    /// What went through each service port, as counted on the node, in no particular order. Empty where the mode does not count.
    ///
    /// The counters are the kernel's: they may start anew when rules are written, so who keeps totals adds up what they rise by.
    /// A service port that had traffic is in the answer as long as it is in the snapshot: its totals end when it is left out.
    async fn traffic(&mut self) -> Result<Vec<Traffic>, SyncError> {
        Ok(Vec::new())
    }

    /// Removes everything this backend ever writes, of its family, whoever wrote it, and nothing else. Idempotent.
    async fn cleanup(&mut self) -> Result<(), SyncError>;
}

/// What came of removing what a mode left on a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Removed {
    /// There was nothing.
    Nothing,
    /// All of it.
    All,
    /// What connections need that go on is still there; to be tried again later.
    Waiting {
        /// How many there are.
        connections: usize,
    },
}

impl Removed {
    /// Where nothing is waited for: whether there was anything.
    pub fn at_once(found: bool) -> Self {
        if found { Self::All } else { Self::Nothing }
    }
}

/// Asks for [`ProxyBackend::intact`] to be called soon; cheap, callable from any thread, any number of times.
#[derive(Clone)]
pub struct Waker(Arc<dyn Fn() + Send + Sync>);

impl Waker {
    /// A waker that calls `wake`, which must not block.
    pub fn new(wake: impl Fn() + Send + Sync + 'static) -> Self {
        Self(Arc::new(wake))
    }

    /// Asks.
    pub fn wake(&self) {
        (self.0)();
    }
}

impl fmt::Debug for Waker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Waker")
    }
}

/// What went through a service port, or to one of its endpoints.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Traffic {
    /// The service port.
    pub service: ServicePortName,
    /// The endpoint; `None` if the numbers are of all endpoints together.
    pub endpoint: Option<SocketAddr>,
    /// New connections; for UDP, new flows.
    pub connections: u64,
    /// Bytes, where the mode counts them.
    pub bytes: Option<Bytes>,
}

/// Bytes in both directions, IP headers included where the kernel counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bytes {
    /// From clients to endpoints.
    pub sent: u64,
    /// From endpoints to clients.
    pub received: u64,
}

/// How much of the snapshot a sync has to look at.
#[derive(Clone, Copy, Debug)]
pub enum Scope<'a> {
    /// Everything; nothing on the node is taken for granted.
    Full,
    /// Only what changed since the last successful sync.
    Partial(&'a Changes),
}

/// What a sync did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SyncReport {
    /// Objects on the node by kind, such as the rules of one table.
    pub counts: Vec<Count>,
    /// Service ports that are not on the node because the kernel refused what was to be written for them.
    pub refused: usize,
}

/// How many objects of one kind there are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Count {
    /// The kind, such as `nat`, the table whose rules are counted.
    pub kind: &'static str,
    /// How many this sync wrote.
    pub written: usize,
    /// How many the backend has on the node now.
    pub total: usize,
}

/// Why a sync failed. The message is complete: what was tried, on what, and what the kernel or the program said.
#[derive(Debug, thiserror::Error)]
pub enum SyncError {
    /// The node lacks something this mode needs; trying again will not help by itself.
    #[error("not supported on this node: {0}")]
    Unsupported(String),
    /// Somebody else holds a lock.
    #[error("{0}")]
    Busy(String),
    /// What was to be written was refused.
    #[error("{0}")]
    Refused(String),
    /// The operating system failed.
    #[error("{what}: {source}")]
    Io {
        /// What was tried.
        what: String,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
}
