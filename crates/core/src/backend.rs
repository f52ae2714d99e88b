//! The one trait that a mode implements.

use async_trait::async_trait;

use crate::{Changes, Snapshot};

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

    /// Removes everything this backend ever writes, of its family, whoever wrote it, and nothing else. Idempotent.
    async fn cleanup(&mut self) -> Result<(), SyncError>;
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
